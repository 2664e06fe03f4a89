# SPDX-License-Identifier: GPL-2.0-or-later
"""Overlays of a snapshot: a qcow2 image opened over a snapshot-access node as its backing file.

So a virtual machine is tried on the state that is being backed up, which it may change; or the
target of a second filter shows the point in time of the first.  Here such an image is one of the
configuration whose node has been removed.  :mod:`model.qcow2` says what it does.
"""

from __future__ import annotations

from . import bitmap_directory
from .copy_before_write import CopyBeforeWrite
from .errors import CommandRefused, Undetermined
from .graph import Graph
from .node import Node
from .operations import AddOverlay
from .permissions import parents_first
from .qcow2 import Qcow2
from .snapshot_access import SnapshotAccess


def add_overlay(graph: Graph, command: AddOverlay) -> None:
    """blockdev-add of a removed image over another backing file; the next QEMU opens it again as
    the configuration has it."""
    image = graph.nodes.get(command.node) or graph.closed.get(command.node)
    if not isinstance(image, Qcow2) or image.format_node != image.name or image.spec.read_only:
        raise Undetermined("an overlay is a plain qcow2 image")
    graph.check_new(command.node)
    try:
        backing = graph.lookup(command.backing)
    except CommandRefused as why:
        raise CommandRefused(f"Could not open backing file: {why}") from why
    if not isinstance(backing, SnapshotAccess):
        raise Undetermined("an overlay of anything but a snapshot")
    if image.was_target:
        raise Undetermined("the node of a file does not hear how long another has made the file")
    del graph.closed[image.name]
    image.backing = backing
    bitmap_directory.load(image)
    image.age = graph.next_age()
    graph.nodes[image.name] = image


def shows_snapshot(node: Node) -> bool:
    """Whether the node, or one below, is an overlay of what may deny it something."""
    return any(isinstance(each, Qcow2) and each.backing is not None and any(
        isinstance(below, SnapshotAccess) for below in parents_first([each.backing]))
        for each in parents_first([node]))


def copies_snapshot(node: Node) -> bool:
    """Whether the node, or one below, is a filter that copies what may be denied it."""
    return any(isinstance(each, CopyBeforeWrite) and (
        isinstance(each.source, SnapshotAccess) or shows_snapshot(each.source))
        for each in parents_first([node]))
