# SPDX-License-Identifier: GPL-2.0-or-later
"""The block graph: which nodes and exports there are, and the commands that change that.

A command that is refused raises CommandRefused with QEMU's text and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from . import arguments, bitmap_directory, links, permissions
from .backup_job import BackupJob
from .bitmap import DirtyBitmap, check_usable
from .capabilities import Capabilities
from .configuration import Configuration, Format, Protocol
from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import CommandRefused, Undetermined
from .held_image import HeldImage
from .image import Image
from .nbd_export import LONGEST_NAME, NbdExport
from .node import Node
from .operations import (
    AddCopyOnRead,
    AddSnapshot,
    BitmapRef,
    Export,
    RemoveNode,
    Request,
    Unexport,
)
from .outcome import JobEvent
from .qcow2 import Qcow2
from .rules import rule
from .snapshot_access import SnapshotAccess


class Graph:
    """Nodes in the order in which they were added, and exports by the name of their node."""

    def __init__(self, configuration: Configuration, capabilities: Capabilities,
                 fired: Counter[str]) -> None:
        self.capabilities = capabilities
        self.fired = fired
        self.nodes: dict[str, Node] = {}
        self.closed: dict[str, Node] = {}
        """Images whose nodes have been removed."""
        self.targets: dict[str, str] = {}
        """The images that jobs have opened by themselves, by the names of those nodes here."""
        self.remade: set[str] = set()
        """The images that the command at hand has made anew."""
        self.filtered: list[str] = []
        """The nodes over which the command at hand has put jobs' filters, in order."""
        self.unfiltered: str | None = None
        """The node over which the command at hand has opened a job's filter and could not put."""
        self.exports: dict[str, NbdExport] = {}
        self.device: Node | None = None
        """The node that the guest's device is on, if there is a device."""
        self.attached: str | None = None
        """The node that it was put on; jobs may have moved it since."""
        self._device_age = 0
        self.jobs: dict[str, BackupJob] = {}
        self.job_events: list[JobEvent] = []
        """What jobs have told, and nobody has asked for yet."""
        self.under_way: dict[int, Request] = {}
        """The clients' requests that are under way, by number, if storage is held."""
        self._age = 0
        for index, spec in enumerate(configuration.images):
            if spec.format is Format.QCOW2:
                backing = self.nodes[spec.backing] if spec.backing else None
                self.nodes[spec.node] = Qcow2(spec, index, backing, fired)
            else:
                held = spec.protocol is Protocol.HELD
                self.nodes[spec.node] = (HeldImage if held else Image)(spec, index, fired)
            self.nodes[spec.node].age = self.next_age()
        self._below = {f"{name}-file" for name in self.nodes} | {
            node.format_node for node in self.nodes.values()
            if isinstance(node, Image) and node.format_node != node.name}
        """The names of the nodes below images, for which the model has no nodes."""

    def next_age(self) -> int:
        """The next number in the graph's history: for who comes now, be it for a moment."""
        self._age += 1
        return self._age

    # Looking up

    def lookup(self, name: str) -> Node:
        """The node of that name, for commands that also take a device's name."""
        return self._found(name, f"Cannot find device='{name}' nor node-name='{name}'")

    def node(self, name: str) -> Node:
        """The node of that name, for commands that take nothing but a node's name."""
        return self._found(name, f"Cannot find device='' nor node-name='{name}'")

    def blockdev(self, name: str) -> Node:
        """The node of that name, for blockdev-del and blockdev-reopen."""
        return self._found(name, f"Failed to find node with node-name='{name}'")

    def _found(self, name: str, refusal: str) -> Node:
        node = self.find(name)
        if node is None:
            raise CommandRefused(refusal)
        return node

    def find(self, name: str) -> Node | None:
        """The node of that name, if there is one; raises Undetermined for a node that QEMU has and
        the model has not, or whose name QEMU made up."""
        if name in self._below:
            raise Undetermined(f"node {name!r} is a part of an image")
        if name.startswith("#") and name in self.nodes:
            raise Undetermined(f"the name of node {name!r} is up to QEMU")
        return self.nodes.get(name)

    def bitmap(self, reference: BitmapRef) -> DirtyBitmap:
        """A named bitmap."""
        node = self.find(reference.node)
        if node is None:
            raise CommandRefused(f"Node '{reference.node}' not found")
        bitmap = node.bitmap(reference.name)
        if bitmap is None:
            raise CommandRefused(f"Dirty bitmap '{reference.name}' not found")
        return bitmap

    # Nodes

    def look(self, name: str) -> Node:
        """The node to open another one over: QEMU first uses it for a moment, to look at it."""
        node = self.lookup(name)
        self.check_look(node)
        return node

    def check_look(self, node: Node, *, writes: bool = False) -> None:
        """Refuse a user for a moment, who may want to write, if the permissions do not allow."""
        self._check_user(permissions.look_use(node, self.next_age(), writes=writes))

    def check_no_writer(self, node: Node) -> None:
        """Refuse to make a node read-only that somebody may write to."""
        if self.is_required(permissions.WRITES, node):
            raise CommandRefused(
                f"Read-only block node '{node.name}' cannot support read-write users")

    def check_resize(self, node: Node) -> None:
        """Refuse somebody who resizes the node if the permissions do not allow."""
        self._check_user(permissions.resize_use(node, self.next_age()))

    def _check_user(self, use: permissions.Use) -> None:
        self.check_permissions(use.node, [use])

    def show_copy_bitmap(self, node: CopyBeforeWrite) -> None:
        """The copy bitmap is listed last of the filter's, or first of the source's, by build."""
        if self.capabilities.copy_bitmap_on_filter:
            node.bitmaps.append(node.block_copy.copy_bitmap)
        else:
            node.source.add_bitmap(node.block_copy.copy_bitmap)

    def hide_copy_bitmap(self, node: CopyBeforeWrite) -> None:
        """The filter is gone, and its copy bitmap with it."""
        for each in self.nodes.values():
            if node.block_copy.copy_bitmap in each.bitmaps:
                each.bitmaps.remove(node.block_copy.copy_bitmap)

    def add_snapshot(self, command: AddSnapshot) -> None:
        """blockdev-add of a snapshot-access node."""
        file = self.look(command.file)
        self.check_new(command.node)
        node = SnapshotAccess(command.node, file, discard=command.discard, fired=self.fired)
        node.age = self.next_age()
        self.nodes[node.name] = node

    def add_copy_on_read(self, command: AddCopyOnRead) -> None:
        """blockdev-add of a copy-on-read node."""
        file = self.look(command.file)
        self.check_new(command.node)
        age = self.next_age()
        self.check_permissions(file, [permissions.copy_on_read_use(command.node, file, age)])
        node = CopyOnRead(command.node, file, fired=self.fired,
                          by_subclusters=self.capabilities.copy_on_read_by_subclusters)
        node.age = age
        self.nodes[node.name] = node

    def removable(self, command: RemoveNode) -> Node:
        """The node that blockdev-del is to remove: only one that nobody uses."""
        node = self.blockdev(command.node)
        if node is self.device or any(each.node is node for each in self.exports.values()):
            raise CommandRefused(f"Node {node.name} is in use")
        self.check_unblocked(node)
        if self._uses()[node.name]:
            raise CommandRefused(f"Block device {node.name} is in use")
        if isinstance(node, Qcow2) and node.backing is not None and node.format_node != node.name:
            raise Undetermined(f"node {node.format_node!r} stays, and holds its backing file")
        return node

    def remove(self, node: Node) -> None:
        """Take a node out that nobody uses."""
        del self.nodes[node.name]
        if isinstance(node, CopyBeforeWrite):
            self.hide_copy_bitmap(node)
        elif isinstance(node, Image):
            if isinstance(node, Qcow2):
                bitmap_directory.store(node)
                node.backing, node.link_ages = None, {}
            node.read_only, node.bitmaps = node.spec.read_only, []
            self.closed[node.name] = node

    def check_new(self, name: str) -> None:
        """Refuse a name that a new node cannot have."""
        if not arguments.is_well_formed(name):
            raise CommandRefused(f"Invalid node-name: '{name}'")
        if name in self.nodes or name in self._below:
            raise CommandRefused(f"Duplicate nodes with node-name='{name}'")
        if len(name) > arguments.LONGEST_NODE_NAME:
            raise CommandRefused("Node name too long")

    # Filters and targets of jobs

    def open_target(self, image: Image, job: str) -> None:
        """A job opens an image by itself."""
        del self.closed[image.name]
        name = f"#target({job})"
        if name in self.nodes:
            name += "'"  # of a job whose name is taken: that is found out later
        self.targets[name], image.name, image.age = image.name, name, self.next_age()
        self.nodes[name] = image

    def _close_target(self, name: str) -> None:
        image = self.nodes.pop(name)
        assert isinstance(image, Image)
        image.name = self.targets.pop(name)
        self.closed[image.name] = image

    def check_unblocked(self, node: Node, *, by_jobs: bool = True,
                        by_overlays: bool = True) -> None:
        """Refuse what a job that holds the node, as its filter or target, does not allow, nor an
        overlay with its backing file; of several, the one that came last is named."""
        held: list[tuple[int, str]] = []
        if by_jobs:
            held += [(job.filter.age, "block device is in use by block job: backup")
                     for job in self.jobs.values()
                     if job.is_active and node in (job.filter, job.filter.target)]
        if by_overlays:
            held += [(permissions.link_age(each, "backing"),
                      f"node is used as backing hd of '{each.format_node}'")
                     for each in self.nodes.values()
                     if isinstance(each, Qcow2) and each.backing is node]
        if held:
            raise CommandRefused(f"Node '{node.name}' is busy: {max(held)[1]}")

    def check_filter(self, name: str, source: Node, target: Node) -> None:
        """Refuse to open a filter over these two."""
        found = permissions.filter_uses(name, source, target, self.next_age())
        self.check_permissions(source, found[:1])
        self.check_permissions(target, found)

    def add_filter(self, node: CopyBeforeWrite) -> None:
        """A filter has been opened: over its source, and then over its target."""
        node.age, node.link_ages["target"] = self.next_age(), self.next_age()
        self.nodes[node.name] = node
        self.show_copy_bitmap(node)

    def insert_filter(self, node: CopyBeforeWrite) -> None:
        """Put a job's filter, not used yet, in the place of its source; if that is refused, the
        caller has to undo it."""
        below = {id(each) for each in permissions.parents_first([node])}
        self._replace(node.source, node, lambda parent: id(parent) not in below)
        self.add_filter(node)
        try:
            self.check_permissions(node)
        except CommandRefused as why:
            self.unfiltered = node.source.name
            raise CommandRefused(f"Could not replace node: {why}") from why
        self.filtered.append(node.source.name)

    def has_users_between(self, device: Node, node: CopyBeforeWrite) -> bool:
        """Whether the filter's target is over the device itself, too."""
        return any(links.roles(each, device) for each in permissions.parents_first([node])
                   if each is not node)

    def check_held(self, node: CopyBeforeWrite) -> None:
        """Refuse to have a job hold its filter: one that nobody held before denies more then."""
        self.check_permissions(node, [permissions.job_use(node, "", node.age)])

    def drop_filter(self, node: CopyBeforeWrite) -> None:
        """A job has ended: whoever used its filter uses the device again, snapshots too."""
        self.hide_copy_bitmap(node)
        del self.nodes[node.name]
        self._replace(node, node.source, lambda parent: True)
        if node.target.name in self.targets:
            self._close_target(node.target.name)

    def _replace(self, node: Node, by: Node, takes_part: Callable[[Node], bool]) -> None:
        """Every user of ``node`` now uses ``by``, of nodes above it those that take part; the
        newest user moves first, and whoever moves is a new user."""
        moves: list[tuple[int, Callable[[int], None]]] = []
        for parent in self.nodes.values():
            if takes_part(parent):
                moves += [(permissions.link_age(parent, role),
                           partial(links.move, parent, role, by))
                          for role in links.roles(parent, node)]
        moves += [(export.age, partial(links.move_export, export, by))
                  for export in self.exports.values() if export.node is node]
        if self.device is node:
            moves.append((self._device_age, partial(self.move_device, by)))
        for _, move in sorted(moves, key=lambda each: each[0], reverse=True):
            move(self.next_age())

    def move_device(self, by: Node | None, age: int) -> None:
        """Put the guest's device on another node, or on none, as a new user."""
        self.device, self._device_age = by, age

    # Exports

    def add_export(self, command: Export) -> None:
        """block-export-add of an NBD export."""
        if not arguments.is_well_formed(command.node):
            raise CommandRefused("Invalid block export id")
        if command.node in self.exports:
            raise CommandRefused(f"Block export id '{command.node}' is already in use")
        node = self.node(command.node)
        if node.read_only and command.writable:
            raise CommandRefused("Cannot export read-only node as writable")
        if command.iothread is not None:
            raise CommandRefused(f'iothread "{command.iothread}" not found')
        self.check_export(node, writable=command.writable)
        called = command.node if command.called is None else command.called
        self._check_called(called, command.description or "")
        bitmaps = (*map(self._export_bitmap, command.bitmaps), *(
            self._own_bitmap(node, name, writable=command.writable)
            for name in command.own_bitmaps))
        for bitmap in bitmaps:
            bitmap.busy = True
        self.exports[node.name] = NbdExport(
            node, writable=command.writable, bitmaps=bitmaps,
            allocation_depth=command.allocation_depth,
            capabilities=self.capabilities, fired=self.fired,
            writethrough=command.writethrough)
        self.exports[node.name].age = self.next_age()
        self.exports[node.name].called = called

    @rule("nbd.names", source="argument name of block-export-add; experiment")
    def _check_called(self, name: str, description: str) -> None:
        """A client asks for an export by its name, which no other export may have.  It may be
        empty, and has at most 4096 bytes, as any string of the protocol: its description, too.
        Names of bitmaps are shorter, so every bitmap can have a metadata context."""
        for what, text in (("export name", name), ("description", description)):
            if len(text.encode()) > LONGEST_NAME:
                raise CommandRefused(f"{what} '{text}' too long")
        if any(export.called == name for export in self.exports.values()):
            raise CommandRefused(f"NBD server already has export named '{name}'")

    def check_export(self, node: Node, *, writable: bool) -> None:
        """Refuse an export that the permissions do not allow."""
        self._check_user(permissions.export_use(node, self.next_age(), writable=writable))

    def _export_bitmap(self, reference: BitmapRef) -> DirtyBitmap:
        bitmap = self.bitmap(reference)
        check_usable(bitmap)
        return bitmap

    @rule("nbd.own-bitmap", source="argument bitmaps of block-export-add; experiment")
    def _own_bitmap(self, node: Node, name: str, *, writable: bool) -> DirtyBitmap:
        """A bitmap of which only the name is given is looked for on the node, and then below it,
        through filters and backing files; the first one so called counts.  A read-only export
        refuses it if it records and its node can be written to, as it would change under the
        client.  A bitmap whose node is given too is not looked at in this way."""
        while (bitmap := node.bitmap(name)) is None:
            below = links.filtered_or_backing(node)
            if below is None:
                raise CommandRefused(f"Bitmap '{name}' is not found")
            node = below
        if not writable and not node.read_only and bitmap.recording:
            raise CommandRefused(
                f"Enabled bitmap '{name}' incompatible with readonly export")
        check_usable(bitmap)
        return bitmap

    def remove_export(self, command: Unexport) -> None:
        """block-export-del."""
        export = self.exports.pop(command.node, None)
        if export is None:
            raise CommandRefused(f"Export '{command.node}' is not found")
        for bitmap in export.bitmaps:
            bitmap.busy = False

    # Permissions

    def _outer_uses(self) -> list[permissions.Use]:
        """The users from outside the graph: the device, the exports and the jobs."""
        device = [permissions.device_use(self.device, self._device_age)] if self.device else []
        exports = [permissions.export_use(export.node, export.age, writable=export.writable)
                   for export in self.exports.values()]
        jobs = [permissions.job_use(node, job.name, job.filter.age) for job in self.jobs.values()
                if job.is_active for node in (job.filter, job.filter.target)]
        return device + exports + jobs

    def _uses(self) -> dict[str, list[permissions.Use]]:
        return permissions.uses(self.nodes.values(), self._outer_uses())

    def is_required(self, wanted: permissions.Permission, node: Node) -> bool:
        """Whether a user of the node requires any of these permissions."""
        return any(use.requires & wanted for use in self._uses()[node.name])

    def check_permissions(self, changed: Node, more: Iterable[permissions.Use] = ()) -> None:
        """Refuse conflicts on a node that has changed, or below it, given ``more`` users."""
        outer = [*self._outer_uses(), *more]
        found = permissions.uses(self.nodes.values(), outer)
        permissions.check(found, permissions.parents_first([changed]))
