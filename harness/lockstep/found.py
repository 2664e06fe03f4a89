# SPDX-License-Identifier: GPL-2.0-or-later
"""Data found on a disk, held as it was answered: whole, or as the parts that are not zero."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PIECE: Final = 1 << 20
"""Long data is looked at in pieces of so many bytes, to spend no memory on a second copy."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a disk was found to hold: ``parts`` as (offset, bytes), ascending; all else is zero."""

    parts: tuple[tuple[int, bytes], ...]

    @property
    def end(self) -> int:
        """Where the last part ends."""
        return self.parts[-1][0] + len(self.parts[-1][1]) if self.parts else 0

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, bytes | None]]:
        """The places of ``[start, end)`` in order, as (start, end, data); None: zero.

        Pieces with data have :data:`PIECE` bytes or less, those without any number.
        """
        index = max(0, bisect_right(self.parts, start, key=lambda part: part[0]) - 1)
        for part_start, data in self.parts[index:]:
            part_end = part_start + len(data)
            if part_start >= end:
                break
            if start < part_start:
                yield start, part_start, None
                start = part_start
            while start < min(part_end, end):
                stop = min(part_end, end, start + PIECE)
                yield start, stop, data[start - part_start:stop - part_start]
                start = stop
        if start < end:
            yield start, end, None

    def at(self, start: int, end: int) -> bytes:
        """The bytes of ``[start, end)``."""
        return b"".join(bytes(stop - begin) if data is None else data
                        for begin, stop, data in self.pieces(start, end))
