# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands about dirty bitmaps.

Texts and their order are those of QEMU (experiment); a refused command changes nothing.
"""

from __future__ import annotations

from typing import Final

from . import arguments, bitmap_directory
from .bitmap import (
    SMALLEST_GRANULARITY,
    DirtyBitmap,
    check_changeable,
    check_same_size,
    check_usable,
    check_writable,
)
from .configuration import KIB
from .errors import CommandRefused
from .graph import Graph
from .node import Node
from .operations import (
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapOperation,
    BitmapRef,
    BitmapRemove,
)
from .qcow2 import Qcow2

LONGEST_NAME: Final = 1023
"""Bytes of a bitmap's name."""
LEAST_DEFAULT: Final = 4 * KIB
MOST_DEFAULT: Final = 64 * KIB
"""Bytes: the default granularity is between the two."""


def check_arguments(command: BitmapAdd, where: str = "") -> None:
    """The checks of QEMU's command parser; ``where`` the arguments are, if in a transaction."""
    arguments.check_uint32("granularity", command.granularity, where)


def default_granularity(node: Node) -> int:
    """The node's cluster size, but at least 4 KiB and at most 64 KiB; 64 KiB if it has none."""
    return min(max(node.reported_cluster_size or MOST_DEFAULT, LEAST_DEFAULT), MOST_DEFAULT)


def add(graph: Graph, command: BitmapAdd) -> None:
    """block-dirty-bitmap-add: a clean bitmap, recording unless ``disabled``."""
    check_arguments(command)
    if not command.bitmap:
        raise CommandRefused("Bitmap name cannot be empty")
    node = graph.lookup(command.node)
    granularity = command.granularity
    if granularity is None:
        granularity = default_granularity(node)
    elif granularity < SMALLEST_GRANULARITY or granularity.bit_count() != 1:
        raise CommandRefused("Granularity must be power of 2 and at least 512")
    if command.persistent:
        if node.read_only and graph.capabilities.persistent_needs_writable:
            raise CommandRefused("Cannot add a persistent bitmap to read-only or inactive node "
                                 f"'{node.name}'")
        _check_storable(node, command.bitmap)
    if node.bitmap(command.bitmap) is not None:
        raise CommandRefused(f"Bitmap already exists: {command.bitmap}")
    if len(command.bitmap.encode()) > LONGEST_NAME:
        raise CommandRefused(f"Bitmap name too long: {command.bitmap}")
    node.add_bitmap(DirtyBitmap(node.size, granularity, command.bitmap,
                                recording=not command.disabled, persistent=command.persistent))


def _check_storable(node: Node, name: str) -> None:
    """Only qcow2 images keep bitmaps."""
    if not isinstance(node, Qcow2) or node.format_node != node.name:
        raise CommandRefused(
            f"Can't store persistent bitmaps to {node.name}: Operation not supported")
    if node.bitmap(name) is None and len(name.encode()) > LONGEST_NAME:
        raise CommandRefused(f"Can't make bitmap '{name}' persistent in '{node.name}': Name "
                             f"length exceeds maximum ({LONGEST_NAME} characters)")


def remove(graph: Graph, command: BitmapRemove) -> None:
    """block-dirty-bitmap-remove: also of an inconsistent one."""
    bitmap = _forgotten(graph, command)
    graph.nodes[command.node].bitmaps.remove(bitmap)


def hold(graph: Graph, command: BitmapRemove) -> None:
    """block-dirty-bitmap-remove in a transaction: until that commits, the bitmap is only busy;
    but its image forgets it at once."""
    _forgotten(graph, command).busy = True


def _forgotten(graph: Graph, command: BitmapRemove) -> DirtyBitmap:
    """A bitmap that may be removed; its image has forgotten it already."""
    bitmap = _own(graph, command)
    if bitmap.busy:
        check_usable(bitmap)
    node = graph.nodes[command.node]
    if (bitmap.persistent and node.read_only
            and graph.capabilities.persistent_needs_writable):
        raise CommandRefused(f"Cannot remove persistent bitmap '{command.bitmap}': no write "
                             f"access to node '{node.name}'")
    if not graph.capabilities.persistent_needs_writable:
        check_writable(bitmap)
    if isinstance(node, Qcow2):
        bitmap_directory.forget(node, command.bitmap)
    return bitmap


def remove_held(graph: Graph, command: BitmapRemove) -> None:
    """The transaction has been committed: remove the bitmap."""
    graph.nodes[command.node].bitmaps.remove(_own(graph, command))


def clear(graph: Graph, command: BitmapClear) -> None:
    """block-dirty-bitmap-clear: nothing is dirty any more; works on a disabled one too."""
    bitmap = _own(graph, command)
    check_changeable(bitmap)
    bitmap.clear()


def enable(graph: Graph, command: BitmapEnable) -> None:
    """block-dirty-bitmap-enable: record from now on."""
    _usable(graph, command).recording = True


def disable(graph: Graph, command: BitmapDisable) -> None:
    """block-dirty-bitmap-disable: do not record any more."""
    _usable(graph, command).recording = False


def merge(graph: Graph, command: BitmapMerge) -> None:
    """block-dirty-bitmap-merge: the sources' dirty ranges, rounded outwards; all of them or,
    if one of them cannot be merged, none."""
    destination = _own(graph, command)
    merged: list[DirtyBitmap] = []
    for reference in command.sources:
        source = graph.bitmap(reference)
        check_changeable(destination)
        check_usable(source)
        check_same_size(destination, source)
        merged.append(source)
    for source in merged:
        destination.merge(source)


def _own(graph: Graph, command: BitmapOperation) -> DirtyBitmap:
    return graph.bitmap(BitmapRef(command.node, command.bitmap))


def _usable(graph: Graph, command: BitmapOperation) -> DirtyBitmap:
    bitmap = _own(graph, command)
    check_usable(bitmap)
    return bitmap
