# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle of free-running load, and load on the storage daemon that is found."""

from __future__ import annotations

import itertools
import os

import pytest

from harness import stamps
from harness.builds import STORAGE_DAEMON, Build
from harness.exploration import load
from harness.exploration.load import put_load
from harness.exploration.load_oracle import BLOCK, Disk, PointInTime
from harness.exploration.memory import Sample, growth, resident
from harness.exploration.subjects import subject_of
from harness.systems import held_daemon
from harness.systems.starting import starter
from model.configuration import MIB
from model.content import ZERO, Stamp
from tests.unit.real_lab import real_build

FIRST = -1


def data(stamp: Stamp, block: int = 0) -> bytes:
    return stamps.data(stamp, block * BLOCK, BLOCK)


def disk(blocks: int = 1) -> Disk:
    return Disk([FIRST] * blocks)


def test_a_write_that_ended_before_the_read_is_seen() -> None:
    found = disk()
    found.end(0, BLOCK, found.begin(0, BLOCK, 7, 1), 2, 3)
    assert found.check(0, data(7), 3) is None
    wrong = found.check(0, data(FIRST), 3)
    assert wrong is not None
    assert wrong.allowed == (7,)


def test_a_write_that_overlaps_the_read_may_be_seen_or_not() -> None:
    found = disk()
    change = found.begin(0, BLOCK, 7, 1)
    half = data(7)[:100] + data(FIRST)[100:]
    for seen in (data(7), data(FIRST), half):
        assert found.check(0, seen, 2) is None
    found.end(0, BLOCK, change, 4, 2)
    for seen in (data(7), data(FIRST), half):
        assert found.check(0, seen, 2) is None
    assert found.check(0, data(8), 2) is not None


def test_of_two_writes_that_overlap_either_may_be_last() -> None:
    found = disk()
    first, second = found.begin(0, BLOCK, 7, 1), found.begin(0, BLOCK, 8, 2)
    found.end(0, BLOCK, second, 3, 9)
    found.end(0, BLOCK, first, 4, 9)
    assert found.settle(data(7)) == [7]
    assert found.settle(data(8)) == [8]
    wrong = found.settle(data(FIRST))
    assert not isinstance(wrong, list)
    assert set(wrong.allowed) == {7, 8}


def test_of_two_writes_one_after_the_other_the_first_is_gone() -> None:
    found = disk()
    found.end(0, BLOCK, found.begin(0, BLOCK, 7, 1), 2, 9)
    found.end(0, BLOCK, found.begin(0, BLOCK, ZERO, 3), 4, 9)
    assert found.settle(bytes(BLOCK)) == [ZERO]
    assert not isinstance(found.settle(data(7)), list)


def test_a_mixture_is_no_end() -> None:
    found = disk()
    first, second = found.begin(0, BLOCK, 7, 1), found.begin(0, BLOCK, 8, 2)
    found.end(0, BLOCK, second, 3, 9)
    found.end(0, BLOCK, first, 4, 9)
    assert not isinstance(found.settle(data(7)[:512] + data(8)[512:]), list)


def test_the_place_of_what_is_wrong() -> None:
    found = disk(3)
    seen = data(FIRST) + data(FIRST, 1) + data(9, 2)
    wrong = found.check(0, seen, 1)
    assert wrong is not None
    assert wrong.offset == 2 * BLOCK


def test_the_snapshot_must_be_the_point_in_time() -> None:
    point = PointInTime([3, 4], BLOCK)
    assert point.check(0, data(3) + data(4, 1)) is None
    wrong = point.check(0, data(3) + data(5, 1))
    assert wrong is not None
    assert (wrong.offset, wrong.allowed) == (BLOCK, (4,))


def test_who_gave_up_a_place_is_denied_it() -> None:
    point = PointInTime([3, 4], BLOCK)
    assert not point.may_be_denied(0, BLOCK)
    point.give_up(0, BLOCK, 5, ended=False)
    assert point.may_be_denied(0, 2 * BLOCK)
    assert not point.may_be_denied(BLOCK, BLOCK)
    assert not point.must_be_denied(0, BLOCK, 9)
    point.give_up(0, BLOCK, 6, ended=True)
    assert point.must_be_denied(0, BLOCK, 7)
    assert not point.must_be_denied(0, BLOCK, 5)


def test_what_is_given_up_while_it_is_read_may_be_freed() -> None:
    point = PointInTime([3], BLOCK)
    assert point.check(0, bytes(BLOCK)) is not None
    point.give_up(0, BLOCK, 5, ended=False)
    assert point.check(0, bytes(BLOCK)) is None
    assert point.check(0, data(4)) is not None


@pytest.fixture(scope="module")
def build() -> Build:
    return real_build(STORAGE_DAEMON)


def test_load(build: Build) -> None:
    capabilities = subject_of(build).profile.capabilities
    with starter(build, STORAGE_DAEMON) as start:
        found = put_load(start, capabilities, 3, 1)
    assert found.violations == []
    assert found.fleecing > 0


def test_load_finds_what_storage_makes_wrong(
        build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that gives other data than was written is what a wrong snapshot looks like."""
    capabilities = subject_of(build).profile.capabilities
    do = held_daemon.HeldStorage._do

    def forged(storage: held_daemon.HeldStorage, request: held_daemon.HeldRequest) -> bytes:
        found = do(storage, request)
        asked = request.asked
        if storage.holding and asked.node == "src" and asked.kind == "read":
            return bytes(len(found))
        return found

    monkeypatch.setattr(held_daemon.HeldStorage, "_do", forged)
    with starter(build, STORAGE_DAEMON) as start:
        found = put_load(start, capabilities, 5, 1)
    assert any("must hold" in each for each in found.violations)
    assert found.place == ("src: 8M raw over held, data in 0..8M", "tmp: 8M raw over held",
                           "round 1 of system 1, whose requests are drawn from seed 1/0")


# Memory


def samples(*mib: float) -> list[Sample]:
    return [Sample(1000 * index, int(each * MIB)) for index, each in enumerate(mib)]


@pytest.mark.parametrize("mib", [
    [20.0 + index for index in range(20)],
    [20 + index / 2 + index % 3 for index in range(40)],
])
def test_who_goes_on_growing_is_caught(mib: list[float]) -> None:
    more = growth(samples(*mib))
    assert more is not None
    assert 100 < more < 10_000


@pytest.mark.parametrize("mib", [
    [20.0] * 20,
    [*range(10, 20), *[20.0] * 30],
    [*[20.0] * 10, *[40.0] * 15],
    [20.0, 25.0] * 10,
    [20 + index / 10 for index in range(20)],
    [20.0 + index for index in range(15)],
])
def test_caches_and_allocators_are_let_be(mib: list[float]) -> None:
    assert growth(samples(*mib)) is None


def test_memory_is_measured() -> None:
    assert resident(os.getpid()) > 10 * MIB  # type: ignore[operator]
    assert resident(1 << 30) is None


def test_load_finds_a_qemu_that_grows(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = itertools.count(20 * MIB, MIB)
    monkeypatch.setattr(load, "resident", lambda pid: next(sizes))
    monkeypatch.setattr(load, "ROUNDS", 16)
    monkeypatch.setattr(load, "ROUND", 20)
    with starter(build, STORAGE_DAEMON) as start:
        found = put_load(start, subject_of(build).profile.capabilities, 20, 1)
    assert any(each.startswith("memory: QEMU grows by ") for each in found.violations)
