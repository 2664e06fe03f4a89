# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model has nothing to say of in jobs: what depends on time, or on what the storage makes
of a job's copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from .backup_job import BackupJob
from .bitmap import align_down, align_up
from .configuration import Fault, Format, Protocol
from .errors import RequestFailed
from .graph import Graph
from .image import Image as ImageNode
from .job_operations import FAST, SLOWEST, Sync
from .jobs import JobStatus
from .links import shown_filter
from .node import ANYTHING_ZERO, DATA, DATA_OR_ZERO, PERHAPS_HOLE, Node, Status
from .permissions import parents_first
from .program import run_to_end
from .qcow2 import Qcow2
from .snapshot_access import SnapshotAccess
from .unsaid import Impossible, check_copies

_UNDECIDED: Final = (PERHAPS_HOLE.flags, ANYTHING_ZERO.flags)
"""What block status may say that decides whether zeroes are written, wherever it is."""


def check_jobs(graph: Graph, jobs: Sequence[BackupJob],
               faults: Mapping[str, Sequence[Fault]]) -> None:
    """Refuse jobs over storage that fails whose requests can come in more than one order."""
    failing = any(faults.values()) or any(
        isinstance(job.filter.target, SnapshotAccess) for job in jobs)
    copying = [job for job in jobs if job.copies]
    if failing and len(copying) > 1:
        raise Impossible("several jobs run beside each other over failing storage")
    if len(copying) > 1 and any(job.command.discard_source for job in copying):
        raise Impossible("several jobs run beside each other, and one discards what it has copied")
    if failing and any(job.workers != 1 for job in jobs):
        raise Impossible("a job with several requests at a time over failing storage")
    if any(_touches_any(job, faults) and _is_undecided(job, faults) for job in copying):
        raise Impossible("copies what may be told to be zero, over failing storage")
    if any(_shows_what_failed(job) and _is_undecided(job, faults) for job in copying):
        raise Impossible("how much at once is refused by a snapshot, which records it")
    for job in copying:
        if _touches_any(job, faults):
            check_copies(job.filter.target, 0, job.filter.target.size, failing=True)
        check_speed(job, job.speed)
        if job.is_slow and (failing or job.piece != job.filter.cluster_size):
            raise Impossible("how much a slow job copies before it waits is up to the storage")
        if job.is_slow and any(isinstance(each, ImageNode) and each.spec.protocol is Protocol.NBD
                               for each in parents_first([job.filter.source])):
            raise Impossible("a slow job that is drained asks for block status anew before it "
                             "waits, and meanwhile a piece counts as copied")
    for job in jobs:
        if job.command.discard_source and any(
                _discard_unit(each) > job.filter.cluster_size
                for each in parents_first([job.filter.source])):
            raise Impossible("what can be discarded depends on how block status cuts copies up")
        target = job.filter.target
        if job.command.use_copy_range and isinstance(target, Qcow2) and any(
                isinstance(each, Qcow2) for each in parents_first([job.filter.source])):
            raise Impossible("how many zero clusters storage keeps that copies qcow2 to qcow2")
        if job.may_take_more and _is_left_to_storage(job) and _may_fail_below(job, faults):
            raise Impossible("how much fails together where storage has copied by itself")
        if job.command.use_copy_range and isinstance(target, ImageNode) and target.detects:
            raise Impossible("whether storage copies by itself, in which nobody detects zeroes")
        if job.command.compress and not isinstance(target, Qcow2):
            raise Impossible("compressed data in anything but qcow2 images")


def check_speed(job: BackupJob, speed: int) -> None:
    """Refuse a limit that lets the job copy a little, or that comes when it has begun."""
    if SLOWEST < speed < FAST:
        raise Impossible("what a limit of speed does depends on time")
    if 0 < speed <= SLOWEST and not job.is_slow and job.copies:
        raise Impossible("whether a job that has copied without a limit may go on is not known")


def check_held(graph: Graph) -> None:
    """Refuse to leave nothing to copy to a slow job that waits: when it notices depends on when
    QEMU next drains it, for whatever reason."""
    if any(job.is_held and job.status in (JobStatus.RUNNING, JobStatus.PAUSED)
           and not job.filter.block_copy.copy_bitmap.count for job in graph.jobs.values()):
        raise Impossible("when a job that waits notices that nothing is left is not known")


