# SPDX-License-Identifier: GPL-2.0-or-later
"""A qcow2 image's clusters or, with ``extended_l2``, subclusters, their states, and how many of
them are looked up, or written, at once."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Final

from . import configuration
from .bitmap import align_down, align_up, divide_up
from .configuration import KIB
from .content import ZERO
from .image import Image
from .runs import RunMap

DEFAULT_CLUSTER: Final = 64 * KIB
"""Bytes, as qemu-img makes images."""
MOST_BESIDE: Final = 8
"""Pieces of one request that are read at a time (experiment)."""
ENTRY: Final = 8
"""Bytes of a cluster's entry in its table; twice that with subclusters.  Source:
docs/interop/qcow2.txt, also for the number of subclusters."""
SUBCLUSTERS: Final = 32
"""Subclusters of a cluster with ``extended_l2``."""


class Cell(Enum):
    """The state of a cluster or subcluster."""

    UNALLOCATED = "unallocated"
    ZERO = "zero"
    ZERO_KEPT = "zero, its space kept"
    """It differs from ZERO in where a run of block status ends, and in what a discard of its
    cluster does."""
    DATA = "data"
    PERHAPS_ZERO = "zero, or data that is all zero"
    """Whether a write of zeroes to a part of it made it a zero cell is up to the storage below
    the backing file."""


SPACE: Final = frozenset({Cell.DATA, Cell.ZERO_KEPT})
"""What has space in the file."""
ZEROED: Final = frozenset({Cell.ZERO, Cell.ZERO_KEPT})
"""Zero, with space or without: subclusters of one cluster are alike in that."""
ALL_ZERO: Final = ZEROED | {Cell.PERHAPS_ZERO}
"""What reads as zero by itself."""


def cell_size(spec: configuration.Image) -> int:
    """Bytes of a cell of such an image."""
    cluster = spec.cluster_size or DEFAULT_CLUSTER
    return cluster // SUBCLUSTERS if spec.subclusters else cluster


class Cells(Image):
    """An image that consists of cells."""

    def __init__(self, spec: configuration.Image, index: int, fired: Counter[str]) -> None:
        super().__init__(spec, index, fired)
        self.cluster = spec.cluster_size or DEFAULT_CLUSTER
        self.cell = cell_size(spec)
        self.subcluster_size = self.cell
        entry = ENTRY * 2 if spec.subclusters else ENTRY
        self.table = self.cluster // entry * self.cluster
        """How much of the disk one table of clusters is about; no status run is longer."""
        start = Cell.DATA if spec.preallocation and not spec.subclusters else Cell.UNALLOCATED
        self.cells: RunMap[Cell] = RunMap(self._room // self.cell, start)
        self.content.resize(self._room, ZERO)

    @property
    def _room(self) -> int:
        """The size in whole clusters: the last one may reach past the end of the image."""
        return align_up(self.size, self.cluster)

    def _has_space(self, place: int) -> bool | None:
        """Whether the cluster has space in the file, be it for one of its subclusters only; None:
        undecided."""
        first = align_down(place, self.cluster) // self.cell
        states = {run.value for run in self.cells.runs(first, first + self.cluster // self.cell)}
        if states & SPACE or (self.spec.preallocation and self.spec.subclusters):
            return True
        return None if Cell.PERHAPS_ZERO in states else False

    def _borders(self, start: int, end: int) -> range:
        """Where in ``(start, end)`` one cluster ends and another begins."""
        return range(align_down(start, self.cluster) + self.cluster, end, self.cluster)

    def _end_of_alike(self, start: int, end: int) -> int:
        """Where in ``(start, end]`` the unallocated cells end that are looked up together: those
        of one table and, with subclusters, those of clusters that have space, or have none."""
        stop = min(align_down(start, self.table) + self.table, end)
        if not self.spec.subclusters:  # then none of them has space
            return stop
        return next((border for border in self._borders(start, stop)
                     if {self._has_space(border - 1), self._has_space(border)} == {True, False}),
                    stop)

    def in_doubt(self, start: int, end: int) -> list[int]:
        """Where in ``(start, end)``, of unallocated cells that are looked up together, two may be
        looked up apart: their clusters have space, which may not lie side by side.  If all got
        theirs at once it does."""
        if not self.spec.subclusters or self.spec.preallocation:
            return []
        return [border for border in self._borders(start, end) if {
            self._has_space(border - 1), self._has_space(border)} != {False}]

    def _is_one_write(self, start: int, end: int) -> bool | None:
        """Whether cells are written at once: those of one cluster are, and those of several that
        take their space together, none of them having any.  None: such that have space may be."""
        start, end = align_down(start, self.cluster), align_up(end, self.cluster)
        if end - start == self.cluster:
            return True
        spaces = {self._has_space(cluster) for cluster in range(start, end, self.cluster)}
        if spaces == {False}:
            return align_up(end, self.table) - align_down(start, self.table) == self.table
        return False if {True, False} <= spaces else None

    def _run_of_cells(self, start: int, end: int) -> tuple[int, Cell]:
        """Where in ``(start, end]`` the run of like cells stops that begins at ``start``, as far
        as they are looked up together; and their state."""
        first, last = start // self.cell, divide_up(end, self.cell)
        run = self.cells.run_at(first, last)
        stop = run.end
        if self.spec.subclusters and run.value in ZEROED:
            stop = next((other.start for other in self.cells.runs(first, last)
                         if other.value not in ZEROED), last)
        end = min(stop * self.cell, end)
        if run.value is Cell.UNALLOCATED:
            return self._end_of_alike(start, end), run.value
        return min(end, align_down(start, self.table) + self.table), run.value

    def _may_go_on(self, cell: Cell, stop: int) -> bool:
        """Whether a run of zeroes may go on at its ``stop``: only where one of the two is perhaps
        data, and in the same table."""
        both = {cell, self.cells.at(stop // self.cell)}
        return stop % self.table > 0 and Cell.PERHAPS_ZERO in both and both <= ALL_ZERO
