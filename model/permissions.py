# SPDX-License-Identifier: GPL-2.0-or-later
"""Permissions: what each user of a node needs, and what it lets other users do.

Every user (an export, a device, a node above) *requires* some permissions on a node and *shares*
some with the other users.  A permission that one user requires and another does not share is a
conflict: the command that would bring it about is refused and changes nothing.

QEMU has one more, consistent read, which every reader requires and nobody here ever denies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final

from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import CommandRefused
from .image import Image
from .node import Node
from .qcow2 import Qcow2
from .snapshot_access import SnapshotAccess


class Permission(Flag):
    """What a user may want to do with a node."""

    WRITE = auto()
    WRITE_UNCHANGED = auto()
    RESIZE = auto()


NOTHING = Permission(0)
ALL = ~NOTHING
WRITES = Permission.WRITE | Permission.WRITE_UNCHANGED
"""What no user of a read-only node may require."""
_OF_TARGET: Final = (Permission.WRITE, ALL & ~Permission.RESIZE)
"""What a filter requires of its target, and shares, used or not."""
_WORDS = {Permission.WRITE: "write", Permission.WRITE_UNCHANGED: "write unchanged",
          Permission.RESIZE: "resize"}


@dataclass(frozen=True, slots=True)
class Use:
    """One user of ``node``: its description, what it requires and what it shares.

    ``age`` orders users by when they came: QEMU looks at the newest first.
    """

    node: Node
    user: str
    requires: Permission
    shares: Permission
    age: int


def _unnamed(node: Node) -> str:
    return f"an unnamed block device (uses node '{node.name}' as 'root' child)"


def _above(name: str, child: Node, role: str) -> str:
    return f"node '{name}' (uses node '{child.name}' as '{role}' child)"


def export_use(node: Node, age: int, *, writable: bool) -> Use:
    """An NBD export reads, writes if it is writable, and wants the size to stay."""
    requires = Permission.WRITE if writable else NOTHING
    return Use(node, _unnamed(node), requires, ALL & ~Permission.RESIZE, age)


def device_use(node: Node, age: int) -> Use:
    """The guest's device reads and writes, and lets others write and resize."""
    return Use(node, f"block device 'guest' (uses node '{node.name}' as 'root' child)",
               Permission.WRITE, ALL, age)


def job_use(node: Node, job: str, age: int) -> Use:
    """A backup job holds its filter and its target, and asks for no permission itself."""
    return Use(node, f"block job '{job}' (uses node '{node.name}')", NOTHING, ALL, age)


def look_use(node: Node, age: int, *, writes: bool) -> Use:
    """A user for a moment: opening a node above looks at the node below through one; so does the
    human monitor's qemu-io, which may want to write."""
    requires = Permission.WRITE if writes else NOTHING
    return Use(node, _unnamed(node), requires, ALL, age)


def resize_use(node: Node, age: int) -> Use:
    """block_resize uses the node for a moment."""
    return Use(node, _unnamed(node), Permission.RESIZE, ALL, age)


def filter_uses(name: str, source: Node, target: Node, age: int) -> list[Use]:
    """What a copy-before-write filter that nobody uses yet requires and shares."""
    return [Use(source, _above(name, source, "file"), NOTHING, ALL, age),
            Use(target, _above(name, target, "target"), *_OF_TARGET, age)]


def copy_on_read_use(name: str, file: Node, age: int) -> Use:
    """What a copy-on-read node that nobody uses yet requires and shares."""
    return Use(file, _above(name, file, "file"), Permission.WRITE_UNCHANGED, ALL, age)


def _uses_of(parent: Node, above: list[Use]) -> Iterator[Use]:
    """What ``parent``, itself used as ``above``, requires and shares on its children."""
    requires, shares = NOTHING, ALL
    for use in above:
        requires |= use.requires
        shares &= use.shares
    if isinstance(parent, CopyBeforeWrite):
        yield _use(parent, "target", parent.target, *_OF_TARGET)
        if above:
            if parent.block_copy.discards_source:
                requires |= Permission.WRITE
            shares &= ~(Permission.WRITE | Permission.RESIZE)
        yield _use(parent, "file", parent.source, requires, shares)
    elif isinstance(parent, SnapshotAccess):
        yield _use(parent, "file", parent.file, NOTHING, ALL)
    elif isinstance(parent, CopyOnRead):
        yield _use(parent, "file", parent.file, requires | Permission.WRITE_UNCHANGED, shares)
    elif isinstance(parent, Qcow2) and parent.backing is not None:
        others = Permission.WRITE | Permission.RESIZE if shares & Permission.WRITE else NOTHING
        yield _use(parent, "backing", parent.backing, NOTHING,
                   others | Permission.WRITE_UNCHANGED)


def _use(parent: Node, role: str, child: Node, requires: Permission, shares: Permission) -> Use:
    return Use(child, _user(parent, child, role), requires, shares, link_age(parent, role))


def link_age(parent: Node, role: str) -> int:
    """How new the link from a node to its child of that role is."""
    return parent.link_ages.get(role, parent.age)


def _user(parent: Node, child: Node, role: str) -> str:
    name = parent.format_node if isinstance(parent, Image) else parent.name
    return _above(name, child, role)


def uses(nodes: Iterable[Node], outer: Iterable[Use]) -> dict[str, list[Use]]:
    """The users of every node, by node name; ``outer``: the uses by exports, devices and jobs."""
    found: dict[str, list[Use]] = {node.name: [] for node in nodes}
    for use in outer:
        found[use.node.name].append(use)
    for node in parents_first(list(nodes)):
        for use in _uses_of(node, found[node.name]):
            found[use.node.name].append(use)
    return found


def children_of(node: Node) -> list[Node]:
    """The nodes that a node is built on, newest link first."""
    if isinstance(node, CopyBeforeWrite):
        return [node.target, node.source]
    if isinstance(node, (SnapshotAccess, CopyOnRead)):
        return [node.file]
    if isinstance(node, Qcow2) and node.backing is not None:
        return [node.backing]
    return []


def parents_first(nodes: list[Node]) -> list[Node]:
    """The nodes and all below them, every one before the nodes that it is built on."""
    done: list[Node] = []

    def visit(node: Node) -> None:
        if node not in done:
            for child in children_of(node):
                visit(child)
            done.append(node)

    for node in nodes:
        visit(node)
    return done[::-1]


def check(found: dict[str, list[Use]], nodes: Iterable[Node]) -> None:
    """Refuse a conflict on one of the nodes, naming the permissions and both users.

    Of several conflicts, that on the first of the nodes is named; of several on a node, the one
    of the newest user that denies, and of those, the one of the newest user that requires.
    Source: GenericError text by experiment.
    """
    for node in nodes:
        name = node.name
        newest_first = sorted(found[name], key=lambda use: use.age, reverse=True)
        for denies in newest_first:
            for wants in newest_first:
                clash = wants.requires & ~denies.shares
                if wants is not denies and clash:
                    words = ", ".join(text for each, text in _WORDS.items() if each & clash)
                    raise CommandRefused(
                        f"Permission conflict on node '{name}': permissions '{words}' are both "
                        f"required by {wants.user} and unshared by {denies.user}.")
        if node.read_only and any(use.requires & WRITES for use in found[name]):
            raise CommandRefused("Block node is read-only")
