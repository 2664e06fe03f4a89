# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracles: each passes what is right and catches what is not, however little of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness import stamps
from harness.lockstep.compare import compare, compare_observations
from harness.lockstep.differences import (
    BitmapsDiffer,
    CompressedDiffers,
    DataDiffers,
    DeniedDiffers,
    DeviceDiffers,
    Difference,
    DigestDiffers,
    DisconnectDiffers,
    ErrnoDiffers,
    EventsDiffer,
    ExtentEndsEarly,
    ExtentsDiffer,
    JobsDiffer,
    LengthDiffers,
    NotOneExtent,
    RefusalDiffers,
)
from harness.lockstep.replay import replay
from harness.lockstep.verdict import Conforms, Diverges, Failed
from harness.systems.base import Answer
from harness.systems.lies import Lie, Oracle, catalogue
from model.content import ZERO, stamped, zeroes
from model.errors import Errno, QmpError
from model.operations import Inspect, Read, RemoveNode, Status, Via, Write
from model.outcome import BitmapView, Extent, Observation, Outcome
from tests.unit import lockstep_lab as lab

K = 1024
KINDS: dict[Oracle, set[type[Difference]]] = {
    Oracle.DATA: {DataDiffers, LengthDiffers},
    Oracle.ERRNO: {ErrnoDiffers},
    Oracle.EXTENTS: {ExtentsDiffer, LengthDiffers, ErrnoDiffers, NotOneExtent, ExtentEndsEarly},
    Oracle.QMP: {RefusalDiffers},
    Oracle.BITMAPS: {BitmapsDiffer},
    Oracle.DIGESTS: {DigestDiffers},
    Oracle.INSPECTION: {DataDiffers, LengthDiffers, DeniedDiffers},
    Oracle.COMPRESSION: {CompressedDiffers},
    Oracle.DEVICE: {DeviceDiffers},
    Oracle.JOBS: {JobsDiffer},
    Oracle.EVENTS: {EventsDiffer},
}


def test_the_truth_conforms() -> None:
    assert replay(lab.THOROUGH, lab.stand()) == Conforms(len(lab.THOROUGH.steps))


@pytest.mark.parametrize("lie", catalogue().values(), ids=lambda lie: lie.name)
def test_every_lie_is_caught_by_its_oracle(lie: Lie) -> None:
    trace = lab.PLAIN if lie.deed and lie.oracle is not Oracle.BITMAPS else lab.THOROUGH
    verdict = replay(trace, lab.stand(lie))
    if lie.oracle is Oracle.LIFE:
        assert isinstance(verdict, Failed)
        return
    assert isinstance(verdict, Diverges)
    assert type(verdict.differences[0]) in KINDS[lie.oracle], verdict.summary
    assert verdict.differences[0].words()
    assert "\n" not in verdict.summary


# Errno and refusals


@pytest.mark.parametrize(("via", "seen"), [
    (Via.NBD, Errno.EINVAL), (Via.QEMU_IO, Errno.EINVAL),
    (Via.MONITOR, Errno.EACCES), (Via.DEVICE, Errno.EACCES),
])
def test_an_errno_is_compared_as_the_channel_shows_it(via: Via, seen: Errno) -> None:
    read = Read("snap", 0, 512, via)
    outcome = Outcome(error=Errno.EACCES)
    assert compare(read, outcome, Answer(error=int(seen))) == ()
    for wrong in (None, int(Errno.EIO), int(Errno.EPERM)):
        assert compare(read, outcome, Answer(error=wrong)) == (ErrnoDiffers(int(seen), wrong),)


def test_success_where_there_should_be_none_and_the_other_way_round() -> None:
    write = Write("cbw", 0, 512)
    assert compare(write, Outcome(), Answer()) == ()
    assert compare(write, Outcome(), Answer(error=5)) == (ErrnoDiffers(None, 5),)
    assert compare(write, Outcome(error=Errno.EIO), Answer()) == (ErrnoDiffers(5, None),)


def test_refusals_are_compared_by_class_and_text() -> None:
    remove = RemoveNode("cbw")
    busy = QmpError("Node cbw is in use")
    assert compare(remove, Outcome(refused=busy), Answer(refused=busy)) == ()
    for wrong in (None, QmpError("Node cbw is in use."),
                  QmpError("Node cbw is in use", "DeviceNotFound")):
        assert compare(remove, Outcome(refused=busy), Answer(refused=wrong)) == (
            RefusalDiffers(busy, wrong),)
    assert compare(remove, Outcome(), Answer(refused=busy)) == (RefusalDiffers(None, busy),)


