# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a job: its states, and what may be asked of it in which.

created → running ⇄ paused; running → waiting → pending → concluded → null; from any of them but
the last two, a failure or a cancellation leads through aborting to concluded.  Jobs of a
transaction whose completion mode is ``grouped`` wait for each other, and fail together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .errors import CommandRefused


class JobStatus(StrEnum):
    """Where a job is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    """All is done; another job of the group is not that far."""
    PENDING = "pending"
    """All is done and nothing committed: waits for job-finalize."""
    ABORTING = "aborting"
    """Has failed or been cancelled; on its way to its end."""
    CONCLUDED = "concluded"
    """Over: waits for job-dismiss."""
    NULL = "null"
    """Gone."""


class Verb(StrEnum):
    """What may be asked of a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    FINALIZE = "finalize"
    DISMISS = "dismiss"
    SET_SPEED = "set-speed"
    COMPLETE = "complete"
    CHANGE = "change"


ALLOWED: Final[dict[Verb, frozenset[JobStatus]]] = {
    Verb.CANCEL: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.WAITING,
                            JobStatus.PENDING}),
    Verb.PAUSE: frozenset({JobStatus.RUNNING, JobStatus.PAUSED}),
    Verb.RESUME: frozenset({JobStatus.RUNNING, JobStatus.PAUSED}),
    Verb.FINALIZE: frozenset({JobStatus.PENDING}),
    Verb.DISMISS: frozenset({JobStatus.CONCLUDED}),
    Verb.SET_SPEED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED}),
    Verb.COMPLETE: frozenset(),  # ready, as no backup job ever is
    Verb.CHANGE: frozenset({JobStatus.RUNNING, JobStatus.PAUSED}),
}
"""Source: qapi/job.json (JobVerb, JobStatus)."""


def check_verb(job: str, status: JobStatus, verb: Verb) -> None:
    """Refuse a verb that the job cannot take in its state."""
    if status not in ALLOWED[verb]:
        raise CommandRefused(
            f"Job '{job}' in state '{status}' cannot accept command verb '{verb}'")


@dataclass(slots=True)
class Progress:
    """How far a job is, in bytes.  ``total`` is an estimate: done and what is still to do."""

    done: int = 0
    total: int = 0

    def set_remaining(self, remaining: int) -> None:
        """What is still to do has changed."""
        self.total = self.done + remaining
