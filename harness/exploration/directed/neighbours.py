# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of pairs of neighbouring clusters, each in any state that it can be in.

What is asked of both at once is answered from several places: the answer must change where the
state does, and nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Format, Image
from model.operations import Operation, Via

STRIDE = 3 * CLUSTER
"""From pair to pair: a cluster between them that nobody touches."""


class Change(StrEnum):
    """What the guest did to a cluster after the point in time."""

    NONE = "nothing"
    WRITE = "write"
    ZERO = "zeroes"
    UNMAP = "zeroes with unmap"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class State:
    """A cluster's state: what the disk had at the point in time, what the guest did since."""

    filled: bool
    change: Change

    def change_at(self, offset: int) -> Operation | None:
        """The guest's request."""
        match self.change:
            case Change.WRITE:
                return ops.Write("cbw", offset, CLUSTER)
            case Change.ZERO:
                return ops.Zero("cbw", offset, CLUSTER)
            case Change.UNMAP:
                return ops.Zero("cbw", offset, CLUSTER, unmap=True)
            case Change.DISCARD:
                return ops.Discard("cbw", offset, CLUSTER)
        return None


STATES = tuple(itertools.starmap(State, itertools.product((True, False), Change)))


def checks() -> Iterator[Check]:
    """For the formats that tell of holes exactly, or not."""
    for source, target in itertools.product((Format.RAW, Format.QCOW2), repeat=2):
        yield Check("status", f"neighbours in every state, {source} copied to {target}",
                    _neighbours(source, target))


def _neighbours(source: Format, target: Format) -> Make:
    def make(plan: Plan) -> Trace:
        pairs = [(index * STRIDE, pair)
                 for index, pair in enumerate(itertools.product(STATES, repeat=2))]
        size = len(pairs) * STRIDE
        clusters = [(base + place * CLUSTER, state)
                    for base, pair in pairs for place, state in enumerate(pair)]
        filled = tuple((offset, CLUSTER) for offset, state in clusters if state.filled)
        builder = Builder(plan, Configuration((
            Image("src", size, source, filled=filled), Image("tmp", size, target))))
        builder.add_all(GRAPH)
        for offset, state in clusters:
            change = state.change_at(offset)
            if change is not None:
                builder.add(change)
        for base, _ in pairs:
            builder.add_all((
                ops.Read("snap", base, 2 * CLUSTER), ops.Status("snap", base, 2 * CLUSTER),
                ops.Status("snap", base + 512, 2 * CLUSTER - 1024, one=True)))
        builder.add_all((ops.Status("snap", 0, size), ops.Status("cbw", 0, size),
                         ops.Status("snap", 0, size, context=ops.Context.DEPTH),
                         ops.Read("snap", 0, size, Via.NBD_DF),
                         *(ops.Inspect(node) for node in ("src", "tmp", "snap"))))
        return builder.trace()

    return make
