# SPDX-License-Identifier: GPL-2.0-or-later
"""The reducer: reaches the minimum, keeps numbers and budget, leaves alone what is flaky."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.lockstep.replay import Stand, replay
from harness.lockstep.shrink import Budget, Statistics, shrink
from harness.lockstep.simplify import (
    closed_gaps,
    roughness,
    simpler_images,
    simpler_operations,
    simpler_ranges,
)
from harness.lockstep.trace import Header, Step, Trace
from harness.lockstep.verdict import Conforms, Diverges, Failed
from harness.systems.base import Answer
from harness.systems.failure import SystemHung
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.configuration import Configuration, Fault, Format, Image, RequestKind
from model.machine import Machine
from model.operations import (
    AddFilter,
    AddSnapshot,
    BitmapAdd,
    BitmapDisable,
    BitmapEnable,
    BitmapRef,
    Discard,
    Export,
    Inspect,
    Operation,
    Read,
    Unexport,
    Via,
    Write,
    Zero,
)
from tests.unit import lockstep_lab as lab

K = 1024


def noise(count: int, seed: int) -> list[Operation]:
    """Requests to both exports of the fleecing graph, at odd places."""
    rng = random.Random(seed)
    found: list[Operation] = []
    for _ in range(count):
        kind = rng.choice((Write, Zero, Discard, Read, Read))
        offset = rng.randrange(lab.SIZE)
        longest = 200 * K if kind is Read else 8 * K
        length = rng.randrange(1, min(longest, lab.SIZE - offset) + 1)
        found.append(kind("snap" if kind is Read else "cbw", offset, length,
                          rng.choice((Via.NBD, Via.NBD_DF, Via.QEMU_IO))))
    return found


def operations_of(trace: Trace) -> list[Operation]:
    """The operations without their numbers."""
    return [step.operation for step in trace.steps]


# A defect that QEMU had: wrong data where a read runs past the end of a copied run.


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_a_known_defect_comes_down_to_six_operations(seed: int) -> None:
    trace = lab.trace_of(*lab.SET_UP, BitmapAdd("src", "b"), *noise(150, seed))
    wrong = Capabilities(snapshot_reads_source_before_done_run_ends=True)
    result = shrink(trace, lab.stand(lying=wrong))
    assert isinstance(result.verdict, Diverges)
    assert result.statistics.finished
    *set_up, change, read = operations_of(result.trace)
    assert sorted(each.name for each in set_up) == [
        "add-filter", "add-snapshot", "export", "export"]
    assert isinstance(change, (Write, Zero, Discard))
    assert (change.offset % (64 * K), change.length) == (0, 64 * K)
    assert isinstance(read, Read)
    assert (read.offset, read.length) == (change.offset, 128 * K)
    assert result.trace.configuration.image("src").size <= 192 * K
    numbers = {step.operation: step.number for step in trace.steps}
    for step in result.trace.steps:
        if step.operation in numbers:
            assert step.number == numbers[step.operation]


# Synthetic failures, of which the minimum is known.


def test_two_of_many_operations_are_left() -> None:
    def deadly(history: list[Operation]) -> bool:
        names = [each.bitmap for each in history if isinstance(each, BitmapAdd)]
        return "b7" in names and names[-1] == "b23"

    trace = lab.trace_of(*(BitmapAdd("src", f"b{number}") for number in range(40)))
    result = shrink(trace, lab.fragile(deadly))
    assert result.trace.steps == (
        Step(8, BitmapAdd("src", "b7")), Step(24, BitmapAdd("src", "b23")))
    assert isinstance(result.verdict, Failed)
    assert result.verdict.index == 1
    assert result.statistics.steps_before == 40
    assert result.statistics.steps_after == 2
    assert result.trace.configuration == Configuration((Image("src", 64 * K),))


def test_two_operations_that_go_only_together() -> None:
    def deadly(history: list[Operation]) -> bool:
        enabled = sum(isinstance(each, BitmapEnable) for each in history)
        disabled = sum(isinstance(each, BitmapDisable) for each in history)
        return enabled == disabled and isinstance(history[-1], Inspect)

    trace = lab.trace_of(BitmapAdd("src", "b"), BitmapDisable("src", "b"),
                         BitmapEnable("src", "b"), Inspect("src"))
    result = shrink(trace, lab.fragile(deadly))
    assert operations_of(result.trace) == [Inspect("src")]


def test_what_becomes_impossible_goes_too() -> None:
    trace = lab.trace_of(
        Export("src"), *(Write("src", place * 4 * K, 512) for place in range(20)), Unexport("src"),
        Inspect("src"))
    result = shrink(trace, lab.fragile(lambda history: isinstance(history[-1], Inspect)))
    assert operations_of(result.trace) == [Inspect("src")]


def test_fields_become_simple() -> None:
    def deadly(history: list[Operation]) -> bool:
        last = history[-1]
        return isinstance(last, Zero) and last.offset >= 600 * K and last.length > 8 * K

    trace = lab.trace_of(
        BitmapAdd("src", "b", granularity=512, disabled=True),
        AddFilter("cbw", "src", "tmp", BitmapRef("src", "b"), "break-snapshot", 7, discard=False),
        Export("cbw", bitmaps=(BitmapRef("src", "b"),), allocation_depth=True),
        Zero("cbw", 700 * K + 77, 100 * K + 3, Via.QEMU_IO, unmap=True))
    result = shrink(trace, lab.fragile(deadly))
    assert operations_of(result.trace) == [
        AddFilter("cbw", "src", "tmp"), Export("cbw"), Zero("cbw", 640 * K, 64 * K)]
    assert result.trace.configuration == Configuration((
        Image("src", 704 * K), Image("tmp", 704 * K)))


def test_images_become_simple() -> None:
    images = Configuration((
        Image("base", lab.SIZE, Format.QCOW2),
        Image("src", lab.SIZE, Format.QCOW2, cluster_size=4096, subclusters=True, backing="base",
              filled=((0, 4 * K), (512 * K, 300 * K)), request_alignment=4096,
              faults=(Fault(RequestKind.FLUSH, 0), Fault(RequestKind.READ, 0))),
        Image("tmp", lab.SIZE),
    ))

    class Picky(Simulated):
        def __init__(self, configuration: Configuration) -> None:
            super().__init__(Machine(configuration))
            self._image = configuration.image("src")

        def close(self) -> None:
            """Nothing to do."""

        def apply(self, number: int, operation: Operation):  # type: ignore[no-untyped-def]
            if self._image.format is Format.QCOW2 and len(self._image.filled) == 1:
                raise lab.Broken("broken")
            return super().apply(number, operation)

    start = replace(images.images[1], filled=((512 * K, 300 * K),))
    trace = lab.trace_of(Inspect("src"), configuration=replace(
        images, images=(images.images[0], start, images.images[2])))
    result = shrink(trace, Stand(Picky, Machine))
    assert result.trace.configuration == Configuration((
        Image("src", 64 * K, Format.QCOW2, filled=((0, 64 * K),)),))


def test_exports_leave_the_thread_first() -> None:
    images = Configuration((Image("src", 65536),), iothread=True)
    simpler = next(simpler_images(Trace(Header(images))))
    assert simpler.configuration == replace(images, iothread=False)


def test_the_same_failure_is_kept_not_another() -> None:
    def deadly(history: list[Operation]) -> bool:
        if len(history) == 1 and isinstance(history[-1], Inspect):
            raise OSError("another defect")
        return isinstance(history[-1], Inspect)

    class Other(lab.Fragile):
        def apply(self, number: int, operation: Operation):  # type: ignore[no-untyped-def]
            try:
                return super().apply(number, operation)
            except OSError as why:
                raise lab.OtherwiseBroken(str(why)) from why

    trace = lab.trace_of(BitmapAdd("src", "a"), BitmapAdd("src", "b"), Inspect("src"))
    result = shrink(trace, Stand(lambda images: Other(images, deadly), Machine))
    assert len(result.trace.steps) == 2
    assert isinstance(result.verdict, Failed)
    assert isinstance(result.verdict.failure, lab.Broken)


# What it keeps to


def test_a_trace_that_conforms_stays_as_it_is() -> None:
    result = shrink(lab.THOROUGH, lab.stand())
    assert result.trace == lab.THOROUGH
    assert isinstance(result.verdict, Conforms)
    assert not result.statistics.finished


def test_a_flaky_trace_stays_as_it_is() -> None:
    runs = iter([True, False, True])
    stand = lab.fragile(lambda history: isinstance(history[-1], Inspect) and next(runs))
    trace = lab.trace_of(BitmapAdd("src", "b"), Inspect("src"))
    result = shrink(trace, stand, attempts=3)
    assert result.trace == trace
    assert isinstance(result.verdict, Failed)
    assert not result.reproduction.deterministic
    assert result.reproduction.same == 2
    assert result.statistics.executions == 3


def test_the_budget_of_executions_is_kept_and_what_was_reached_stays() -> None:
    taken: list[int] = []

    def watch(trace: Trace, statistics: Statistics) -> None:
        taken.append(len(trace.steps))
        assert statistics.steps_after == len(trace.steps)

    trace = lab.trace_of(*lab.SET_UP, *noise(150, 5))
    wrong = Capabilities(snapshot_reads_source_before_done_run_ends=True)
    result = shrink(trace, lab.stand(lying=wrong), budget=Budget(executions=9), progress=watch)
    assert result.statistics.executions == 9
    assert not result.statistics.finished
    assert result.statistics.taken == len(taken) > 0
    assert len(result.trace.steps) == taken[-1] < len(trace.steps)
    assert isinstance(replay(result.trace, lab.stand(lying=wrong)), Diverges)
    assert "stopped early" in result.statistics.summary


def test_the_budget_of_time_is_kept() -> None:
    stand = lab.fragile(lambda history: isinstance(history[-1], Inspect))
    trace = lab.trace_of(BitmapAdd("src", "b"), Inspect("src"))
    result = shrink(trace, stand, budget=Budget(seconds=0))
    assert result.trace == trace
    assert result.statistics.executions == 3


def test_the_budget_of_time_begins_when_the_end_is_known() -> None:
    """Of a hang, doing it again takes longer than all else."""
    waits: list[float] = []

    class Hanging(lab.Fragile):
        def apply(self, number: int, operation: Operation) -> Answer:
            if isinstance(operation, Inspect):
                waits.append(LIMIT)
                Event().wait(LIMIT)
                raise SystemHung("inspect", LIMIT)
            return super().apply(number, operation)

    trace = lab.trace_of(BitmapAdd("src", "b"), BitmapAdd("src", "c"), Inspect("src"))
    stand = Stand(lambda images: Hanging(images, lambda history: False), Machine)
    result = shrink(trace, stand, budget=Budget(seconds=3 * LIMIT))
    assert [step.operation for step in result.trace.steps] == [Inspect("src")]
    assert sum(waits[:3]) >= 3 * LIMIT, "before, that was all of the budget"


LIMIT = 0.2
"""Seconds after which a simulated system counts as hung."""


def test_the_same_trace_always_comes_down_to_the_same() -> None:
    trace = lab.trace_of(*lab.SET_UP, *noise(60, 9))
    wrong = Capabilities(snapshot_reads_source_before_done_run_ends=True)
    first, second = (shrink(trace, lab.stand(lying=wrong)) for _ in range(2))
    assert first.trace == second.trace
    assert first.statistics.executions == second.statistics.executions


def test_requests_name_the_channel_that_they_took() -> None:
    def start(images: Configuration) -> Simulated:
        return OnlyDf(images, lambda history: isinstance(history[-1], Read))

    class OnlyDf(lab.Fragile):
        channels = frozenset({Via.QEMU_IO})

    trace = lab.trace_of(Export("src"), Read("src", 0, 64 * K, Via.DEVICE))
    result = shrink(trace, Stand(start, Machine), budget=Budget(executions=3))
    assert result.trace.steps[1].operation == Read("src", 0, 64 * K, Via.QEMU_IO)


# Proposals


@given(st.integers(0, 1 << 24), st.integers(1, 1 << 22))
def test_ranges_get_simpler_by_an_order_that_ends(offset: int, length: int) -> None:
    before = (roughness(offset, length), length, offset)
    for low, size in simpler_ranges(offset, length):
        assert size > 0
        assert low >= 0
        assert (roughness(low, size), size, low) < before


def test_round_ranges_are_preferred() -> None:
    assert simpler_ranges(0, 64 * K) == []
    assert simpler_ranges(64 * K, 64 * K) == [(0, 64 * K)]
    assert (0, 128 * K) in simpler_ranges(42 * K + 66, 22 * K)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_taking_up_proposals_comes_to_an_end(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([Read, Write, Zero, AddFilter, Export]))
    operation: Operation = data.draw(lab.record(kind))
    for _ in range(200):
        proposals = list(simpler_operations(operation))
        if not proposals:
            return
        operation = data.draw(st.sampled_from(proposals))
    pytest.fail("proposals go on for ever")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_images_get_simpler_to_an_end(data: st.DataObject) -> None:
    sizes = st.integers(1, 1 << 24)
    image = data.draw(lab.record(Image))
    image = replace(image, node="a", size=data.draw(sizes), filled=())
    trace = lab.trace_of(configuration=Configuration((image,)))
    for _ in range(200):
        proposals = list(islice(simpler_images(trace), 50))
        if not proposals:
            return
        trace = data.draw(st.sampled_from(proposals))
    pytest.fail("proposals go on for ever")


def test_a_size_that_matters_is_halved() -> None:
    """Where its default would not do, as for disks that are shorter than a cluster of the copy."""
    add = AddFilter("cbw", "src", "tmp", min_cluster_size=2048 * K)
    assert {each.min_cluster_size for each in simpler_operations(add)
            if isinstance(each, AddFilter)} >= {None, 1024 * K}
    trace = lab.trace_of(configuration=Configuration((
        Image("src", lab.SIZE, format=Format.QCOW2, cluster_size=64 * K),)))
    assert {each.configuration.image("src").cluster_size for each in simpler_images(trace)} >= {
        None, 32 * K}


def test_disks_of_different_sizes_are_cut_together() -> None:
    images = Configuration((Image("src", 1024 * K), Image("tmp", 960 * K)))
    trace = lab.trace_of(Export("src"), Read("src", 960 * K, 64 * K), configuration=images)
    sizes = [tuple(image.size for image in each.configuration.images)
             for each in closed_gaps(trace)]
    assert (64 * K, 960 * K) in sizes, "tmp ends where what is closed ends"
    assert (1024 * K, 960 * K) in sizes
    images = Configuration((Image("src", 1024 * K), Image("tmp", 992 * K)))
    assert (64 * K, 32 * K) in [
        tuple(image.size for image in each.configuration.images)
        for each in closed_gaps(lab.trace_of(*operations_of(trace), configuration=images))]


def test_gaps_are_closed_for_all_requests_together() -> None:
    trace = lab.trace_of(
        Export("src"), Write("src", 640 * K + 512, 512), Read("src", 640 * K, 128 * K),
        AddSnapshot("snap", "src"), Read("src", 64 * K, 512))
    candidates = [[each.offset for each in operations_of(one) if isinstance(each, (Read, Write))]
                  for one in closed_gaps(trace)]
    assert [576 * K + 512, 576 * K, 0] in candidates
    assert [128 * K + 512, 128 * K, 64 * K] in candidates


def test_what_images_are_filled_with_moves_along() -> None:
    images = Configuration((Image("src", lab.SIZE, filled=(
        (0, 96 * K), (192 * K, 512), (640 * K, 64 * K), (800 * K, K))),))
    trace = lab.trace_of(Export("src"), Read("src", 0, 64 * K), Read("src", 640 * K, 64 * K),
                         configuration=images)
    shorter, moved = closed_gaps(trace)
    assert shorter.configuration.image("src").size == lab.SIZE - 576 * K
    assert operations_of(shorter) == operations_of(moved)
    assert operations_of(moved)[2] == Read("src", 64 * K, 64 * K)
    assert moved.configuration.image("src").filled == ((0, 128 * K), (224 * K, K))