def test_a_dropped_connection_is_an_outcome() -> None:
    read = Read("snap", 0, 512)
    assert compare(read, Outcome(disconnected=True), Answer(disconnected=True)) == ()
    assert compare(read, Outcome(disconnected=True), Answer(error=5)) == (
        DisconnectDiffers(True),)
    assert compare(read, Outcome(content=zeroes(512)), Answer(disconnected=True)) == (
        DisconnectDiffers(False),)


# Data


def wrong(outcome: Outcome, answer: Answer, offset: int = 0) -> tuple[tuple[int, int], ...]:
    """The ranges found wrong; nothing but wrong bytes may have been found."""
    size = outcome.content.size if outcome.content is not None else 0
    differences = compare(Read("d", offset, size), outcome, answer)
    if not differences:
        return ()
    (only,) = differences
    assert isinstance(only, DataDiffers)
    return only.wrong


@pytest.mark.parametrize("place", [0, 1, 511, 4095, 4096, 99_999])
def test_one_wrong_bit_anywhere(place: int) -> None:
    content = stamped(100_000, 7)
    data = bytearray(stamps.data(7, 12_345, 100_000))
    assert wrong(Outcome(content=content), Answer(data=bytes(data)), 12_345) == ()
    data[place] ^= 0x10
    assert wrong(Outcome(content=content), Answer(data=bytes(data)), 12_345) == (
        (12_345 + place, 12_346 + place),)


def test_wrong_ranges_are_exact_although_noise_agrees_with_noise() -> None:
    content = stamped(256 * K, 7)
    data = bytearray(stamps.data(7, 0, 256 * K))
    for start, end in ((0, 64 * K), (100_000, 100_100), (200_000, 256 * K)):
        data[start:end] = stamps.data(3, start, end - start)
    # The first and last byte of a range may agree by chance; these do not.
    assert wrong(Outcome(content=content), Answer(data=bytes(data))) == (
        (0, 64 * K), (100_000, 100_100), (200_000, 256 * K))


def test_data_in_many_runs_across_many_pieces() -> None:
    content = zeroes(5 << 20)
    content.set(3, (1 << 20) + 5, 4)
    content.set((2 << 20) - 1, (4 << 20) + 1, 5)
    data = stamps.render(content, 512)
    assert wrong(Outcome(content=content), Answer(data=data), 512) == ()
    broken = data[:(2 << 20) - 1] + bytes(1 << 20) + data[(3 << 20) - 1:]
    assert wrong(Outcome(content=content), Answer(data=broken), 512) == (
        ((2 << 20) + 511, (3 << 20) + 511),)


@pytest.mark.parametrize("data", [None, b"", bytes(511), bytes(513)])
def test_data_of_another_length(data: bytes | None) -> None:
    assert compare(Read("d", 0, 512), Outcome(content=zeroes(512)), Answer(data=data)) == (
        LengthDiffers("data", 512, len(data or b"")),)


def test_a_sector_that_may_be_zero_is_all_zero_or_all_data() -> None:
    outcome = Outcome(content=stamped(2048, 7), perhaps_zero=((4096 + 512, 4096 + 1536),))
    data = stamps.data(7, 4096, 2048)

    def zeroed(start: int, end: int) -> Answer:
        return Answer(data=data[:start] + bytes(end - start) + data[end:])

    assert wrong(outcome, zeroed(0, 0), 4096) == ()
    assert wrong(outcome, zeroed(512, 1024), 4096) == ()
    assert wrong(outcome, zeroed(512, 1536), 4096) == ()
    assert wrong(outcome, zeroed(512, 1000), 4096) == ((4096 + 512, 4096 + 1000),)
    assert wrong(outcome, zeroed(0, 1536), 4096) == ((4096, 4096 + 512),)
    assert wrong(outcome, zeroed(1024, 2048), 4096) == ((4096 + 1536, 4096 + 2048),)
    other = data[:512] + stamps.data(8, 4096 + 512, 512) + data[1024:]
    assert wrong(outcome, Answer(data=other), 4096) == ((4096 + 512, 4096 + 1024),)


