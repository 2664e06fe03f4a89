# SPDX-License-Identifier: GPL-2.0-or-later
"""Every sequence of a few operations over three clusters.

A sequence has three clusters of its own on a disk with room for many: sequences share a QEMU and
its graph, and nothing else, for no rule of copy-before-write reaches over to another cluster.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

from harness.exploration.building import Builder, Plan
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Image
from model.operations import Operation

AREA: Final = "exhaustive"
CLUSTER: Final = 64 * KIB
CLUSTERS: Final = 3
SECTOR: Final = 512
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
)


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
    """How many sequences of one operation up to ``longest``."""
    return _sequences(LETTERS, longest)


def _sequences(letters: int, longest: int) -> int:
    return sum(int(letters ** length) for length in range(1, longest + 1))


def traces(longest: int) -> int:
    """How many traces they make."""
    return -(-count(longest) // TOGETHER)


def sequence(index: int, offset: int = 0) -> tuple[Operation, ...]:
    """Sequence ``index``, short ones first, over the three clusters from ``offset`` on."""
    length = 1
    while index >= LETTERS ** length:
        index -= LETTERS ** length
        length += 1
    letters = []
    for _ in range(length):
        index, letter = divmod(index, LETTERS)
        letters.append(letter)
    return tuple(_operation(letter, offset) for letter in reversed(letters))


def _operation(letter: int, offset: int) -> Operation:
    kind, where = divmod(letter, len(RANGES))
    start, length = RANGES[where]
    return _KINDS[kind](offset + start, length)


def left_out(plan: Plan, longest: int) -> int:
    """How many sequences have an operation that would kill the build by a known defect; without
    it they are shorter sequences."""
    first = _begun(plan, 1)
    kept = sum(first.machine.deadly(_operation(letter, 0)) is None for letter in range(LETTERS))
    return count(longest) - _sequences(kept, longest)


def words(longest: int) -> str:
    """What is done, in words."""
    return (f"all {count(longest):,} sequences of up to {longest} "
            f"operation{'s' if longest > 1 else ''}")


def undone(plan: Plan, longest: int, done: int) -> Iterator[str]:
    """What is not checked when so many traces were done, in words."""
    missing = count(longest) - done * TOGETHER
    if missing > 0:
        yield f"{missing:,} of {words(longest)}: the budget was spent"
    if deadly := left_out(plan, longest):
        yield (f"{deadly:,} of {words(longest)}: those with an operation that would kill this "
               "build by a known defect")


def _begun(plan: Plan, sequences: int) -> Builder:
    """A trace with the graph for so many sequences."""
    size = sequences * _ROOM
    builder = Builder(plan, Configuration((
        Image(SOURCE, size, filled=((0, size),)), Image(TARGET, size))))
    builder.add_all((ops.AddFilter(FILTER, SOURCE, TARGET), ops.AddSnapshot(SNAPSHOT, FILTER),
                     ops.Export(FILTER), ops.Export(SNAPSHOT)))
    return builder


def trace(plan: Plan, index: int, longest: int) -> Trace:
    """Trace ``index``: its sequences, and in the end a look at what has become of everything."""
    indices = range(index * TOGETHER, min((index + 1) * TOGETHER, count(longest)))
    builder = _begun(plan, len(indices))
    builder.add_all(itertools.chain.from_iterable(
        sequence(each, place * _ROOM) for place, each in enumerate(indices)))
    builder.add_all(ops.Inspect(node) for node in (SNAPSHOT, FILTER, TARGET))
    return builder.trace()