def check_cancel(graph: Graph) -> None:
    """Refuse to cancel a job stopped by an error if its last copies may need no time, as zeroes
    do that only change an image's tables, or have to wait for a limit of speed: how many there are
    then depends on that."""
    for job in graph.jobs.values():
        target = job.filter.target
        if job.stopped_copying and (job.speed or not (
                isinstance(target, ImageNode) and target.spec.format is Format.RAW)):
            raise Impossible("how much a stopped job copies on its way out is not known")


def check_failure(job: BackupJob, jobs: Sequence[BackupJob]) -> None:
    """Refuse that a job fails while others of its group copy: how far they are is not known."""
    if job.error is not None and any(
            each.copies and each is not job and each.ends_with(job) for each in jobs):
        raise Impossible("a job of a group fails while another one copies")


def _is_left_to_storage(job: BackupJob) -> bool:
    """Whether storage may copy by itself, which it may not from or to a ``blkdebug``."""
    return all(isinstance(each, ImageNode) and each.format_node == each.name
               for each in (job.filter.source, job.filter.target))


def _touches_any(job: BackupJob, faults: Mapping[str, Sequence[Fault]]) -> bool:
    """Whether the job reads or writes an image that fails."""
    return any(faults.get(node.name) for node in parents_first([job.filter]))


def _shows_what_failed(job: BackupJob) -> bool:
    """Whether bitmaps of a target that takes no data tell how much it was asked to at once."""
    target = job.filter.target
    return isinstance(target, SnapshotAccess) and any(
        bitmap.recording for bitmap in target.bitmaps)


def _may_fail_below(job: BackupJob, faults: Mapping[str, Sequence[Fault]]) -> bool:
    """Whether there is an image that fails, or a snapshot, below the job's filter."""
    return _touches_any(job, faults) or any(
        isinstance(each, SnapshotAccess) for each in parents_first([job.filter]))


def _is_undecided(job: BackupJob, faults: Mapping[str, Sequence[Fault]]) -> bool:
    """Whether it is up to the storage what block status says of what the job copies, and so in
    which pieces it is copied."""
    copy, source = job.filter.block_copy, job.filter.source
    places: Sequence[int] = [fault.offset for node in parents_first([job.filter])
                             for fault in faults.get(node.name, ())]
    if _shows_what_failed(job):
        places = range(0, source.size, copy.cluster_size)
    wanted = copy.copy_bitmap
    if job.sync is Sync.BITMAP and job.sync_bitmap is not None:
        wanted = job.sync_bitmap.bitmap
    for start, end in wanted.dirty_ranges():
        place = align_down(start, copy.cluster_size)
        stop = min(align_up(end, copy.cluster_size), source.size)
        data = _Data(copy.cluster_size, places)
        while place < stop:
            # What is denied is copied, or not, as data; of a run that is denied in part, the rest
            # may be asked about by itself.  A snapshot with a defect tells otherwise of a part.
            for length in (stop - place, job.piece, copy.cluster_size):
                found, told = min(place + length, stop), None
                with suppress(RequestFailed):
                    found, told = run_to_end(source.block_status(place, found),
                                             lambda request: None)
                    if told.flags in _UNDECIDED or (
                            told.is_zero and 0 < told.pieces < copy.cluster_size):
                        return True
            if data.is_undecided(place, found, told):
                return True
            place = found
    return False


@dataclass
class _Data:
    """A run of data, some of which may be told to read as zero, in what a job copies."""

    cluster_size: int
    faults: Sequence[int]
    """The offsets of all that fails."""
    start: int = 0
    depths: frozenset[int | None] | None = None
    """How deep it lies; None: there is none."""
    has_zeroes: bool = False

    def is_undecided(self, start: int, end: int, status: Status | None) -> bool:
        """Whether it matters, once the next piece is known, what is told of the zeroes: if what
        fails is a cluster of them, or is copied with clusters before it or not."""
        if status is None or status.flags not in (DATA.flags, DATA_OR_ZERO.flags):
            self.depths = None
            return False
        if status.depths != self.depths:
            self.start, self.depths, self.has_zeroes = start, status.depths, False
        zeroes = status.flags == DATA_OR_ZERO.flags
        self.has_zeroes |= zeroes
        low = align_down(self.start, self.cluster_size)
        if not (zeroes and end - start >= self.cluster_size):
            low += self.cluster_size
        return self.has_zeroes and any(
            low <= fault < align_up(end, self.cluster_size) for fault in self.faults)


def _discard_unit(node: Node) -> int:
    """The bytes of the unit that the node discards only whole, and aligned."""
    kept = shown_filter(node)
    if kept is not None:
        return kept.cluster_size
    return node.cluster if isinstance(node, Qcow2) else 1
