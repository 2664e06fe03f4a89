# SPDX-License-Identifier: GPL-2.0-or-later
"""How a run in lockstep ends: it conforms, it diverges, or the system failed to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from harness.ranges import Ranges, merged
from harness.systems.base import ALL_CHANNELS
from harness.systems.failure import SystemCrashed, SystemFailed
from model.operations import Via
from model.outcome import Observation
from model.schedule import place_of

from . import human
from .differences import Difference, Signature
from .trace import Step


@dataclass(frozen=True, slots=True)
class Conforms:
    """No difference in so many steps."""

    steps: int

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        return f"conforms in {human.counted(self.steps, 'step')}"


@dataclass(frozen=True, slots=True)
class Diverges:
    """The first difference between model and system; there the run ended.

    ``index`` counts the steps from 0; ``step`` has the operation as it was sent.
    """

    index: int
    step: Step
    differences: tuple[Difference, ...]
    observed: Observation | None = field(default=None, repr=False)
    """The system's bitmaps after the step."""
    channels: frozenset[Via] = field(default=ALL_CHANNELS, repr=False)
    """Those of the system; see ``harness.systems.base.sent_as``."""

    @property
    def places(self) -> Ranges:
        """The ranges of the disk that are wrong; if none is, those the operation is about."""
        wrong = merged(place for each in self.differences for place in each.places)
        return wrong or _range_of(self.step)

    @property
    def signature(self) -> Signature:
        """What another run has in common with this one if it shows the same defect, probably."""
        return ("diverges", *self.differences[0].signature)

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        what = " ".join(" ".join(self.differences[0].words()).split())
        where = f"operation {self.step.number} ({human.operation(self.step.operation)})"
        return f"diverges at {where}: {what}"


@dataclass(frozen=True, slots=True)
class Failed:
    """The system crashed, hung, hung up or answered garbage; there the run ended.

    ``observing``: not in the operation itself but when it was looked at after it; ``ending``: when
    it was told to end after it.
    """

    index: int
    step: Step
    failure: SystemFailed
    observing: bool = False
    channels: frozenset[Via] = field(default=ALL_CHANNELS, repr=False)
    """Those of the system; see ``harness.systems.base.sent_as``."""
    ending: bool = False

    @property
    def places(self) -> Ranges:
        """The range of the disk that the operation is about."""
        return _range_of(self.step)

    @property
    def signature(self) -> Signature:
        """What another run has in common with this one if it shows the same defect, probably."""
        kind = type(self.failure).__name__
        if isinstance(self.failure, SystemCrashed):
            cause = self.failure.assertion or self.failure.signal or str(self.failure.status)
            return ("fails", kind, cause)
        return ("fails", kind)

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        when = "after" if self.observing else "at the end, after" if self.ending else "at"
        return (f"{self.failure.verdict} {when} operation {self.step.number} "
                f"({human.operation(self.step.operation)}): {self.failure}")


def _range_of(step: Step) -> Ranges:
    about = place_of(step.operation)
    return () if about is None else merged([(about.offset, about.offset + about.length)])


Failure: TypeAlias = Diverges | Failed
Verdict: TypeAlias = Conforms | Diverges | Failed
