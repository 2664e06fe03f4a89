# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands about dirty bitmaps.

Texts and their order are those of QEMU (experiment); a refused command changes nothing.
"""

from __future__ import annotations

from typing import Final

from .bitmap import SMALLEST_GRANULARITY, DirtyBitmap
from .configuration import KIB
from .errors import CommandRefused
from .graph import Graph, check_same_size, check_usable
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

LONGEST_NAME: Final = 1023
LEAST_DEFAULT: Final = 4 * KIB
MOST_DEFAULT: Final = 64 * KIB


def default_granularity(node: Node) -> int:
    """The node's cluster size, but at least 4 KiB and at most 64 KiB; 64 KiB if it has none."""
    return min(max(node.reported_cluster_size or MOST_DEFAULT, LEAST_DEFAULT), MOST_DEFAULT)


def add(graph: Graph, command: BitmapAdd) -> None:
    """block-dirty-bitmap-add: a clean bitmap, recording unless ``disabled``."""
    if not command.bitmap:
        raise CommandRefused("Bitmap name cannot be empty")
    node = graph.lookup(command.node)
    granularity = command.granularity
    if granularity is None:
        granularity = default_granularity(node)
    elif granularity < SMALLEST_GRANULARITY or granularity & (granularity - 1):
        raise CommandRefused("Granularity must be power of 2 and at least 512")
    if command.persistent and node.driver != "qcow2":
        raise CommandRefused(
            f"Can't store persistent bitmaps to {node.name}: Operation not supported")
    if node.bitmap(command.bitmap) is not None:
        raise CommandRefused(f"Bitmap already exists: {command.bitmap}")
    if len(command.bitmap.encode()) > LONGEST_NAME:
        raise CommandRefused(f"Bitmap name too long: {command.bitmap}")
    node.add_bitmap(DirtyBitmap(node.size, granularity, command.bitmap,
                                recording=not command.disabled, persistent=command.persistent))


def remove(graph: Graph, command: BitmapRemove) -> None:
    """block-dirty-bitmap-remove: also of an inconsistent one."""
    bitmap = _own(graph, command)
    if bitmap.busy:
        check_usable(bitmap)
    graph.nodes[command.node].bitmaps.remove(bitmap)


def hold(graph: Graph, command: BitmapRemove) -> None:
    """block-dirty-bitmap-remove in a transaction: until that commits, the bitmap is only busy."""
    bitmap = _own(graph, command)
    if bitmap.busy:
        check_usable(bitmap)
    bitmap.busy = True


def remove_held(graph: Graph, command: BitmapRemove) -> None:
    """The transaction has been committed: remove the bitmap."""
    graph.nodes[command.node].bitmaps.remove(_own(graph, command))


def clear(graph: Graph, command: BitmapClear) -> None:
    """block-dirty-bitmap-clear: nothing is dirty any more; works on a disabled one too."""
    _usable(graph, command).clear()


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
        check_usable(destination)
        check_usable(source)
        check_same_size(destination, source)
        merged.append(source)
    for source in merged:
        destination.merge(source)


def check_writable(bitmap: DirtyBitmap) -> None:
    """A bitmap of an image that was opened read-only is refused."""
    if bitmap.read_only:
        raise CommandRefused(f"Bitmap '{bitmap.name}' is readonly and cannot be modified")


def _own(graph: Graph, command: BitmapOperation) -> DirtyBitmap:
    return graph.bitmap(BitmapRef(command.node, command.bitmap))


def _usable(graph: Graph, command: BitmapOperation) -> DirtyBitmap:
    bitmap = _own(graph, command)
    check_usable(bitmap)
    return bitmap
