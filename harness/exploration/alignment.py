# SPDX-License-Identifier: GPL-2.0-or-later
"""How requests lie on the clusters of the filter, for the coverage that a run tells of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from harness.lockstep.trace import Step
from model.configuration import KIB
from model.machine import Machine
from model.node import SECTOR
from model.operations import Request
from model.schedule import request_of

ALIGNMENTS: Final = ("clusters", "part of a cluster", "over clusters", "bytes", "to the end",
                     "empty", "beyond the end")
"""Whole clusters; whole sectors inside one cluster; whole sectors of several clusters; not whole
sectors; up to the end of a disk that ends inside a cluster; no byte; (partly) outside the disk."""
_CLUSTER: Final = 64 * KIB


def alignments(steps: Iterable[Step], machine: Machine) -> Counter[tuple[str, str]]:
    """The requests among the steps, by operation and alignment; ``machine`` has done them."""
    unit = max((view.cluster_size for view in machine.filters()), default=_CLUSTER)
    found: Counter[tuple[str, str]] = Counter()
    for step in steps:
        request = request_of(step.operation)
        if request is not None:
            node = machine.nodes.get(request.node)
            found[request.name, alignment(request, unit, None if node is None else node.size)] += 1
    return found


def alignment(request: Request, unit: int, size: int | None) -> str:
    """The one of :data:`ALIGNMENTS`; ``unit`` is a cluster and ``size`` the disk, in bytes."""
    start, end = request.offset, request.offset + request.length
    if start == end:
        return "empty"
    if size is not None and end > size:
        return "beyond the end"
    if size is not None and end == size and size % unit:
        return "to the end"
    if start % unit == 0 and end % unit == 0:
        return "clusters"
    if start % SECTOR or end % SECTOR:
        return "bytes"
    return "part of a cluster" if start // unit == (end - 1) // unit else "over clusters"
