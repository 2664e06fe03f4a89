# SPDX-License-Identifier: GPL-2.0-or-later
"""Links between nodes: in which roles one uses another, and giving a node another child."""

from __future__ import annotations

from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .nbd_export import NbdExport
from .node import Node
from .qcow2 import Qcow2
from .snapshot_access import SnapshotAccess


def roles(parent: Node, child: Node) -> list[str]:
    """The roles in which one node uses another: "file", "target", "backing", as in QMP."""
    children: list[tuple[str, Node | None]] = []
    if isinstance(parent, CopyBeforeWrite):
        children = [("file", parent.source), ("target", parent.target)]
    elif isinstance(parent, (SnapshotAccess, CopyOnRead)):
        children = [("file", parent.file)]
    elif isinstance(parent, Qcow2):
        children = [("backing", parent.backing)]
    return [role for role, node in children if node is child]


def shown_filter(node: Node) -> CopyBeforeWrite | None:
    """The filter whose point in time the node shows, if it shows one."""
    if isinstance(node, SnapshotAccess) and isinstance(node.file, CopyBeforeWrite):
        return node.file
    return None


def filtered_or_backing(node: Node) -> Node | None:
    """The node that shows through this one where it has nothing itself."""
    if isinstance(node, CopyBeforeWrite):
        return node.source
    if isinstance(node, CopyOnRead):
        return node.file
    return node.backing if isinstance(node, Qcow2) else None


def move(parent: Node, role: str, by: Node, age: int) -> None:
    """Give a node another child."""
    parent.link_ages[role] = age
    if isinstance(parent, CopyBeforeWrite) and role == "file":
        parent.source = parent.block_copy.source = by
    elif isinstance(parent, CopyBeforeWrite):
        parent.target = parent.block_copy.target = by
    elif isinstance(parent, (SnapshotAccess, CopyOnRead)):
        parent.file = by
    else:
        assert isinstance(parent, Qcow2)
        parent.backing = by


def move_export(export: NbdExport, by: Node, age: int) -> None:
    """Have an export show another node."""
    export.node, export.age = by, age
