# SPDX-License-Identifier: GPL-2.0-or-later
"""All directed checks, in the order in which they are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from harness.exploration.building import Check
from harness.exploration.directed import (
    arguments,
    bitmaps,
    cells,
    compression,
    detection,
    devices,
    extents,
    faults,
    graphs,
    interleavings,
    jobs,
    lengths,
    merging,
    neighbours,
    overlays,
    permissions,
    reopening,
    requests,
    schedules,
    serialising,
    sizes,
    speeds,
    unchanged,
    words,
)
from harness.lockstep.trace import SystemKind

_SOON: Final = 200
_ALONE: Final = frozenset({
    "a cluster that a smaller size has cut",
    "an overlay of a snapshot, clusters of 64 KiB",
    "bitmaps shown of which only the name is given",
    "data that an image cannot write to its file",
    "resize of what is in use",
    "schedule: a job is paused and resumed in the middle",
    "schedule: block status under way",
    "schedule: storage that is lost and found",
    "schedule: tasks that wait for memory",
    "schedule: writes and discards that are flushed"})
"""Checks that are the first of all to fire some rule, and would come late in their families: a
short run, or one on a slow machine, is to fire all rules."""


def checks(system: SystemKind) -> list[Check]:
    """All of them, in the order in which they are done.

    A qemu-system is given only those that are about what it alone has, the human monitor's
    channels and the guest's device; all others would ask the same code as they ask of a storage
    daemon.
    """
    own = [(300, requests.ranges()), (200, requests.ends())]
    if system is SystemKind.QEMU_SYSTEM:
        return _in_turn([*own, (30, devices.checks())])
    return _in_turn([
        (30, schedules.checks()), (60, serialising.checks()), (10, jobs.checks()),
        (20, speeds.checks()),
        (40, compression.checks()), (20, extents.checks()), (30, faults.checks()),
        (50, requests.edges()), *own,
        (40, bitmaps.checks()), (60, merging.checks()), (100, lengths.checks()),
        (100, sizes.checks()), (250, cells.checks()), (150, graphs.options()),
        (80, graphs.granularities()), (60, graphs.formats()), (250, neighbours.checks()),
        (100, words.checks()), (60, unchanged.checks()), (300, overlays.checks()),
        (60, detection.checks()), (60, arguments.checks()), (120, reopening.checks()),
        (60, permissions.checks()),
        (600, interleavings.checks()), (200, requests.states())])


def _in_turn(families: Sequence[tuple[int, Iterable[Check]]]) -> list[Check]:
    """The checks of all families, of each of which it is said how many steps a check may take:
    as many as it has, about, or fewer if much is found by it.  At any time all families have had
    the same number of these: a short run has some of all, and of what takes few steps much."""
    checks = [replace(check, due=min(number * steps, _SOON) if check.name in _ALONE
                      else number * steps)
              for steps, family in families for number, check in enumerate(family, start=1)]
    return sorted(checks, key=lambda check: check.due)
