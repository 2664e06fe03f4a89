# SPDX-License-Identifier: GPL-2.0-or-later
"""The state around a failure: the model's, cluster by cluster, beside what QEMU shows of its own.

QEMU shows of a filter's bitmaps only how many clusters are set, so that is what stands side by
side; which clusters the model has set, and which of them the last operation changed, is beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.ranges import Ranges, merged, widened
from harness.systems.base import sent_as
from model.bitmap import DirtyBitmap
from model.configuration import KIB, Configuration
from model.machine import FilterView, Machine
from model.outcome import Observation
from model.runs import RunMap

from . import human
from .differences import BitmapsDiffer, DigestDiffers
from .trace import Trace
from .verdict import Diverges, Failure

_ROWS: Final = 16
_KINDS: Final = ("access", "done", "copy")


@dataclass(frozen=True, slots=True)
class Retold:
    """The model after the failing step; ``before`` has the filters' bits before it, by node."""

    machine: Machine
    before: dict[str, tuple[RunMap[bool], ...]]
    rules: frozenset[str]
    """The rules that the failing step used."""

    @property
    def cluster_size(self) -> int:
        """The coarsest cluster that there is, bytes."""
        return max((each.cluster_size for each in self.machine.filters()), default=64 * KIB)


def retell(
    trace: Trace, failure: Failure, model: Callable[[Configuration], Machine],
) -> Retold:
    """Do the trace on a fresh model, up to and with the step that failed."""
    machine = model(trace.configuration)
    for step in trace.steps[:failure.index]:
        machine.apply(step.number, sent_as(step.operation, failure.channels))
        machine.observe()
    before = {view.node: tuple(bitmap.bits.copy() for bitmap in _bitmaps(view))
              for view in machine.filters()}
    used = machine.rules.copy()
    machine.apply(failure.step.number, failure.step.operation)
    machine.observe()
    return Retold(machine, before, frozenset(machine.rules - used))


def state_lines(failure: Failure, retold: Retold) -> list[str]:
    """The filters' bitmaps, and the named ones that differ."""
    found = failure.observed if isinstance(failure, Diverges) else None
    lines: list[str] = []
    for view in retold.machine.filters():
        lines += _filter(view, failure.places, retold, found)
    if isinstance(failure, Diverges):
        lines += _named(failure, retold.machine)
    return lines


def _filter(view: FilterView, places: Ranges, retold: Retold,
            found: Observation | None) -> list[str]:
    broken = f", broken by {view.broken.name}" if view.broken is not None else ""
    lines = [f"State of filter {view.node}, clusters of {human.size(view.cluster_size)}{broken}"]
    table: list[tuple[str, ...]] = [("", *_KINDS)]
    bitmaps = _bitmaps(view)
    model = [bitmap.view().count // view.cluster_size for bitmap in bitmaps]
    system = [granules(retold.machine, bitmap, found) for bitmap in bitmaps]
    if system == model:
        table.append(("clusters set, model and QEMU alike", *map(str, model)))
    elif all(count is None for count in system):
        table.append(("clusters set, model", *map(str, model)))
    else:
        table.append(("clusters set, model", *map(str, model)))
        table.append(("clusters set, QEMU", *("?" if count is None else str(count)
                                              for count in system)))
        table.append(("", *("" if count in (None, right) else "differs"
                            for count, right in zip(system, model, strict=True))))
    before = retold.before.get(view.node)
    rows = _rows(view, bitmaps, before, places)
    table += rows[:_ROWS]
    lines += _aligned(table)
    if len(rows) > _ROWS:
        lines.append(f"  and {len(rows) - _ROWS} more runs of clusters")
    return lines


def _rows(view: FilterView, bitmaps: tuple[DirtyBitmap, ...],
          before: tuple[RunMap[bool], ...] | None, places: Ranges) -> list[tuple[str, ...]]:
    """The clusters that the failure is about or the last step changed, equal ones in one row.

    Where a disk is resized below or above its filter, some bitmaps have more clusters than others.
    """
    size = view.cluster_size
    end = max(bitmap.bits.size for bitmap in bitmaps)
    wanted = [(low // size, min(high // size, end)) for low, high in widened(places, size)
              if low // size < end]
    for index, old in enumerate(before or ()):
        wanted += _changed(old, bitmaps[index].bits)
    rows: list[tuple[str, ...]] = []
    for start, stop in merged(wanted):
        while start < stop:
            until = min(_run_end(bits, start, stop)
                        for bits in (*(each.bits for each in bitmaps), *(before or ())))
            bits = [_bit(bitmap.bits, before[index] if before else None, start)
                    for index, bitmap in enumerate(bitmaps)]
            name = f"cluster {start}" if until == start + 1 else f"clusters {start}-{until - 1}"
            rows.append((f"{name} ({human.span(start * size, until * size)})", *bits))
            start = until
    return rows


def _changed(old: RunMap[bool], new: RunMap[bool]) -> list[tuple[int, int]]:
    common = min(old.size, new.size)
    return [(now.start, now.end) for was in old.runs(0, common)
            for now in new.runs(was.start, was.end) if now.value != was.value]


def _run_end(bits: RunMap[bool], start: int, stop: int) -> int:
    """Where the run of clusters that begins at ``start`` ends; all past the end are one run."""
    return bits.run_at(start, min(stop, bits.size)).end if start < bits.size else stop


def _bit(now: RunMap[bool], before: RunMap[bool] | None, cluster: int) -> str:
    """``1``, or ``0>1`` if the last step set it; ``-`` past the end."""
    new, old = _bit_at(now, cluster), _bit_at(now if before is None else before, cluster)
    return new if old == new else f"{old}>{new}"


def _bit_at(bits: RunMap[bool], cluster: int) -> str:
    return str(int(bits.at(cluster))) if cluster < bits.size else "-"


def _bitmaps(view: FilterView) -> tuple[DirtyBitmap, ...]:
    return (view.access, view.done, view.copy)


def granules(machine: Machine, bitmap: DirtyBitmap, found: Observation | None) -> int | None:
    """How many granules QEMU says are set in the model's ``bitmap``; None if that is unknown."""
    if found is None:
        return None
    for name, node in machine.nodes.items():
        for index, each in enumerate(node.bitmaps):
            if each is bitmap:
                seen = found.bitmaps.get(name, ())
                if len(seen) != len(node.bitmaps):
                    return None
                return seen[index].count // seen[index].granularity
    return None


def _named(failure: Diverges, machine: Machine) -> list[str]:
    """Where the named bitmaps that differ are dirty in the model."""
    wrong: set[tuple[str, str]] = set()
    for each in failure.differences:
        if isinstance(each, DigestDiffers):
            wrong.add((each.node, each.name))
        elif isinstance(each, BitmapsDiffer):
            wrong |= {(each.node, view.name) for view in each.expected
                      if view.name is not None and view not in each.found}
    lines: list[str] = []
    for node, name in sorted(wrong):
        if node in machine.nodes:
            for bitmap in machine.nodes[node].bitmaps:
                if bitmap.name == name:
                    ranges = list(bitmap.dirty_ranges())
                    more = f" and {len(ranges) - _ROWS} more" if len(ranges) > _ROWS else ""
                    where = f"dirty in {human.spans(ranges[:_ROWS])}" if ranges else "clean"
                    lines.append(f"In the model, bitmap {node}/{name} is {where}{more}")
    return lines


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  " + "  ".join([f"{row[0]:{widths[0]}}",
                              *(f"{cell:>{width}}" for cell, width
                                in zip(row[1:], widths[1:], strict=True))]).rstrip()
            for row in table]
