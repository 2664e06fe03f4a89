# SPDX-License-Identifier: GPL-2.0-or-later
"""What most traces end with: a look into every corner of the state.

The bitmaps of a filter are compared by count after every operation.  A count does not say which
bits are set; touching one cluster after the other does, for each step shows what the bits of that
cluster were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.exploration.scene import Kind, Place, Scene
from model import operations as ops
from model.operations import Operation, Via

MOST: Final = 12
"""Clusters looked at one by one, on each node."""


def sweep(scene: Scene) -> Iterator[Operation]:
    """The operations, harmless ones first."""
    for place in scene.of_kind(*Kind):
        yield ops.Inspect(place.name)
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


def _clusters(place: Place) -> Iterator[tuple[int, int]]:
    """Offset and length of the first clusters of a node, and of the last one."""
    count = -(-place.size // place.cluster)
    chosen = list(range(min(count, MOST)))
    if count > MOST:
        chosen.append(count - 1)
    for index in chosen:
        offset = index * place.cluster
        yield offset, min(place.cluster, place.size - offset)
