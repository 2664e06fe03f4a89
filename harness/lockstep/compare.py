# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracles: what the model says against what the system did.

Nothing is tolerated here.  Where QEMU may answer in more than one way, the model says so
(:class:`model.outcome.Extent`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.ranges import Ranges, merged, without
from harness.stamps import data, render
from harness.systems.base import Answer
from model.channels import seen_through
from model.content import ZERO, Content, Stamp, zeroes
from model.node import SECTOR
from model.operations import Operation, Request, Status
from model.outcome import Extent, Observation, Outcome

from .differences import (
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
    WrongExtent,
)
from .found import PIECE, Found

_WRONG: Final = re.compile(rb"[^\0]+(?:\0{1,15}[^\0]+)*")
"""Wrong bytes in the XOR of two answers; noise agrees with noise in one byte of 256, so up to 15
equal bytes between wrong ones are chance."""


def compare(operation: Operation, outcome: Outcome, answer: Answer) -> tuple[Difference, ...]:
    """How the system's answer to ``operation`` differs from the model's outcome."""
    if outcome.refused != answer.refused:
        return (RefusalDiffers(outcome.refused, answer.refused),)
    if outcome.disconnected != answer.disconnected:
        return (DisconnectDiffers(outcome.disconnected),)
    expected = expected_errno(operation, outcome)
    if expected != answer.error:
        return (ErrnoDiffers(expected, answer.error),)
    if expected is not None:
        return ()
    found: list[Difference] = [*_compare_compressed(
        outcome.compressed or {}, answer.compressed or {})]
    offset = operation.offset if isinstance(operation, Request) else 0
    if outcome.content is not None or answer.data is not None:
        found += _compare_data(offset, outcome, outcome.content or zeroes(0), answer)
    if outcome.extents is not None or answer.extents is not None:
        found += _compare_extents(operation, offset, outcome.extents or (), answer.extents or ())
    return tuple(found)


def expected_errno(operation: Operation, outcome: Outcome) -> int | None:
    """The errno's number that the operation's channel shows for the outcome; None: success."""
    if outcome.error is None:
        return None
    if isinstance(operation, Request):
        return int(seen_through(operation.via, outcome.error))
    return int(outcome.error)


def compare_observations(model: Observation, system: Observation) -> tuple[Difference, ...]:
    """How the bitmaps, the device and the jobs of the system differ from the model's."""
    found: list[Difference] = []
    if model.bitmaps != system.bitmaps:
        for node in sorted({*model.bitmaps, *system.bitmaps}):
            expected, seen = model.bitmaps.get(node, ()), system.bitmaps.get(node, ())
            if expected != seen:
                found.append(BitmapsDiffer(node, expected, seen))
    if model.digests != system.digests:
        for node, name in sorted({*model.digests, *system.digests}):
            left, right = model.digests.get((node, name)), system.digests.get((node, name))
            if left != right:
                found.append(DigestDiffers(node, name, left, right))
    if model.device != system.device:
        found.append(DeviceDiffers(model.device, system.device))
    if model.jobs != system.jobs:
        found.append(JobsDiffer(model.jobs, system.jobs))
    if model.events != system.events:
        found.append(EventsDiffer(model.events, system.events))
    return tuple(found)


# Data


def _compare_data(
    offset: int, outcome: Outcome, expected: Content, answer: Answer,
) -> Iterator[Difference]:
    nothing_denied = not outcome.denied and not answer.denied
    if nothing_denied and expected.size <= PIECE and answer.data == render(expected, offset):
        return
    denied, denied_found = merged(outcome.denied), merged(answer.denied)
    if denied != denied_found:
        yield DeniedDiffers(denied, denied_found)
    if answer.parts is None:
        read = answer.data if answer.data is not None else b""
        if len(read) != expected.size:
            yield LengthDiffers("data", expected.size, len(read))
            return
        found = Found(((offset, read),))
    else:
        found = Found(answer.parts)
        if found.end > offset + expected.size:
            yield LengthDiffers("data", expected.size, found.end - offset)
            return
    excused = merged(outcome.perhaps_zero)
    wrong = wrong_ranges(offset, expected, found, merged((*denied, *denied_found)), excused)
    if wrong:
        yield DataDiffers(offset, expected, found, wrong)


def wrong_ranges(
    offset: int, expected: Content, found: Found, unread: Ranges = (), perhaps_zero: Ranges = (),
) -> Ranges:
    """The ranges of the disk where ``found`` is not ``expected``, which begins at ``offset``.

    ``unread`` lists ranges of the disk that could not be read and are not compared;
    ``perhaps_zero`` those where a sector may be zero instead.
    """
    wrong: list[tuple[int, int]] = []
    for start, end in without(offset, offset + expected.size, unread):
        for run in expected.runs(start - offset, end - offset):
            wrong += _wrong(offset + run.start, offset + run.end, run.value, found)
    excused = merged(each for bad in wrong for each in _zero_sectors(*bad, found, perhaps_zero))
    return merged(each for bad in wrong for each in without(*bad, excused))


def _wrong(start: int, end: int, stamp: Stamp, found: Found) -> Iterator[tuple[int, int]]:
    for begin, stop, here in found.pieces(start, end):
        if here is None:
            if stamp != ZERO:
                yield begin, stop
            continue
        right = data(stamp, begin, stop - begin)
        if here != right:
            different = int.from_bytes(here, "little") ^ int.from_bytes(right, "little")
            for match in _WRONG.finditer(different.to_bytes(len(here), "little")):
                yield begin + match.start(), begin + match.end()


def _zero_sectors(start: int, end: int, found: Found, within: Ranges) -> Iterator[tuple[int, int]]:
    """The sectors, as far as they lie in ``within``, that touch [start, end) and are all zero."""
    for low, high in within:
        place = max(low, start - start % SECTOR)
        while place < min(high, end):
            stop = min(high, place - place % SECTOR + SECTOR)
            if not any(found.at(place, stop)):
                yield place, stop
            place = stop


# Compressed clusters


def _compare_compressed(
    expected: Mapping[str, range], found: Mapping[str, int],
) -> Iterator[Difference]:
    for node in sorted({*expected, *found}):
        if found.get(node) not in expected.get(node, ()):
            yield CompressedDiffers(node, expected.get(node), found.get(node))


# Block status


def _compare_extents(
    operation: Operation, offset: int, expected: Sequence[Extent],
    found: Sequence[tuple[int, int]],
) -> Iterator[Difference]:
    one = isinstance(operation, Status) and operation.one
    context = operation.context if isinstance(operation, Status) else ""
    asked = sum(extent.length for extent in expected)
    came = sum(length for length, _ in found)
    if one and len(found) != 1:
        yield NotOneExtent(len(found))
        return
    if came > asked or (came < asked and not one):
        yield LengthDiffers("block status", asked, came)
        return
    wrong = tuple(_wrong_extents(offset, expected, found))
    if wrong:
        yield ExtentsDiffer(context, wrong)
    elif one:
        goes_on = _same_until(expected, came, found[0][1])
        if goes_on > came:
            yield ExtentEndsEarly(offset + goes_on, offset + came)


def _wrong_extents(
    offset: int, expected: Sequence[Extent], found: Sequence[tuple[int, int]],
) -> Iterator[WrongExtent]:
    allowed = iter(expected)
    place = offset
    here: Extent | None = None
    left = 0
    for length, value in found:
        while length:
            if not left:
                here = next(allowed)
                left = here.length
            step = min(left, length)
            if step and here is not None and value not in here.allowed:
                yield WrongExtent(place, place + step, here.allowed, value)
            place += step
            left -= step
            length -= step


def _same_until(expected: Sequence[Extent], start: int, value: int) -> int:
    """Up to where, from ``start`` on, the status can be nothing but ``value``."""
    end = 0
    for extent in expected:
        end += extent.length
        if end <= start:
            continue
        if extent.allowed != {value}:
            return max(start, end - extent.length)
    return end
