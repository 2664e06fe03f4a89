# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU has promised to keep over a kill, and a QEMU that does not keep it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator

import pytest

from harness import stamps
from harness.builds import STORAGE_DAEMON, Build
from harness.exploration import kills
from harness.exploration.durability import ANYTHING, Durable
from harness.exploration.kills import Kills, kill_rounds
from harness.exploration.load_oracle import BLOCK, Wrong
from harness.systems.qmp_system import QmpSystem
from harness.systems.starting import starter
from model.configuration import Configuration, Format
from model.content import ZERO, Stamp
from tests.unit.real_lab import real_build

FIRST = -1


def data(stamp: Stamp) -> bytes:
    return stamps.data(stamp, 0, BLOCK)


def may_hold(disk: Durable, *candidates: Stamp) -> set[Stamp]:
    """Which of these a disk of one block may be found with."""
    return {each for each in candidates if not isinstance(disk.settle(data(each)), Wrong)}


def test_what_ended_before_a_flush_is_promised() -> None:
    disk = Durable(BLOCK, [FIRST])
    change = disk.begin(0, BLOCK, 1, 10)
    assert may_hold(disk, FIRST, 1, 2) == {FIRST, 1}
    disk.end(0, BLOCK, change, 11, lasts=False)
    assert may_hold(disk, FIRST, 1, 2) == {FIRST, 1}
    disk.flushed(11)
    assert may_hold(disk, FIRST, 1, 2) == {FIRST, 1}, "it began before the write had ended"
    disk.flushed(12)
    assert may_hold(disk, FIRST, 1, 2) == {1}


def test_a_write_that_lasts_is_promised_at_once() -> None:
    disk = Durable(BLOCK, [FIRST])
    earlier = disk.begin(0, BLOCK, 1, 10)
    disk.end(0, BLOCK, earlier, 11, lasts=False)
    last = disk.begin(0, BLOCK, 2, 12)
    beside = disk.begin(0, BLOCK, 3, 13)
    disk.end(0, BLOCK, last, 14, lasts=True)
    assert may_hold(disk, FIRST, 1, 2, 3) == {2, 3}
    disk.end(0, BLOCK, beside, 15, lasts=False)
    disk.flushed(16)
    assert may_hold(disk, FIRST, 1, 2, 3) == {2, 3}, "either of the two may have come last"


def test_a_discard_promises_nothing() -> None:
    disk = Durable(BLOCK, [FIRST])
    change = disk.begin(0, BLOCK, ZERO, 10, certain=False)
    disk.end(0, BLOCK, change, 11, lasts=False)
    disk.flushed(12)
    assert may_hold(disk, FIRST, ZERO, 1) == {FIRST, ZERO}


def test_what_is_being_freed_may_hold_anything_until_it_is_promised() -> None:
    disk = Durable(BLOCK, [FIRST])
    change = disk.begin(0, BLOCK, ZERO, 10, frees=True)
    assert disk.settle(data(77)) == [ANYTHING]
    disk.end(0, BLOCK, change, 11, lasts=False)
    disk.flushed(12)
    assert may_hold(disk, FIRST, ZERO, 77) == {ZERO}
    assert disk.settle(b"") == Wrong(0, (ZERO,), b"")
    again = Durable(BLOCK, [ANYTHING])
    assert again.settle(data(77)) == [ANYTHING]


def test_what_is_being_overwritten_may_be_zero_until_that_has_ended() -> None:
    disk = Durable(BLOCK, [FIRST])
    change = disk.begin(0, BLOCK, 1, 10, clears=True)
    assert may_hold(disk, FIRST, 1, ZERO, 77) == {FIRST, 1, ZERO}
    disk.end(0, BLOCK, change, 11, lasts=False)
    assert may_hold(disk, FIRST, 1, ZERO, 77) == {FIRST, 1}


# On the storage daemon that is found


Start = Callable[[Configuration], QmpSystem]


@pytest.fixture(scope="module")
def build() -> Build:
    return real_build(STORAGE_DAEMON, "qemu-img")


