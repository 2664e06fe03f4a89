# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules of backup jobs forgotten: what they copy, how they end, what becomes of their bitmaps.

A job of the model, or its filter or its block-copy, is made one of a kind that lacks a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from harness.systems.lies.forgotten import Forgotten
from model import successors
from model.backup_job import BackupJob
from model.block_copy import BlockCopy, CopyCall, CopyTask
from model.capabilities import Capabilities
from model.configuration import Configuration
from model.copy_before_write import CopyBeforeWrite
from model.errors import Errno
from model.image import Image
from model.job_operations import BitmapMode, OnError
from model.jobs import JobStatus
from model.machine import Machine
from model.program import Program
from model.successors import SyncBitmap


class ForgetfulMachine(Machine):
    """A machine whose jobs do not keep a rule."""

    def __init__(self, configuration: Configuration, forgotten: Forgotten,
                 capabilities: Capabilities | None = None) -> None:
        super().__init__(configuration, capabilities)
        self._forgotten = forgotten

    def _run(self, *started: BackupJob) -> None:
        for job in started:
            self._forgotten.forget(job)
        super()._run(*started)


def of_job(kind: type[BackupJob]) -> Callable[[BackupJob], None]:
    """What makes a job one of that kind."""
    return lambda job: _become(job, kind)


def _filter(kind: type[CopyBeforeWrite]) -> Callable[[BackupJob], None]:
    return lambda job: _become(job.filter, kind)


def _block_copy(kind: type[BlockCopy]) -> Callable[[BackupJob], None]:
    return lambda job: _become(job.filter.block_copy, kind)


def _offloading(forget: Callable[[BackupJob], None]) -> Callable[[BackupJob], None]:
    return lambda job: forget(job) if job.command.use_copy_range else None


def _become(what: Any, kind: type[Any]) -> None:
    what.__class__ = kind


# What is copied


class _CopiesAll(BackupJob):
    def _choose_clusters(self) -> Program[None]:
        self.progress.set_remaining(self.filter.block_copy.copy_bitmap.count)
        yield from ()


class _OneTooFew(BackupJob):
    def _choose_clusters(self) -> Program[None]:
        yield from super()._choose_clusters()
        copy = self.filter.block_copy.copy_bitmap
        first, _ = copy.dirty_ranges()[0]
        copy.reset(first, first + copy.granularity)


class _NotWritten(BlockCopy):
    def _run(self, task: CopyTask, is_zero: bool | None, call: CopyCall) -> Program[None]:
        content = cast(Image, self.target).content
        before = content.slice(task.start, min(task.end, content.size))
        yield from super()._run(task, is_zero, call)
        content.paste(task.start, before)


class _GuestFirst(CopyBeforeWrite):
    def _before_change(self, start: int, end: int) -> Program[None]:
        yield from ()


# How jobs end


class _FailsSilently(BackupJob):
    def _conclude(self, error: Errno | None) -> Program[None]:
        return super()._conclude(None if error is not Errno.ECANCELED else error)


class _CompletesWhenCancelled(BackupJob):
    def cancel(self) -> Program[None]:
        if self.status is JobStatus.PENDING:
            return self.finalize()
        return super().cancel()


class _FailsWhenCancelled(BackupJob):
    def _conclude(self, error: Errno | None) -> Program[None]:
        return super()._conclude(Errno.EIO if error is Errno.ECANCELED else error)


class _CancelsWhenPaused(BackupJob):
    def check_cancel(self, *, force: bool) -> None:
        pass


class _FinalizesItself(BackupJob):
    def _copied(self) -> Program[None]:
        yield from super()._copied()
        if self.status is JobStatus.PENDING:
            yield from self._commit()


class _DismissesItself(BackupJob):
    def _conclude(self, error: Errno | None) -> Program[None]:
        yield from super()._conclude(error)
        self.status = JobStatus.NULL


class _FilterStays(BackupJob):
    def _conclude(self, error: Errno | None) -> Program[None]:
        yield from super()._conclude(error)
        self.filter.source.bitmaps.append(self.filter.block_copy.copy_bitmap)


class _Reports(BackupJob):
    def _on_error(self, error: Errno, reading: bool) -> OnError:
        super()._on_error(error, reading)
        return OnError.REPORT


class _TriesAgain(BackupJob):
    def _on_error(self, error: Errno, reading: bool) -> OnError:
        super()._on_error(error, reading)
        return OnError.IGNORE


class _NoLastCopies(BackupJob):
    def _copy_a_little_more(self) -> Program[None]:
        yield from ()


# What becomes of bitmaps


