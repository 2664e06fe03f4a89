# SPDX-License-Identifier: GPL-2.0-or-later
"""What most traces end with: a look into every corner of the state.

The bitmaps of a filter are compared by count after every operation.  A count does not say which
bits are set; touching one cluster after the other does, for each step shows what the bits of that
cluster were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Plan
from harness.exploration.scene import Kind, Place
from harness.lockstep.run import look_after_each
from harness.lockstep.trace import Trace
from model import operations as ops
from model.bitmap import divide_up
from model.concurrent_machine import machine_for
from model.links import shown_filter
from model.operations import Context, Operation, Via
from model.qcow2 import Qcow2

MOST: Final = 12
"""Clusters looked at one by one, on each node."""
LONGEST: Final = 1 << 30
"""Bytes that one request for block status asks about."""


def sweep(building: Builder, *, touch: bool = True) -> Iterator[Operation]:
    """The operations, harmless ones first; without ``touch`` no others but, if a job has
    compressed anything, the good end of QEMU by which that is counted."""
    yield from looks(building, last=True)
    if touch:
        yield from _touches(building)
    graph = building.machine.graph
    if any(isinstance(node, Qcow2) and node.compressed
           for node in (*graph.nodes.values(), *graph.closed.values())):
        yield ops.Restart()


def _touches(building: Builder) -> Iterator[Operation]:
    scene = building.scene
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


def looks(building: Builder, *, last: bool = False) -> Iterator[Operation]:
    """The content of all nodes, and the block status of all images and snapshots: of an image
    also at which depth it is allocated.  Changes nothing, but that with ``last`` an export that
    does not tell depths makes way for one that does."""
    scene = building.scene
    for place in scene.of_kind(*Kind):
        yield ops.Inspect(place.name)
    for place in scene.of_kind(Kind.IMAGE, Kind.SNAPSHOT):
        export = scene.exports.get(place.name)
        if last and export is not None and not export.allocation_depth and (
                place.kind is Kind.IMAGE):
            yield ops.Unexport(place.name)
            export = None
        if export is None:
            yield ops.Export(place.name, writable=False, allocation_depth=True)
        for offset, length in _alike(building, place):
            yield ops.Status(place.name, offset, length)
            if export is None or export.allocation_depth:
                yield ops.Status(place.name, offset, length, context=Context.DEPTH)
        if export is None:
            yield ops.Unexport(place.name)


def _alike(building: Builder, place: Place) -> list[tuple[int, int]]:
    """Offset and length of the ranges that status is asked of: of a snapshot, those that may be
    read, for one cluster that may not makes the answer about all an error."""
    end = min(place.size, LONGEST)
    node = building.machine.nodes.get(place.name)
    kept = None if node is None else shown_filter(node)
    if kept is None:
        return [(0, end)]
    found = []
    start = 0
    end = min(end, kept.size)  # less than the snapshot's if the filter was made smaller
    while start < end:
        allowed, stop = kept.access.run(start, end)
        if allowed:
            found.append((start, stop - start))
        start = stop
    return found or [(0, end)]


def with_looks(trace: Trace, plan: Plan) -> Trace:
    """The trace with such looks after each of its steps where nothing is under way.  Its own steps
    keep their numbers, which decide what data they write."""
    building = Builder(plan, trace.configuration)
    building.machine = machine_for(trace.configuration, plan.capabilities)
    for step in look_after_each(trace.steps, lambda: list(looks(building))):
        building.add(step.operation, step.number)
    return replace(trace, steps=tuple(building.steps))


def _clusters(place: Place) -> Iterator[tuple[int, int]]:
    """Offset and length of the first clusters of a node, and of the last one."""
    count = divide_up(place.size, place.cluster)
    chosen = list(range(min(count, MOST)))
    if count > MOST:
        chosen.append(count - 1)
    for index in chosen:
        offset = index * place.cluster
        yield offset, min(place.cluster, place.size - offset)
