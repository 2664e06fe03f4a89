# SPDX-License-Identifier: GPL-2.0-or-later
"""Steering by lines: who adds some gets a turn, and turns follow from what was executed alone."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.exploration import campaign, explorer
from harness.exploration.batches import BATCH, Course, Part, Queue, batched
from harness.exploration.building import Plan
from harness.exploration.coverage import Line
from harness.exploration.explorer import Explorer, Mission
from harness.exploration.grounds import SimulatedGround
from harness.exploration.line_steering import LineTurns, Turn
from harness.exploration.traces import GROUP

MAIN = "block/backup.c"
AREAS = ("access", "jobs", "tails")


def _lines(*numbers: int) -> frozenset[Line]:
    return frozenset((MAIN, number) for number in numbers)


def _turns(areas: int = 3) -> LineTurns:
    """Each trace is a group of its own; those below 0 are directed checks."""
    return LineTurns(range(areas), lambda number: number if number >= 0 else None)


def _areas(turns: LineTurns, numbers: range) -> list[int]:
    return [turn.area for _, turn in sorted(turns.of(numbers).items())]


def test_without_new_lines_areas_take_turns() -> None:
    turns = _turns()
    assert _areas(turns, range(5)) == [0, 1, 2, 0, 1]
    turns.learn(dict.fromkeys(range(5), _lines()))
    assert _areas(turns, range(5, 10)) == [2, 0, 1, 2, 0]


def test_who_adds_most_lines_gets_every_other_turn_once() -> None:
    turns = _turns()
    assert _areas(turns, range(4)) == [0, 1, 2, 0]
    # The first trace of area 0 has those of area 1 but one; its second, nothing new.
    turns.learn({0: _lines(1, 2), 1: _lines(1, 2, 3), 2: _lines(4, 5, 6), 3: _lines(1)})
    assert _areas(turns, range(4, 12)) == [1, 2, 2, 0, 0, 1, 1, 2]
    assert turns.of([9]) == {9: Turn(1, 2)}, "what was given stays"


def test_first_each_area_has_a_turn() -> None:
    turns = LineTurns((0, 1, 0, 1, 2), lambda number: number)
    assert _areas(turns, range(2)) == [0, 1]
    turns.learn({0: _lines(1), 1: _lines(2, 3)})
    assert _areas(turns, range(2, 8)) == [0, 1, 2, 1, 0, 0]


def test_directed_checks_have_no_turns_but_what_they_execute_is_known() -> None:
    turns = _turns()
    assert turns.of([-1, 0]) == {0: Turn(0, 0)}
    turns.learn({-1: _lines(1), 0: _lines(1)})
    assert _areas(turns, range(1, 4)) == [1, 2, 0], "area 0 has added nothing"


def test_a_batch_has_the_turns_that_batches_before_it_earned() -> None:
    queue = Queue([[-1]], batched(range(3 * BATCH)), turns=LineTurns(
        range(3), lambda number: number // GROUP))
    given = []
    for _ in range(4):
        batch = queue.take()
        assert batch is not None
        course = batch.course()
        # Only traces of area 1 execute anything.
        course.lines.update((number, _lines(number) if turn.area == 1 else _lines())
                            for number, turn in course.turns.items())
        queue.report(batch, course)
        given.append([turn.area for turn in batch.turns.values()])
    assert given == [[], [0] * GROUP + [1] * GROUP, [2] * GROUP + [0] * GROUP,
                     [1] * GROUP + [1] * GROUP], "one ordinary turn, one that it has earned"


def _mission(part: Part | None = None) -> Mission:
    ground = SimulatedGround(Plan())
    return Mission((ground,) * 2, (1, 2), AREAS, 1, tree=Path("tree"), part=part or Part())


class _Gauge:
    """Takes each trace to execute a line of its own, if it is of an area."""

    def __init__(self, tree: Path, folder: Path) -> None:
        assert tree == Path("tree")
        self.number = 0

    def taken(self) -> frozenset[Line]:
        self.number += 1
        return _lines(self.number)


def test_traces_are_those_of_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "Gauge", _Gauge)
    means = Explorer(_mission())
    course = Course(turns={0: Turn(2, 0), 1: Turn(2, 1), 2: Turn(1, 3)})
    try:
        origins = []
        means.explore(range(3), course=course)
        for number in range(3):
            made = means.made(number)
            assert made.trace is not None
            assert made.trace.header.drawn is not None
            origins.append((made.ground, made.area, made.trace.header.drawn.index))
    finally:
        means.close()
    assert origins == [(0, "tails", 0), (1, "tails", 1), (0, "jobs", 2)]
    assert course.lines == {number: _lines(number + 1) for number in range(3)}


def test_a_run_is_steered_by_what_it_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "Gauge", _Gauge)
    with closing(campaign.batches(_mission(), None, 1)) as traces:
        done = list(itertools.islice(traces, 5 * BATCH))
    assert set().union(*(tally.lines for tally in done)) == _lines(*range(1, 5 * BATCH + 1))
    steered = [area for tally in done for area in tally.areas]
    unsteered = [AREAS[_mission().assignment(number)[1]] for number in range(5 * BATCH)]
    assert steered[:2 * BATCH] == unsteered[:2 * BATCH], "nothing is known yet"
    assert steered != unsteered


def _drawn(part: Part) -> set[tuple[str, int]]:
    """Which traces a part of a run draws, if those of all areas but one execute new lines."""
    mission = _mission(part)
    queue = mission.queue(None)
    found = set()
    for _ in range(6):
        batch = queue.take()
        assert batch is not None
        course = batch.course()
        for number, turn in batch.turns.items():
            course.lines[number] = _lines(number) if turn.area else _lines()
            _, area, index = mission.assignment(number, turn)
            found.add((AREAS[area], index))
        queue.report(batch, course)
    return found


def test_parts_have_no_trace_in_common() -> None:
    first, second = (_drawn(Part(number, 2)) for number in (1, 2))
    assert len(first) == len(second) == 6 * BATCH
    assert not first & second


def test_lines_steer_only_where_they_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--steer", "lines"]) == 2
    assert "--steer lines needs --coverage" in capsys.readouterr().err
