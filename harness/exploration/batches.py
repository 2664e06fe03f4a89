# SPDX-License-Identifier: GPL-2.0-or-later
"""The traces of a run in batches: what a process does before it reports, and what a machine does
of those that many machines share.

A batch is steered by what the first half of the batches before it has fired and executed, and by
itself so far.  That half is done in time even with many workers, and it is the same however many
there are, and so are the traces.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from harness.exploration.coverage import Line
from harness.exploration.line_steering import LineTurns, Turn
from harness.exploration.steering import Pair

BATCH: Final = 8
"""Traces in a batch."""


@dataclass(frozen=True)
class Part:
    """A part of the batches of a run: the ``number``-th, counted from 1, of each ``of``."""

    number: int = 1
    of: int = 1

    @property
    def words(self) -> str:
        """To be put behind what a run does."""
        return f", part {self.number}/{self.of}" if self.of > 1 else ""

    def has(self, number: int) -> bool:
        """Whether the trace of that number is of this part."""
        return number // BATCH % self.of == self.number - 1

    def batches(self, numbers: Iterable[int]) -> Iterator[Sequence[int]]:
        """Those of the batches that are of this part."""
        return itertools.islice(batched(numbers), self.number - 1, None, self.of)


def batched(numbers: Iterable[int]) -> Iterator[Sequence[int]]:
    """The numbers, so many at a time."""
    left = iter(numbers)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch


@dataclass
class Course:
    """What steers the traces of a batch, and then takes on what they do."""

    seen: set[Pair] = field(default_factory=set)
    turns: Mapping[int, Turn] = field(default_factory=dict)
    """Of the traces that are drawn, by number; none: lines do not steer."""
    lines: dict[int, Set[Line]] = field(default_factory=dict)
    """What each trace has executed, by number, if that is asked for."""


@dataclass(frozen=True)
class Batch:
    """Traces that one process does, one after the other."""

    index: int
    """Among those of the run; below 0: traces of the corpus, which steer nothing."""
    numbers: Sequence[int]
    seen: frozenset[Pair]
    """What steers them from the start."""
    turns: Mapping[int, Turn] = field(default_factory=dict)
    """See :attr:`Course.turns`."""

    def course(self) -> Course:
        """What the process that does them begins with."""
        return Course(set(self.seen), self.turns)


class Queue:
    """The batches of a run in their order, until the deadline by ``time.monotonic``."""

    def __init__(self, corpus: Iterable[Sequence[int]], others: Iterable[Sequence[int]],
                 deadline: float | None = None, turns: LineTurns | None = None) -> None:
        """``turns``: what gives them; None: lines do not steer."""
        self._deadline = deadline
        self._turns = turns
        self._left = itertools.chain(((-1, each) for each in corpus), enumerate(others))
        self._next = next(self._left, None)
        self._seen: frozenset[Pair] = frozenset()
        self._merged = 0
        """So many batches are in it."""
        self._reports: dict[int, Course] = {}
        """Of batches that are not: what was not known when they were given."""

    def take(self) -> Batch | None:
        """The next batch; None if there is none, or one that has to wait for a report."""
        if self._next is None or (
                self._deadline is not None and time.monotonic() >= self._deadline):
            return None
        index, numbers = self._next
        while self._merged < index // 2:
            if self._merged not in self._reports:
                return None
            report = self._reports.pop(self._merged)
            self._seen |= report.seen
            if self._turns is not None:
                self._turns.learn(report.lines)
            self._merged += 1
        self._next = next(self._left, None)
        turns = {} if self._turns is None or index < 0 else self._turns.of(numbers)
        return Batch(index, numbers, self._seen, turns)

    def report(self, batch: Batch, course: Course) -> None:
        """The batch is done, and this has become of its course."""
        if batch.index >= 0:
            self._reports[batch.index] = Course(course.seen - batch.seen, lines=course.lines)
