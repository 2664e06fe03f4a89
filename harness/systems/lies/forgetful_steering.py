# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules forgotten: those of jobs that are told to pause, to go on or to end in the middle."""

from __future__ import annotations

from typing import Final

from harness.systems.lies.forgetful_jobs import FORGOTTEN_BY_JOBS, of_job
from harness.systems.lies.forgotten import Forgotten
from model.backup_job import BackupJob
from model.errors import Errno
from model.jobs import JobStatus
from model.program import Program
from model.successors import SyncBitmap


class _PausedAtOnce(BackupJob):
    def pause(self) -> None:
        super().pause()
        self.status = JobStatus.PAUSED


class _NotPaused(BackupJob):
    def _stop_copying(self) -> None:
        if self.is_cancelled:
            super()._stop_copying()


class _CopiesAllBefore(BackupJob):
    def _stop_copying(self) -> None:
        if not self.is_cancelled:
            super()._stop_copying()


class _TellsOfFailures(BackupJob):
    def _copy_all(self, last_task: int | None = None) -> Program[tuple[Errno, bool] | None]:
        failure = yield from super()._copy_all(last_task)
        if failure is not None and self._call.cancelled:
            self._on_error(*failure)
        return failure


class _ResumedTooEarly(BackupJob):
    def resume(self) -> None:
        super().resume()
        self._paused_by_user = self._is_copying


class _DropsRequests(BackupJob):
    def _take_leave(self) -> Program[None]:
        yield from ()


class _SettlesLate(BackupJob):
    def _settle_bitmap(self, sync_bitmap: SyncBitmap, failed: bool) -> None:
        if not self._graph.under_way:
            super()._settle_bitmap(sync_bitmap, failed)

    def _take_leave(self) -> Program[None]:
        late = bool(self._graph.under_way)
        yield from super()._take_leave()
        if late and self.sync_bitmap is not None:
            super()._settle_bitmap(self.sync_bitmap, failed=self.error is not None)


FORGOTTEN_WHEN_STEERED: Final = (
    Forgotten("paused-at-once", "a job is paused before what it has begun to copy is copied",
              of_job(_PausedAtOnce)),
    Forgotten("not-paused", "a job that is paused in the middle copies all that is left first",
              of_job(_NotPaused)),
    Forgotten("copies-all-before", "a job that is cancelled in the middle copies all that is left "
              "first", of_job(_CopiesAllBefore)),
    Forgotten("tells-of-failures", "a job that is to pause or to end tells of what it failed to "
              "copy", of_job(_TellsOfFailures)),
    Forgotten("resumed-too-early", "a job that is resumed before it is paused is paused all the "
              "same", of_job(_ResumedTooEarly)),
    Forgotten("drops-requests", "a job that ends does not wait for the clients' requests",
              of_job(_DropsRequests)),
    Forgotten("settles-late", "a job that ends settles its bitmap when the clients' requests have "
              "ended", of_job(_SettlesLate)),
    *(each for each in FORGOTTEN_BY_JOBS if each.name == "no-last-copies"),
)
"""All of them."""