class _NotMergedBack(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        successor = sync_bitmap.bitmap.successor
        assert successor is not None
        if not _installs(sync_bitmap, failed):
            successor.clear()
        super()._settle_bitmap(sync_bitmap, failed)


class _SuccessorCleared(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        successor = sync_bitmap.bitmap.successor
        assert successor is not None
        if _installs(sync_bitmap, failed):
            successor.clear()
        super()._settle_bitmap(sync_bitmap, failed)


class _InstallsAlways(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        if _installs(sync_bitmap, failed):
            super()._settle_bitmap(sync_bitmap, failed)
        else:
            successors.install(sync_bitmap.node, sync_bitmap.bitmap)


class _InstallsNever(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        bitmap = sync_bitmap.bitmap
        if not _installs(sync_bitmap, failed):
            super()._settle_bitmap(sync_bitmap, failed)
            return
        successors.reclaim(sync_bitmap.node, bitmap)
        if failed:
            bitmap.merge(self.filter.block_copy.copy_bitmap)


class _UncopiedForgotten(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        if sync_bitmap.mode is BitmapMode.ALWAYS:
            failed = False
        super()._settle_bitmap(sync_bitmap, failed)


class _TooMuch(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        successor = sync_bitmap.bitmap.successor
        assert successor is not None
        successor.set_all()
        super()._settle_bitmap(sync_bitmap, failed)


class _StaysBusy(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        super()._settle_bitmap(sync_bitmap, failed)
        bitmap = sync_bitmap.node.bitmap(sync_bitmap.bitmap.name or "")
        assert bitmap is not None
        bitmap.busy = True


def _installs(sync_bitmap: SyncBitmap, failed: bool) -> bool:
    """Whether the successor takes the bitmap's place."""
    return sync_bitmap.mode is BitmapMode.ALWAYS or (
        sync_bitmap.mode is BitmapMode.ON_SUCCESS and not failed)


FORGOTTEN_BY_JOBS: Final = (
    Forgotten("copies-all", "a job copies all, whatever its sync mode", of_job(_CopiesAll)),
    Forgotten("one-too-few", "a job leaves out the first cluster", of_job(_OneTooFew)),
    Forgotten("not-written", "what a job copies does not reach the target",
              _block_copy(_NotWritten)),
    Forgotten("copy-range-loses", "what storage is to copy by itself does not reach the target",
              _offloading(_block_copy(_NotWritten))),
    Forgotten("guest-first", "the guest overwrites what is not copied yet",
              _filter(_GuestFirst)),
    Forgotten("fails-silently", "a job that fails says that it has completed",
              of_job(_FailsSilently)),
    Forgotten("completes-when-cancelled", "a pending job completes when it is cancelled",
              of_job(_CompletesWhenCancelled)),
    Forgotten("fails-when-cancelled", "a job that is cancelled says that it has failed",
              of_job(_FailsWhenCancelled)),
    Forgotten("cancels-when-paused", "a paused job is cancelled, though not by force",
              of_job(_CancelsWhenPaused)),
    Forgotten("finalizes-itself", "a job does not wait for job-finalize",
              of_job(_FinalizesItself)),
    Forgotten("dismisses-itself", "a job does not wait for job-dismiss", of_job(_DismissesItself)),
    Forgotten("filter-stays", "a bitmap of a job's filter outlives the job",
              of_job(_FilterStays)),
    Forgotten("reports", "a job ends by an error at which it is to stop, or to try again",
              of_job(_Reports)),
    Forgotten("tries-again", "a job tries again at an error at which it is to stop or to end",
              of_job(_TriesAgain)),
    Forgotten("no-last-copies", "a job stopped by an error is cancelled at once",
              of_job(_NoLastCopies)),
    Forgotten("not-merged-back", "a bitmap that stays does not take on what was written since "
              "the start", of_job(_NotMergedBack)),
    Forgotten("successor-cleared", "a bitmap that is new loses what was written since the start",
              of_job(_SuccessorCleared)),
    Forgotten("installs-always", "a bitmap is brought up to date whatever mode and end",
              of_job(_InstallsAlways)),
    Forgotten("installs-never", "a bitmap is never brought up to date", of_job(_InstallsNever)),
    Forgotten("uncopied-forgotten", "with bitmap mode always, what was not copied is clean",
              of_job(_UncopiedForgotten)),
    Forgotten("too-much", "a bitmap is wholly dirty in the end", of_job(_TooMuch)),
    Forgotten("stays-busy", "a bitmap stays in use", of_job(_StaysBusy)),
)
"""All of them."""
