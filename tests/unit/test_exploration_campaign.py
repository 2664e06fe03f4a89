# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of exploration: they catch lying systems, and workers change nothing but the speed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from harness.errors import EnvironmentProblem
from harness.exploration.areas import named
from harness.exploration.building import Plan
from harness.exploration.campaign import Budget, explore
from harness.exploration.directed import catalogue as catalogue_of_checks
from harness.exploration.explorer import DRAWN, Explorer, Mission, turns
from harness.exploration.grounds import Ground, SimulatedGround
from harness.exploration.tally import Tally
from harness.exploration.traces import TraceSource
from harness.lockstep.replay import Stand
from harness.lockstep.trace import Step, SystemKind, Trace
from harness.systems.lies import Oracle, catalogue
from model.operations import Read, Via

TRUTHFUL = SimulatedGround(Plan())
PARTS = 12
"""Of all directed checks, which together take longer than a test may on a busy machine."""


def _mission(*grounds: Ground, areas: tuple[str, ...] = ("everything",), seed: int = 1) -> Mission:
    return Mission(grounds, (1,) * len(grounds), areas, seed)


def test_the_truth_conforms() -> None:
    tally = explore(_mission(TRUTHFUL), Budget(seconds=None, steps=400))
    assert not tally.finds
    assert tally.steps >= 400
    assert sum(tally.operations.values()) == tally.steps
    assert tally.rules["cbw.point-in-time"]


@pytest.mark.parametrize("lie", sorted(catalogue()))
def test_every_lie_is_found(lie: str) -> None:
    plan, areas = Plan(), ("everything", "bitmaps", "graph", "faults", "options")
    match catalogue()[lie].oracle:
        case Oracle.JOBS | Oracle.EVENTS:
            areas = ("jobs", "transactions")
        case Oracle.DEVICE:
            plan = Plan(SystemKind.QEMU_SYSTEM, channels=tuple(Via))
    ground = SimulatedGround(plan, lie)
    tally = explore(_mission(ground, areas=areas), Budget(seconds=60, steps=6000, finds=1))
    assert tally.finds, f"{lie} was not found in {tally.steps} steps"
    find = next(iter(tally.finds.values()))
    assert find.trace.steps
    assert str(find.trace.steps[-1].number) in find.summary


def test_what_the_model_takes_back_is_counted_and_ends_no_run(
        monkeypatch: pytest.MonkeyPatch) -> None:
    draw = TraceSource.trace

    def with_a_step_too_many(source: TraceSource, seed: int, index: int,
                             candidate: int = 0) -> Trace | None:
        trace = draw(source, seed, index, candidate)
        if trace is None or index % 2:
            return trace
        return replace(trace, steps=(*trace.steps[:3], Step(4, Read("nowhere", 0, 512))))

    monkeypatch.setattr(TraceSource, "trace", with_a_step_too_many)
    mission = replace(_mission(TRUTHFUL), candidates=2)
    tally = explore(mission, Budget(seconds=None, steps=400))
    assert sum(tally.astray.values()) > 1
    assert tally.traces > sum(tally.astray.values())
    assert not tally.finds
    assert sum(tally.operations.values()) == tally.steps, "what was done counts"


def test_a_find_does_not_end_the_run_but_many_do() -> None:
    ground = SimulatedGround(Plan(), "no-error")
    tally = explore(_mission(ground), Budget(seconds=None, steps=500, finds=100))
    assert tally.steps >= 500
    assert sum(tally.repeats.values()) > len(tally.finds) > 1
    few = explore(_mission(ground), Budget(seconds=None, steps=10**9, finds=1))
    assert len(few.finds) == 1


def test_time_ends_the_run() -> None:
    begun = time.monotonic()
    explore(_mission(TRUTHFUL), Budget(seconds=0.2))
    assert time.monotonic() - begun < 5


def test_grounds_share_the_traces() -> None:
    mission = Mission((TRUTHFUL, TRUTHFUL), (3, 1), ("access", "tails"), 1)
    shares = [mission.assignment(number)[:2] for number in range(320)]
    assert shares.count((0, 0)) == shares.count((0, 1)) == 120
    assert shares.count((1, 0)) == shares.count((1, 1)) == 40
    assert len({mission.assignment(number)[1:] for number in range(320)}) == 320


def test_workers_do_the_traces_of_the_seed() -> None:
    ground = SimulatedGround(Plan(), "wrong-flags")
    tally = explore(_mission(ground, seed=5), Budget(seconds=None, steps=600), workers=2)
    assert tally.finds
    source = TraceSource(ground.plan, named("everything"))
    known = [trace.steps for index in range(4 * tally.traces) if (trace := source.trace(5, index))]
    for find in tally.finds.values():
        length = len(find.trace.steps)
        assert any(steps[:length] == find.trace.steps for steps in known)


