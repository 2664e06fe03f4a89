# SPDX-License-Identifier: GPL-2.0-or-later
"""The backup job: copies a point in time to the target, while a filter of its own keeps it.

The job puts a copy-before-write filter on its device: whoever used the device now goes through the
filter, and the job's copying and the guest's writes share the filter's block-copy.  A user's
bitmap may say what to copy, and is brought up to date when the job ends.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from . import successors
from .bitmap import align_down, align_up
from .block_copy import MOST_TASKS, CopyCall, CopyLimits
from .copy_before_write import CopyBeforeWrite
from .errors import ERROR_TEXT, CommandRefused, Errno, RequestFailed, Undetermined
from .job_life import JobLife, Surroundings
from .job_operations import SLOWEST, Backup, BitmapMode, OnError, Sync
from .jobs import JobStatus, Verb, check_verb
from .program import Program, Task, Wait, collecting
from .rules import rule
from .successors import SyncBitmap

MOST_RETRIES: Final = 64
"""A job that fails so often in a row, and tries again, is taken to do so for ever."""


@dataclass(slots=True, eq=False)
class JobGroup:
    """Jobs that end together, the newest first; most jobs are a group of one."""

    jobs: list[BackupJob] = field(default_factory=list)


class BackupJob(JobLife):
    """One job.  Between operations it rests: see :class:`model.jobs.JobStatus`."""

    def __init__(self, command: Backup, sync: Sync, filter_node: CopyBeforeWrite,
                 sync_bitmap: SyncBitmap | None, group: JobGroup, graph: Surroundings,
                 fired: Counter[str]) -> None:
        super().__init__(command, graph, fired)
        self.sync = sync
        self.filter = filter_node
        self.sync_bitmap = sync_bitmap
        self._group = group
        self.in_small_steps = False
        """Whether storage completes as a schedule says, so that each failure has its place."""
        self.is_held = False
        """Whether the job has copied what its speed lets it copy for now."""
        self.is_cancelled = False
        """Whether it has been told to end without success, or fails."""
        self.is_leaving = False
        """Whether the job waits for requests to end, so as to take its filter away."""
        self._chosen = False
        self.chooses = False
        """Whether the job is finding out what it has to copy; if that fails, the job does."""
        self._is_copying = False
        self._call = CopyCall()
        """What the job copies, or copied last."""
        for status in (JobStatus.CREATED, JobStatus.RUNNING):  # each is an event
            self.status = status
        filter_node.block_copy.progress = self.progress
        group.jobs.insert(0, self)

    # Running

    def run(self) -> Program[None]:
        """From the start, or from a pause, to where the job rests."""
        self.status = JobStatus.RUNNING
        if not self._chosen:
            self._chosen = self.chooses = True
            try:
                yield from self._choose_clusters()
            except RequestFailed as why:
                yield from self._fail(why.error)
                return
            finally:
                self.chooses = False
        if self.sync is Sync.NONE:
            return
        if self.is_slow:
            yield from self._copy_slowly()
            return
        self.is_held = False
        for _ in count() if self.in_small_steps else range(MOST_RETRIES):
            failure = yield from self._copy_all()
            if self.is_cancelled:
                yield from self._fail(Errno.ECANCELED)
                return
            if self._paused_by_user:
                self.status = JobStatus.PAUSED
                return
            if self._call.cancelled:
                continue
            if failure is None:
                yield from self._copied()
                return
            action = self._on_error(*failure)
            if action is OnError.STOP:
                self.status = JobStatus.PAUSED
                self._paused_by_user = self._stopped_by_error = True
                return
            if action is OnError.REPORT:
                yield from self._fail(failure[0])
                return
        raise Undetermined(f"job {self.name} ignores an error that comes again and again")

    @property
    def is_slow(self) -> bool:
        """Whether the job's speed is next to nothing."""
        return 0 < self.speed <= SLOWEST

    @rule("backup.speed", source="argument speed of blockdev-backup; experiment")
    def _copy_slowly(self) -> Program[None]:
        """A speed limits what the job copies by itself, not what the guest makes it copy.  The
        limit counts from the second piece on: a job with next to no speed copies one, and then
        waits until it is given another speed."""
        if not self.is_held:
            self.is_held = True
            if (yield from self._copy_all(1)) is not None:
                raise Undetermined(f"job {self.name} fails and would wait")
        if not self.filter.block_copy.copy_bitmap.count:
            yield from self._copied()

    def set_speed(self, speed: int) -> bool:
        """block-job-set-speed; whether the job goes on by that."""
        check_verb(self.name, self.status, Verb.SET_SPEED)
        if speed < 0:
            raise CommandRefused("Parameter 'speed' expects a non-negative value")
        self.speed = speed
        return self.is_held and not self.is_slow and self.status is JobStatus.RUNNING

    @rule("backup.what-is-copied", source="argument sync of blockdev-backup")
    def _choose_clusters(self) -> Program[None]:
        """``full`` and ``none`` leave all clusters to be copied; ``bitmap`` those that the bitmap
        has dirty, wholly or in part; ``top`` those of which the topmost image has anything
        allocated.  Through the filter all clusters may be read, whichever are copied."""
        copy_bitmap = self.filter.block_copy.copy_bitmap
        if self.sync is Sync.BITMAP and self.sync_bitmap is not None:
            copy_bitmap.clear()
            copy_bitmap.merge(self.sync_bitmap.bitmap)
        self.progress.set_remaining(copy_bitmap.count)
        if self.sync is Sync.TOP:
            place, length = 0, self.filter.block_copy.length
            while place < length:
                stop, allocated = yield from self._run_of_allocated(place, length)
                if not allocated:
                    self.filter.block_copy.forget(place, stop)
                place = stop

    def _run_of_allocated(self, start: int, end: int) -> Program[tuple[int, bool]]:
        """Where the run of whole clusters stops that begins at ``start``, and whether the topmost
        image has anything of them: as far as the image tells in one answer, or in as many as it
        takes for one cluster."""
        cluster = self.filter.cluster_size
        place, undecided = start, False
        while place < min(start + cluster, end):
            place, allocated = yield from self.filter.source.is_allocated(place, end)
            if allocated:
                return align_up(place, cluster), True
            undecided = undecided or allocated is None
        if undecided:
            raise Undetermined("whether an image of such a format has anything of its zeroes")
        return (end if place - start < cluster else align_down(place, cluster)), False

    def _copy_all(self, last_task: int | None = None) -> Program[tuple[Errno, bool] | None]:
        """Copy what is left; the first failure, and whether it was one of reading.

        The copying is a task beside the job: who waits for it to end hears of that first.
        """
        copy = self.filter.block_copy
        limits = CopyLimits(self.workers, self._chunk)
        self._call = call = CopyCall(limits=limits, last_task=last_task)
        failures: list[Errno] = []
        end = align_up(copy.length, copy.cluster_size)
        copying = Task(collecting(copy.copy(0, end, call), failures))
        self._is_copying = True
        yield copying
        call.cancelled = call.cancelled or self.is_cancelled
        yield Wait(lambda: copying.finished, "the copying of the job to end", last=True)
        self._is_copying = False
        if not failures:
            return None
        many = self.workers > 1 and copy.copy_bitmap.count > copy.cluster_size
        if many and not self.in_small_steps:
            raise Undetermined("a request fails while others are under way")
        return failures[0], call.failed_reading

    @property
    @rule("backup.performance", source="argument x-perf of blockdev-backup; experiment on 5.2")
    def workers(self) -> int:
        """Requests that the job may have under way at a time: ``max-workers``, 64 by default.
        A build without x-perf copies one cluster after the other.

        With ``use-copy-range`` storage is asked to copy by itself.  If it can, as files can, the
        outcome is the same, though up to 16 MiB are copied at a time then.  If it cannot, as over
        NBD, the very first request says so, and all is read and written in the same pieces as
        without the option."""
        if not self.filter.capabilities.x_perf:
            return 1
        return self.command.max_workers or MOST_TASKS

    @property
    def piece(self) -> int:
        """The most that the job copies at a time, in bytes."""
        return self.filter.block_copy.chunk(CopyLimits(self.workers, self._chunk))

    @property
    def may_take_more(self) -> bool:
        """Whether the job copies more than a piece at a time once storage has copied by itself."""
        length = self.filter.block_copy.length
        return bool(self.command.use_copy_range) and self.piece < min(
            self.command.max_chunk or length, length)

    @property
    def _chunk(self) -> int:
        if not self.filter.capabilities.x_perf:
            return self.filter.cluster_size
        return self.command.max_chunk or 0

    @rule("backup.on-error", source="arguments on-source-error and on-target-error of "
          "blockdev-backup")
    def _on_error(self, error: Errno, reading: bool) -> OnError:
        """A failure of the job's own copying is reported, which ends the job; or it is tried
        again, at once (``ignore``) or when the job is resumed (``stop``; ``enospc`` and ``auto``
        stop for want of space and report all else).  Each failure is an event."""
        action = self.command.on_source_error if reading else self.command.on_target_error
        if action in (OnError.ENOSPC, OnError.AUTO):
            action = OnError.STOP if error is Errno.ENOSPC else OnError.REPORT
        self._event("BLOCK_JOB_ERROR", operation="read" if reading else "write", action=action)
        if action is OnError.STOP:
            self._io_status = "nospace" if error is Errno.ENOSPC else "failed"
        return action

    # Ending

    @rule("backup.finalize", source="argument auto-finalize of blockdev-backup")
    def _copied(self) -> Program[None]:
        """With all copied, the job waits for the others of its group.  Then they commit: at once,
        or, if one of them was started with ``auto-finalize`` off, when job-finalize says so.
        Until then their filters stay, and their bitmaps are as they were."""
        self.status = JobStatus.WAITING
        group = list(self._group.jobs)
        if not all(job.has_ended for job in group):
            return
        for job in group:
            job.status = JobStatus.PENDING
            if not job.command.auto_finalize:
                job._event("BLOCK_JOB_PENDING", id=job.name)
        if all(job.command.auto_finalize for job in group):
            yield from self._commit()

    def _commit(self) -> Program[None]:
        for job in list(self._group.jobs):
            yield from job._conclude(None)

    @rule("backup.group", source="argument completion-mode of transaction")
    def _fail(self, error: Errno) -> Program[None]:
        """A job that fails or is cancelled takes the others of its group along: they count as
        cancelled, also those that had copied everything."""
        for job in list(self._group.jobs):
            if not job.is_cancelled:
                yield from job._see_the_end()
            job.status = JobStatus.ABORTING
            yield from job._conclude(error if job is self else Errno.ECANCELED)

    def _see_the_end(self) -> Program[None]:
        stopped = self.stopped_copying
        self._wake()
        self.is_cancelled = True
        if stopped:
            yield from self._copy_a_little_more()

    @rule("backup.last-copies", source="experiment")
    def _copy_a_little_more(self) -> Program[None]:
        """A job that an error had stopped goes on copying before it sees that it is cancelled: as
        many requests as it may have at a time, and one more that waits for its turn.  A build
        without x-perf sees it before the next cluster."""
        if not self.filter.capabilities.x_perf:
            return
        yield from self._copy_all(self.workers + 1)

    @property
    def copies(self) -> bool:
        """Whether the job copies by itself, not only what the guest is about to overwrite."""
        return self.sync is not Sync.NONE

    def ends_with(self, other: BackupJob) -> bool:
        """Whether the two are in one group."""
        return self._group is other._group

    @property
    def stopped_copying(self) -> bool:
        """Whether an error has stopped the job, so that it has something left to copy."""
        return self.status is JobStatus.PAUSED and self._stopped_by_error

    @rule("backup.bitmap-after", source="docs/interop/bitmaps.rst: bitmap synchronisation modes")
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        """What the bitmap has dirty when the job has ended, with S for what was written since the
        start and B for what the bitmap had dirty then:

        ==========  =========  ===================================
        mode        success    failure or cancellation
        ==========  =========  ===================================
        never       B and S    B and S
        on-success  S          B and S
        always      S          S and what was not copied
        ==========  =========  ===================================
        """
        bitmap, mode, node = sync_bitmap.bitmap, sync_bitmap.mode, sync_bitmap.node
        if mode is BitmapMode.ALWAYS or (mode is BitmapMode.ON_SUCCESS and not failed):
            bitmap = successors.install(node, bitmap)
        else:
            successors.reclaim(node, bitmap)
        if failed and mode is BitmapMode.ALWAYS:
            bitmap.merge(self.filter.block_copy.copy_bitmap)

    def _conclude(self, error: Errno | None) -> Program[None]:
        self.error = error
        if self.sync_bitmap is not None:
            self._settle_bitmap(self.sync_bitmap, failed=error is not None)
        yield from self._take_leave()
        self._graph.drop_filter(self.filter)
        told = {"len": self.progress.total, "offset": self.progress.done,
                "speed": self.speed}
        if error is Errno.ECANCELED:
            self._event("BLOCK_JOB_CANCELLED", **told)
        elif error is not None:
            self._event("BLOCK_JOB_COMPLETED", error=ERROR_TEXT[error], **told)
        else:
            self._event("BLOCK_JOB_COMPLETED", **told)
        self.status = JobStatus.CONCLUDED
        if self.command.auto_dismiss:
            self.status = JobStatus.NULL

    @rule("backup.waits-for-clients", source="experiment")
    def _take_leave(self) -> Program[None]:
        """A job that ends takes its filter away, and so waits for the clients' requests that are
        under way to end; then the disk is flushed, if the build does so.  Nobody hears whether
        that fails.  Until then QEMU answers no command and takes no further request.  The user's
        bitmap has been settled before: what a guest's copy still fails to copy is not in it, and
        what the guest still writes is."""
        self.is_leaving = True
        yield Wait(lambda: not self._graph.under_way, "the clients' requests to end")
        if self.filter.capabilities.ended_job_flushes:
            with suppress(RequestFailed):
                yield from self.filter.source.flush()
        self.is_leaving = False

    # Commands

    def finalize(self) -> Program[None]:
        """job-finalize: of all jobs of the group."""
        check_verb(self.name, self.status, Verb.FINALIZE)
        yield from self._commit()

    def cancel(self) -> Program[None]:
        """job-cancel: a job that is not concluded ends as if it had failed."""
        check_verb(self.name, self.status, Verb.CANCEL)
        if self._is_copying:
            self._wake()
            self.is_cancelled = True
            self._stop_copying()
        else:
            yield from self._fail(Errno.ECANCELED)

    @rule("backup.cancel-paused", source="argument force of block-job-cancel")
    def check_cancel(self, *, force: bool) -> None:
        """block-job-cancel does not cancel a job that is paused, by the user or by an error,
        unless it is forced to.  Otherwise force makes no difference: a backup has nothing to
        complete when it is cancelled."""
        if self._paused_by_user and not force:
            raise CommandRefused(f"The block job for device '{self.name}' is currently paused")

    def pause(self) -> None:
        """job-pause: the copying stops; the filter goes on."""
        check_verb(self.name, self.status, Verb.PAUSE)
        if self._paused_by_user:
            raise CommandRefused("Job is already paused")
        self._paused_by_user = True
        if self._is_copying:
            self._stop_copying()
        else:
            self.status = JobStatus.PAUSED

    @rule("backup.stops-in-the-middle", source="job-pause, job-cancel; experiment")
    def _stop_copying(self) -> None:
        """A job that is paused or cancelled in the middle begins no new copies but the one that
        waits for its turn, and finishes those it has begun; only then it is paused, or ends.  If
        any of these copies fails, nobody is told: it is done again when the job goes on, even if
        it was resumed before it had come to its pause."""
        self._call.cancelled = True
