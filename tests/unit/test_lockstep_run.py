# SPDX-License-Identifier: GPL-2.0-or-later
"""The run in lockstep: its order of events, its three ends, replay."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from harness.lockstep.differences import BitmapsDiffer
from harness.lockstep.replay import Reproduction, Stand, check_possible, replay, reproduce
from harness.lockstep.run import Done, look_after_each, look_at_end, run
from harness.lockstep.trace import Step, TraceError, TraceWriter, load
from harness.lockstep.verdict import Conforms, Diverges, Failed
from harness.systems.base import Answer
from harness.systems.failure import SystemFailed
from harness.systems.lies import catalogue
from harness.systems.simulated import Simulated
from model.configuration import Configuration
from model.machine import Impossible, Machine
from model.operations import BitmapRef, Export, Inspect, Operation, Read, Via, Write
from model.outcome import Observation
from tests.unit import lockstep_lab as lab
from tests.unit.lockstep_lab import Fragile

K = 1024


def test_conforms_and_counts_steps() -> None:
    verdict = replay(lab.THOROUGH, lab.stand())
    assert verdict == Conforms(len(lab.THOROUGH.steps))
    assert verdict.summary == f"conforms in {len(lab.THOROUGH.steps)} steps"


def test_no_steps_conform() -> None:
    assert replay(lab.trace_of(), lab.stand()) == Conforms(0)


def test_a_step_is_on_disk_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    on_disk: list[tuple[Step, ...]] = []

    class Looks(Simulated):
        def apply(self, number: int, operation: Operation) -> Answer:
            on_disk.append(load(path).steps)
            if number == 6:
                raise lab.Broken("died in the operation")
            return super().apply(number, operation)

    stand = Stand(lambda images: Looks(Machine(images)), Machine)
    with TraceWriter(path, lab.THOROUGH.header) as recorder:
        verdict = replay(lab.THOROUGH, stand, recorder=recorder)
    assert isinstance(verdict, Failed)
    assert on_disk == [lab.THOROUGH.steps[:count] for count in range(1, 7)]
    # What is on disk shows the failure again.
    again = replay(load(path), stand)
    assert isinstance(again, Failed)
    assert again.signature == verdict.signature


def test_the_first_difference_ends_the_run() -> None:
    applied: list[int] = []

    class Counts(Simulated):
        def apply(self, number: int, operation: Operation) -> Answer:
            applied.append(number)
            return super().apply(number, operation)

    def start(images: Configuration) -> Simulated:
        return Counts(Machine(images), catalogue()["count-off"], truthful_for=7)

    verdict = replay(lab.THOROUGH, Stand(start, Machine))
    assert isinstance(verdict, Diverges)
    assert applied == list(range(1, 9))
    assert verdict.step == lab.THOROUGH.steps[7]
    assert verdict.index == 7
    (difference,) = verdict.differences
    assert isinstance(difference, BitmapsDiffer)
    assert verdict.observed is not None
    assert verdict.observed.bitmaps[difference.node] == difference.found


def test_a_failure_while_observing() -> None:
    class Blind(Simulated):
        def observe(self, named: Collection[BitmapRef]) -> Observation:
            raise lab.Broken("gone")

    verdict = replay(lab.fleecing(), Stand(lambda images: Blind(Machine(images)), Machine))
    assert isinstance(verdict, Failed)
    assert verdict.observing
    assert verdict.index == 0
    assert verdict.summary == (
        "failed after operation 1 (add-filter cbw file=src target=tmp): gone")


def test_the_system_is_closed_whatever_happens() -> None:
    closed: list[bool] = []

    class Closes(Simulated):
        def close(self) -> None:
            closed.append(True)

    stand = Stand(lambda images: Closes(Machine(images)), Machine)
    replay(lab.fleecing(), stand)
    with pytest.raises(Impossible, match="node 'src' has no export"):
        replay(lab.trace_of(Read("src", 0, 512)), stand)
    assert closed == [True, True]


def test_the_model_is_given_the_channel_that_the_system_takes() -> None:
    def start(images: Configuration) -> Simulated:
        return Simulated(Machine(images), channels=(Via.NBD,))

    done: list[Done] = []
    read = Read("src", 0, 512, Via.MONITOR)
    verdict = replay(lab.trace_of(Export("src"), read), Stand(start, Machine), watch=done.append)
    assert verdict == Conforms(2)
    assert done[1].step.operation == Read("src", 0, 512, Via.NBD)


def test_steps_can_be_chosen_by_the_state_of_the_model() -> None:
    model = Machine(lab.FLEECING)
    seen: list[list[str]] = []

    def steps() -> Iterator[Step]:
        for step in lab.steps_of(*lab.SET_UP):
            yield step
            seen.append(list(model.nodes))

    run(steps(), Simulated(Machine(lab.FLEECING)), model)
    assert seen[0] == ["src", "tmp", "cbw"]
    assert seen[1] == ["src", "tmp", "cbw", "snap"]


def test_watch_sees_each_step_with_what_came() -> None:
    done: list[Done] = []
    replay(lab.THOROUGH, lab.stand(), watch=done.append)
    assert [each.index for each in done] == list(range(len(lab.THOROUGH.steps)))
    read = next(each for each in done if each.step.operation == Read("snap", 0, 192 * K))
    assert read.answer.data is not None
    assert len(read.answer.data) == 192 * K
    assert read.expected == read.found
    assert read.differences == ()


def test_looks_are_steps_with_numbers_of_their_own() -> None:
    model = Machine(lab.FLEECING)

    def every_node() -> list[Operation]:
        return [Inspect(node) for node in model.nodes]

    set_up = lab.steps_of(*lab.SET_UP[:2])
    at_end: list[Step] = []
    verdict = run(lab.kept(look_at_end(iter(set_up), every_node), at_end),
                  Simulated(Machine(lab.FLEECING)), model)
    assert verdict == Conforms(6)
    assert at_end[2:] == [Step(3, Inspect("src")), Step(4, Inspect("tmp")),
                          Step(5, Inspect("cbw")), Step(6, Inspect("snap"))]

    model = Machine(lab.FLEECING)
    each: list[Step] = []
    run(lab.kept(look_after_each(set_up, every_node), each),
        Simulated(Machine(lab.FLEECING)), model)
    assert [step.number for step in each] == [1, 3, 4, 5, 2, 6, 7, 8, 9]


# Replay


def test_a_deterministic_failure() -> None:
    trace = lab.fleecing(Write("cbw", 0, 64 * K))
    found = reproduce(trace, lab.stand(catalogue()["count-off"]), times=3)
    assert found.deterministic
    assert found.same == 3
    assert isinstance(found.failure, Diverges)
    assert found.summary.startswith("deterministic: 3 of 3 times diverges at operation 1")


def test_a_failure_that_comes_and_goes() -> None:
    runs = iter([False, True, False, True, True])

    def start(images: Configuration) -> Simulated:
        return Fragile(images, lambda history: len(history) == 3 and next(runs))

    found = reproduce(lab.fleecing(), Stand(start, Machine), times=5)
    assert not found.deterministic
    assert found.same == 3
    assert isinstance(found.failure, Failed)
    assert found.summary.startswith("not deterministic: 3 of 5 times failed at operation 3")


def test_what_conforms_is_deterministic() -> None:
    found = reproduce(lab.fleecing(), lab.stand(), times=2)
    assert found == Reproduction((Conforms(4), Conforms(4)))
    assert found.failure is None
    assert found.deterministic
    assert found.summary == "conforms 2 of 2 times"


def test_failures_are_told_apart() -> None:
    signatures = {}
    for name, lie in catalogue().items():
        trace = lab.PLAIN if lie.deed else lab.THOROUGH
        verdict = replay(trace, lab.stand(lie))
        assert not isinstance(verdict, Conforms)
        signatures[name] = verdict.signature
    assert len({signatures[name] for name in (
        "wrong-byte", "count-off", "wrong-granularity", "missing-bitmap", "wrong-digest",
        "wrong-errno", "no-error", "wrong-text", "crash", "hang", "garbage", "all-denied",
        "wrong-flags", "short-read")}) == 14


def test_what_no_run_may_contain_is_said_of_a_trace() -> None:
    trace = lab.fleecing(Read("tmp", 0, 512))
    with pytest.raises(TraceError, match=r"^a\.trace: operation 5 \(read tmp 0 512\): .*tmp"):
        check_possible(trace, Machine(lab.FLEECING), "a.trace")
    check_possible(lab.THOROUGH, Machine(lab.THOROUGH.configuration))


def test_broken_is_a_failure_of_the_system() -> None:
    assert issubclass(lab.Broken, SystemFailed)
