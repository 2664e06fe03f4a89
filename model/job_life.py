# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a backup job, as others see it: its status and events, and that it may be paused."""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from .copy_before_write import CopyBeforeWrite
from .errors import ERROR_TEXT, CommandRefused, Errno
from .job_operations import Backup
from .jobs import JobStatus, Progress, Verb, check_verb
from .operations import Request
from .outcome import STATUS_CHANGE, JobEvent, JobView
from .program import Program, Wait

_ENDED: Final = frozenset({JobStatus.WAITING, JobStatus.PENDING, JobStatus.CONCLUDED,
                           JobStatus.NULL})


class Surroundings(Protocol):
    """The graph, as far as a job needs it."""

    job_events: list[JobEvent]
    under_way: dict[int, Request]
    """The clients' requests that are under way, by number, if storage is held."""

    def drop_filter(self, node: CopyBeforeWrite) -> None:
        """Take a job's filter out of the graph."""


class JobLife:
    """What a job has, whatever it does."""

    def __init__(self, command: Backup, graph: Surroundings, fired: Counter[str]) -> None:
        self.command = command
        self.name = command.job
        self.progress = Progress()
        self.error: Errno | None = None
        self.fired = fired
        self.speed = command.speed or 0
        self.moves = False
        """Whether the job is on its way to where it rests; in small steps only."""
        self._graph = graph
        self._paused_by_user = False
        self._stopped_by_error = False
        self._io_status = "ok"
        self._status: JobStatus | None = None

    @property
    def status(self) -> JobStatus:
        """Where the job is in its life; each change is an event."""
        return self._status or JobStatus.CREATED

    @status.setter
    def status(self, status: JobStatus) -> None:
        if status is not self._status:
            self._status = status
            self._event(STATUS_CHANGE, id=self.name, status=status.value)

    @property
    def has_ended(self) -> bool:
        """Whether the job has nothing more to copy, whatever became of it."""
        return self.status in _ENDED

    @property
    def is_active(self) -> bool:
        """Whether the job has its filter in the graph."""
        return self.status not in (JobStatus.CONCLUDED, JobStatus.NULL)

    def _event(self, name: str, **data: str | int) -> None:
        if "id" not in data:
            data["device"] = self.name
        self._graph.job_events.append(JobEvent(name, tuple(sorted(data.items()))))

    def _wake(self) -> None:
        """A pause is over, whatever it was for."""
        self._paused_by_user, self._stopped_by_error, self._io_status = False, False, "ok"
        if self.status is JobStatus.PAUSED:
            self.status = JobStatus.RUNNING

    def dismiss(self) -> None:
        """job-dismiss."""
        check_verb(self.name, self.status, Verb.DISMISS)
        self.status = JobStatus.NULL

    def resume(self) -> None:
        """job-resume: of a job paused by the user or stopped by an error."""
        if not self._paused_by_user:
            raise CommandRefused("Can't resume a job that was not paused")
        check_verb(self.name, self.status, Verb.RESUME)
        self._wake()

    def steered(self, program: Program[None]) -> Program[None]:
        """The program of a command and, if the job was moving already, the wait until it rests."""
        if self.moves:
            yield from program
            yield Wait(lambda: not self.moves, "the job to rest")
            return
        self.moves = True
        try:
            yield from program
        finally:
            self.moves = False

    def view(self) -> JobView:
        """The job as query-jobs and query-block-jobs show it."""
        error = None if self.error is None else ERROR_TEXT[self.error]
        return JobView(
            self.name, self.status, self.progress.done, self.progress.total, error,
            speed=self.speed, io_status=self._io_status,
            paused=self._paused_by_user, auto_finalize=self.command.auto_finalize,
            auto_dismiss=self.command.auto_dismiss)
