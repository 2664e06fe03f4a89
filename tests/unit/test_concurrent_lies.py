# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that forget a rule of concurrency, or misreport what overlaps, are caught."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.exploration import schedules
from harness.exploration.areas import AREAS, Area
from harness.exploration.building import Check, Plan
from harness.exploration.choices import Choices
from harness.exploration.directed import killing, steering
from harness.exploration.directed import schedules as directed_schedules
from harness.lockstep.concurrent import AnsweredEarly
from harness.lockstep.replay import Stand, replay
from harness.lockstep.shrink import Budget, shrink
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms, Diverges
from harness.systems.held_simulated import SimulatedHeld
from harness.systems.lies import FORGOTTEN, FORGOTTEN_WHEN_STEERED
from harness.systems.lies.forgotten import Forgotten
from harness.systems.lies.held import MISDEEDS, MISREPORTS, Misdeed, Misreport
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import Configuration

CHECKS = list(directed_schedules.checks())
SCHEDULES = 400
"""So many at most until a lie is caught."""
LENGTHS = {
    "no-wait": 8, "wait-for-one-cluster": 8, "wait-for-one-read": 10, "wake-one": 10,
    "copy-waits": 6, "freeze-first-cluster": 8, "freeze-always": 10, "no-freeze": 8,
    "frozen-for-ever": 9, "no-wait-for-copies": 7, "unclaimed": 3, "own-tasks-alone": 5,
    "one-task-at-a-time": 6, "too-many-tasks": 3, "small-tasks": 3, "no-second-try": 5,
    "done-early": 3, "done-anyway": 4, "copied-once-only": 4, "back-in-part": 5, "unbroken": 4,
    "copies-when-broken": 6, "reads-when-broken": 11, "mended": 10, "endless": 4,
    "late-is-well": 4, "not-cancelled": 6, "late-failure-is-lost": 5, "copy-bit-kept": 4,
    "readers-ignored": 6, "status-freezes-nothing": 9, "status-freezes-always": 11,
    "guest-status-freezes": 7, "zeroes-are-data": 4, "zeroes-to-the-end": 4,
    "unknown-is-data": 4, "unknown-fails": 4, "rest-is-lost": 4, "cut-is-not-noticed": 7,
    "told-early": 10, "asked-again": 6, "never-forgotten": 10,
}
"""Operations that are enough to show a lie, those that put up the graph included."""
STEERED = {
    "paused-at-once": 2, "not-paused": 4, "copies-all-before": 10, "tells-of-failures": 4,
    "resumed-too-early": 3, "drops-requests": 4, "settles-late": 17, "no-last-copies": 3,
}
"""The same for those of jobs."""


class _Random(Choices):
    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


def _drawn(area: Area) -> Iterator[Trace]:
    assert area.manner is not None
    for seed in range(SCHEDULES):
        choices = _Random(f"{area.name}/{seed}")
        scheme = choices.weighted(area.schemes)
        images = schedules.configuration(choices, area.manner, scheme)
        yield schedules.schedule(choices, Plan(), area, scheme, images)


def _stand(make: Callable[[ConcurrentMachine], SimulatedHeld]) -> Stand:
    return Stand(lambda configuration: make(ConcurrentMachine(configuration)), machine_for)


def _caught(stand: Stand, areas: tuple[str, ...] = ("concurrency", "failures")) -> Trace:
    drawn = [_drawn(AREAS[name]) for name in areas]
    for _ in range(SCHEDULES):
        for each in drawn:
            trace = next(each)
            if not isinstance(replay(trace, stand), Conforms):
                return trace
    pytest.fail("not caught")


def _caught_on_purpose(stand: Stand) -> Trace:
    """The first directed check that does it, shrunk."""
    trace = next(trace for trace in (check.make(Plan()) for check in CHECKS)
                 if not isinstance(replay(trace, stand), Conforms))
    shrunk = shrink(trace, stand, budget=Budget(seconds=60, executions=1500), attempts=1)
    assert isinstance(shrunk.verdict, Diverges)
    return shrunk.trace


@pytest.mark.parametrize("area", ["concurrency", "failures", "timeouts"])
def test_the_truth_conforms(area: str) -> None:
    stand = _stand(SimulatedHeld)
    for trace, _ in zip(_drawn(AREAS[area]), range(60), strict=False):
        verdict = replay(trace, stand)
        assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize("check", CHECKS, ids=lambda each: each.name)
def test_the_truth_conforms_to_what_is_directed(check: Check) -> None:
    verdict = replay(check.make(Plan()), _stand(SimulatedHeld))
    assert isinstance(verdict, Conforms), verdict.summary
    assert verdict.steps > 4


