# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks that are about one rule catch a system without that rule, and no other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import pytest

from harness.exploration.building import Plan
from harness.exploration.directed import devices, failing, others, serialising, tasks, telling
from harness.exploration.directed.catalogue import checks
from harness.exploration.images import SOURCE
from harness.exploration.openings import FILTER
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import SystemKind, Trace
from harness.lockstep.verdict import Conforms, Diverges
from harness.systems.held_simulated import SimulatedHeld
from harness.systems.simulated import Simulated
from model import (
    arguments,
    bitmap_directory,
    block_copy,
    copy_before_write,
    copy_on_read,
    filters,
    flushing,
    guest_device,
    held_image,
    links,
    permissions,
    qcow2,
    reopening,
    requests,
    restart,
    successors,
    tracking,
)
from model.backup_job import BackupJob
from model.bitmap import DirtyBitmap, align_down, align_up, divide_up, split
from model.block_copy import BlockCopy, CopyCall, CopyTask
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import GIB, KIB, MIB, Configuration, RequestKind
from model.content import Content, zeroes
from model.copy_before_write import CopyBeforeWrite, Timer
from model.copy_on_read import CopyOnRead
from model.errors import CommandRefused, Errno, RequestFailed
from model.graph import Graph
from model.held_image import ZERO_DATA, HeldImage
from model.image import Image
from model.job_life import JobLife
from model.job_operations import OnError
from model.jobs import JobStatus
from model.machine import Machine
from model.nbd_export import NbdExport
from model.node import DATA, ZERO_HOLE, Node, Status, Zeroing
from model.operations import Attach, BitmapRef, Discard, Export, Operation, Request, Via
from model.outcome import Extent, Outcome
from model.permissions import Permission
from model.program import Ended, Program, Task, Wait
from model.qcow2 import Qcow2
from model.qcow2_cells import Cell
from model.readings import Reading, _has_ended
from model.snapshot_access import SnapshotAccess
from model.tracking import Filling, Tracked

CHECKS = {check.name: check for check in (*checks(SystemKind.QSD), *devices.checks())}


_PLAN = Plan(SystemKind.QEMU_SYSTEM, channels=tuple(Via))
"""Also what only a device can be asked is asked."""


@dataclass
class Lacking:
    """A part of the model, and what stands in its place in a system that lacks a rule."""

    owner: Any
    name: str
    instead: Callable[..., Any]

    def __call__(self) -> AbstractContextManager[Any]:
        """The system's own time, in which the rule does not hold."""
        return mock.patch.object(self.owner, self.name, self.instead)


class _Forgetful(Machine):
    lacking: Lacking

    def apply(self, number: int, operation: Operation) -> Outcome:
        with self.lacking():
            return super().apply(number, operation)


class _ForgetfulHeld(_Forgetful, ConcurrentMachine):
    pass


def _forgetful(kind: type[_Forgetful], lacking: Lacking, images: Configuration,
               capabilities: Capabilities | None = None) -> Any:
    machine = kind(images, capabilities)
    machine.lacking = lacking
    return machine


_change = requests._change
_check_called = Graph._check_called
_run = BlockCopy._run
_begin = BlockCopy._begin
_check_unblocked = Graph.check_unblocked
_copy_dirty = BlockCopy._copy_dirty
_copy_in_time = CopyBeforeWrite._copy_in_time
_write = Node.write
_alone = Node.alone
_keep = CopyOnRead._keep
_blocks_beside = Node._blocks_beside
_flush = Image._flush
_flush_twice = HeldImage._flush_twice
_merge = DirtyBitmap.merge
_zero_in_parts = Node._zero_in_parts
_bitmap = Graph.bitmap
_cluster_size_of = filters.cluster_size_of
_discard = Node.discard
_create = successors.create
_put_back = BlockCopy._put_back
_release = bitmap_directory.release
_write_zeroes = HeldImage._write_zeroes
_own_bitmap = Graph._own_bitmap
_resize = DirtyBitmap.resize
_on_error = BackupJob._on_error
_wake = JobLife._wake
_store = Qcow2._store
_shown_beside = Qcow2._shown_beside
_make_zero = Qcow2._make_zero
_mark = Qcow2._mark
_below = Qcow2._below
_wait_for_readers = BlockCopy._wait_for_readers
_may_access = CopyBeforeWrite._may_access
_zero = Node.write_zeroes
_status = BlockCopy._status
_choose_clusters = BackupJob._choose_clusters
_discard_at_once = Image._discard
_own_status = Qcow2.own_status
_add_export = Graph.add_export
_tell = NbdExport._status
_told = HeldImage._told


