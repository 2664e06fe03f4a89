# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose data is it?  Bytes found on a disk, told apart by who wrote them, and for which place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.stamps import Origin, data, trace_origin
from model.content import ZERO, Stamp
from model.node import SECTOR

_SAMPLE: Final = 32
_LEAST: Final = 4
"""Fewer bytes than this may be anybody's by chance."""
_STRIDE: Final = 64 * 1024
_SEARCHES: Final = 8
_WRITERS: Final = 32
"""So many pieces are looked for in other places than their own, as data of so many writers, the
last ones; each search for one writer takes a millisecond or two."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of ``[start, end)`` of one origin; None: nobody's."""

    start: int
    end: int
    origin: Origin | None

    @property
    def shift(self) -> int:
        """How far from its place the data was found, in bytes; positive: further up the disk."""
        return self.start - self.origin.offset if self.origin is not None else 0


def origins(found: bytes, offset: int, stamps: Sequence[Stamp], disk_size: int) -> list[Piece]:
    """Who wrote ``found``, the bytes at ``offset`` of the disk; ``stamps`` are the candidates."""
    pieces: list[Piece] = []
    for piece in _Search(found, offset, stamps, disk_size).pieces():
        if pieces and _continues(pieces[-1], piece):
            piece = Piece(pieces[-1].start, piece.end, pieces.pop().origin)
        pieces.append(piece)
    return pieces


def _continues(before: Piece, piece: Piece) -> bool:
    if before.origin is None or piece.origin is None:
        return before.origin is piece.origin
    same = before.origin.stamp == piece.origin.stamp
    return same and (piece.origin.stamp == ZERO or before.shift == piece.shift)


class _Search:
    def __init__(
        self, found: bytes, offset: int, stamps: Sequence[Stamp], disk_size: int,
    ) -> None:
        self._found = found
        self._offset = offset
        self._stamps = stamps
        self._disk_size = disk_size
        self._searches = _SEARCHES

    def pieces(self) -> Iterator[Piece]:
        place = 0
        last: Origin | None = None
        while place < len(self._found):
            origin = self._origin_at(place, last)
            if origin is None:
                # Look again at the next sector, and then back from there.
                unknown = min(place + SECTOR - (self._offset + place) % SECTOR,
                              len(self._found))
                following = self._origin_at(unknown, last)
                if following is not None:
                    last = Origin(following.stamp, following.offset - self._offset - unknown)
                end = unknown - self._length_before(place, unknown, following)
                yield Piece(self._offset + place, self._offset + end, None)
                place = end
                continue
            start = self._offset + place
            length = self._length(place, origin)
            yield Piece(start, start + length, origin)
            last = Origin(origin.stamp, origin.offset - start)
            place += length

    def _origin_at(self, place: int, last: Origin | None) -> Origin | None:
        """``last`` is the origin before, its offset relative to where it was found."""
        sample = self._found[place:place + _SAMPLE]
        where = self._offset + place
        if len(sample) < _LEAST:
            return None
        if not sample[:_LEAST].strip(b"\0"):
            return Origin(ZERO, where)
        # The sample may reach into the next piece: half of it must do.
        short = sample[:_SAMPLE // 2]
        if last is not None and data(last.stamp, where + last.offset, len(short)) == short:
            return Origin(last.stamp, where + last.offset)
        for stamp in self._stamps:
            if stamp != ZERO and data(stamp, where, len(short)) == short:
                return Origin(stamp, where)
        if len(short) < _SAMPLE // 2 or not self._searches:
            return None
        self._searches -= 1
        for stamp in self._stamps[-_WRITERS:]:
            origin = trace_origin(short, where, range(stamp, stamp + 1), self._disk_size)
            if origin is not None:
                return origin
        return None

    def _length_before(self, start: int, end: int, origin: Origin | None) -> int:
        """How many bytes before ``end``, not back to ``start``, are of the origin at ``end``."""
        length = 0
        while origin is not None and length < min(end - start - 1, origin.offset):
            before = data(origin.stamp, origin.offset - length - 1, 1)
            if before != self._found[end - length - 1:end - length]:
                break
            length += 1
        return length

    def _length(self, place: int, origin: Origin) -> int:
        """How many bytes from ``place`` on are of the origin."""
        length = 0
        while place + length < len(self._found):
            here = self._found[place + length:place + length + _STRIDE]
            right = data(origin.stamp, origin.offset + length, len(here))
            if here != right:
                return length + next(index for index, (one, other)
                                     in enumerate(zip(here, right, strict=True)) if one != other)
            length += len(here)
        return length
