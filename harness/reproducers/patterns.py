# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of a reproducer: one byte value for each write, as qemu-io writes and checks them.

What an image holds from the start has another value in each block, so that data of another place
is told from that of the right one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harness.reproducers.script import Piece
from model.bitmap import divide_up
from model.content import ZERO, Content, Stamp

_VALUES: Final = 255
_BLOCK: Final = 4096
_FILL_VALUES: Final = 160
"""At most so many of the values are given to what images hold from the start."""


def flights(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """The pieces, those put together that a loop can write: of one length, one behind the other,
    each of the next value."""
    found: list[list[Piece]] = []
    for piece in pieces:
        before = found[-1][-1] if found else None
        if before is not None and (before.end, before.length, before.pattern + 1) == (
                piece.start, piece.length, piece.pattern):
            found[-1].append(piece)
        else:
            found.append([piece])
    return found


class Patterns:
    """Gives out the values; the same for the same place of the same write."""

    def __init__(self, filled: Iterable[int]) -> None:
        """``filled``: how many bytes each image holds from the start."""
        self._given: dict[tuple[Stamp, int], int] = {}
        self._block = _BLOCK
        sizes = list(filled)
        while sum(divide_up(size, self._block) for size in sizes) > _FILL_VALUES:
            self._block *= 2

    def pieces(self, content: Content, offset: int) -> tuple[Piece, ...]:
        """The content, which begins at ``offset`` of the disk."""
        found: list[Piece] = []
        for run in content.runs():
            start, end = offset + run.start, offset + run.end
            while start < end:
                stop = end if run.value >= 0 else min(
                    end, start // self._block * self._block + self._block)
                pattern = self._value(run.value, start)
                if found and found[-1].pattern == pattern and found[-1].end == start:
                    start = found.pop().start
                found.append(Piece(start, stop, pattern))
                start = stop
        return tuple(found)

    def _value(self, stamp: Stamp, offset: int) -> int:
        if stamp == ZERO:
            return 0
        key = stamp, offset // self._block if stamp < 0 else 0
        return self._given.setdefault(key, len(self._given) % _VALUES + 1)
