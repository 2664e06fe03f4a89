# SPDX-License-Identifier: GPL-2.0-or-later
"""Steering by lines of QEMU: a drawn trace that has executed new ones earns its area a turn.

All areas take turns, as without steering.  Once each has had one, between two of these turns is
one of the area that has added most lines since it was given one so, if any has.  Traces over the
same images are a turn.

An area of which nothing new comes waits for its ordinary turn, and so do all of them in the end:
then lines decide nothing any more.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from harness.exploration.coverage import Line


@dataclass(frozen=True, slots=True)
class Turn:
    """The area of some traces over the same images, and how many turns it had before."""

    area: int
    before: int


class LineTurns:
    """Gives turns by what is known of lines; what is learned late does not change turns given."""

    def __init__(self, areas: Sequence[int], group_of: Callable[[int], int | None]) -> None:
        """``areas``: the indices of areas in the order of their ordinary turns; ``group_of``: the
        group of traces over the same images that a trace is of, by its number; None: it is not
        drawn."""
        self._areas = itertools.cycle(areas)
        self._number = len({*areas})
        self._group_of = group_of
        self._known: set[Line] = set()
        self._added: Counter[int] = Counter()
        """New lines of each area since its last earned turn."""
        self._given: dict[int, Turn] = {}
        self._had: Counter[int] = Counter()
        """Turns of each area that has had any."""

    def of(self, numbers: Iterable[int]) -> dict[int, Turn]:
        """Whose turn the traces of these numbers are, without those that are not drawn."""
        return {number: self._turn(group) for number in numbers
                if (group := self._group_of(number)) is not None}

    def learn(self, lines: Mapping[int, Set[Line]]) -> None:
        """What traces have executed, by their numbers."""
        for number, executed in sorted(lines.items()):
            new = executed - self._known
            self._known |= new
            group = self._group_of(number)
            if group is not None and new:
                self._added[self._given[group].area] += len(new)

    def _turn(self, group: int) -> Turn:
        if group not in self._given:
            area = self._next()
            self._given[group] = Turn(area, self._had[area])
            self._had[area] += 1
        return self._given[group]

    def _next(self) -> int:
        if len(self._had) == self._number and len(self._given) % 2 and self._added:
            # The first of equals: the order in which they were learned of is always the same.
            (area, _), = self._added.most_common(1)
            del self._added[area]
            return area
        return next(self._areas)
