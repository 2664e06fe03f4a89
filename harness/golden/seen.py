# SPDX-License-Identifier: GPL-2.0-or-later
"""What came of an operation, in the one shape that both the model's outcome and a system's answer
can be put into before it is written down.

Data is symbolic: not bytes, but who wrote what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.lockstep.compare import compare, expected_errno
from harness.lockstep.differences import CompressedDiffers, DataDiffers, LengthDiffers
from harness.lockstep.found import Found
from harness.lockstep.origin import Piece, origins
from harness.ranges import merged
from harness.stamps import Origin
from harness.systems.base import Answer
from model.content import ZERO, Stamp
from model.errors import QmpError
from model.operations import Operation, Request, Status
from model.outcome import Outcome

StatusRun: TypeAlias = tuple[int, int, frozenset[int]]
"""A run of block status: start, end, and the values that it may have."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is to be written down; fields as in ``model.outcome.Outcome``, ``error`` a number."""

    error: int | None = None
    refused: QmpError | None = None
    pieces: tuple[Piece, ...] | None = None
    extents: tuple[StatusRun, ...] | None = None
    denied: tuple[tuple[int, int], ...] = ()
    disconnected: bool = False
    perhaps_zero: tuple[tuple[int, int], ...] = ()
    """Ranges of the disk for which zeroes would be as right."""
    compressed: tuple[tuple[str, range], ...] = ()
    """How many clusters of qcow2 files hold compressed data, or may; of those that may have any.
    """


def of_outcome(operation: Operation, outcome: Outcome) -> Seen:
    """What the model says comes of the operation."""
    start = _start(operation)
    extents = None
    if outcome.extents is not None:
        extents = _joined(_placed(
            start, ((each.length, each.allowed) for each in outcome.extents)))
        if isinstance(operation, Status) and operation.one:
            extents = extents[:1]
    pieces = None
    if outcome.content is not None:
        pieces = tuple(Piece(start + run.start, start + run.end,
                             Origin(run.value, start + run.start))
                       for run in outcome.content.runs())
    return Seen(expected_errno(operation, outcome), outcome.refused, pieces, extents,
                outcome.denied, outcome.disconnected, outcome.perhaps_zero,
                _any_compressed(outcome.compressed or {}))


def of_answer(operation: Operation, answer: Answer, outcome: Outcome,
              writers: Sequence[Stamp]) -> Seen:
    """What a system answered.

    ``outcome`` is the model's.  Where it leaves QEMU free (how extents are cut, what a file system
    makes of space never written), an answer that it allows is written down as the model has it;
    any other answer as what it is.  ``writers``: the stamps of all who have written so far.
    """
    model = of_outcome(operation, outcome)
    kinds = {type(each) for each in compare(operation, outcome, answer)}
    start = _start(operation)
    extents = None
    if answer.extents is not None:
        found = _placed(start, ((length, frozenset({flags})) for length, flags in answer.extents))
        extents = _joined(_allowed(found, model.extents or ())) if kinds else model.extents
    pieces = None
    perhaps_zero: tuple[tuple[int, int], ...] = ()
    if answer.data is not None or answer.parts is not None:
        if model.pieces is not None and not kinds & {DataDiffers, LengthDiffers}:
            pieces, perhaps_zero = model.pieces, model.perhaps_zero
        else:
            pieces = tuple(_attributed(answer, start, writers))
    compressed = model.compressed
    if CompressedDiffers in kinds:
        compressed = _any_compressed({node: range(number, number + 1) for node, number in (
            answer.compressed or {}).items()})
    return Seen(answer.error, answer.refused, pieces, extents, merged(answer.denied),
                answer.disconnected, perhaps_zero, compressed)


def _any_compressed(numbers: Mapping[str, range]) -> tuple[tuple[str, range], ...]:
    return tuple((node, allowed) for node, allowed in numbers.items() if allowed[-1])


def _start(operation: Operation) -> int:
    """Where on the disk an answer begins."""
    return operation.offset if isinstance(operation, Request) else 0


def _attributed(answer: Answer, start: int, writers: Sequence[Stamp]) -> Iterator[Piece]:
    """Who wrote each piece of the answer's data."""
    parts = answer.parts if answer.parts is not None else ((start, answer.data or b""),)
    found = Found(parts)
    last = Piece(start, start, None)
    for begin, end, data in found.pieces(start, max(found.end, start)):
        told = [Piece(begin, end, Origin(ZERO, begin))]
        if data is not None:
            told = origins(data, begin, writers, found.end)
        for piece in told:
            if piece.start > start and _same(last, piece):
                last = Piece(last.start, piece.end, last.origin)
                continue
            if last.start < last.end:
                yield last
            last = piece
    if last.start < last.end:
        yield last


def _same(piece: Piece, more: Piece) -> bool:
    """Whether ``more``, which begins where ``piece`` ends, is more of the same."""
    if piece.origin is None or more.origin is None:
        return piece.origin is more.origin
    same = piece.origin.stamp == more.origin.stamp
    return same and (piece.origin.stamp == ZERO or piece.shift == more.shift)


def _placed(start: int, runs: Iterator[tuple[int, frozenset[int]]]) -> Iterator[StatusRun]:
    for length, values in runs:
        yield start, start + length, values
        start += length


def _allowed(found: Iterator[StatusRun], expected: tuple[StatusRun, ...]) -> Iterator[StatusRun]:
    """``found``, cut where ``expected`` changes, with the freedom that ``expected`` gives."""
    for start, end, values in found:
        at = start
        for low, high, free in expected:
            if low < end and at < high:
                if at < low:
                    yield at, low, values
                    at = low
                stop = min(high, end)
                within = values <= free
                yield at, stop, free if within else values
                at = stop
        if at < end:
            yield at, end, values


def _joined(runs: Iterator[StatusRun]) -> tuple[StatusRun, ...]:
    """Neighbours of equal values as one: how a server cuts them up has no meaning."""
    joined: list[StatusRun] = []
    for start, end, values in runs:
        if joined and joined[-1][1] == start and joined[-1][2] == values:
            joined[-1] = (joined[-1][0], end, values)
        else:
            joined.append((start, end, values))
    return tuple(joined)
