# SPDX-License-Identifier: GPL-2.0-or-later
"""In every cell of sync mode, bitmap mode and end, jobs that forget a rule or lie are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.exploration.building import Plan
from harness.exploration.directed.jobs import Cell, End, cells, checks
from harness.lockstep.differences import EventsDiffer, JobsDiffer
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Diverges, Verdict
from harness.systems.lies import Lie, Oracle
from harness.systems.lies.forgetful_jobs import FORGOTTEN_BY_JOBS, ForgetfulMachine
from harness.systems.lies.forgotten import Forgotten
from harness.systems.lies.jobs import JOBS
from harness.systems.simulated import Simulated
from model.configuration import Configuration
from model.errors import QmpError
from model.job_operations import BitmapMode, JobComplete, JobOperation, Sync
from model.machine import Machine
from model.operations import Operation
from model.outcome import Outcome

CELLS = list(cells())
TRACES = {check.name: check.make for check in checks()}
FAILURES = {End.READ_ERROR, End.WRITE_ERROR}
CANCELLED = {End.CANCELLED_STOPPED, End.CANCELLED_PENDING, End.CANCELLED_RUNNING}
WAITING = {End.FINALIZED, End.RESUMED, End.CANCELLED_STOPPED, End.CANCELLED_PENDING}
"""The guest writes while there is a job."""


def _fails(cell: Cell) -> bool:
    return cell.end in FAILURES | CANCELLED


def _has_bitmap(cell: Cell) -> bool:
    return cell.mode is not None or cell.sync is Sync.INCREMENTAL


def _updates(cell: Cell) -> bool:
    """Whether the bitmap is brought up to date."""
    return _has_bitmap(cell) and (cell.mode is BitmapMode.ALWAYS or (
        cell.mode is not BitmapMode.NEVER and not _fails(cell)))


MATTERS: dict[str, Callable[[Cell], bool]] = {
    "copies-all": lambda cell: cell.sync not in (Sync.FULL, Sync.NONE),
    "one-too-few": lambda cell: True,
    "not-written": lambda cell: True,
    "copy-range-loses": lambda cell: cell.end is End.FINALIZED,
    "guest-first": lambda cell: cell.end in WAITING | {End.CANCELLED_RUNNING},
    "fails-silently": lambda cell: cell.end in FAILURES,
    "completes-when-cancelled": lambda cell: cell.end is End.CANCELLED_PENDING,
    "fails-when-cancelled": lambda cell: cell.end in CANCELLED,
    "cancels-when-paused": lambda cell: cell.end in (
        End.CANCELLED_STOPPED, End.CANCELLED_RUNNING),
    "finalizes-itself": lambda cell: cell.end in (End.FINALIZED, End.CANCELLED_PENDING),
    "dismisses-itself": lambda cell: True,
    "filter-stays": lambda cell: True,
    "reports": lambda cell: cell.end in (End.RESUMED, End.IGNORED, End.CANCELLED_STOPPED),
    "tries-again": lambda cell: cell.end in FAILURES | {End.RESUMED, End.CANCELLED_STOPPED},
    "no-last-copies": lambda cell: cell.end is End.CANCELLED_STOPPED,
    "not-merged-back": lambda cell: (
        _has_bitmap(cell) and not _updates(cell) and cell.end in WAITING),
    "successor-cleared": lambda cell: _updates(cell) and cell.end in WAITING,
    "installs-always": lambda cell: _has_bitmap(cell) and not _updates(cell),
    "installs-never": _updates,
    "uncopied-forgotten": lambda cell: cell.mode is BitmapMode.ALWAYS and (
        # Of what the bitmap has, all is copied before a stopped job sees that it is cancelled.
        cell.end in FAILURES or (cell.end is End.CANCELLED_STOPPED and cell.sync != Sync.BITMAP)),
    "too-much": _has_bitmap,
    "stays-busy": _has_bitmap,
}
"""In which cells a rule makes a difference."""


def _trace(cell: Cell) -> Trace:
    return TRACES[cell.name](Plan())


def test_it_is_known_where_each_rule_matters() -> None:
    assert set(MATTERS) == {each.name for each in FORGOTTEN_BY_JOBS}
    assert all(any(map(matters, CELLS)) for matters in MATTERS.values())


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_what_a_job_forgets_is_caught(cell: Cell) -> None:
    trace = _trace(cell)
    due = [each for each in FORGOTTEN_BY_JOBS if MATTERS[each.name](cell)]
    assert len(due) >= 4
    assert [each.name for each in due if not _catches(trace, each)] == []


def _catches(trace: Trace, rule: Forgotten) -> bool:
    stand = Stand(lambda images: Simulated(ForgetfulMachine(images, rule)), Machine)
    return isinstance(replay(trace, stand), Diverges)


class _NotFound(Machine):
    """A machine that knows no class of errors."""

    def apply(self, number: int, operation: Operation) -> Outcome:
        outcome = super().apply(number, operation)
        if outcome.refused is None:
            return outcome
        return replace(outcome, refused=QmpError(outcome.refused.desc))


class _ForMirrors(Machine):
    """A machine that asks no job whether it is ready."""

    def apply(self, number: int, operation: Operation) -> Outcome:
        if isinstance(operation, JobComplete) and operation.job in self.graph.jobs:
            return Outcome()
        return super().apply(number, operation)


@pytest.mark.parametrize("machine", [_NotFound, _ForMirrors])
def test_a_verb_that_is_answered_otherwise_is_caught(machine: type[Machine]) -> None:
    verdict = _asked(machine)
    assert isinstance(verdict, Diverges)
    assert isinstance(verdict.step.operation, JobOperation)


def _asked(machine: Callable[[Configuration], Machine]) -> Verdict:
    trace = TRACES["what may be asked of a job in which state"](Plan())
    return replay(trace, Stand(lambda images: Simulated(machine(images)), Machine))


@pytest.mark.parametrize("number", range(len(CELLS)), ids=lambda number: CELLS[number].name)
def test_what_a_job_misreports_is_caught(number: int) -> None:
    for oracle, kind in ((Oracle.JOBS, JobsDiffer), (Oracle.EVENTS, EventsDiffer)):
        lies = [lie for lie in JOBS if lie.oracle is oracle]
        lie = lies[number % len(lies)]
        told, verdict = _lied(CELLS[number], lie)
        assert told
        assert isinstance(verdict, Diverges)
        assert isinstance(verdict.differences[0], kind)


def _lied(cell: Cell, lie: Lie) -> tuple[bool, Verdict]:
    systems: list[Simulated] = []

    def start(images: Configuration) -> Simulated:
        systems.append(Simulated(Machine(images), lie))
        return systems[-1]

    verdict = replay(_trace(cell), Stand(start, Machine))
    return systems[-1].told > 0, verdict
