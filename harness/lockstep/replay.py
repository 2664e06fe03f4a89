# SPDX-License-Identifier: GPL-2.0-or-later
"""Doing a trace again, on a fresh system and a fresh model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.systems.base import ALL_CHANNELS, System, sent_as
from model.configuration import Configuration
from model.machine import Impossible, Machine
from model.operations import Via

from . import human
from .run import Model, Recorder, Watch, run
from .trace import Trace, TraceError
from .verdict import Conforms, Failure, Verdict


@dataclass(frozen=True, slots=True)
class Stand:
    """Where traces are done: how to start a system with these images, and its model.

    ``start`` raises HarnessError if it cannot.
    """

    start: Callable[[Configuration], System]
    model: Callable[[Configuration], Machine]


def replay(
    trace: Trace, stand: Stand, *, recorder: Recorder | None = None, watch: Watch | None = None,
) -> Verdict:
    """Do the trace on a system of its own, stopped at the end.

    Raises :class:`model.machine.Impossible` for an operation that no run may contain.
    """
    model = stand.model(trace.configuration)
    system = stand.start(trace.configuration)
    try:
        return run(trace.steps, system, model, recorder=recorder, watch=watch, ends=True)
    finally:
        system.close()


def check_possible(
    trace: Trace, model: Model, path: Path | str = "trace",
    channels: Collection[Via] = ALL_CHANNELS,
) -> None:
    """Do the trace on a fresh model alone; raises TraceError if an operation is impossible."""
    for step in trace.steps:
        try:
            model.apply(step.number, sent_as(step.operation, channels))
        except Impossible as why:
            raise TraceError(path, None, f"operation {step.number} "
                             f"({human.operation(step.operation)}): {why}") from why
        model.observe()


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A trace done several times."""

    verdicts: tuple[Verdict, ...]

    @property
    def failure(self) -> Failure | None:
        """The failure seen most often, the earliest of equals; None: it conformed every time."""
        failures = [each for each in self.verdicts if not isinstance(each, Conforms)]
        if not failures:
            return None
        often = Counter(each.signature for each in failures).most_common(1)[0][0]
        return next(each for each in failures if each.signature == often)

    @property
    def same(self) -> int:
        """How many of the verdicts are that failure, or, if there is none, conform."""
        failure = self.failure
        return sum(
            isinstance(each, Conforms) if failure is None else (
                not isinstance(each, Conforms) and each.signature == failure.signature)
            for each in self.verdicts)

    @property
    def deterministic(self) -> bool:
        """Whether it ended the same way each time."""
        return self.same == len(self.verdicts)

    @property
    def summary(self) -> str:
        """How deterministic it is, in one line."""
        times = f"{self.same} of {len(self.verdicts)} times"
        if self.failure is None:
            return f"conforms {times}"
        how = "deterministic" if self.deterministic else "not deterministic"
        return f"{how}: {times} {self.failure.summary}"


def reproduce(trace: Trace, stand: Stand, times: int = 3) -> Reproduction:
    """Do the trace ``times`` times, to see whether it ends the same way each time."""
    return Reproduction(tuple(replay(trace, stand) for _ in range(times)))
