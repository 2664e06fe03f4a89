# SPDX-License-Identifier: GPL-2.0-or-later
"""Steering and parts: what is done next follows from what was fired, and from nothing else: not
from how many processes there are; and the parts of a run are the run."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.exploration import batches, campaign, crew
from harness.exploration.areas import named
from harness.exploration.batches import BATCH, Batch, Course, Part, Queue
from harness.exploration.building import Plan
from harness.exploration.explorer import Explorer, Mission
from harness.exploration.grounds import SimulatedGround
from harness.exploration.steering import CANDIDATES, Journal, chosen, pairs_of
from harness.exploration.tally import Tally
from harness.exploration.traces import TraceSource
from harness.lockstep.trace import Header, Origin, Step, Trace, load, save
from model.configuration import Configuration, Image
from model.machine import Machine
from model.operations import AddFilter, Export, Flush, Operation, Write

GROUND = SimulatedGround(Plan())
IMAGES = Configuration((Image("src", 1 << 17), Image("tmp", 1 << 17)))
FILTERED = (AddFilter("cbw", "src", "tmp"), Export("cbw"))


def _trace(*operations: Operation) -> Trace:
    return Trace(Header(IMAGES), tuple(itertools.starmap(Step, enumerate(operations, start=1))))


def _mission(candidates: int = CANDIDATES) -> Mission:
    return Mission((GROUND,), (1,), ("access", "jobs"), 1, candidates=candidates)


def test_pairs_are_of_one_operation_or_of_two_in_a_row() -> None:
    machine = Machine(IMAGES)
    machine.rules.clear()
    journal = Journal(machine)
    for fired in (("a", "b"), (), ("c",), ("d", "c")):
        machine.rules.update(fired)
        journal.step()
    assert journal.pairs == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"), ("c", "c"),
                             ("c", "d"), ("d", "c"), ("d", "d")}


def test_the_candidate_with_most_that_is_new_is_chosen() -> None:
    poor, rich = _trace(*FILTERED, Flush("cbw")), _trace(*FILTERED, Write("cbw", 0, 512))
    seen = pairs_of(poor, Plan())
    assert chosen([poor, rich, rich], Plan(), seen) is rich
    assert seen >= pairs_of(rich, Plan())
    assert chosen([poor, rich], Plan(), seen) is poor, "nothing is new: the first"
    assert chosen([rich], Plan(), seen) is rich
    assert chosen([], Plan(), seen) is None


def test_a_batch_waits_for_what_steers_it() -> None:
    queue = Queue([[-1]], ([number] for number in range(5)))
    corpus, first, second = _take(queue), _take(queue), _take(queue)
    queue.report(corpus, Course({("x", "x")}))
    assert queue.take() is None, "batch 2 needs batch 0"
    queue.report(second, Course({("b", "b")}))
    assert queue.take() is None
    queue.report(first, Course({("a", "a")}))
    third, fourth, fifth = _take(queue), _take(queue), _take(queue)
    assert third.seen == fourth.seen == {("a", "a")}
    assert fifth.seen == {("a", "a"), ("b", "b")}
    assert (fifth.numbers, queue.take()) == ([4], None)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_under_way_at_the_deadline_counts(monkeypatch: pytest.MonkeyPatch,
                                                  workers: int) -> None:
    """In the parent, two batches are taken before it; the workers' clock is another."""
    readings = iter((0.0, 0.0))
    monkeypatch.setattr(batches, "time", SimpleNamespace(
        monotonic=lambda: next(readings, math.inf)))
    with closing(campaign.batches(_mission(1), 1e18, workers)) as coming:
        assert sum(tally.traces for tally in coming) == 2 * BATCH


def _take(queue: Queue) -> Batch:
    batch = queue.take()
    assert batch is not None
    return batch


def test_steering_reaches_more() -> None:
    reached = []
    for candidates in (1, CANDIDATES):
        explorer = Explorer(_mission(candidates))
        try:
            reached.append(len(explorer.explore(range(2 * BATCH), course=Course()).pairs))
        finally:
            explorer.close()
    assert reached[1] > 1.02 * reached[0]


def test_many_processes_do_what_one_does() -> None:
    mission = _mission()
    alone: list[Tally] = []
    with closing(campaign.batches(mission, None, 1)) as traces:
        for _ in range(4):
            alone.append(Tally())
            for tally in itertools.islice(traces, BATCH):
                alone[-1].add(tally)
    known = [batch.operations for batch in alone]
    with closing(crew.batches(mission, None, 2)) as together:
        done = [batch.operations for batch in itertools.islice(together, 3)]
    assert all(each in known for each in done)
    with closing(campaign.batches(_mission(1), None, 1)) as unsteered:
        first = Tally()
        for tally in itertools.islice(unsteered, BATCH):
            first.add(tally)
    assert first.operations not in known


def test_a_trace_says_where_it_was_drawn(tmp_path: Path) -> None:
    source = TraceSource(Plan(), named("tails"))
    first, other = source.trace(7, 9), source.trace(7, 9, 2)
    assert first is not None
    assert other is not None
    assert first.configuration == other.configuration
    assert first.steps != other.steps
    save(tmp_path / "trace.jsonl", other)
    header = load(tmp_path / "trace.jsonl").header
    assert header.drawn == Origin("tails", 9, 2)
    assert header.seed is not None
    again = TraceSource(Plan(), named(header.drawn.area))
    assert again.trace(header.seed, header.drawn.index, header.drawn.candidate) == other


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_the_parts_are_the_whole(of: int) -> None:
    numbers = range(100)
    parts = [Part(number, of) for number in range(1, of + 1)]
    each = [[*itertools.chain.from_iterable(part.batches(numbers))] for part in parts]
    assert sorted(itertools.chain.from_iterable(each)) == list(numbers)
    for part, mine in zip(parts, each, strict=True):
        assert mine == [number for number in numbers if part.has(number)]


def test_parts_do_the_traces_of_the_whole() -> None:
    """Directed checks too; steering aside, which is by what the part itself has done."""
    mission = dataclasses.replace(_mission(1), directed=True)
    whole = list(itertools.islice(_steps(mission), 3))
    odd, even = (_steps(dataclasses.replace(mission, part=Part(number, 2))) for number in (1, 2))
    assert [next(odd), next(even), next(odd)] == whole


def _steps(mission: Mission) -> Iterator[tuple[int, Mapping[str, int]]]:
    """What each batch comes to."""
    explorer = Explorer(mission)
    try:
        for numbers in mission.batches():
            tally = explorer.explore(numbers)
            yield tally.directed, tally.operations
    finally:
        explorer.close()
