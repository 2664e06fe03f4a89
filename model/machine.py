# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: ties the nodes, exports and bitmaps together and does operations to them.

This is the sequential grain: each operation runs to its end before the next one.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from . import backup_commands, bitmap_commands
from . import job_operations as jobs
from . import operations as ops
from .backup_job import BackupJob
from .bitmap import DirtyBitmap, divide_up
from .capabilities import Capabilities
from .channels import seen_through
from .configuration import Configuration, Fault
from .content import Content, stamped, zeroes
from .copy_before_write import CopyBeforeWrite
from .errors import CommandRefused, Errno, QmpError, RequestFailed
from .graph import Graph
from .nbd_export import Disconnected, NbdExport, SparseRead
from .node import Node
from .operations import Operation, Request, Via
from .outcome import Observation, Outcome
from .program import Program, StorageRequest, run_to_end
from .snapshot_access import SnapshotAccess

Result = TypeVar("Result")


class Impossible(ValueError):
    """An operation that no client could even send: a request to a node that is not exported."""


@dataclass(frozen=True, slots=True)
class FilterView:
    """A filter's state, for people to look at."""

    node: str
    cluster_size: int
    access: DirtyBitmap
    done: DirtyBitmap
    copy: DirtyBitmap
    broken: Errno | None


class Machine:
    """The reference model of a QEMU with these images and capabilities."""

    def __init__(self, configuration: Configuration,
                 capabilities: Capabilities | None = None) -> None:
        self.configuration = configuration
        self.capabilities = capabilities or Capabilities()
        self.rules: Counter[str] = Counter()
        self.graph = Graph(configuration, self.capabilities, self.rules)
        self._faults: dict[str, list[Fault]] = {
            image.node: list(image.faults) for image in configuration.images if image.faults}

    # Doing

    def apply(self, number: int, operation: Operation) -> Outcome:
        """Do operation ``number``, whose writes carry that number as their stamp.

        Raises :class:`Impossible` for what no client could send.
        """
        try:
            if isinstance(operation, Request):
                return self._request(number, operation)
            if isinstance(operation, ops.Inspect):
                return self._inspect(operation)
            self._command(operation)
            return Outcome()
        except CommandRefused as why:
            return Outcome(refused=why.error)

    def _command(self, operation: Operation) -> None:
        """A QMP command; one about a job ends when the job rests."""
        if isinstance(operation, jobs.Backup):
            self._answer(backup_commands.start(self.graph, operation).run())
        elif isinstance(operation, jobs.JobResume):
            job = backup_commands.find(self.graph, operation)
            job.resume()
            self._answer(job.run())
        elif isinstance(operation, jobs.Transaction):
            self._transaction(operation)
        elif type(operation) in COMMANDS:
            COMMANDS[type(operation)](self.graph, operation)
        else:
            raise Impossible(f"{operation.name} is no operation of the sequential model")

    def _transaction(self, transaction: jobs.Transaction) -> None:
        """All of the actions or, if one of them is refused, none; jobs run only then."""
        before = copy.deepcopy(self.graph, {id(self.rules): self.rules})
        started: list[BackupJob] = []
        removed: list[ops.BitmapRemove] = []
        try:
            for action in transaction.actions:
                if isinstance(action, jobs.Abort):
                    raise CommandRefused("Transaction aborted using Abort action")
                if isinstance(action, jobs.Backup):
                    started.append(backup_commands.start(self.graph, action))
                elif isinstance(action, ops.BitmapRemove):
                    bitmap_commands.hold(self.graph, action)
                    removed.append(action)
                elif isinstance(action, ops.BitmapOperation):
                    COMMANDS[type(action)](self.graph, action)
                else:
                    raise Impossible(f"{action.name} is no action of a transaction")
        except CommandRefused:
            self.graph = before
            raise
        for removal in removed:
            bitmap_commands.remove_held(self.graph, removal)
        for job in started:
            self._answer(job.run())

    def _request(self, number: int, request: Request) -> Outcome:
        start, end = request.offset, request.offset + request.length
        export = self._export(request)
        if self._faults and isinstance(request, (ops.Write, ops.Zero, ops.Discard)):
            self._check_order(export.node, start, end)
        try:
            if request.via is Via.DEVICE and export.node is not self.graph.device:
                return Outcome(error=Errno.ENOENT)
            return self._answer(self._program(number, request, export, start, end))
        except RequestFailed as why:
            return Outcome(error=seen_through(request.via, why.error))
        except Disconnected:
            return Outcome(disconnected=True)

    def _check_order(self, node: Node, start: int, end: int) -> None:
        """Over storage that fails, a request that copies one cluster has one outcome; with more,
        it depends on how block status cuts the copy up.  Held storage is the place for those."""
        while isinstance(node, CopyBeforeWrite):
            dirty = [min(high, end) - max(low, start) // node.cluster_size * node.cluster_size
                     for low, high in node.block_copy.copy_bitmap.dirty_ranges()
                     if low < end and start < high]
            if sum(divide_up(length, node.cluster_size) for length in dirty) > 1:
                raise Impossible("copies several clusters over failing storage")
            node = node.source

    def _export(self, request: Request) -> NbdExport:
        if request.offset < 0 or request.length < 0:
            raise Impossible("a negative offset or length")
        if isinstance(request, ops.Discard) and any(
                (request.offset | request.length) % (image.request_alignment or 1)
                for image in self.configuration.images):
            raise Impossible("an unaligned discard, of which QEMU's blkdebug itself dies")
        export = self.graph.exports.get(request.node)
        device = self.graph.device
        if export is None and request.via is Via.DEVICE and device is not None:
            return NbdExport(device, writable=True, bitmaps=(), allocation_depth=False,
                             fired=self.rules)
        if export is None:
            raise Impossible(f"node {request.node!r} has no export")
        return export

    def _program(self, number: int, request: Request, export: NbdExport, start: int,
                 end: int) -> Program[Outcome]:
        """What the request makes of itself on its node, through its channel."""
        node = export.node
        local = request.via in (Via.MONITOR, Via.DEVICE)
        if not local:
            export.check(start, end, changes=isinstance(
                request, (ops.Write, ops.Zero, ops.Discard)))
        if isinstance(request, ops.Read):
            structured = request.via in (Via.NBD, Via.QEMU_IO)
            read = export.read_structured if structured else export.read_plain
            found = yield from read(start, end)
            return Outcome(content=found.content, perhaps_zero=found.perhaps_zero)
        if isinstance(request, ops.Status):
            return Outcome(extents=(yield from export.status(start, end, request.context)))
        if isinstance(request, ops.Write):
            yield from node.write(start, stamped(end - start, number))
        elif isinstance(request, ops.Zero):
            yield from node.write_zeroes(start, end, unmap=request.unmap)
        elif isinstance(request, ops.Discard):
            yield from node.discard(start, end)
        if isinstance(request, ops.Flush) or getattr(request, "fua", False):
            yield from node.flush()
        return Outcome()

    def _inspect(self, inspect: ops.Inspect) -> Outcome:
        """The node's content; a snapshot's cluster by cluster: each is data or is denied.

        A node without an export is looked at through a read-only one made for that.
        """
        node = self.graph.lookup(inspect.node)
        if inspect.node not in self.graph.exports:
            self.graph.check_export(node, writable=False)
        unit = node.size
        if isinstance(node, SnapshotAccess):
            unit = node.file.cluster_size if isinstance(node.file, CopyBeforeWrite) else node.size
        content = zeroes(node.size)
        denied: list[tuple[int, int]] = []
        for start in range(0, node.size, unit or 1):
            end = min(start + unit, node.size)
            try:
                content.paste(start, self._answer(node.read(start, end)))
            except RequestFailed as why:
                if why.error is not Errno.EACCES or not isinstance(node, SnapshotAccess):
                    return Outcome(error=seen_through(Via.NBD, why.error))
                if denied and denied[-1][1] == start:
                    start = denied.pop()[0]
                denied.append((start, end))
        return Outcome(content=content, denied=tuple(denied))

    # Storage

    def _answer(self, program: Program[Result]) -> Result:
        return run_to_end(program, self._complete)

    def _complete(self, request: StorageRequest) -> None:
        """Complete a storage request, or fail it as the configured faults say."""
        faults = self._faults.get(request.node)
        for fault in faults or ():
            if fault.kind is request.kind and (
                    request.offset <= fault.offset < request.offset + request.length):
                if fault.once and faults:
                    faults.remove(fault)
                raise RequestFailed(Errno[fault.errno])

    # Looking

    def observe(self) -> Observation:
        """The bitmaps of all nodes, the digests of those that have a name, the jobs, and what
        they have told since the last time."""
        bitmaps = {name: tuple(bitmap.view() for bitmap in node.bitmaps)
                   for name, node in self.graph.nodes.items() if node.bitmaps}
        digests = {(name, bitmap.name): bitmap.digest()
                   for name, node in self.graph.nodes.items()
                   for bitmap in node.bitmaps if bitmap.name is not None}
        events = tuple(event for job in self.graph.jobs.values() for event in job.take_events())
        backup_commands.forget_ended(self.graph)
        return Observation(bitmaps, digests,
                           tuple(job.view() for job in self.graph.jobs.values()), events)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by name, in the order in which they were added."""
        return self.graph.nodes

    @property
    def exports(self) -> Mapping[str, NbdExport]:
        """The exports by the name of their node."""
        return self.graph.exports

    def filters(self) -> list[FilterView]:
        """The state of each copy-before-write filter."""
        return [FilterView(node.name, node.cluster_size, node.access, node.done,
                           node.block_copy.copy_bitmap, node.snapshot_error)
                for node in self.graph.nodes.values() if isinstance(node, CopyBeforeWrite)]

    def content_of(self, node: str) -> Content:
        """What the node reads as; raises RequestFailed if it cannot be read whole."""
        found = self.graph.nodes[node]
        return run_to_end(found.read(0, found.size), lambda request: None)

    def deadly(self, operation: Operation) -> str | None:
        """The known defect by which the operation would kill a build with these capabilities."""
        if isinstance(operation, ops.AddFilter) and _is_huge(operation.min_cluster_size):
            return "huge_min_cluster_size_aborts"
        if isinstance(operation, ops.Discard):
            node = self.graph.nodes.get(operation.node)
            if self.capabilities.unaligned_snapshot_discard_aborts and _kills(node, operation):
                return "unaligned_snapshot_discard_aborts"
        return None


def _is_huge(min_cluster_size: int | None) -> bool:
    """Whether a cluster size is accepted by the first check, yet too large for a bitmap."""
    return min_cluster_size is not None and 1 << 32 <= min_cluster_size < 1 << 63


def _kills(node: Node | None, discard: ops.Discard) -> bool:
    """Whether the discard reaches a filter without being aligned to its clusters."""
    if not isinstance(node, SnapshotAccess) or not node.discard_enabled or not discard.length:
        return False
    kept = node.file
    if not isinstance(kept, CopyBeforeWrite):
        return False
    end = discard.offset + discard.length
    return bool(discard.offset % kept.cluster_size or (
        end % kept.cluster_size and end != kept.size))


COMMANDS: Final[dict[type[Operation], Callable[[Graph, Any], None]]] = {
    ops.AddFilter: Graph.add_filter,
    ops.AddSnapshot: Graph.add_snapshot,
    ops.RemoveNode: Graph.remove_node,
    ops.Attach: Graph.attach,
    ops.Export: Graph.add_export,
    ops.Unexport: Graph.remove_export,
    ops.BitmapAdd: bitmap_commands.add,
    ops.BitmapRemove: bitmap_commands.remove,
    ops.BitmapClear: bitmap_commands.clear,
    ops.BitmapEnable: bitmap_commands.enable,
    ops.BitmapDisable: bitmap_commands.disable,
    ops.BitmapMerge: bitmap_commands.merge,
    jobs.JobFinalize: lambda graph, command: backup_commands.find(graph, command).finalize(),
    jobs.JobDismiss: lambda graph, command: backup_commands.find(graph, command).dismiss(),
    jobs.JobCancel: lambda graph, command: backup_commands.find(graph, command).cancel(),
    jobs.JobPause: lambda graph, command: backup_commands.find(graph, command).pause(),
}
"""What each command does to the graph."""

__all__ = ["FilterView", "Impossible", "Machine", "QmpError", "SparseRead"]
