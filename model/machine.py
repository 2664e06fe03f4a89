# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: ties the nodes, exports and bitmaps together and does operations to them.

This is the sequential grain: each operation runs to its end before the next one.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from . import (
    backup_commands,
    defects,
    filters,
    flushing,
    guest_device,
    inspection,
    job_steering,
    overlays,
    reopening,
    requests,
    resizing,
    restart,
    transactions,
    unsaid,
    unsaid_jobs,
)
from . import job_operations as jobs
from . import operations as ops
from .backup_job import BackupJob, JobGroup
from .bitmap import DirtyBitmap
from .capabilities import Capabilities
from .channels import seen_through
from .configuration import Configuration, Fault, Protocol, RequestKind
from .content import Content, zeroes
from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import CommandRefused, Errno, RequestFailed, Undetermined
from .graph import Graph
from .image import Image
from .links import shown_filter
from .nbd_export import NbdExport
from .node import SECTOR, Node
from .operations import Operation, Request, Via
from .outcome import DeviceView, Observation, Outcome, by_job
from .program import Program, StorageRequest, look, run_to_end
from .qcow2 import Qcow2
from .unsaid import Impossible

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FilterView:
    """A filter's state, for people to look at: its three bitmaps and, if a failed copy has broken
    its snapshot, the errno of that."""

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
        self._faults: dict[str, list[Fault]] = {}
        self._arm()
        self._unsaved: set[str] = set()
        """Images with changes that may not have reached the storage below."""

    def _arm(self) -> None:
        self._faults = {image.node: list(image.faults) for image in self.configuration.images
                        if image.faults}

    # Doing

    def apply(self, number: int, operation: Operation) -> Outcome:
        """Do operation ``number``, whose writes carry that number as their stamp.

        Raises :class:`Impossible`, nothing done, for what no trace may contain: what no client
        could send, what the model has nothing to say of, what would kill this build.
        """
        defect = self.deadly(operation)
        if defect is not None:
            raise Impossible(f"{operation.name} would kill a build with the defect "
                             f"{defect.replace('_', '-')}")
        try:
            return self._do(number, operation)
        except CommandRefused as why:
            return Outcome(refused=why.error)
        except Undetermined as why:
            raise Impossible(str(why)) from why

    def _do(self, number: int, operation: Operation) -> Outcome:
        if isinstance(operation, Request):
            return self._request(number, operation)
        if isinstance(operation, ops.Inspect):
            with self._all_or_nothing() if self._reads_leave_traces() else nullcontext():
                return self._inspect(operation)
        self._command(operation)
        return Outcome(compressed=self._compressed()) if isinstance(
            operation, ops.Restart) else Outcome()

    def _reads_leave_traces(self) -> bool:
        return any(self._faults.values()) or any(
            isinstance(each, CopyOnRead) for each in self.graph.nodes.values())

    def _compressed(self) -> dict[str, range]:
        return {node.name: node.compressed_clusters for node in self.graph.nodes.values()
                if isinstance(node, Qcow2) and node.spec.protocol is Protocol.FILE}

    def _command(self, operation: Operation) -> None:
        """A QMP command; one about jobs ends when they rest."""
        match operation:
            case jobs.Backup():
                backup_commands.check_arguments(self.capabilities, operation)
                with self._all_or_nothing():
                    self._run(backup_commands.start(self.graph, operation, JobGroup()))
            case jobs.Transaction(actions):
                if not all(isinstance(each, transactions.ACTIONS) for each in actions):
                    raise Impossible("not an action of a transaction")
                attempt = transactions.Attempt(self.graph, operation)
                with self._all_or_nothing(attempt.scar):
                    self._run(*attempt.run())
            case jobs.JobOperation():
                self._job_command(operation)
            case ops.RemoveNode(name):
                unsaid.check_close(*filter(None, [self.graph.nodes.get(name)]))
                node = self.graph.removable(operation)
                with suppress(RequestFailed):
                    self._answer(flushing.before_removal(node))
                self.graph.remove(node)
            case ops.Restart(read_only):
                unsaid.check_close(*self.graph.nodes.values())
                unsaid_jobs.check_cancel(self.graph)
                with self._all_or_nothing():
                    self._answer(restart.quit_well(self.graph))
                self._begin(read_only)
            case ops.Kill():
                unsaid.check_kill(self.configuration, self._unsaved)
                self._begin()
            case ops.Reopen(name):
                unsaid.check_reopen(self.graph, operation)
                self._answer(reopening.reopen(self.graph, operation))
                self._unsaved.discard(name)
            case ops.ReopenAs():
                self._answer(reopening.reopen_as(self.graph, operation))
            case ops.AddFilter() | ops.AddSnapshot() if not self.capabilities.snapshot_access:
                raise Impossible("a build without snapshot-access has no filters but those of "
                                 "jobs")
            case ops.AddCopyOnRead():
                unsaid.check_copy_on_read(self.graph, operation)
                self.graph.add_copy_on_read(operation)
            case ops.Attach():
                unsaid.check_attach(self.graph, operation)
                self._attach(operation)
            case ops.Export():
                unsaid.check_export(self.graph, operation)
                unsaid.check_thread(self.configuration, self.capabilities)
                self.graph.add_export(operation)
            case ops.Resize():
                unsaid.check_resize(self.graph, self.configuration, operation)
                resizing.resize(self.graph, operation)
                self._unsaved.add(resizing.resized_with(self.graph.nodes[operation.node])[-1].name)
            case _ if type(operation) in COMMANDS:
                COMMANDS[type(operation)](self.graph, operation)
            case _:
                raise Impossible(f"{operation.name} is no operation of the sequential model")
        backup_commands.forget_ended(self.graph)

    def _job_command(self, command: jobs.JobOperation) -> None:
        job = backup_commands.find(self.graph, command)
        if isinstance(command, jobs.JobSetSpeed):
            unsaid_jobs.check_speed(job, command.speed)
        elif isinstance(command, jobs.JobCancel):
            unsaid_jobs.check_cancel(self.graph)
        with self._all_or_nothing():
            self._answer(job_steering.obey(job, command, self._going_on))
            unsaid_jobs.check_held(self.graph)

    def _going_on(self, job: BackupJob) -> Program[None]:
        unsaid_jobs.check_jobs(self.graph, [job], self._faults)
        return job.run()

    def _attach(self, command: ops.Attach) -> None:
        """A disk that is plugged in, unlike one that is moved, reads its first sector, to guess a
        geometry; it does not matter if that fails, nor if the disk is refused then since it may
        not write there (experiment)."""
        if self.graph.device is None:
            with self._all_or_nothing():
                disk = guest_device.plug(self.graph, command)
                with suppress(RequestFailed):
                    self._answer(disk.read(0, min(SECTOR, disk.size)))
        guest_device.attach(self.graph, command)

    def _begin(self, read_only: Collection[str] = ()) -> None:
        """Another QEMU starts over the same images."""
        self.graph = restart.next_graph(self.graph, self.configuration, read_only)
        self._arm()
        self._unsaved.clear()

    def _run(self, *started: BackupJob) -> None:
        """Run jobs to where they rest, one after the other."""
        unsaid_jobs.check_jobs(self.graph, started, self._faults)
        for job in sorted(started, key=lambda job: job.copies):
            self._answer(job.run())
            unsaid_jobs.check_failure(job, started)
        unsaid_jobs.check_held(self.graph)

    @contextmanager
    def _all_or_nothing(self, scar: Callable[[Graph], None] = lambda graph: None,
                        ) -> Iterator[None]:
        """What is refused, or impossible, changes nothing; but ``scar`` says, and does, what a
        refusal leaves behind all the same."""
        shared = (self.rules, self.capabilities, *self.configuration.images)
        before = copy.deepcopy((self.graph, self._faults), {id(each): each for each in shared})
        try:
            yield
        except (CommandRefused, Impossible, Undetermined) as why:
            after, (self.graph, self._faults) = self.graph, before
            if isinstance(why, CommandRefused):
                scar(self.graph)
                self._keep_lost(after)
                self._answer(flushing.after_refusal(self.graph, after.unfiltered,
                                                    after.filtered))
            raise
        self.graph.remade.clear()
        self.graph.filtered.clear()

    def _keep_lost(self, refused: Graph) -> None:
        """What a transaction has removed from an image's directory is not put back, nor what was
        in an image that was made anew."""
        for name, node in self.graph.nodes.items():
            if isinstance(node, Qcow2):
                node.directory = cast(Qcow2, refused.nodes[name]).directory
        for name in refused.remade:
            cast(Image, self.graph.closed[name]).forget_content()

    def _request(self, number: int, request: Request) -> Outcome:
        export = self._export(request)
        failing = any(self._faults.values())
        unsaid.check_order(export.node, request, failing=failing)
        if request.via is Via.DEVICE and request.node != self.graph.attached:
            return Outcome(error=Errno.ENOENT)
        unsaid.check_pieces(self.configuration, export.node, request)
        # A copy to go back to takes time, and few requests can turn out to be impossible.
        doubtful = (isinstance(request, ops.Zero) and request.fast) or (
            failing or overlays.shows_snapshot(export.node) or overlays.copies_snapshot(
                export.node)) or any(
                job.is_held or job.command.compress for job in self.graph.jobs.values()) or any(
                    isinstance(each, CopyOnRead) or (isinstance(each, Qcow2) and each.compressed)
                    for each in self.graph.nodes.values())
        with self._all_or_nothing() if doubtful else nullcontext():
            outcome = self._answer(requests.program(number, request, export))
            unsaid_jobs.check_held(self.graph)
            return outcome

    def _export(self, request: Request) -> NbdExport:
        """What the request goes through to its node."""
        unsaid.check_request(self.configuration, request)
        if request.via is Via.MONITOR:
            return self._directly(unsaid.monitored(self.graph, request))
        if request.via is Via.DEVICE and self.graph.device is not None:
            return self._directly(self.graph.device)
        export = self.graph.exports.get(request.node)
        if export is None:
            raise Impossible(f"node {request.node!r} has no export")
        return export

    def _directly(self, node: Node) -> NbdExport:
        return NbdExport(node, writable=True, bitmaps=(), allocation_depth=False,
                         capabilities=self.capabilities, fired=self.rules)

    def _inspect(self, inspect: ops.Inspect) -> Outcome:
        """The node's content; each cluster of a snapshot is data or is denied.

        A node without an export is looked at through a read-only one made for that.
        """
        node = self.graph.node(inspect.node)
        unsaid.check_inspect(self.graph, node)
        if inspect.node not in self.graph.exports:
            self.graph.check_export(node, writable=False)
        content = zeroes(node.size)
        denied: list[tuple[int, int]] = []
        for start, end in inspection.pieces(node):
            try:
                content.paste(start, self._answer(node.read(start, end)))
            except RequestFailed as why:
                if why.error is not Errno.EACCES or shown_filter(node) is None:
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
        self._keep_account(request)
        faults = self._faults.get(request.node, [])
        for fault in faults:
            if fault.kind is request.kind and (
                    fault.kind is RequestKind.FLUSH
                    or request.offset <= fault.offset < request.offset + request.length):
                if fault.once:
                    faults.remove(fault)
                raise RequestFailed(Errno[fault.errno])

    def _keep_account(self, request: StorageRequest) -> None:
        """Keep account of what may be lost if QEMU is killed."""
        if request.kind is RequestKind.FLUSH:
            if flushing.reaches_storage(self.graph, request.node):
                self._unsaved.discard(request.node)
        elif request.kind.changes:
            self._unsaved.add(self.graph.targets.get(request.node, request.node))

    # Looking

    def observe(self) -> Observation:
        """The bitmaps of all nodes, the digests of those that have a name, the jobs and what they
        have told since the last time, the guest's device."""
        bitmaps = {name: tuple(bitmap.view() for bitmap in node.bitmaps)
                   for name, node in self.graph.nodes.items() if node.bitmaps}
        digests = {(name, bitmap.name): bitmap.digest()
                   for name, node in self.graph.nodes.items()
                   for bitmap in node.bitmaps if bitmap.name is not None}
        views = tuple(job.view() for job in reversed(self.graph.jobs.values()))
        events, self.graph.job_events = self.graph.job_events, []
        device = self.graph.device
        on = None if device is None else DeviceView(device.name, bitmaps.get(device.name, ()))
        return Observation(bitmaps, digests, views, by_job(events), on)

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
        """What the node reads as; of an overlay of a snapshot, which may be denied, what it holds
        itself.  Raises RequestFailed if it cannot be read whole."""
        found = self.graph.nodes[node]
        if isinstance(found, Image) and overlays.shows_snapshot(found):
            return found.content.slice(0, found.size)
        return look(found.read(0, found.size))

    def deadly(self, operation: Operation) -> str | None:
        """The known defect by which the operation would kill a build with these capabilities."""
        return defects.deadly(self.graph, operation)


COMMANDS: Final[dict[type[Operation], Callable[[Graph, Any], None]]] = {
    ops.AddFilter: filters.add_filter,
    ops.AddSnapshot: Graph.add_snapshot,
    ops.AddOverlay: overlays.add_overlay,
    ops.Unexport: Graph.remove_export,
    **transactions.BITMAP_COMMANDS,
}
"""What each command does to the graph."""

__all__ = ["FilterView", "Impossible", "Machine"]
