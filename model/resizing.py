# SPDX-License-Identifier: GPL-2.0-or-later
"""block_resize: another size for a node, and for those below it that are its filtered ones.

The checks are in QEMU's order, with QEMU's texts (experiment): the first that fails is the answer.
"""

from __future__ import annotations

from typing import Final

from .copy_before_write import CopyBeforeWrite
from .errors import CommandRefused
from .graph import Graph
from .node import Node
from .operations import Resize
from .rules import rule

LARGEST: Final = (1 << 63) - (1 << 30)
"""Bytes of the largest node that QEMU may have."""


def resize(graph: Graph, command: Resize) -> None:
    """block_resize: refused, or done to the node and all below it that it filters."""
    check(graph, command)
    graph.nodes[command.node].resize(command.size)


def check(graph: Graph, command: Resize) -> None:
    """Refuse a resize that QEMU refuses."""
    node = graph.node(command.node)
    if command.size < 0:
        raise CommandRefused("Parameter 'size' expects a >0 size")
    _check_blockers(graph, node)
    graph.check_resize(node)
    if command.size > LARGEST:
        raise CommandRefused(f"offset({command.size}) exceeds maximum({LARGEST})")
    node.check_resize(command.size)


def resized_with(node: Node) -> list[Node]:
    """The nodes whose size changes with the node's: itself and what it filters, top first."""
    found = [node]
    while isinstance(node, CopyBeforeWrite):
        node = node.source
        found.append(node)
    return found


@rule("resize.blocked", source="block_resize; experiment")
def _check_blockers(graph: Graph, node: Node) -> None:
    """A job does not let its filter and its target be resized, nor an overlay its backing file.
    Only the node that the command names is asked: the nodes below it that change their size with
    it may be held."""
    try:
        graph.check_unblocked(node)
    except CommandRefused:
        if graph.capabilities.resize_names_blocker:
            raise
        raise CommandRefused("Device '(null)' is in use") from None
