# SPDX-License-Identifier: GPL-2.0-or-later
"""Making a failing trace minimal: fewer operations, fewer images, simpler ones.

A candidate is done on a fresh system; it is taken if it fails in the same way
(:attr:`~harness.lockstep.verdict.Diverges.signature`).  Operations keep their numbers, hence
their data.  Steps that a candidate makes impossible (a request to a node that is now never
exported) go with what made them so; the model alone decides that.  Same trace, same system:
same order of candidates, same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from harness.errors import HarnessError
from harness.systems.base import sent_as
from model.machine import Impossible

from . import human
from .concurrent import mended
from .replay import Reproduction, Stand, replay, reproduce
from .simplify import (
    closed_gaps,
    last_requests,
    requests_touching,
    simpler_images,
    simpler_operations,
    with_steps,
    without_nodes,
)
from .trace import Step, Trace
from .verdict import Conforms, Failure, Verdict

LONG = 16
"""Traces of more steps get the bold proposals first; only shorter ones are tried without pairs."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop even if the trace could be made simpler still."""

    seconds: float = 120.0
    executions: int = 2000


@dataclass(slots=True)
class Statistics:
    """What shrinking cost and brought."""

    executions: int = 0
    taken: int = 0
    steps_before: int = 0
    steps_after: int = 0
    seconds: float = 0.0
    finished: bool = False
    """Nothing simpler that is known here fails; False: the budget ran out, or it is flaky."""

    @property
    def summary(self) -> str:
        """What it brought, in one line."""
        end = "" if self.finished else ", stopped early"
        return (f"{human.counted(self.steps_before, 'operation')} made {self.steps_after} in "
                f"{human.counted(self.executions, 'execution')}, {self.seconds:.1f} s{end}")


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The result: the trace, how it ends, and whether it ended the same way each time at first.

    Of a trace that does not fail, or not deterministically, nothing is dropped.
    """

    trace: Trace
    verdict: Verdict
    reproduction: Reproduction
    statistics: Statistics


Progress = Callable[[Trace, Statistics], None]
"""Called with each simpler trace that was taken up."""


def shrink(
    trace: Trace, stand: Stand, *, budget: Budget | None = None, attempts: int = 3,
    progress: Progress | None = None,
) -> Shrunk:
    """Make the trace minimal.

    It is first done ``attempts`` times as it is: what does not fail the same way each time
    cannot be made smaller by trying.  The budget's seconds are counted from there on.
    """
    started = time.monotonic()
    statistics = Statistics(executions=attempts, steps_before=len(trace.steps),
                            steps_after=len(trace.steps))
    reproduction = reproduce(trace, stand, attempts)
    failure = reproduction.failure
    verdict: Verdict = failure if failure is not None else reproduction.verdicts[0]
    if failure is not None and reproduction.deterministic:
        search = _Search(trace, failure, stand, budget or Budget(), statistics, progress)
        try:
            search.all_passes()
            statistics.finished = True
        except _BudgetSpent:
            pass
        trace, verdict = search.best, search.failure
    statistics.seconds = time.monotonic() - started
    return Shrunk(trace, verdict, reproduction, statistics)


class _BudgetSpent(Exception):
    """Stop with what there is."""


class _Search:
    """The best trace so far, and how to find a better one."""

    def __init__(
        self, trace: Trace, failure: Failure, stand: Stand, budget: Budget,
        statistics: Statistics, progress: Progress | None,
    ) -> None:
        self.failure = failure
        # From here on each request names the channel that it really takes.
        self.best = with_steps(trace, [
            Step(step.number, sent_as(step.operation, failure.channels))
            for step in trace.steps[:failure.index + 1]])
        self._stand = stand
        self._budget = budget
        self._statistics = statistics
        self._started = time.monotonic()
        self._progress = progress
        self._tried = {(trace.configuration, self.best.steps)}
        statistics.steps_after = len(self.best.steps)

    def all_passes(self) -> None:
        """Try everything until nothing helps any more."""
        if len(self.best.steps) > LONG:
            self._bold()
        while True:
            before = self.best
            while self._first_of(without_nodes(self.best)):
                pass
            self._drop_steps()
            self._drop_pairs()
            self._simplify_steps()
            while self._first_of(closed_gaps(self.best)):
                pass
            while self._first_of(simpler_images(self.best)):
                pass
            if self.best == before:
                return

    # Passes

    def _bold(self) -> None:
        """Drop most requests of a long trace at once."""
        self._try(requests_touching(self.best, self.failure.places))
        self._first_of(last_requests(self.best))

    def _drop_steps(self) -> None:
        """Delta debugging: drop runs of steps, long ones first, from the end to the start."""
        length = max(1, len(self.best.steps) // 2)
        while True:
            end = len(self.best.steps)
            while end > 0:
                start = max(0, end - length)
                steps = self.best.steps
                self._try(with_steps(self.best, steps[:start] + steps[end:]))
                end = min(start, len(self.best.steps))
            if length == 1:
                return
            length //= 2

    def _drop_pairs(self) -> None:
        """Drop two steps at once, such as one that adds a thing and one that removes it."""
        if len(self.best.steps) > LONG:
            return
        while self._first_of([
            with_steps(self.best, [step for index, step in enumerate(self.best.steps)
                                   if index not in (left, right)])
            for right in range(len(self.best.steps)) for left in range(right)
        ]):
            pass

    def _simplify_steps(self) -> None:
        index = len(self.best.steps) - 1
        while index >= 0:
            steps = self.best.steps
            if index >= len(steps) or not self._first_of(
                    self._mended(with_steps(self.best, (
                        *steps[:index], Step(steps[index].number, simpler), *steps[index + 1:])))
                    for simpler in simpler_operations(steps[index].operation)):
                index -= 1

    def _mended(self, candidate: Trace) -> Trace:
        """The candidate; in a schedule, storage requests are completed as they are now made."""
        return mended(candidate, self._stand.model(candidate.configuration))

    # Candidates

    def _first_of(self, candidates: Iterable[Trace]) -> bool:
        """Take up the first candidate that still fails; False: there is none."""
        return any(self._try(candidate) for candidate in candidates)

    def _try(self, candidate: Trace) -> bool:
        """Take the candidate up if it fails the same way."""
        candidate = self._possible(candidate)
        key = (candidate.configuration, candidate.steps)
        if not candidate.steps or key in self._tried:
            return False
        self._tried.add(key)
        spent = time.monotonic() - self._started
        if spent > self._budget.seconds or self._statistics.executions >= self._budget.executions:
            raise _BudgetSpent
        self._statistics.executions += 1
        try:
            verdict = replay(candidate, self._stand)
        except HarnessError:
            # Images that cannot be made or attached: not a candidate after all.
            return False
        if isinstance(verdict, Conforms) or verdict.signature != self.failure.signature:
            return False
        self.failure = verdict
        self.best = with_steps(candidate, candidate.steps[:verdict.index + 1])
        self._tried.add((candidate.configuration, self.best.steps))
        self._statistics.taken += 1
        self._statistics.steps_after = len(self.best.steps)
        if self._progress is not None:
            self._progress(self.best, replace(self._statistics, seconds=spent))
        return True

    def _possible(self, candidate: Trace) -> Trace:
        """The candidate without the steps that cannot be done any more."""
        model = self._stand.model(candidate.configuration)
        steps: list[Step] = []
        for step in candidate.steps:
            try:
                model.apply(step.number, step.operation)
            except Impossible:
                continue
            model.observe()
            steps.append(step)
        return with_steps(candidate, steps)
