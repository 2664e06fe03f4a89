# SPDX-License-Identifier: GPL-2.0-or-later
"""Every sequence of a few operations over three clusters, on each of three graphs.

A sequence has three clusters of its own on a disk with room for many: sequences share a QEMU and
its graph, and nothing else, for no rule of copy-before-write reaches over to another cluster.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from harness.exploration.building import Builder, Plan
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.lockstep.human import counted
from harness.lockstep.trace import Trace
from model import operations as ops
from model.bitmap import divide_up
from model.configuration import KIB, Configuration, Image
from model.node import SECTOR
from model.operations import Operation

AREA: Final = "exhaustive"
CLUSTER: Final = 64 * KIB
CLUSTERS: Final = 3
TOGETHER: Final = 64
"""Sequences in one trace."""

_ROOM: Final = CLUSTERS * CLUSTER
_INSIDE: Final = 8 * KIB
_KINDS: Final[tuple[Callable[[int, int], Operation], ...]] = (
    lambda offset, length: ops.Write(FILTER, offset, length),
    lambda offset, length: ops.Zero(FILTER, offset, length, unmap=True),
    lambda offset, length: ops.Discard(FILTER, offset, length),
    lambda offset, length: ops.Read(SNAPSHOT, offset, length),
    lambda offset, length: ops.Discard(SNAPSHOT, offset, length),
    lambda offset, length: ops.Status(SNAPSHOT, offset, length),
)


class Graph(Enum):
    """What the sequences are done on, trace by trace in turn."""

    PLAIN = "a filter and a snapshot"
    DENYING = "a filter whose bitmap lacks the last of each three clusters"
    KEEPING = "images without discard=unmap"


def _ranges() -> Iterator[tuple[int, int]]:
    """In each cluster its start, a place inside, its end and all of it; across each border; and
    all three clusters."""
    for start in range(0, _ROOM, CLUSTER):
        yield start, SECTOR
        yield start + _INSIDE, SECTOR
        yield start + CLUSTER - SECTOR, SECTOR
        yield start, CLUSTER
    for border in range(CLUSTER, _ROOM, CLUSTER):
        yield border - SECTOR, 2 * SECTOR
    yield 0, _ROOM


RANGES: Final = tuple(_ranges())
"""Offset and length, in bytes, from the first of the three clusters."""
LETTERS: Final = len(_KINDS) * len(RANGES)
"""How many operations there are."""


def count(longest: int) -> int:
    """How many sequences of one operation up to ``longest``, on one graph."""
    return sum(int(LETTERS ** length) for length in range(1, longest + 1))


def traces(longest: int) -> int:
    """How many traces they make, on all graphs."""
    return divide_up(count(longest), TOGETHER) * len(Graph)


def within(number: int, longest: int) -> int:
    """How many sequences a trace has."""
    return min(TOGETHER, count(longest) - number // len(Graph) * TOGETHER)


def sequence(index: int, offset: int = 0) -> tuple[Operation, ...]:
    """Sequence ``index``, short ones first, over the three clusters from ``offset`` on."""
    return tuple(_operation(letter, offset) for letter in _letters(index))


def _letters(index: int) -> tuple[int, ...]:
    length = 1
    while index >= LETTERS ** length:
        index -= LETTERS ** length
        length += 1
    letters = []
    for _ in range(length):
        index, letter = divmod(index, LETTERS)
        letters.append(letter)
    return tuple(reversed(letters))


def _operation(letter: int, offset: int) -> Operation:
    kind, where = divmod(letter, len(RANGES))
    start, length = RANGES[where]
    return _KINDS[kind](offset + start, length)


def deadly(plan: Plan, number: int, longest: int) -> int:
    """How many sequences of a trace have an operation that would kill the build by a known
    defect; without it they are shorter sequences."""
    index, graph = divmod(number, len(Graph))
    letters = _deadly(plan, list(Graph)[graph])
    first = index * TOGETHER
    return sum(not letters.isdisjoint(_letters(each))
               for each in range(first, first + within(number, longest))) if letters else 0


@functools.cache
def _deadly(plan: Plan, graph: Graph) -> frozenset[int]:
    machine = _begun(plan, 1, graph).machine
    return frozenset(letter for letter in range(LETTERS)
                     if machine.deadly(_operation(letter, 0)) is not None)


def words(longest: int) -> str:
    """What is done, in words."""
    return (f"all {count(longest) * len(Graph):,} sequences of up to "
            f"{counted(longest, 'operation')} on {len(Graph)} graphs")


def undone(longest: int, done: int, killing: int, due: int) -> Iterator[str]:
    """What is not checked when, of the sequences that were to be, so many were done and so many
    would have killed the build, in words."""
    if done + killing < due:
        yield (f"{due - done - killing:,} of {words(longest)}: the budget was spent, or a "
               "divergence came first")
    if killing:
        yield (f"{killing:,} of {words(longest)}: those with an operation that would kill this "
               "build by a known defect")


def _begun(plan: Plan, sequences: int, graph: Graph) -> Builder:
    """A trace with the graph for so many sequences."""
    size = sequences * _ROOM
    discard = graph is not Graph.KEEPING
    builder = Builder(plan, Configuration((
        Image(SOURCE, size, filled=((0, size),), discard=discard),
        Image(TARGET, size, discard=discard))))
    bitmap = None
    if graph is Graph.DENYING:
        bitmap = ops.BitmapRef(SOURCE, "readable")
        builder.add_all((ops.BitmapAdd(SOURCE, bitmap.name), ops.Export(SOURCE)))
        builder.add_all(ops.Write(SOURCE, place * _ROOM + CLUSTER - SECTOR, 2 * SECTOR)
                        for place in range(sequences))
        builder.add(ops.Unexport(SOURCE))
    builder.add_all((ops.AddFilter(FILTER, SOURCE, TARGET, bitmap),
                     ops.AddSnapshot(SNAPSHOT, FILTER), ops.Export(FILTER), ops.Export(SNAPSHOT)))
    return builder


def trace(plan: Plan, number: int, longest: int) -> Trace:
    """A trace: its sequences, and in the end a look at what has become of everything."""
    index, graph = divmod(number, len(Graph))
    indices = range(index * TOGETHER, index * TOGETHER + within(number, longest))
    builder = _begun(plan, len(indices), list(Graph)[graph])
    builder.add_all(itertools.chain.from_iterable(
        sequence(each, place * _ROOM) for place, each in enumerate(indices)))
    builder.add_all(ops.Inspect(node) for node in (SNAPSHOT, FILTER, TARGET))
    return builder.trace()