def _keeps_zeroes(copy: BlockCopy, task: CopyTask, is_zero: bool | None,
                  call: CopyCall) -> Program[None]:
    discards, copy.discards_source = copy.discards_source, is_zero is False and (
        copy.discards_source)
    yield from _run(copy, task, is_zero, call)
    copy.discards_source = discards


def _overwrites(bitmap: DirtyBitmap, source: DirtyBitmap) -> None:
    if source.granularity != bitmap.granularity:
        bitmap.clear()
    _merge(bitmap, source)


def _records(node: Node, bitmap: DirtyBitmap) -> None:
    _create(node, bitmap)
    assert bitmap.successor is not None
    bitmap.successor.recording = True


def _counts_failures(copy: BlockCopy, task: CopyTask) -> None:
    if copy.progress is not None:
        copy.progress.done += task.end - task.start
    _put_back(copy, task)


def _in_31_bits(node: Node, start: int, end: int) -> Program[None]:
    if end - start >= 2 * GIB:
        raise RequestFailed(Errno.EIO)
    yield from _discard(node, start, end)


def _not_in_use(image: Qcow2) -> None:
    kept = image.directory
    _release(image)
    image.directory = kept


def _always_writable(image: Image) -> None:
    image.read_only = False


def _shows_what_records(graph: Graph, node: Node, name: str, *, writable: bool) -> DirtyBitmap:
    return _own_bitmap(graph, node, name, writable=True)


def _resizes_what_records(bitmap: DirtyBitmap, size: int) -> None:
    if bitmap.recording:
        _resize(bitmap, size)


def _asks_whom_it_asked_last(job: BackupJob) -> Program[None]:
    job.status = JobStatus.WAITING
    group = list(job._group.jobs)
    if all(each.has_ended for each in group):
        for each in group:
            each.status = JobStatus.PENDING
        if job.command.auto_finalize:
            yield from job._commit()


def _reports(job: BackupJob, error: Errno, reading: bool) -> OnError:
    action = _on_error(job, error, reading)
    return OnError.REPORT if job.command.on_source_error is OnError.AUTO else action


def _fails_for_any_reason(job: BackupJob, error: Errno, reading: bool) -> OnError:
    action = _on_error(job, error, reading)
    job._io_status = "failed" if job._io_status == "nospace" else job._io_status
    return action


def _stays_paused(job: JobLife) -> None:
    _wake(job)
    job._paused_by_user = True


def _has_flushed(image: Image) -> Program[None]:
    was, image._flushed = image._is_flushed(image.changes), image.changes
    if not was:
        yield image._request(RequestKind.FLUSH, 0, 0)


def _zeroes_at_once(node: Node, start: int, end: int,
                    how: Zeroing) -> Program[dict[tuple[int, int], Program[None]]]:
    parts = yield from _zero_in_parts(node, start, end, how)

    def all_parts() -> Program[None]:
        for part in parts.values():
            yield from part

    return {node._widened(start, end): all_parts()}


def _one_after_another(programs: list[Program[Content]], *,
                       at_once: bool) -> Program[list[Content]]:
    found = []
    for each in programs:
        found.append((yield from each))
    return found


def _asks_less_of_the_end(node: CopyBeforeWrite, start: int, end: int) -> None:
    _may_access(node, start, end - 512 if end - start > 512 else end)


def _replaces(bitmap: DirtyBitmap, source: DirtyBitmap) -> None:
    if not source.count:
        bitmap.clear()
    _merge(bitmap, source)


def _allocated_at_the_end(node: Node, start: int, end: int) -> Program[tuple[int, bool]]:
    stop, status = yield from node.own_status(start, end)
    return stop, bool(status.is_allocated) or stop == node.size


def _allocated_at_any_depth(node: Node, start: int,
                            end: int) -> Program[tuple[int, bool | None]]:
    stop, status = yield from node.block_status(start, end)
    return stop, status.is_allocated


def _commits_in_turn(job: BackupJob) -> Program[None]:
    for each in reversed(job._group.jobs):
        yield from each._conclude(None)


def _goes_by_the_first_byte(copy: BlockCopy, start: int, end: int) -> Program[tuple[int, Status]]:
    stop, status = yield from _status(copy, start, end)
    return max(stop, min(start + copy.cluster_size, end)), status


def _not_durable(node: Node, start: int, end: int, how: Zeroing, *,
                 durable: bool = False) -> Program[None]:
    del durable
    yield from _zero(node, start, end, how)


def _counts_the_bitmap(job: BackupJob) -> Program[None]:
    yield from _choose_clusters(job)
    assert job.sync_bitmap is not None
    job.progress.set_remaining(job.sync_bitmap.bitmap.count)


_open_target = Graph.open_target


def _opens_to_free_nothing(graph: Graph, image: Image, job: str) -> None:
    image.discard_enabled = False
    _open_target(graph, image, job)


