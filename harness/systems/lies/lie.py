# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lie is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.systems.base import Answer
from harness.systems.failure import SystemFailed
from model.operations import Operation
from model.outcome import Observation, Outcome


class Oracle(StrEnum):
    """Who has to catch the lie."""

    DATA = "data"
    ERRNO = "errno"
    EXTENTS = "extents"
    QMP = "qmp"
    BITMAPS = "bitmaps"
    DIGESTS = "digests"
    INSPECTION = "inspection"
    """The whole content of a node, and which parts of it can be read."""
    COMPRESSION = "compression"
    """How many clusters of a file hold compressed data."""
    DEVICE = "device"
    JOBS = "jobs"
    EVENTS = "events"
    LIFE = "life"


@dataclass(frozen=True, slots=True)
class Chance:
    """What there is to lie about: the operation, its true outcome and the truthful answer."""

    operation: Operation
    outcome: Outcome
    answer: Answer


@dataclass(frozen=True, slots=True)
class Lie:
    """One way to lie; exactly one of the last four is given.  None from it: no chance here."""

    name: str
    text: str
    """What the defect would be."""
    oracle: Oracle
    answer: Callable[[Chance], Answer | None] | None = None
    """The answer, forged."""
    observation: Callable[[Observation], Observation | None] | None = None
    """The observation, forged."""
    deed: Callable[[Operation], tuple[Operation, ...] | None] | None = None
    """What is done in the operation's place, while the answer says that all went well."""
    failure: Callable[[Operation], SystemFailed] | None = None
    """How the system ends."""
