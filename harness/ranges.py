# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of half-open ranges of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from model.bitmap import align_down, align_up

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Ranges (start, end) of a disk."""


def pieces(start: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """The range cut into pieces of that length, the last one of what is left."""
    for begin in range(start, end, length):
        yield begin, min(begin + length, end)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same places as as few ranges (start, end) as can be, in order."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        elif start < end:
            out.append((start, end))
    return tuple(out)


def without(start: int, end: int, holes: Ranges) -> Iterator[tuple[int, int]]:
    """The ranges of ``[start, end)`` that are in none of ``holes``, which are in order."""
    for hole_start, hole_end in holes:
        if start < min(hole_start, end):
            yield start, min(hole_start, end)
        start = max(start, hole_end)
    if start < end:
        yield start, end


def widened(ranges: Iterable[tuple[int, int]], unit: int) -> Ranges:
    """The ranges rounded outwards to multiples of ``unit``."""
    return merged((align_down(start, unit), align_up(end, unit)) for start, end in ranges)


def touches(start: int, end: int, ranges: Ranges) -> bool:
    """Whether ``[start, end)`` has a byte in one of the ranges."""
    return any(start < high and low < end for low, high in ranges)