@dataclass(frozen=True)
class Mortal:
    """A ground that kills the process that opens it, the first time or every time."""

    mark: str
    always: bool = False
    plan: Plan = Plan()  # noqa: RUF009

    @contextmanager
    def open(self) -> Iterator[Stand]:
        if self.always or not os.path.exists(self.mark):
            with open(self.mark, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        with SimulatedGround(self.plan).open() as stand:
            yield stand


def _first_batch(ground: Ground) -> Tally:
    return explore(_mission(ground), Budget(seconds=None, steps=1), workers=2)


def test_a_dead_worker_loses_nothing(tmp_path: os.PathLike[str]) -> None:
    tally = _first_batch(Mortal(os.path.join(tmp_path, "died")))
    assert os.path.exists(os.path.join(tmp_path, "died"))
    assert tally.traces == 8


def _interrupted() -> SimulatedGround:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGINT)
    return TRUTHFUL


class Interrupting(SimulatedGround):
    """A Ctrl-C comes when a worker has only begun to read what it is to do."""

    def __reduce__(self) -> tuple[Callable[[], SimulatedGround], tuple[()]]:
        return _interrupted, ()


def test_a_worker_that_begins_leaves_interrupts_to_its_parent(
        capfd: pytest.CaptureFixture[str]) -> None:
    tally = explore(_mission(Interrupting(Plan())), Budget(seconds=None, steps=1), workers=2)
    assert tally.steps
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_workers_that_keep_dying_end_the_run(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(EnvironmentProblem, match=r"3 workers died .* exit status is -9"):
        _first_batch(Mortal(os.path.join(tmp_path, "died"), always=True))


def _directed(mission: Mission) -> list[int]:
    """The numbers of the traces that are directed checks."""
    order = turns([check.due for _, check in mission.checks()])
    return [number for number, (directed, _) in enumerate(order) if directed]


@pytest.mark.parametrize("part", range(PARTS))
def test_directed_checks_conform_on_the_model(part: int) -> None:
    mission = Mission((TRUTHFUL,), (1,), ("everything",), 1, directed=True)
    directed = _directed(mission)
    count = len(directed)
    # Neighbours, which have work in common.
    numbers = directed[part * count // PARTS:(part + 1) * count // PARTS]
    explorer = Explorer(mission)
    try:
        tally = explorer.explore(numbers)
        assert (tally.directed, tally.traces) == (len(numbers), len(numbers))
        assert not tally.finds
    finally:
        explorer.close()


def test_directed_checks_take_turns_with_exploration() -> None:
    assert turns([DRAWN - 1, DRAWN, 3 * DRAWN]) == [
        (True, 0), (False, 0), (True, 1), (False, 1), (False, 2), (True, 2)]
    mission = Mission((TRUTHFUL,), (1,), ("classic",), 1, directed=True)
    last = _directed(mission)[-1]
    explorer = Explorer(mission)
    try:
        tally = explorer.explore(range(last - 2, last + 3))
        assert (tally.directed, tally.traces) == (1, 5)
        assert not tally.finds
    finally:
        explorer.close()


def test_checks_that_come_soon_are_there_and_do() -> None:
    due = {check.name: check.due for check in catalogue_of_checks.checks(SystemKind.QSD)}
    assert {due[name] for name in catalogue_of_checks._ALONE} == {catalogue_of_checks._SOON}


def test_directed_checks_are_those_of_the_chosen_areas() -> None:
    mission = Mission((TRUTHFUL,), (1,), ("tails", "stacked"), 1, directed=True)
    assert {check.area for _, check in mission.checks()} == {"tails"}


@pytest.mark.parametrize("lie", ["wrong-byte", "count-off", "ignored-discard", "lost-write",
                                 "wrong-flags", "no-error", "accepted"])
def test_directed_checks_catch_lies(lie: str) -> None:
    mission = Mission((SimulatedGround(Plan(), lie),), (1,), ("everything",), 1, directed=True)
    explorer = Explorer(mission)
    try:
        assert any(explorer.explore([number]).finds for number in _directed(mission))
    finally:
        explorer.close()


def test_no_trace_is_begun_after_the_deadline() -> None:
    mission = Mission((TRUTHFUL,), (1,), ("everything",), 1, directed=True)
    explorer = Explorer(mission)
    try:
        assert explorer.explore(range(3), time.monotonic()).traces == 0
    finally:
        explorer.close()
