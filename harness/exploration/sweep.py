# SPDX-License-Identifier: GPL-2.0-or-later
"""What most traces end with: a look into every corner of the state.

The bitmaps of a filter are compared by count after every operation.  A count does not say which
bits are set; touching one cluster after the other does, for each step shows what the bits of that
cluster were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.exploration.building import Builder, Plan
from harness.exploration.scene import Kind, Place, Scene
from harness.lockstep.trace import Trace
from model import operations as ops
from model.concurrent_machine import machine_for
from model.operations import Context, Operation, Via

MOST: Final = 12
"""Clusters looked at one by one, on each node."""
LONGEST: Final = 1 << 30
"""Bytes that one request for block status asks about."""


def sweep(scene: Scene) -> Iterator[Operation]:
    """The operations, harmless ones first."""
    yield from looks(scene)
    for place in scene.served(Kind.SNAPSHOT):
        for offset, length in _clusters(place):
            yield ops.Read(place.name, offset, length, Via.NBD_DF)
    for place in scene.served(Kind.SNAPSHOT, Kind.FILTER):
        for offset, length in _clusters(place):
            yield ops.Status(place.name, offset, length)
    guests = [place for place in scene.served(Kind.FILTER) if scene.exports[place.name].writable]
    for place in guests:
        for offset, _ in _clusters(place):
            yield ops.Write(place.name, offset, 1)
    if guests:
        for place in scene.of_kind(*Kind):
            yield ops.Inspect(place.name)


def looks(scene: Scene) -> Iterator[Operation]:
    """The content of all nodes, and the block status of all images and snapshots: of an image
    also at which depth it is allocated.  Changes nothing."""
    for place in scene.of_kind(*Kind):
        yield ops.Inspect(place.name)
    for place in scene.of_kind(Kind.IMAGE, Kind.SNAPSHOT):
        served = place.name in scene.exports
        if not served:
            yield ops.Export(place.name, writable=False, allocation_depth=True)
        for context in (Context.ALLOCATION, Context.DEPTH):
            yield ops.Status(place.name, 0, min(place.size, LONGEST), context=context)
        if not served:
            yield ops.Unexport(place.name)


def with_looks(trace: Trace, plan: Plan) -> Trace:
    """The trace with such looks after each of its steps where nothing is under way; its steps
    are numbered anew."""
    building = Builder(plan, trace.configuration)
    building.machine = machine_for(trace.configuration, plan.capabilities)
    for step in trace.steps:
        if building.add(step.operation):
            building.add_all(list(looks(building.scene)))
    return building.trace()


def _clusters(place: Place) -> Iterator[tuple[int, int]]:
    """Offset and length of the first clusters of a node, and of the last one."""
    count = -(-place.size // place.cluster)
    chosen = list(range(min(count, MOST)))
    if count > MOST:
        chosen.append(count - 1)
    for index in chosen:
        offset = index * place.cluster
        yield offset, min(place.cluster, place.size - offset)
