# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs as their events tell of them: where each one is in its life, and whether it rests there.

A job *rests* when nothing but a command or a guest's request will move it: an operation about
jobs is done when all of them rest.  Nothing is asked for and no time passes: QEMU sends an event
at each step of a job's life.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.clients.qmp_session import QmpEvent
from model import job_operations as jobs
from model.job_operations import SLOWEST, Sync
from model.jobs import JobStatus
from model.operations import Operation
from model.outcome import STATUS_CHANGE, JobEvent, JobView, by_job

_TOLD: Final = "BLOCK_JOB_"
_ERROR: Final = "BLOCK_JOB_ERROR"


@dataclass(slots=True)
class _Job:
    """What decides where a job rests; ``group``: the number of its transaction."""

    command: jobs.Backup
    group: int
    status: str = "created"
    speed: int = 0
    progressed: bool = False
    """Whether anything has been copied."""
    stopped: bool = False
    """Paused by the user or by an error; QEMU also pauses jobs for a moment by itself."""
    ending: bool = False
    """Was cancelled or finalized."""
    told: str = ""
    """The status that was told last."""

    @property
    def shown(self) -> str:
        """The status, but for a pause that is QEMU's own."""
        own = self.status == JobStatus.PAUSED and not self.stopped
        return JobStatus.RUNNING if own else self.status

    @property
    def is_slow(self) -> bool:
        """Whether it copies next to nothing; what it copies first, no event tells."""
        return 0 < self.speed <= SLOWEST

    @property
    def goes_on_for_ever(self) -> bool:
        return self.command.sync == Sync.NONE or (self.is_slow and self.progressed)


class JobWatch:
    """The jobs of one QEMU process."""

    def __init__(self) -> None:
        self.any_started = False
        self._jobs: dict[str, _Job] = {}
        self._told: list[JobEvent] = []
        self._groups = 0

    def accepted(self, operation: Operation) -> None:
        """Take note of a command that QEMU has accepted; the events it caused come after."""
        match operation:
            case jobs.Backup():
                self._started([operation], grouped=False)
            case jobs.Transaction(actions, grouped):
                self._started([each for each in actions if isinstance(each, jobs.Backup)],
                              grouped=grouped)
            case jobs.JobCancel(name) | jobs.JobFinalize(name):
                for job in self._mates(name):
                    job.ending = True
            case jobs.JobSetSpeed(name, speed) if name in self._jobs:
                self._jobs[name].speed = speed
            case jobs.JobPause(name) | jobs.JobResume(name) if name in self._jobs:
                self._jobs[name].stopped = isinstance(operation, jobs.JobPause)
                self._tell(self._jobs[name])
            case _:
                pass

    def _started(self, commands: list[jobs.Backup], *, grouped: bool) -> None:
        self._groups += 1
        for command in commands:
            self.any_started = True
            self._groups += not grouped
            self._jobs[command.job] = _Job(command, self._groups, speed=command.speed or 0)

    def _mates(self, name: str) -> list[_Job]:
        """The jobs of the job's transaction, itself too."""
        job = self._jobs.get(name)
        return [each for each in self._jobs.values() if job and each.group == job.group]

    def take(self, event: QmpEvent) -> None:
        """Take note of an event."""
        if event.name == STATUS_CHANGE:
            name, status = str(event.data["id"]), str(event.data["status"])
            if name in self._jobs:
                self._jobs[name].status = status
                self._tell(self._jobs[name])
                if status == JobStatus.NULL:
                    del self._jobs[name]
        elif event.name.startswith(_TOLD):
            self._told.append(_as_told(event))
            device = event.data.get("device")
            if event.name == _ERROR and event.data.get("action") == "stop" \
                    and isinstance(device, str) and device in self._jobs:
                self._jobs[device].stopped = True

    def _tell(self, job: _Job) -> None:
        """Take note of a change of the job's status, if it is one."""
        if job.shown != job.told:
            job.told = job.shown
            self._told.append(JobEvent(
                STATUS_CHANGE, (("id", job.command.job), ("status", job.shown))))

    def moving(self) -> Iterator[str]:
        """The jobs that do not rest, each with its status."""
        for name, job in self._jobs.items():
            if not self._rests(job):
                yield f"{name} ({job.status})"

    @property
    def must_be_asked(self) -> bool:
        """Whether there is a job that rests soon, and no event will tell that it does."""
        return any(job.is_slow and not job.progressed and job.command.sync != Sync.NONE
                   for job in self._jobs.values())

    def look(self, views: Iterable[JobView]) -> bool:
        """Take note of how far jobs are.  True: one counts as done what it may still be discarding
        of its source, which nothing tells of; a transaction, even of nothing, waits for it."""
        begun = [self._jobs[view.job] for view in views if view.job in self._jobs and view.done]
        discards = any(job.command.discard_source and not job.progressed for job in begun)
        for job in begun:
            job.progressed = True
        return discards

    def _rests(self, job: _Job) -> bool:
        if job.status == JobStatus.CONCLUDED:
            return not job.command.auto_dismiss
        if job.ending:
            return False
        mates = [each for each in self._jobs.values() if each.group == job.group]
        if job.status == JobStatus.PENDING:
            return any(not mate.command.auto_finalize for mate in mates)
        if job.status == JobStatus.WAITING:
            return any(_lingers(mate) for mate in mates)
        return _lingers(job)

    def take_events(self) -> tuple[JobEvent, ...]:
        """What jobs have told since the last call, job by job."""
        told, self._told = self._told, []
        return by_job(told)


def _lingers(job: _Job) -> bool:
    """Whether a job that is not done rests."""
    if job.status == JobStatus.PAUSED:
        return job.stopped
    return job.status == JobStatus.RUNNING and job.goes_on_for_ever and not job.stopped


def is_about_jobs(event: QmpEvent) -> bool:
    """Whether :meth:`JobWatch.take` has any use for the event."""
    return event.name == STATUS_CHANGE or event.name.startswith(_TOLD)


def _as_told(event: QmpEvent) -> JobEvent:
    data = {key: value for key, value in event.data.items() if key != "type"}
    return JobEvent(event.name, tuple(sorted(
        (key, value if isinstance(value, int) else str(value)) for key, value in data.items())))


def job_views(jobs: Iterable[Mapping[str, Any]],
              block_jobs: Iterable[Mapping[str, Any]]) -> tuple[JobView, ...]:
    """Jobs as ``query-jobs`` and ``query-block-jobs`` show them."""
    more = {job["device"]: job for job in block_jobs}
    return tuple(_view(job, more.get(job["id"], {})) for job in jobs)


def _view(job: Mapping[str, Any], more: Mapping[str, Any]) -> JobView:
    return JobView(
        job["id"], job["status"], job["current-progress"], job["total-progress"],
        job.get("error"), more.get("speed", -1), more.get("io-status", "none"),
        more.get("paused", False), more.get("auto-finalize", True),
        more.get("auto-dismiss", True))
