# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks that are about one rule catch a system without that rule, and no other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from harness.lockstep.replay import Stand, replay
from harness.lockstep.verdict import Conforms, Diverges
from harness.systems.simulated import Simulated
from model import (
    arguments,
    block_copy,
    filters,
    flushing,
    guest_device,
    links,
    permissions,
    successors,
)
from model.backup_job import BackupJob
from model.bitmap import DirtyBitmap, align_down
from model.block_copy import BlockCopy, CopyCall, CopyTask
from model.capabilities import Capabilities
from model.configuration import GIB, MIB
from model.copy_before_write import CopyBeforeWrite
from model.errors import Errno, RequestFailed
from model.graph import Graph
from model.image import Image
from model.job_life import JobLife
from model.job_operations import OnError
from model.jobs import JobStatus
from model.machine import Machine
from model.nbd_export import NbdExport
from model.node import Node, Status
from model.operations import Attach, BitmapRef, Export, Via
from model.outcome import Extent
from model.program import Program, Task
from model.qcow2 import Qcow2
from model.snapshot_access import SnapshotAccess
from tests.unit import lies_of_images
from tests.unit.lacking_lab import CHECKS, PLAN, Forgetful, Lacking, forgetful

_check_called = Graph._check_called
_run = BlockCopy._run
_begin = BlockCopy._begin
_check_unblocked = Graph.check_unblocked
_merge = DirtyBitmap.merge
_bitmap = Graph.bitmap
_cluster_size_of = filters.cluster_size_of
_discard = Node.discard
_create = successors.create
_install = successors.install
_own_bitmap = Graph._own_bitmap
_resize = DirtyBitmap.resize
_on_error = BackupJob._on_error
_wake = JobLife._wake
_may_access = CopyBeforeWrite._may_access
_status = BlockCopy._status
_add_export = Graph.add_export
_tell = NbdExport._status


def _keeps_zeroes(copy: BlockCopy, task: CopyTask, is_zero: bool | None,
                  call: CopyCall) -> Program[None]:
    discards, copy.discards_source = copy.discards_source, is_zero is False and (
        copy.discards_source)
    yield from _run(copy, task, is_zero, call)
    copy.discards_source = discards


def _zeroes_whole_clusters(copy: BlockCopy, task: CopyTask, is_zero: bool | None,
                           call: CopyCall) -> Program[None]:
    length = copy.length
    if is_zero:
        copy.length = max(task.start, align_down(length, copy.cluster_size))
    yield from _run(copy, task, is_zero, call)
    copy.length = length


def _forgets_that_it_is_kept(node: Node, bitmap: DirtyBitmap) -> DirtyBitmap:
    bitmap.persistent = False
    return _install(node, bitmap)


def _overwrites(bitmap: DirtyBitmap, source: DirtyBitmap) -> None:
    if source.granularity != bitmap.granularity:
        bitmap.clear()
    _merge(bitmap, source)


def _records(node: Node, bitmap: DirtyBitmap) -> None:
    _create(node, bitmap)
    assert bitmap.successor is not None
    bitmap.successor.recording = True


def _in_31_bits(node: Node, start: int, end: int) -> Program[None]:
    if end - start >= 2 * GIB:
        raise RequestFailed(Errno.EIO)
    yield from _discard(node, start, end)


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


def _asks_less_of_the_end(node: CopyBeforeWrite, start: int, end: int) -> None:
    _may_access(node, start, end - 512 if end - start > 512 else end)


def _replaces(bitmap: DirtyBitmap, source: DirtyBitmap) -> None:
    if not source.count:
        bitmap.clear()
    _merge(bitmap, source)


def _commits_in_turn(job: BackupJob) -> Program[None]:
    for each in reversed(job._group.jobs):
        yield from each._conclude(None)


def _goes_by_the_first_byte(copy: BlockCopy, start: int, end: int) -> Program[tuple[int, Status]]:
    stop, status = yield from _status(copy, start, end)
    return max(stop, min(start + copy.cluster_size, end)), status
_open_target = Graph.open_target


def _opens_to_free_nothing(graph: Graph, image: Image, job: str) -> None:
    image.discard_enabled = False
    _open_target(graph, image, job)


def _compresses_all(copy: BlockCopy, task: CopyTask, is_zero: bool | None,
                    call: CopyCall) -> Program[None]:
    asked, copy.compressing = copy.compressing, True
    yield from _run(copy, task, is_zero, call)
    copy.compressing = asked


def _cuts_clusters_of_overlays(target: Node, smallest: int) -> int:
    overlay = isinstance(target, Qcow2) and target.backing is not None
    return max(smallest, 65536, 0 if overlay else target.reported_cluster_size or 0)