# Inspections


def test_what_is_denied_is_compared_and_what_is_not_is_read() -> None:
    content = stamped(192 * K, 7)
    outcome = Outcome(content=content, denied=((64 * K, 128 * K),))
    data = stamps.data(7, 0, 192 * K)
    hidden = data[:64 * K] + bytes(64 * K) + data[128 * K:]
    inspect = Inspect("snap")
    right = Answer(data=hidden, denied=((64 * K, 96 * K), (96 * K, 128 * K)))
    assert compare(inspect, outcome, right) == ()
    assert compare(inspect, outcome, replace(right, denied=((64 * K, 96 * K),)))[0] == (
        DeniedDiffers(((64 * K, 128 * K),), ((64 * K, 96 * K),)))
    more = compare(inspect, outcome, replace(right, denied=((0, 128 * K),)))
    assert [each.places for each in more] == [((0, 64 * K),)]
    broken = compare(inspect, outcome, replace(right, data=hidden[:-1] + b"\0"))
    assert [each.places for each in broken] == [((192 * K - 1, 192 * K),)]


def test_a_huge_disk_is_compared_by_the_parts_that_are_not_zero() -> None:
    size = 64 << 30
    content = zeroes(size)
    content.set(10 << 30, (10 << 30) + 8192, 4)
    content.set(size - 512, size, 5)
    outcome = Outcome(content=content)
    first = ((10 << 30) - 4096, bytes(4096) + stamps.data(4, 10 << 30, 8192))
    last = (size - 512, stamps.data(5, size - 512, 512))
    inspect = Inspect("src")
    assert compare(inspect, outcome, Answer(parts=(first, last))) == ()
    missing = compare(inspect, outcome, Answer(parts=(first,)))
    assert [each.places for each in missing] == [((size - 512, size),)]
    extra = compare(inspect, outcome, Answer(parts=((512, b"\0\0x\0"), first, last)))
    assert [each.places for each in extra] == [((514, 515),)]
    nothing = compare(inspect, outcome, Answer(parts=()))
    assert [each.places for each in nothing] == [
        ((10 << 30, (10 << 30) + 8192), (size - 512, size))]
    beyond = compare(inspect, outcome, Answer(parts=(first, (size - 512, bytes(513)))))
    assert beyond == (LengthDiffers("data", size, size + 1),)


# Block status


def extents(*runs: tuple[int, set[int]]) -> Outcome:
    """An outcome of runs: length and the flags allowed."""
    return Outcome(extents=tuple(Extent(length, frozenset(flags)) for length, flags in runs))


STATUS = Status("snap", 4096, 3 * K)
ONE = replace(STATUS, one=True)
KNOWN = extents((K, {0}), (2 * K, {3}))
UNSURE = extents((K, {0}), (K, {0, 3}), (K, {3}))


@pytest.mark.parametrize(("outcome", "found"), [
    (KNOWN, ((K, 0), (2 * K, 3))),
    (KNOWN, ((512, 0), (512, 0), (K, 3), (K, 3))),
    (UNSURE, ((2 * K, 0), (K, 3))),
    (UNSURE, ((K, 0), (2 * K, 3))),
    (UNSURE, ((K, 0), (512, 3), (100, 0), (412 + K, 3))),
])
def test_extents_that_are_right(outcome: Outcome, found: tuple[tuple[int, int], ...]) -> None:
    assert compare(STATUS, outcome, Answer(extents=found)) == ()


@pytest.mark.parametrize(("outcome", "found", "kind", "places"), [
    (KNOWN, ((3 * K, 0),), ExtentsDiffer, ((4096 + K, 4096 + 3 * K),)),
    (KNOWN, ((K + 1, 0), (2 * K - 1, 3)), ExtentsDiffer, ((4096 + K, 4097 + K),)),
    (KNOWN, ((K, 0), (2 * K, 2)), ExtentsDiffer, ((4096 + K, 4096 + 3 * K),)),
    (UNSURE, ((K, 0), (K, 2), (K, 3)), ExtentsDiffer, ((4096 + K, 4096 + 2 * K),)),
    (UNSURE, ((3 * K, 0),), ExtentsDiffer, ((4096 + 2 * K, 4096 + 3 * K),)),
    (KNOWN, ((K, 0), (K, 3)), LengthDiffers, ()),
    (KNOWN, ((K, 0), (2 * K, 3), (1, 3)), LengthDiffers, ()),
    (KNOWN, None, LengthDiffers, ()),
])
def test_extents_that_are_wrong(
    outcome: Outcome, found: tuple[tuple[int, int], ...] | None, kind: type[Difference],
    places: tuple[tuple[int, int], ...],
) -> None:
    (difference,) = compare(STATUS, outcome, Answer(extents=found))
    assert isinstance(difference, kind)
    assert difference.places == places


