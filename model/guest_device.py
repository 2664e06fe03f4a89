# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's device: a disk that is plugged in, and moved to other nodes later.

A command that is refused raises CommandRefused with QEMU's text.
"""

from __future__ import annotations

from .errors import CommandRefused
from .graph import Graph
from .node import Node
from .operations import Attach


def plug(graph: Graph, command: Attach) -> Node:
    """The node for a new disk, which QEMU looks at before the disk asks to write there: what does
    not allow that much is found out first."""
    node = graph.find(command.node)
    if node is None:
        raise CommandRefused(f"Property 'scsi-hd.drive' can't find value '{command.node}'")
    graph.check_look(node)
    return node


def attach(graph: Graph, command: Attach) -> None:
    """Put the guest's device on a node, in place of the one it was on.

    One that has to go back is the newest user there.  Older builds put no new disk on what an
    overlay or a job holds, but for a job's filter.
    """
    node, before = graph.node(command.node), graph.device
    graph.move_device(node, graph.next_age())
    try:
        graph.check_permissions(node)
        if before is None and not graph.capabilities.disk_on_backing_file:
            graph.check_unblocked(
                node, by_jobs=all(node is not job.filter for job in graph.jobs.values()))
    except CommandRefused:
        graph.move_device(before, graph.next_age())
        raise
    graph.attached = node.name

