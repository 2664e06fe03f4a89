# SPDX-License-Identifier: GPL-2.0-or-later
"""Where requests begin and end: around the boundaries where rules change.

Offsets are a boundary plus or minus very little, for it is there that rounding, splitting and
clipping show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.exploration.choices import Choices
from model.configuration import KIB, MIB

SHIFTS: Final = (0, 0, 0, 0, 0, -1, 1, -511, 511, -512, 512, -513, 513, -4096, 4096)
LENGTHS: Final = (1, 2, 511, 512, 513, 1 * KIB, 4 * KIB, 4 * KIB + 1)
LONGEST: Final = 16 * MIB
"""No request is longer: more data teaches nothing new and costs time."""


def place(choices: Choices, size: int, units: Sequence[int]) -> int:
    """An offset in ``[0, size]``, most often near a multiple of one of the units or the end."""
    if choices.chance(3):
        near = size
    else:
        unit = choices.pick(units)
        # Few boundaries, so that operations meet: the first eight, or the last ones.
        last = size // unit
        count = choices.integer(0, min(last, 7))
        near = (last - count if choices.chance(4) else count) * unit
    return min(max(near + choices.pick(SHIFTS), 0), size)


def span(choices: Choices, size: int, units: Sequence[int]) -> tuple[int, int]:
    """An offset and a length inside a node of ``size`` bytes; of length 0 if that is empty."""
    if size == 0:
        return 0, 0
    form = choices.integer(0, 15)
    if form == 0 and size <= LONGEST:
        return 0, size
    if form <= 4:  # some whole units: what backup clients ask for
        unit = choices.pick(units)
        first = choices.integer(0, min((size - 1) // unit, 15)) * unit
        length = min(unit * choices.pick((1, 1, 1, 2, 3)), size - first)
    elif form <= 8:  # little, somewhere
        first = min(place(choices, size, units), size - 1)
        length = min(choices.pick(LENGTHS), size - first)
    else:
        one, other = place(choices, size, units), place(choices, size, units)
        first, length = min(one, other), abs(one - other)
    if length == 0:
        first, length = min(first, size - 1), 1
    return first, min(length, LONGEST)


def several(choices: Choices, size: int, units: Sequence[int],
            most: int) -> tuple[tuple[int, int], ...]:
    """Up to ``most`` ranges that do not overlap, in order."""
    found: list[tuple[int, int]] = []
    for offset, length in sorted(span(choices, size, units)
                                 for _ in range(choices.integer(0, most))):
        start = max(offset, sum(found[-1]) if found else 0)
        if start < offset + length:
            found.append((start, offset + length - start))
    return tuple(found)