@pytest.mark.parametrize(("outcome", "found", "kind"), [
    (KNOWN, ((K, 0),), None),
    (KNOWN, ((K - 1, 0),), ExtentEndsEarly),
    (KNOWN, ((K + 1, 0),), ExtentsDiffer),
    (KNOWN, ((K, 3),), ExtentsDiffer),
    (KNOWN, ((K, 0), (2 * K, 3)), NotOneExtent),
    (KNOWN, (), NotOneExtent),
    (KNOWN, ((4 * K, 0),), LengthDiffers),
    (UNSURE, ((K, 0),), None),
    (UNSURE, ((K + 512, 0),), None),
    (UNSURE, ((2 * K, 0),), None),
    (UNSURE, ((K - 1, 0),), ExtentEndsEarly),
    (extents((K, {0}), (K, {0}), (K, {3})), ((K, 0),), ExtentEndsEarly),
    (extents((3 * K, {0})), ((3 * K, 0),), None),
])
def test_one_extent_goes_on_as_long_as_the_status_does(
    outcome: Outcome, found: tuple[tuple[int, int], ...], kind: type[Difference] | None,
) -> None:
    differences = compare(ONE, outcome, Answer(extents=found))
    assert [type(each) for each in differences] == ([kind] if kind else [])


# Bitmaps


VIEW = BitmapView("b", 65536, 131072, recording=True)
SEEN = Observation({"src": (VIEW, BitmapView(None, 65536, 0)), "tmp": ()}, {("src", "b"): "ab12"})


def test_bitmaps_are_compared_node_by_node_and_in_order() -> None:
    assert compare_observations(SEEN, SEEN) == ()
    empty = Observation({"src": SEEN.bitmaps["src"]}, SEEN.digests)
    assert compare_observations(SEEN, empty) == ()
    swapped = Observation({"src": SEEN.bitmaps["src"][::-1]}, SEEN.digests)
    assert compare_observations(SEEN, swapped) == (
        BitmapsDiffer("src", SEEN.bitmaps["src"], swapped.bitmaps["src"]),)
    elsewhere = Observation({"cbw": SEEN.bitmaps["src"]}, SEEN.digests)
    assert [each.kind for each in compare_observations(SEEN, elsewhere)] == ["bitmaps"] * 2


@pytest.mark.parametrize("change", [
    {"name": "c"}, {"name": None}, {"granularity": 512}, {"count": 65536}, {"recording": False},
    {"busy": True}, {"persistent": True}, {"inconsistent": True},
])
def test_every_field_of_a_bitmap_counts(change: dict[str, Any]) -> None:
    view = replace(VIEW, **change)
    found = Observation({"src": (view, SEEN.bitmaps["src"][1])}, SEEN.digests)
    (difference,) = compare_observations(SEEN, found)
    assert difference.signature == ("bitmaps", *change)


def test_digests_are_compared_one_by_one() -> None:
    for digests in ({}, {("src", "b"): "ab13"}, {("src", "b"): "ab12", ("src", "c"): "0"}):
        (difference,) = compare_observations(SEEN, Observation(SEEN.bitmaps, digests))
        assert isinstance(difference, DigestDiffers)


def test_an_answer_of_which_the_model_says_nothing_is_wrong() -> None:
    read, asked = Read("src", 0, 512), Status("src", 0, 512)
    assert compare(read, Outcome(), Answer(data=bytes(512))) == (LengthDiffers("data", 0, 512),)
    assert compare(asked, Outcome(), Answer(extents=((512, 0),))) == (
        LengthDiffers("block status", 0, 512),)


def test_zero_is_the_stamp_of_nobody() -> None:
    assert stamps.data(ZERO, 5, 3) == bytes(3)
