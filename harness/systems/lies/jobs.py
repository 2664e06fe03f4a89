# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies about backup jobs: how they stand and what they tell is misreported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from harness.systems.lies.lie import Lie, Oracle
from model.jobs import JobStatus
from model.outcome import STATUS_CHANGE, JobEvent, JobView, Observation

_Forge: TypeAlias = Callable[[Observation], Observation | None]

# What query-jobs shows.


def _newest(change: Callable[[JobView], JobView]) -> _Forge:
    """Change the job that is listed first."""
    def forge(seen: Observation) -> Observation | None:
        if not seen.jobs:
            return None
        return replace(seen, jobs=(change(seen.jobs[0]), *seen.jobs[1:]))
    return forge


def _elsewhere(job: JobView) -> JobView:
    wrong = JobStatus.PAUSED if job.status != JobStatus.PAUSED else JobStatus.RUNNING
    return replace(job, status=wrong.value)


def _missing_job(seen: Observation) -> Observation | None:
    return replace(seen, jobs=seen.jobs[:-1]) if seen.jobs else None


def _extra_job(seen: Observation) -> Observation | None:
    return replace(seen, jobs=(*seen.jobs, seen.jobs[-1])) if seen.jobs else None


_ABOUT_JOBS: Final = (
    Lie("wrong-status", "a job is in another state", Oracle.JOBS,
        observation=_newest(_elsewhere)),
    Lie("wrong-offset", "a job has done less than it has", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, done=job.done - 1))),
    Lie("wrong-len", "a job has more to do than it has", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, total=job.total + 65536))),
    Lie("wrong-job-error", "a job has failed, or failed for another reason", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, error=f"{job.error or 'I/O error'}."))),
    Lie("wrong-speed", "a job has another speed", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, speed=job.speed + 1))),
    Lie("wrong-io-status", "a job's I/O status is wrong", Oracle.JOBS,
        observation=_newest(lambda job: replace(
            job, io_status="failed" if job.io_status == "ok" else "ok"))),
    Lie("wrong-paused", "a job is paused, or is not", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, paused=not job.paused))),
    Lie("wrong-auto-finalize", "a job's auto-finalize is wrong", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, auto_finalize=not job.auto_finalize))),
    Lie("wrong-auto-dismiss", "a job's auto-dismiss is wrong", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, auto_dismiss=not job.auto_dismiss))),
    Lie("wrong-job", "a job has another name", Oracle.JOBS,
        observation=_newest(lambda job: replace(job, job=f"{job.job}'"))),
    Lie("missing-job", "a job is not listed", Oracle.JOBS, observation=_missing_job),
    Lie("extra-job", "a job is listed twice", Oracle.JOBS, observation=_extra_job),
)

# Events.


def _last(change: Callable[[JobEvent], JobEvent | None]) -> _Forge:
    """Change the last event that can be changed so."""
    def forge(seen: Observation) -> Observation | None:
        for index, event in reversed(list(enumerate(seen.events))):
            changed = change(event)
            if changed is not None:
                return replace(seen, events=(
                    *seen.events[:index], changed, *seen.events[index + 1:]))
        return None
    return forge


def _more(key: str) -> Callable[[JobEvent], JobEvent | None]:
    """The event with a number in it that is larger."""
    def change(event: JobEvent) -> JobEvent | None:
        data = dict(event.data)
        value = data.get(key)
        return _with(event, {**data, key: value + 1}) if isinstance(value, int) else None
    return change


def _with(event: JobEvent, data: dict[str, str | int]) -> JobEvent:
    return replace(event, data=tuple(sorted(data.items())))


_ENDS: Final = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")


def _otherwise_ended(event: JobEvent) -> JobEvent | None:
    if event.name not in _ENDS:
        return None
    return replace(event, name=_ENDS[1 - _ENDS.index(event.name)])


def _failed_otherwise(event: JobEvent) -> JobEvent | None:
    data = dict(event.data)
    if event.name == STATUS_CHANGE:
        return None
    return _with(event, {**data, "error": f"{data.get('error', 'I/O error')}."})


def _otherwise_changed(event: JobEvent) -> JobEvent | None:
    if event.name != STATUS_CHANGE:
        return None
    wrong = JobStatus.ABORTING if ("status", JobStatus.ABORTING) not in event.data else (
        JobStatus.PENDING)
    return _with(event, {**dict(event.data), "status": wrong.value})


def _missing_change(seen: Observation) -> Observation | None:
    for index, event in enumerate(seen.events):
        if event.name == STATUS_CHANGE:
            return replace(seen, events=(*seen.events[:index], *seen.events[index + 1:]))
    return None


def _missing_event(seen: Observation) -> Observation | None:
    return replace(seen, events=seen.events[:-1]) if seen.events else None


def _doubled_event(seen: Observation) -> Observation | None:
    return replace(seen, events=(*seen.events, seen.events[-1])) if seen.events else None


def _reordered(seen: Observation) -> Observation | None:
    turned = seen.events[::-1]
    return replace(seen, events=turned) if turned != seen.events else None


_ABOUT_EVENTS: Final = (
    Lie("missing-event", "the last event of a job is not sent", Oracle.EVENTS,
        observation=_missing_event),
    Lie("doubled-event", "the last event of a job is sent twice", Oracle.EVENTS,
        observation=_doubled_event),
    Lie("reordered-events", "events come in another order", Oracle.EVENTS,
        observation=_reordered),
    Lie("wrong-event", "an event says that a job came to another end", Oracle.EVENTS,
        observation=_last(_otherwise_ended)),
    Lie("wrong-event-error", "an event tells of an error, or of another one", Oracle.EVENTS,
        observation=_last(_failed_otherwise)),
    Lie("missing-change", "a change of a job's status is not told", Oracle.EVENTS,
        observation=_missing_change),
    Lie("wrong-change", "a job is said to have come to another status", Oracle.EVENTS,
        observation=_last(_otherwise_changed)),
    Lie("wrong-event-offset", "an event says that more was done", Oracle.EVENTS,
        observation=_last(_more("offset"))),
    Lie("wrong-event-len", "an event says that there was more to do", Oracle.EVENTS,
        observation=_last(_more("len"))),
)

JOBS: Final = (*_ABOUT_JOBS, *_ABOUT_EVENTS)
"""All of them."""
