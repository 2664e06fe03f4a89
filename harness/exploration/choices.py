# SPDX-License-Identifier: GPL-2.0-or-later
"""Drawing from hypothesis, in the few ways that the strategies need.

Everything comes down to small integers: cheap to draw, and the same bytes give the same choices
in every version of hypothesis that decodes bytes as this one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies

Item = TypeVar("Item")


class Draw(Protocol):
    """What hypothesis hands to a composite strategy."""

    def __call__(self, strategy: strategies.SearchStrategy[Item], /) -> Item:
        """A value of the strategy."""


class Choices:
    """Choices drawn from hypothesis."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low if low == high else self._draw(strategies.integers(low, high))

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items; there must be one."""
        return items[self.integer(0, len(items) - 1)]

    def chance(self, sixteenths: int) -> bool:
        """True in so many of 16 cases."""
        if sixteenths <= 0 or sixteenths >= 16:
            return sixteenths > 0
        return self.integer(0, 15) >= 16 - sixteenths

    def weighted(self, weights: Mapping[Item, int]) -> Item:
        """A key, as often as its weight says."""
        place = self.integer(0, sum(weights.values()) - 1)
        for item, weight in weights.items():
            place -= weight
            if place < 0:
                return item
        raise AssertionError("weights changed while drawing")

    def some(self, items: Sequence[Item], at_least: int = 0) -> list[Item]:
        """A part of the items, each with an even chance, in their order; ``at_least`` so many."""
        chosen = [item for item in items if self.chance(8)]
        while len(chosen) < min(at_least, len(items)):
            chosen = [item for item in items if item in chosen or self.chance(8)]
        return chosen

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in some order."""
        rest = list(items)
        return [rest.pop(self.integer(0, len(rest) - 1)) for _ in range(len(rest))]
