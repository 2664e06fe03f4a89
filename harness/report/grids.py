# SPDX-License-Identifier: GPL-2.0-or-later
"""Grids: what a filter's bitmaps and an image's clusters were after each operation, as changes.

A grid has a row for each operation and a column for each cluster.  Clusters side by side that
fare alike through all of a trace share a column, so that a big disk fits on a page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from model.bitmap import divide_up
from model.content import Content, Stamp
from model.machine import FilterView
from model.runs import RunMap

Value = TypeVar("Value")
MIXED: Final = 2**31 - 1
"""In the place of a stamp: a cluster with data of several writers."""
KINDS: Final = ("access", "done", "copy")


def changes(old: RunMap[Value], new: RunMap[Value]) -> Iterator[tuple[int, int, Value]]:
    """The ranges (start, end) where two maps of one size differ, with their new values."""
    for was in old.runs():
        for now in new.runs(was.start, was.end):
            if now.value != was.value:
                yield now.start, now.end, now.value


def levelled(now: RunMap[Value], last: RunMap[Value], beyond: Value) -> RunMap[Value]:
    """A copy of what is now, as long as the longer of the two is, and what was last made so, too:
    a disk may have been resized.  Past their ends they are ``beyond``."""
    now = now.copy()
    size = max(now.size, last.size)
    for each in (now, last):
        if each.size < size:
            each.resize(size, beyond)
    return now


def clusters_of(content: Content, unit: int, first: int, last: int,
                ) -> Iterator[tuple[int, int, Stamp]]:
    """Whose data clusters [first, last) of ``unit`` bytes hold, as runs (start, end, stamp)."""
    place = first
    while place < last:
        run = content.run_at(place * unit, content.size)
        whole = last if run.end >= min(last * unit, content.size) else run.end // unit
        if whole > place:
            yield place, whole, run.value
            place = whole
        else:
            yield place, place + 1, MIXED
            place += 1


@dataclass
class Grid:
    """One filter, or one image, from the row where it came to the row where it was gone."""

    name: str
    kind: str
    """``filter`` or ``image``."""
    size: int
    """In bytes; of what is resized, the largest."""
    unit: int
    """Bytes of a cluster."""
    born: int
    gone: int | None = None
    """The first row that it is not in; None: it stayed."""
    words: str = ""
    events: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """(row, which bitmap, first cluster, end, value); of an image, which is 0 and the value a
    stamp or :data:`MIXED`."""
    counts: list[tuple[int, list[int | None]]] = field(default_factory=list)
    """(row, how many clusters QEMU has set of each bitmap), where that changes."""
    flights: list[tuple[int, str, list[tuple[int, int]]]] = field(default_factory=list)
    """(row, ``frozen`` or ``copying``, ranges of bytes) under way after the row."""
    data: list[tuple[int, int, int, Stamp]] = field(default_factory=list)
    """Of an image: (row, start, end, stamp) of changed bytes."""
    broken: list[int] = field(default_factory=list)
    """The row in which a failed copy broke the snapshot, if one did."""

    @property
    def clusters(self) -> int:
        """How many there are; the last one may be cut short by the end of the disk."""
        return divide_up(self.size, self.unit)

    def to_json(self, footprints: Iterable[tuple[int, int]]) -> dict[str, Any]:
        """For the page; ``footprints`` are the ranges of bytes that operations were about."""
        edges = {0, self.clusters}
        for _, _, start, end, _ in self.events:
            edges |= {start, end}
        for begin, stop in footprints:
            edges |= {min(begin // self.unit, self.clusters),
                      min(divide_up(stop, self.unit), self.clusters)}
        for _, _, ranges in self.flights:
            for begin, stop in ranges:
                edges |= {begin // self.unit, min(divide_up(stop, self.unit), self.clusters)}
        columns = sorted(edges)
        return {
            "name": self.name, "kind": self.kind, "size": self.size, "unit": self.unit,
            "born": self.born, "gone": self.gone, "words": self.words, "columns": columns,
            "events": [(row, which, bisect_left(columns, start), bisect_left(columns, end), value)
                       for row, which, start, end, value in self.events],
            "counts": self.counts, "flights": self.flights, "data": self.data,
            "broken": self.broken,
        }


class FilterGrid:
    """Follows a filter."""

    def __init__(self, view: FilterView, size: int, row: int, words: str) -> None:
        self.grid = Grid(view.node, "filter", size, view.cluster_size, row, words=words)
        self._last = [RunMap(self.grid.clusters, False) for _ in KINDS]
        self._counts: list[int | None] | None = None

    def take(self, row: int, view: FilterView, counts: list[int | None] | None,
             frozen: list[tuple[int, int]], copying: list[tuple[int, int]]) -> None:
        """Take down what changed; ``counts`` are QEMU's, None: it was not asked."""
        for which, bitmap in enumerate((view.access, view.done, view.copy)):
            if bitmap.bits != self._last[which]:
                now = levelled(bitmap.bits, self._last[which], False)
                self.grid.events += [(row, which, start, end, int(value)) for start, end, value
                                     in changes(self._last[which], now)]
                self._last[which] = now
        if counts is not None and counts != self._counts:
            self.grid.counts.append((row, counts))
            self._counts = counts
        for kind, ranges in (("frozen", frozen), ("copying", copying)):
            if ranges:
                self.grid.flights.append((row, kind, ranges))
        if view.broken is not None and not self.grid.broken:
            self.grid.broken.append(row)


class ImageGrid:
    """Follows an image's content."""

    def __init__(self, name: str, content: Content, unit: int, words: str) -> None:
        self.grid = Grid(name, "image", content.size, unit, 0, words=words)
        self._last: Content = RunMap(content.size, 0)
        self.take(0, content)

    def take(self, row: int, content: Content) -> None:
        """Take down what changed."""
        if content == self._last:
            return
        self.grid.size = max(self.grid.size, content.size)
        content = levelled(content, self._last, 0)
        unit = self.grid.unit
        done = 0
        for start, end, stamp in changes(self._last, content):
            self.grid.data.append((row, start, end, stamp))
            first, last = max(start // unit, done), divide_up(end, unit)
            self.grid.events += [(row, 0, low, high, value) for low, high, value
                                 in clusters_of(content, unit, first, last)]
            done = max(done, last)
        self._last = content
