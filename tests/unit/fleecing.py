# SPDX-License-Identifier: GPL-2.0-or-later
"""A little fleecing set-up on the model, for the tests of its rules."""

from __future__ import annotations

from dataclasses import replace

from model.capabilities import Capabilities
from model.configuration import KIB, Configuration, Image
from model.content import Content
from model.machine import FilterView, Machine
from model.operations import AddFilter, AddSnapshot, Discard, Export, Operation, Read, Via, Write
from model.outcome import Outcome

K = KIB
CLUSTER = 64 * K
OLD = -1
"""The stamp of what the source holds at the start: it is image 0."""


class Fleecing:
    """src (raw, all filled) under cbw with target tmp; snap over cbw; cbw and snap exported."""

    def __init__(self, size: int = 10 * CLUSTER, *before: Operation,
                 source: Image | None = None, temporary: Image | None = None,
                 capabilities: Capabilities | None = None,
                 cbw: AddFilter | None = None) -> None:
        source = source or Image("src", size, filled=((0, size),))
        temporary = temporary or Image("tmp", size)
        self.machine = Machine(Configuration((source, temporary)), capabilities)
        self.number = 0
        cbw = replace(cbw or AddFilter("", "", ""), node="cbw", file="src", target="tmp")
        for operation in (*before, cbw, AddSnapshot("snap", "cbw"), Export("cbw"),
                          Export("snap", allocation_depth=True)):
            outcome = self.do(operation)
            assert outcome.refused is None, outcome.refused

    def do(self, operation: Operation) -> Outcome:
        self.number += 1
        return self.machine.apply(self.number, operation)

    def write(self, offset: int, length: int) -> int:
        """A guest write that must succeed; gives its stamp."""
        assert self.do(Write("cbw", offset, length)).error is None
        return self.number

    def discard(self, offset: int, length: int) -> None:
        """A snapshot discard that must succeed."""
        assert self.do(Discard("snap", offset, length)).error is None

    def snapshot(self, offset: int, length: int, via: Via = Via.MONITOR) -> Content:
        """A fleecing read that must succeed."""
        outcome = self.do(Read("snap", offset, length, via=via))
        assert outcome.content is not None, outcome
        return outcome.content

    @property
    def filter(self) -> FilterView:
        return self.machine.filters()[0]

    def clusters(self, which: str) -> list[int]:
        """The clusters that have their bit set in the ``access``, ``done`` or ``copy`` bitmap."""
        bits = getattr(self.filter, which).bits
        return [place for place in range(bits.size) if bits.at(place)]

    def holds(self, node: str) -> list[tuple[int, int, int]]:
        """What the node holds, as (start, end, stamp), zeroes left out."""
        return [tuple(run) for run in self.machine.content_of(node).runs() if run.value]