@pytest.fixture(scope="module")
def start(build: Build) -> Iterator[Start]:
    with starter(build, STORAGE_DAEMON) as found:
        yield found


def test_nothing_is_lost(build: Build, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "ROUNDS", 8)
    found = kill_rounds(start, build, 120, 5, 24)
    assert found.violations == []
    assert found.rounds == 24
    assert 12 < found.kills < 24, "some ends are good ones"
    assert found.requests > 24


def only(monkeypatch: pytest.MonkeyPatch, end: kills.End, image_format: Format) -> None:
    monkeypatch.setattr(kills, "_ENDS", (end,))
    monkeypatch.setattr(kills, "IMAGES", tuple(
        each for each in kills.IMAGES if each.images[0].format is image_format))


@pytest.mark.parametrize("image_format", [Format.RAW, Format.QCOW2])
def test_a_disk_that_falls_back_is_caught(
        image_format: Format, build: Build, start: Start,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the last round, its flushes included, had never been."""
    only(monkeypatch, kills.End.KILLED, image_format)
    check, change = kills._Victim._check_images, kills._Victim._change_bitmaps

    def remember(victim: kills._Victim) -> None:
        change(victim)
        file = victim._system.image_file("src")
        shutil.copyfile(file, file.with_suffix(".old"))

    def fall_back(victim: kills._Victim) -> None:
        file = victim._system.image_file("src")
        shutil.copyfile(file.with_suffix(".old"), file)
        check(victim)

    monkeypatch.setattr(kills._Victim, "_change_bitmaps", remember)
    monkeypatch.setattr(kills._Victim, "_check_images", fall_back)
    found = kill_rounds(start, build, 120, 5, 20)
    assert "must be of one of" in found.violations[0]


def test_a_corrupt_image_is_caught(build: Build, start: Start,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, kills.End.KILLED, Format.QCOW2)
    check = kills._Victim._check_images

    def scribble(victim: kills._Victim) -> None:
        with victim._system.image_file("src").open("r+b") as file:
            file.seek(2 * victim._configuration.images[0].cluster_size)  # type: ignore[operator]
            file.write(bytes(64))  # the first refcounts
        check(victim)

    monkeypatch.setattr(kills._Victim, "_check_images", scribble)
    found = kill_rounds(start, build, 120, 5, 20)
    assert "qemu-img check of src: exit status 2" in found.violations[0]
    assert found.place[-1] == "round 1 over these images, drawn from seed 5/0"


def test_bitmaps_that_are_lost_are_caught(build: Build, start: Start,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, kills.End.WELL, Format.QCOW2)
    monkeypatch.setattr(kills._Victim, "_bitmaps", lambda victim: kills._Bitmaps({}, {}))
    assert kill_rounds(start, build, 120, 5, 2).violations == [], "nothing there, nothing lost"
    look = kills._Victim._bitmaps
    monkeypatch.undo()
    only(monkeypatch, kills.End.WELL, Format.QCOW2)
    own = kills._Victim._look_at_bitmaps

    def lost(victim: kills._Victim) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kills._Victim, "_bitmaps", look)
            own(victim)

    monkeypatch.setattr(kills._Victim, "_look_at_bitmaps", lost)
    assert "bitmaps: expected" in kill_rounds(start, build, 120, 5, 5).violations[0]


def test_a_bitmap_that_is_taken_for_good_after_a_kill_is_caught(
        build: Build, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, kills.End.KILLED, Format.QCOW2)
    monkeypatch.setattr(kills, "_ENDS", (kills.End.WELL, kills.End.KILLED))
    look = kills._Victim._bitmaps

    def forged(victim: kills._Victim) -> kills._Bitmaps:
        found = look(victim)
        return kills._Bitmaps({name: dataclasses.replace(view, inconsistent=False)
                               for name, view in found.views.items()}, found.digests)

    monkeypatch.setattr(kills._Victim, "_bitmaps", forged)
    found = kill_rounds(start, build, 120, 5, 30)
    assert "bitmaps: expected" in found.violations[0]


def test_a_summary_is_one_line() -> None:
    assert "\n" not in Kills(3, 2, violations=["a"]).summary