def _looks_at_no_disk(machine: Machine, command: Attach) -> None:
    guest_device.attach(machine.graph, command)


def _of_whichever_node(graph: Graph, wanted: BitmapRef) -> DirtyBitmap:
    for node in reversed(graph.nodes.values()):
        if (bitmap := node.bitmap(wanted.name)) is not None:
            return bitmap
    return _bitmap(graph, wanted)


def _cuts_clusters_of_copies(target: Node, smallest: int) -> int:
    return min(_cluster_size_of(target, smallest), 32 * MIB)


def _is_what_was_asked_for(target: Node, smallest: int) -> int:
    return smallest or _cluster_size_of(target, smallest)


def _takes_one_more(copy: BlockCopy, start: int, end: int) -> CopyTask:
    return _begin(copy, start, min(end + copy.cluster_size, copy.copy_bitmap.size))


def _asks_no_thread(graph: Graph, command: Export) -> None:
    _add_export(graph, replace(command, iothread=None))


def _begins_alike(export: NbdExport, start: int, end: int, context: str, *,
                  one: bool) -> Program[tuple[Extent, ...]]:
    alike = (each for each in export.contexts if each.startswith(context))
    return _tell(export, start, end, next(alike), one=one)


CASES = (
    ("jobs that discard what they have copied, zeroes too",
     Lacking(BlockCopy, "_run", _keeps_zeroes)),
    ("backups into an overlay of the backup before",
     Lacking(filters, "cluster_size_of", _cuts_clusters_of_overlays)),
    ("bitmaps shown of which only the name is given",
     Lacking(links, "filtered_or_backing", lambda node: None)),
    ("bitmaps shown of which only the name is given",
     Lacking(Graph, "_own_bitmap", _shows_what_records)),
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
    ("the next copy is looked up beside one that fails",
     Lacking(BlockCopy, "_look_ahead", lambda *place: iter(()))),
    ("a drive-backup whose copies a client gives up",
     Lacking(Graph, "open_target", _opens_to_free_nothing)),
    ("copies compressed: as usual", Lacking(BlockCopy, "_run", _compresses_all)),
    ("jobs over one disk that end together", Lacking(BackupJob, "_commit", _commits_in_turn)),
    ("requests past the end of a disk", Lacking(Via, "is_local", False)),
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
    ("clusters of the copy that are holes in part",
     Lacking(BlockCopy, "_status", _goes_by_the_first_byte)),
    ("targets whose clusters are larger than what is asked for",
     Lacking(filters, "cluster_size_of", _is_what_was_asked_for)),
    ("a slow job over disks that take little at a time",
     Lacking(BlockCopy, "_begin", _takes_one_more)),
    ("bitmaps whose names begin alike, shown by one export",
     Lacking(NbdExport, "_status", _begins_alike)),
    ("exports in I/O threads that are not there", Lacking(Graph, "add_export", _asks_no_thread)),
    ("a cluster that a smaller size has cut",
     Lacking(BlockCopy, "_pad", lambda copy, content, length: None)),
    ("slow jobs that have one cluster to copy, or none",
     Lacking(BackupJob, "_copy_slowly", lambda job: iter(()))),
    ("block status of what a job may copy fails",
     Lacking(BackupJob, "_choose_clusters", lambda job: iter(()))),
    ("block status of what follows what is denied",
     Lacking(block_copy, "Task", partial(Task, outlives_its_start=True))),
    *((f"zeroes up to an uneven end, copied over data in {target}",
       Lacking(BlockCopy, "_run", _zeroes_whole_clusters)) for target in ("raw", "qcow2")),
    ("bitmaps kept by an image after jobs",
     Lacking(successors, "install", _forgets_that_it_is_kept)),
    *lies_of_images.CASES,
)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_the_truth_conforms(name: str) -> None:
    verdict = replay(CHECKS[name].make(PLAN), Stand(
        lambda images: Simulated(Machine(images)), Machine))
    assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize(("name", "lacking"), CASES, ids=lambda each: getattr(each, "name", each))
def test_who_lacks_the_rule_is_caught(name: str, lacking: Lacking) -> None:
    verdict = replay(CHECKS[name].make(PLAN), Stand(
        lambda images: Simulated(forgetful(Forgetful, lacking, images)), Machine))
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
    trace = CHECKS[name].make(replace(PLAN, capabilities=older))
    verdict = replay(trace, Stand(
        lambda images: Simulated(forgetful(Forgetful, lacking, images, older)),
        lambda images: Machine(images, older)))
    assert isinstance(verdict, Diverges), verdict.summary