def _compresses_all(copy: BlockCopy, task: CopyTask, is_zero: bool | None,
                    call: CopyCall) -> Program[None]:
    asked, copy.compressing = copy.compressing, True
    yield from _run(copy, task, is_zero, call)
    copy.compressing = asked


def _stays_compressed(image: Qcow2, start: int, end: int, state: Cell) -> None:
    kept = image.compressed
    _mark(image, start, end, state)
    image.compressed = kept


def _compresses_noise(image: Qcow2, start: int, content: Content) -> None:
    for low in range(start, start + content.size, image.cluster):
        image.compressed[low // image.cluster] = True


def _cuts_clusters_of_overlays(target: Node, smallest: int) -> int:
    overlay = isinstance(target, Qcow2) and target.backing is not None
    return max(smallest, 65536, 0 if overlay else target.reported_cluster_size or 0)


def _looks_at_no_disk(machine: Machine, command: Attach) -> None:
    guest_device.attach(machine.graph, command)


def _stores_what_it_can(image: Qcow2, start: int, content: Content) -> Program[None]:
    try:
        yield from _store(image, start, content)
    except RequestFailed:
        for low, high in split(start, start + content.size, image.cell):
            if not (low % image.cell or high % image.cell):
                yield from _store(image, low, content.slice(low - start, high - start))
        raise


def _all_of_its_cells(image: Qcow2, start: int, end: int) -> list[tuple[int, int]]:
    return [(align_down(start, image.cell), align_up(end, image.cell))][:len(
        _shown_beside(image, start, end))]


def _what_is_kept(image: Qcow2, start: int, end: int) -> list[tuple[int, int]]:
    low, high = align_down(start, image.cell), align_up(end, image.cell)
    return [(low, start)] * (low < start and image._is_shown(low)) + (
        [(end, high)] * (end < high and image._is_shown(high - image.cell)))


def _up_to_its_end(image: Qcow2, start: int, end: int) -> list[tuple[int, int]]:
    return [(low, min(high, image.size)) for low, high in _shown_beside(image, start, end)
            if low < image.size]


def _sees_zeroes(image: Qcow2, start: int, end: int) -> Program[Content]:
    return zeroes(end - start)
    yield


def _sees_no_zeroes(image: Qcow2, start: int, end: int) -> Program[bool | None]:
    return not start < end
    yield


def _zeroes_what_shows(image: Qcow2, start: int, end: int, state: Cell = Cell.ZERO) -> None:
    kept = image.content.slice(image.size, image.content.size)
    _make_zero(image, start, end, state)
    image.content.paste(image.size, kept)


def _asks_past_its_end(image: Qcow2, start: int, end: int) -> Program[Content]:
    assert image.backing is not None
    yield from image.backing.read(min(start, image.backing.size), min(end, image.backing.size))
    return (yield from _below(image, start, end))


def _past_the_table(image: Qcow2, start: int, end: int) -> tuple[int, Cell]:
    run = image.cells.run_at(start // image.cell, divide_up(end, image.cell))
    return min(run.end * image.cell, end), run.value


def _of_whichever_node(graph: Graph, wanted: BitmapRef) -> DirtyBitmap:
    for node in reversed(graph.nodes.values()):
        if (bitmap := node.bitmap(wanted.name)) is not None:
            return bitmap
    return _bitmap(graph, wanted)


def _cuts_clusters_of_copies(target: Node, smallest: int) -> int:
    return min(_cluster_size_of(target, smallest), 32 * MIB)


def _frees_nothing(image: Image, start: int, end: int) -> Program[None]:
    return image._write_zeroes(start, end, Zeroing())


def _repeats_the_first_piece(image: Image, start: int, content: Content) -> Program[None]:
    most = image.spec.max_transfer or content.size
    for place in range(0, content.size, most):
        image.content.paste(start + place, content.slice(0, min(most, content.size - place)))
    return
    yield  # makes this a program


def _frees_the_first_piece(image: Image, start: int, end: int) -> Program[None]:
    return _discard_at_once(image, start, min(end, start + (image.spec.max_discard or end)))


def _is_what_was_asked_for(target: Node, smallest: int) -> int:
    return smallest or _cluster_size_of(target, smallest)


def _zero_as_a_whole(image: Qcow2, start: int, end: int) -> Program[tuple[int, Status]]:
    stop, cell = image._run_of_cells(start, end)
    if cell is Cell.UNALLOCATED and image.backing is not None and stop > image.backing.size:
        return stop, ZERO_HOLE
    return (yield from _own_status(image, start, end))


def _takes_one_more(copy: BlockCopy, start: int, end: int) -> CopyTask:
    return _begin(copy, start, min(end + copy.cluster_size, copy.copy_bitmap.size))


def _asks_no_thread(graph: Graph, command: Export) -> None:
    _add_export(graph, replace(command, iothread=None))


def _begins_alike(export: NbdExport, start: int, end: int, context: str, *,
                  one: bool) -> Program[tuple[Extent, ...]]:
    alike = (each for each in export.contexts if each.startswith(context))
    return _tell(export, start, end, next(alike), one=one)


def _fails_too_late(filling: Filling, filled: Reading, error: Errno) -> None:
    filling._fails = None


def _keeps_if_it_can(node: CopyOnRead, start: int, end: int) -> Program[Content]:
    try:
        return (yield from _keep(node, start, end))
    except RequestFailed:
        return (yield from node.file.read_now(start, end))


CASES = (
    *(("an overlay of a snapshot, " + name, Lacking(Qcow2, *lacking)) for name, *lacking in (
        ("clusters of 64 KiB", "_store", _stores_what_it_can),
        ("clusters of 128 KiB, write", "_store", _stores_what_it_can),
        ("clusters of 4 KiB", "_shown_beside", _all_of_its_cells),
        ("clusters of 64 KiB with subclusters", "_shown_beside", _all_of_its_cells),
        ("its end", "_shown_beside", _up_to_its_end))),
    *(("an overlay of a snapshot, read at once", Lacking(qcow2, "LITTLE", little))
      for little in (0, 16 * KIB - 1, 16 * KIB + 512)),
    ("an overlay of a snapshot, written to beside zeroes",
     Lacking(Qcow2, "_shown_beside", _what_is_kept)),
    ("what copy-on-read keeps of clusters with space and without",
     Lacking(Qcow2, "_has_space", lambda image, place: False)),
    ("an overlay of a snapshot, opened, used and closed",
     Lacking(bitmap_directory, "load", lambda image: None)),
    ("the classic scheme over a snapshot", Lacking(Qcow2, "_below", _sees_zeroes)),
    *((name, Lacking(Qcow2, *lacking)) for name, *lacking in (
        ("zeroes of parts of clusters that read as zero", "_is_zero", _sees_no_zeroes),
        ("the last cluster of an image that becomes larger", "_make_zero", _zeroes_what_shows),
        ("reads of two tables that are kept, clusters of 4 KiB", "_run_of_cells",
         _past_the_table))),
    *((name, Lacking(Image, "_changed_by", Node._changed_by)) for name in (
        "data that is zero, detected (on)", "copies that are zero, detected by their target")),
    ("jobs that discard what they have copied, zeroes too",
     Lacking(BlockCopy, "_run", _keeps_zeroes)),
    ("backups into an overlay of the backup before",
     Lacking(filters, "cluster_size_of", _cuts_clusters_of_overlays)),
    ("bitmaps shown of which only the name is given",
     Lacking(links, "filtered_or_backing", lambda node: None)),
    ("bitmaps shown of which only the name is given",
     Lacking(Graph, "_own_bitmap", _shows_what_records)),
    ("a copy-on-read node over subclusters",
     Lacking(CopyOnRead, "is_allocated", _allocated_at_any_depth)),
    *(("copy-on-read nodes over one another and over two filters",
       Lacking(kind, "write_unchanged", Node.write_unchanged))
      for kind in (CopyOnRead, CopyBeforeWrite)),
    ("copy-on-read nodes over one another and over two filters",
     Lacking(Node, "take_unchanged", Node.write_unchanged)),
    ("jobs with a bitmap that does not record", Lacking(successors, "create", _records)),
    *((name, Lacking(Machine, "_attach", _looks_at_no_disk)) for name in (
        "a new disk is looked at, one that moves is not", "a new disk that keeps what is read",
        "a new disk that is refused, looked at or not")),
    ("a job and an overlay that hold the same node",
     Lacking(permissions, "link_age", lambda parent, role: 0)),
    ("a new disk that is refused, looked at or not",
     Lacking(Graph, "check_look", lambda graph, node: None)),
    ("discards to a tail that reads as zero, clusters of 65536",
     Lacking(CopyBeforeWrite, "discard_alignment", 1)),
    ("requests of gibibytes", Lacking(Node, "discard", _in_31_bits)),
    *((name, Lacking(Graph, "check_no_writer", lambda graph, node: None)) for name in (
        "images reopened under whoever uses them", "images of a job reopened",
        "a reopen that is refused, and bitmaps")),
    ("bitmaps of an image that is reopened",
     Lacking(bitmap_directory, "store", lambda image: None)),
    ("bitmaps of an image that is reopened",
     Lacking(bitmap_directory, "protect", lambda image: None)),
    ("bitmaps of an image that is reopened", Lacking(bitmap_directory, "release", _not_in_use)),
    ("filters and snapshots that cannot be reopened",
     Lacking(reopening, "_cannot", lambda node: CommandRefused("no"))),
    ("images of every format reopened",
     Lacking(reopening, "_make_writable", _always_writable)),
    ("data that an image cannot write to its file", Lacking(Filling, "_fail", _fails_too_late)),
    ("data that an image cannot write to its file",
     Lacking(CopyOnRead, "_keep", _keeps_if_it_can)),
    ("images reopened to discard, or not",
     Lacking(reopening, "_take_on", lambda image, command: None)),
    ("requests longer than the storage takes at a time",
     Lacking(Image, "_write", _repeats_the_first_piece)),
    ("names that exports may have",
     Lacking(Graph, "_check_called", lambda graph, name, description: None)),
    ("names that exports may have", Lacking(
        Graph, "_check_called", lambda graph, name, description: _check_called(graph, name, ""))),
    ("names that exports may have",
     Lacking(arguments, "is_well_formed", lambda name: True)),
    ("names and granularities that bitmaps may have", Lacking(DirtyBitmap, "merge", _overwrites)),
    ("resize of raw with bitmaps of every granularity",
     Lacking(DirtyBitmap, "resize", _resizes_what_records)),
    ("jobs that end together", Lacking(BackupJob, "_copied", _asks_whom_it_asked_last)),
    ("each failure of a job, and each thing to do about it",
     Lacking(BackupJob, "_on_error", _reports)),
    ("each failure of a job, and each thing to do about it",
     Lacking(BackupJob, "_on_error", _fails_for_any_reason)),
    ("a slow job, full, paused and resumed", Lacking(JobLife, "_wake", _stays_paused)),
    ("flushes fail", Lacking(Image, "_flush", _has_flushed)),
    ("flushes fail when jobs end", Lacking(BackupJob, "_take_leave", lambda job: iter(()))),
    ("flushes fail when jobs are refused",
     Lacking(flushing, "after_refusal", lambda graph, *names: iter(()))),
    *((name, Lacking(flushing, "before_removal", lambda node: iter(()))) for name in (
        "filters are flushed when they are removed",
        "filters are flushed when they are to be reopened")),
    ("discards of which a part cannot be copied",
     Lacking(CopyBeforeWrite, "_advised", lambda node, piece: piece)),
    ("discards cut where they were when a filter was opened",
     Lacking(CopyBeforeWrite, "discard_alignment", property(
         lambda node: max(node.source.discard_alignment, node.target.discard_alignment)))),
    ("a change of nothing is yet to be flushed",
     Lacking(Node, "_nothing_changed", lambda node: None)),
    ("zeroes of parts of blocks are recorded up to what fails",
     Lacking(Node, "_zero_in_parts", _zeroes_at_once)),
    ("backing files are read beside what fails", Lacking(qcow2, "beside", _one_after_another)),
    ("the next copy is looked up beside one that fails",
     Lacking(BlockCopy, "_look_ahead", lambda *place: iter(()))),
    ("a drive-backup whose copies a client gives up",
     Lacking(Graph, "open_target", _opens_to_free_nothing)),
    *((name, Lacking(Qcow2, "compress", lambda image, start, content: None)) for name in (
        "copies compressed: as usual", "copies before writes compressed",
        "copies compressed beside another's data")),
    ("copies compressed: as usual", Lacking(BlockCopy, "_run", _compresses_all)),
    ("copies compressed: cluster size 512", Lacking(Qcow2, "_mark", _stays_compressed)),
    ("copies compressed: as usual", Lacking(qcow2, "COMPRESSIBLE", 0)),
    ("copies compressed: subclusters True", Lacking(Qcow2, "compress", _compresses_noise)),
    ("jobs over one disk that end together", Lacking(BackupJob, "_commit", _commits_in_turn)),
    ("requests past the end of a disk", Lacking(Via, "is_local", False)),
    ("copy-on-read nodes over one another and over two filters",
     Lacking(CopyOnRead, "heeds_nothing", False)),
    ("requests at the edges of what may be read",
     Lacking(CopyBeforeWrite, "_may_access", _asks_less_of_the_end)),
    ("requests at the edges of what may be read",
     Lacking(SnapshotAccess, "_write_zeroes", lambda node, start, end, how: iter(()))),
    *(("requests of no bytes", Lacking(kind, "heeds_nothing", False))
      for kind in (CopyBeforeWrite, SnapshotAccess)),
    ("merges into a bitmap of granularity 128 sectors",
     Lacking(DirtyBitmap, "merge", _replaces)),
    ("merges of bitmaps that are given by their names alone",
     Lacking(Graph, "bitmap", _of_whichever_node)),
    ("clusters of more bytes than a request over NBD may have",
     Lacking(filters, "cluster_size_of", _cuts_clusters_of_copies)),
    ("sync top: disk allocates 64 KiB, copies are of 64 KiB",
     Lacking(Node, "is_allocated", _allocated_at_the_end)),
    ("clusters of the copy that are holes in part",
     Lacking(BlockCopy, "_status", _goes_by_the_first_byte)),
    ("discards longer than the storage takes at a time",
     Lacking(Image, "_discard", _frees_the_first_piece)),
    ("targets whose clusters are larger than what is asked for",
     Lacking(filters, "cluster_size_of", _is_what_was_asked_for)),
    ("a snapshot over the end of a backing file", Lacking(Qcow2, "own_status", _zero_as_a_whole)),
    ("copies compressed by a job that may leave copying to storage",
     Lacking(Qcow2, "compress", lambda image, start, content: None)),
    ("bitmaps of an image that has grown when it is killed",
     Lacking(bitmap_directory, "load", lambda image: None)),
    ("durable changes outlive a kill",
     Lacking(restart, "_take_over", lambda node, before: None)),
    ("a write that fails where there is space already",
     Lacking(Filling, "_fail", _fails_too_late)),
    ("a slow job over disks that take little at a time",
     Lacking(BlockCopy, "_begin", _takes_one_more)),
    ("bitmaps whose names begin alike, shown by one export",
     Lacking(NbdExport, "_status", _begins_alike)),
    ("exports in I/O threads that are not there", Lacking(Graph, "add_export", _asks_no_thread)),
    ("a cluster that a smaller size has cut",
     Lacking(BlockCopy, "_pad", lambda copy, content, length: None)),
    ("slow jobs that have one cluster to copy, or none",
     Lacking(BackupJob, "_copy_slowly", lambda job: iter(()))),
    ("drive-backups of zeroes in parts, and of a backing file",
     Lacking(Image, "open_for_job", lambda image: None)),
    ("copy-on-read of more than it keeps at once",
     Lacking(copy_on_read, "MOST_KEPT", 17 * MIB)),
    ("a write of nothing is yet to be flushed, by where it is",
     Lacking(Node, "_nothing_changed", lambda node: None)),
    ("block status of what a job may copy fails",
     Lacking(BackupJob, "_choose_clusters", lambda job: iter(()))),
    ("block status of what follows what is denied",
     Lacking(block_copy, "Task", partial(Task, outlives_its_start=True))),
    *(("a backing file fails where nothing is kept of it", Lacking(Qcow2, *lacking))
      for lacking in (("_shown_beside", _all_of_its_cells),
                      ("_is_one_write", lambda image, start, end: True))),
)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_the_truth_conforms(name: str) -> None:
    verdict = replay(CHECKS[name].make(_PLAN), Stand(
        lambda images: Simulated(Machine(images)), Machine))
    assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize(("name", "lacking"), CASES, ids=lambda each: getattr(each, "name", each))
def test_who_lacks_the_rule_is_caught(name: str, lacking: Lacking) -> None:
    verdict = replay(CHECKS[name].make(_PLAN), Stand(
        lambda images: Simulated(_forgetful(_Forgetful, lacking, images)), Machine))
    assert isinstance(verdict, Diverges), verdict.summary


@pytest.mark.parametrize(("name", "lacking"), [
    ("an overlay of a snapshot, written across clusters",
     Lacking(Qcow2, "_is_one_write", lambda image, start, end: True)),
    ("an overlay of a snapshot, some of its clusters with space",
     Lacking(Qcow2, "_has_space", lambda image, place: False)),
    *(("a new disk on a job's filter", Lacking(Graph, "check_unblocked", check))
      for check in (lambda graph, node, **by: None, lambda graph, node, **by: (
          _check_unblocked(graph, node))))])
def test_who_lacks_what_shows_on_an_older_build_is_caught(name: str, lacking: Lacking) -> None:
    older = Capabilities(snapshot_reads_source_before_done_run_ends=True,
                         disk_on_backing_file=False)
    trace = CHECKS[name].make(replace(_PLAN, capabilities=older))
    verdict = replay(trace, Stand(
        lambda images: Simulated(_forgetful(_Forgetful, lacking, images, older)),
        lambda images: Machine(images, older)))
    assert isinstance(verdict, Diverges), verdict.summary


def _remembers_zeroed(image: HeldImage, start: int, end: int, how: Zeroing) -> Program[None]:
    known = image._known_data
    yield from _write_zeroes(image, start, end, how)
    image._known_data = known


def _waits_for_neighbours(copy: BlockCopy, start: int, end: int) -> Program[None]:
    yield from _wait_for_readers(copy, max(start - 1, 0), end + 1)


def _is_the_oldest(copy: BlockCopy, start: int, end: int) -> CopyTask:
    task = _begin(copy, start, end)
    copy.in_flight.remove(task)
    copy.in_flight.append(task)
    return task


def _looks_no_more(copy: BlockCopy, start: int, end: int, call: CopyCall) -> Program[bool]:
    yield from _copy_dirty(copy, start, end, call)
    return False


def _fails_by_time_only(node: CopyBeforeWrite, start: int, end: int) -> Program[None]:
    try:
        yield from _copy_in_time(node, start, end)
    except RequestFailed as why:
        if why.error is Errno.ETIMEDOUT:
            raise


def _keeps_nothing_of_nothing(node: Node, start: int, content: Content, *,
                              durable: bool = False) -> Program[None]:
    if content.size:
        yield from _write(node, start, content, durable=durable)


def _waits_for_the_oldest(node: CopyBeforeWrite, start: int, end: int) -> Program[None]:
    while reads := [each for each in node.frozen if each.start < end and start < each.end]:
        yield Wait(functools.partial(_has_ended, reads[-1], node.frozen), "")


def _goes_on_to_what_changes(graph: Graph, name: str) -> bool:
    return graph.is_required(Permission.WRITE, graph.nodes[name])


def _in_turn(condition: Callable[[], bool], reason: str, last: bool = False) -> Wait:
    return Wait(condition, reason)


def _writes_back(number: int, request: Request, export: NbdExport) -> Program[None]:
    export.writethrough = False
    return _change(number, request, export)


def _is_only_advised(number: int, request: Request, export: NbdExport) -> Program[None]:
    return _change(number, replace(request, fua=False) if isinstance(request, Discard)
                   else request, export)


def _alone_in_its_bytes(node: Node, start: int, end: int, unit: int,
                        program: Program[Any]) -> Program[Any]:
    return _alone(node, start, end, 1, program)


def _alone_in_pairs_of_bytes(node: Node, start: int, end: int, unit: int,
                             program: Program[Any]) -> Program[Any]:
    return _alone(node, start, end, max(unit, 2), program)


def _ends_in_silence(program: Program[Any], end: Callable[[], None]) -> Program[Any]:
    """If it fails, nobody is woken for that alone."""
    try:
        result = yield from program
    finally:
        end()
    yield Ended()
    return result


def _in_the_way_of_all(requests: Sequence[Tracked], tracked: Tracked) -> Tracked | None:
    return next((each for each in requests if each is not tracked
                 and (each.alone or tracked.alone)
                 and each.start < tracked.end and tracked.start < each.end), None)


def _block_by_block(node: Node, start: int, end: int) -> Program[dict[int, Content]]:
    unit, blocks = node.request_alignment, {}
    for edge in (start, end):
        if edge % unit:
            blocks |= yield from _blocks_beside(node, edge, edge + 1)
    return blocks


def _flushes_what_ends_meanwhile(image: HeldImage, changes: int) -> Program[None]:
    yield from _flush_twice(image, changes)
    image._flushed = image.changes


def _in_time_once(node: CopyBeforeWrite, start: int, end: int) -> Program[None]:
    if start == 0:
        yield from _copy_in_time(node, start, end)
        return
    timer = Timer(start, end)
    node.timers.append(timer)
    yield from node.block_copy.copy(start, end, CopyCall())
    node.timers.remove(timer)


def _tells_space(image: HeldImage, start: int, end: int) -> tuple[int, Status]:
    stop, status = _told(image, start, end)
    return stop, DATA if status == ZERO_DATA else status


HELD = (
    (serialising.blocks, Lacking(Node, "alone", lambda node, start, end, unit, program: program)),
    (serialising.blocks, Lacking(Node, "alone", _alone_in_its_bytes)),
    (serialising.blocks, Lacking(tracking, "_in_the_way", _in_the_way_of_all)),
    (serialising.blocks, Lacking(Node, "_blocks_beside", _block_by_block)),
    (serialising.kept, Lacking(Node, "alone", lambda node, start, end, unit, program: program)),
    (serialising.kept, Lacking(Node, "alone", _alone_in_its_bytes)),
    (serialising.filled, Lacking(Filling, "wait", lambda filling, start, end: iter(()))),
    (serialising.overtaken, Lacking(HeldImage, "_flush_twice", _flushes_what_ends_meanwhile)),
    (partial(serialising.ordered, SOURCE),
     Lacking(held_image, "in_order", lambda turns, program: program)),
    (partial(serialising.ordered, FILTER),
     Lacking(CopyBeforeWrite, "_flush", lambda node: node.source.flush())),
    (serialising.overtaken, Lacking(HeldImage, "_flush_through", lambda image: _flush(image))),
    (serialising.again, Lacking(CopyBeforeWrite, "_copy_in_time", _in_time_once)),
    (CHECKS["schedule: guest writes and fleecing reads"].make,
     Lacking(Node, "write_zeroes", _not_durable)),
    (telling.failing, Lacking(BlockCopy, "_failed", BlockCopy._end)),
    (CHECKS["schedule: a job is cancelled in the middle, bitmap mode never"].make,
     Lacking(BackupJob, "_choose_clusters", _counts_the_bitmap)),
    (others.given_up, Lacking(BlockCopy, "forget", lambda copy, start, end: (
        copy.copy_bitmap.reset(start, end)))),
    (others.cancelled, Lacking(BackupJob, "_stop_copying", lambda job: None)),
    (CHECKS["schedule: a job that is paused when it is cancelled already"].make,
     Lacking(JobLife, "resume", JobLife._wake)),
    *((telling.kept, Lacking(kind, "is_allocated", Node.is_allocated))
      for kind in (CopyOnRead, CopyBeforeWrite)),
    (others.apart, Lacking(block_copy, "_shows_through", lambda source, target: True)),
    (CHECKS["schedule: tasks that wait for memory"].make,
     Lacking(block_copy, "MEMORY", 129 * MIB)),
    *((CHECKS[f"schedule: discards over a {name}"].make, Lacking(kind, "discard_alignment", 1))
      for name, kind in (("snapshot", SnapshotAccess), ("copy-on-read node", CopyOnRead))),
    (failing.failing, Lacking(BlockCopy, "_begin", _is_the_oldest)),
    (failing.failing, Lacking(BlockCopy, "_copy_dirty", _looks_no_more)),
    (failing.late, Lacking(CopyBeforeWrite, "_copy_in_time", _fails_by_time_only)),
    (CHECKS["schedule: guest writes and fleecing reads"].make,
     Lacking(Node, "write", _keeps_nothing_of_nothing)),
    (others.zeroes_shown,
     Lacking(BlockCopy, "_wait_for_readers", lambda copy, start, end: iter(()))),
    (telling.telling, Lacking(HeldImage, "_write_zeroes", _remembers_zeroed)),
    (others.job, Lacking(BlockCopy, "_wait_for_readers", lambda copy, start, end: iter(()))),
    (others.failing, Lacking(BlockCopy, "_put_back", _counts_failures)),
    (others.beyond, Lacking(Qcow2, "_below", _asks_past_its_end)),
    (others.detecting, Lacking(Image, "_changed_by", Node._changed_by)),
    (others.detecting, Lacking(Image, "_detected", _frees_nothing)),
    (others.durable, Lacking(requests, "_change", _writes_back)),
    (others.durable, Lacking(requests, "_change", _is_only_advised)),
    (others.keeping, Lacking(Image, "_may_unmap", lambda node, how: True)),
    *((others.flushing, Lacking(flushing, "reaches_storage", goes_on)) for goes_on in (
        lambda graph, name: True, _goes_on_to_what_changes)),
    (CHECKS["schedule: the source shows through two overlays"].make,
     Lacking(block_copy, "_shows_through",
             lambda source, target: links.filtered_or_backing(target) is source)),
    (CHECKS["schedule: the source shows through the target"].make,
     Lacking(BlockCopy, "_wait_for_readers", _waits_for_neighbours)),
    (CHECKS["schedule: filters over filters"].make,
     Lacking(CopyBeforeWrite, "_wait_for_frozen", _waits_for_the_oldest)),
    *((CHECKS[f"schedule: {name}"].make, Lacking(block_copy, "Wait", _in_turn))
      for name in ("filters over filters", "a job and a guest that wait for memory")),
    (CHECKS["schedule: filters over filters, none out of time"].make,
     Lacking(copy_before_write, "Wait", _in_turn)),
    (telling.spaced, Lacking(HeldImage, "_told", _tells_space)),
    (serialising.unkept, Lacking(Node, "alone", _alone_in_pairs_of_bytes)),
    (CHECKS["schedule: two that wait for one fleecing read that fails"].make,
     Lacking(tracking, "ending", _ends_in_silence)),
    (tasks.flushes, Lacking(tracking, "Wait", lambda condition, reason: Wait(
        lambda: True, reason))),
)


@pytest.mark.parametrize(("make", "lacking"), HELD, ids=lambda each: getattr(each, "name", ""))
def test_who_lacks_the_rule_where_requests_overlap_is_caught(
        make: Callable[[Plan], Trace], lacking: Lacking) -> None:
    verdict = replay(make(Plan()), Stand(
        lambda images: SimulatedHeld(_forgetful(_ForgetfulHeld, lacking, images)), machine_for))
    assert isinstance(verdict, Diverges), verdict.summary