@pytest.mark.parametrize("forgotten", FORGOTTEN, ids=lambda each: each.name)
def test_a_forgotten_rule_is_caught_on_purpose_and_the_schedule_is_shrunk(
        forgotten: Forgotten) -> None:
    stand = _stand(lambda machine: SimulatedHeld(machine, forgotten=forgotten))
    assert len(_caught_on_purpose(stand).steps) <= LENGTHS[forgotten.name]


@pytest.mark.parametrize("forgotten", FORGOTTEN_WHEN_STEERED, ids=lambda each: each.name)
def test_what_a_steered_job_forgets_is_caught_on_purpose_and_the_schedule_is_shrunk(
        forgotten: Forgotten) -> None:
    stand = _stand(lambda machine: SimulatedHeld(machine, forgotten_by_jobs=forgotten))
    assert len(_caught_on_purpose(stand).steps) <= STEERED[forgotten.name]


@pytest.mark.parametrize(
    # What matters only when something fails at the right moment takes hundreds of schedules.
    "forgotten", [each for each in FORGOTTEN_WHEN_STEERED
                  if each.name not in ("settles-late", "tells-of-failures", "no-last-copies",
                                                        "copies-all-before")],
    ids=lambda each: each.name)
def test_what_a_steered_job_forgets_is_caught_by_chance(forgotten: Forgotten) -> None:
    stand = _stand(lambda machine: SimulatedHeld(machine, forgotten_by_jobs=forgotten))
    _caught(stand)


@pytest.mark.parametrize(
    # It takes more than 64 MiB to have too many tasks, or somebody who waits just for what is cut
    # off a task: one schedule in hundreds has that.
    "forgotten", [each for each in FORGOTTEN
                  if each.name not in ("too-many-tasks", "cut-is-not-noticed")],
    ids=lambda each: each.name)
def test_a_forgotten_rule_is_caught_by_chance(forgotten: Forgotten) -> None:
    stand = _stand(lambda machine: SimulatedHeld(machine, forgotten=forgotten))
    _caught(stand, ("concurrency", "failures", "timeouts"))


def test_the_lengths_are_told() -> None:
    told = Path("docs/concurrency.md").read_text(encoding="utf-8")
    lengths = LENGTHS | STEERED
    rows = {f"| {each.text} | {lengths[each.name]} |"
            for each in (*FORGOTTEN, *FORGOTTEN_WHEN_STEERED)}
    assert [row for row in sorted(rows) if row not in told] == []


@pytest.mark.parametrize("misreport", MISREPORTS, ids=lambda each: each.name)
def test_a_misreport_is_caught_at_once(misreport: Misreport) -> None:
    told: list[SimulatedHeld] = []

    def make(machine: ConcurrentMachine) -> SimulatedHeld:
        told.append(SimulatedHeld(machine, misreport=misreport))
        return told[-1]

    if misreport.name == "not-on-the-way":  # few schedules drawn have such a request
        assert _differences(steering.asking_again(Plan()), _stand(make)) == {"pending"}
    else:
        _caught(_stand(make))
    assert told[-1].told == 1


def _differences(trace: Trace, stand: Stand) -> set[str]:
    verdict = replay(trace, stand)
    assert isinstance(verdict, Diverges), verdict.summary
    return {each.kind for each in verdict.differences}


@pytest.mark.parametrize("misdeed", MISDEEDS[:2], ids=lambda each: each.name)
def test_what_a_kill_leaves_of_storage_is_caught_by_chance(misdeed: Misdeed) -> None:
    _caught(_stand(lambda machine: SimulatedHeld(machine, misdeed=misdeed)))


@pytest.mark.parametrize(("misdeed", "check"), list(zip(MISDEEDS, (
    killing.fleecing, killing.backing_up, killing.bitmaps), strict=True)))
def test_what_a_kill_leaves_is_caught_on_purpose(
        misdeed: Misdeed, check: Callable[[Plan], Trace]) -> None:
    stand = _stand(lambda machine: SimulatedHeld(machine, misdeed=misdeed))
    caught = {"stored"} if check is not killing.bitmaps else {"bitmaps", "bitmap-content"}
    assert caught <= _differences(check(Plan()), stand)


def test_an_early_answer_is_caught() -> None:
    stand = _stand(lambda machine: SimulatedHeld(machine, eager=True))
    verdict = replay(_caught(stand), stand)
    assert isinstance(verdict, Diverges)
    assert any(isinstance(each, AnsweredEarly) for each in verdict.differences)


def test_a_schedule_is_the_same_each_time() -> None:
    first = [trace for trace, _ in zip(_drawn(AREAS["failures"]), range(5), strict=False)]
    again = [trace for trace, _ in zip(_drawn(AREAS["failures"]), range(5), strict=False)]
    assert first == again


def test_the_machine_is_chosen_by_the_storage() -> None:
    assert not isinstance(machine_for(Configuration()), ConcurrentMachine)
