# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images: content by cluster, over a backing file perhaps.

Each *cell* (a cluster, or a subcluster with ``extended_l2``) is unallocated, and then shows the
backing file or zeroes; or reads as zero; or holds data.  Here alone block status is exact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Final, NoReturn

from . import configuration
from .bitmap import StoredBitmap, align_down, align_up, check_changeable, divide_up, split
from .configuration import KIB, RequestKind
from .content import ZERO, Content, is_zero, zeroes
from .errors import CommandRefused, Errno, RequestFailed, Undetermined
from .node import (
    ANYTHING_ZERO,
    DATA,
    DATA_OR_ZERO,
    HOLE,
    NOWHERE,
    SECTOR,
    ZERO_HOLE,
    Node,
    Status,
    Zeroing,
)
from .program import Program, beside, run_to_end
from .qcow2_cells import MOST_BESIDE, SPACE, ZEROED, Cell, Cells
from .qcow2_compressed import COMPRESSIBLE, run_of_compressed
from .rules import rule
from .tracking import Filling, least

LITTLE: Final = 16 * KIB
"""Bytes: around a write of no more, what is kept before and after it is read at once."""


class Qcow2(Cells):
    """A qcow2 image; ``backing`` is the node that shows through where nothing is allocated."""

    def __init__(self, spec: configuration.Image, index: int, backing: Node | None,
                 fired: Counter[str]) -> None:
        super().__init__(spec, index, fired)
        self.backing = backing
        if backing is not None:
            self.most_at_once = least(self.most_at_once, backing.most_at_once)
        self.compressed: dict[int, bool] = {}
        """The clusters, by number, that hold compressed data; False: perhaps."""
        self.directory: list[StoredBitmap] = []
        """The bitmaps that the image keeps: see :mod:`model.bitmap_directory`."""
        self.levels = 1 if self.format_node == self.name else 2
        """How much deeper its backing file lies: ``blkdebug`` is a level of its own."""
        self.filling = Filling(self.cluster, spec.fails_first, fired)
        for offset, length in spec.filled:
            self._mark(offset, min(offset + length, self.size), Cell.DATA)

    def forget_content(self) -> None:
        """The image is made anew: nothing is allocated."""
        super().forget_content()
        self._mark(0, self._room, Cell.UNALLOCATED)

    def check_fresh(self, start: int, end: int) -> None:
        """Refuse compressed data where a cluster may have space in the file: with subclusters and
        preallocation all have, though nothing counts as allocated."""
        cells = self.cells.runs(start // self.cell, divide_up(end, self.cell))
        if self.spec.preallocation or any(run.value is not Cell.UNALLOCATED for run in cells):
            raise Undetermined("compressed data cannot be written over other data")

    def _mark(self, start: int, end: int, state: Cell) -> None:
        self.cells.set(start // self.cell, divide_up(end, self.cell), state)
        if self.compressed:
            low, high = start // self.cluster, divide_up(end, self.cluster)
            self.compressed = {cluster: certainly for cluster, certainly in self.compressed.items()
                               if not low <= cluster < high}

    @rule("qcow2.compressed", source="argument compress of blockdev-backup; what qemu-img check "
          "counts (experiment)")
    def compress(self, start: int, content: Content) -> None:
        """What a job with ``compress`` has written as data is compressed, each cluster by itself,
        if it takes less space so, as it does with zeroes in it: what is past the end of the disk
        counts as zero, too, and is stored.  To block status it is data, be it all zero.  Whatever
        is then done to a part of a cluster, all of it is not compressed any more.  Zeroes free its
        space, even if they need not."""
        written = (Cell.DATA,) if self.detects else (Cell.DATA, Cell.PERHAPS_ZERO)
        for low in range(start, start + content.size, self.cluster):
            state = self.cells.at(low // self.cell)
            held = content.slice(low - start, content.size)
            held.resize(self.cluster, ZERO)
            longest = max((run.length for run in held.runs() if run.value == ZERO), default=0)
            if not longest or state not in written:
                continue
            certainly = state is Cell.DATA and longest * COMPRESSIBLE >= self.cluster
            if certainly:
                self.content.paste(low, held)
                self._mark(low, low + self.cluster, Cell.DATA)
            self.compressed[low // self.cluster] = certainly

    @property
    def compressed_clusters(self) -> range:
        """How many clusters hold compressed data: the numbers that may be."""
        return range(sum(self.compressed.values()), len(self.compressed) + 1)

    @rule("qcow2.backing-shows-through", source="docs/interop/qcow2.txt")
    def _read(self, start: int, end: int) -> Program[Content]:
        """An unallocated cell reads as the backing file does; as zero past the backing file's
        end or if there is none.  The backing file is asked for what one table is about at a
        time; with subclusters, for clusters that have space in the file apart from others, and
        for two that have it perhaps apart.  Such pieces are read beside each other, up to eight
        with those of the image's own data."""
        yield self._request(RequestKind.READ, start, end)
        content = zeroes(end - start)
        shown: list[tuple[int, int]] = []
        own = 0
        for run in list(self.cells.runs(start // self.cell, divide_up(end, self.cell))):
            low, high = max(run.start * self.cell, start), min(run.end * self.cell, end)
            if run.value is not Cell.UNALLOCATED:
                content.paste(low - start, self.content.slice(low, high))
                own += (run.value not in ZEROED) * run.length
                continue
            while low < high:
                stop = self._end_of_alike(low, high)
                shown.append((low, stop))
                low = stop
        few = own + len(shown) <= MOST_BESIDE and (
            align_down(start, self.table) + self.table >= end)
        pieces = yield from beside([self._below(*each) for each in shown], at_once=few)
        for (low, stop), piece in zip(shown, pieces, strict=True):
            self._check_pieces(low, stop, piece)
            content.paste(low - start, piece)
        return content

    @rule("qcow2.write-fills-cells", source="docs/interop/qcow2.txt")
    def _write(self, start: int, content: Content) -> Program[None]:
        """A write allocates every cell it touches; what it leaves out of the first and the last
        keeps what it read as before: copy-on-write inside the image."""
        yield self._request(RequestKind.WRITE, start, start + content.size)
        yield from self._store(start, content)

    def _store(self, start: int, content: Content) -> Program[None]:
        return self.filling.in_turn(start, start + content.size, self._fill(start, content))

    def _fill(self, start: int, content: Content) -> Program[None]:
        end = start + content.size
        shown = []
        for low, high in self._shown_beside(start, end):
            try:
                shown.append((low, (yield from self._below(low, high))))
            except RequestFailed as why:
                self._cannot_fill(start, end, why.error)
        for low, piece in shown:
            self.content.paste(low, piece)
        self._check_beside(start, end)
        self.content.paste(start, content)
        self._mark(start, end, Cell.DATA)

    @rule("qcow2.unfilled-writes-nothing", source="an overlay of a snapshot of which a "
          "part may not be read (experiment)")
    def _cannot_fill(self, start: int, end: int, error: Errno) -> NoReturn:
        """A write that cannot read what is to be kept of its first or last cell fails with that
        errno and stores nothing, also of the cells that it would have filled."""
        low, high = align_down(start, self.cluster), align_up(end, self.cluster)
        if self._may_be_zero_beside(start, end):
            raise Undetermined("what is told to read as zero need not be read")
        if not self._is_one_write(low, high):
            raise Undetermined("how much is stored of a write that fails at one end depends on "
                               "where in the file its clusters lie")
        raise RequestFailed(error)

    def _check_beside(self, start: int, end: int) -> None:
        """Refuse to keep what was read at once, and is not zero, where each side by itself may be
        told to be: a snapshot with a defect shows what is of another time."""
        beside = (align_down(start, self.cell), start), (end, align_up(end, self.cell))
        if not all(is_zero(self.content.slice(*each)) for each in beside) and (
                self._may_be_zero_beside(start, end)):
            raise Undetermined("what is told to be zero may be read as something else")

    def _may_be_zero_beside(self, start: int, end: int) -> bool:
        """Whether all that is to be kept of the cells at the ends of a range may be known to be
        zero without reading it."""
        low, high = align_down(start, self.cell), min(align_up(end, self.cell), self.size)
        return all(run_to_end(self._is_zero(*beside), lambda request: None) is not False
                   for beside in ((low, start), (end, high)))

    def _shown_beside(self, start: int, end: int) -> list[tuple[int, int]]:
        """What the backing file shows beside a range in the cells at its ends: before it, and
        after it, the end of the image being no limit; or, if both these cells have something to
        be kept, be it zero, and what is between them is little, all that it shows of the cells
        from the one to the other, if they are written at once."""
        low, high = align_down(start, self.cell), align_up(end, self.cell)
        apart = [(low, start)] * (low < start and self._is_shown(low)) + (
            [(end, high)] * (end < high and self._is_shown(high - self.cell)))
        kept = ZEROED | {Cell.UNALLOCATED}
        if not (apart and low < start and end < high and end - start <= LITTLE and all(
                self.cells.at(place // self.cell) in kept for place in (low, high - self.cell))):
            return apart
        at_once = self._is_one_write(low, high)
        together = [(run.start * self.cell, run.end * self.cell)
                    for run in self.cells.runs(low // self.cell, high // self.cell)
                    if run.value is Cell.UNALLOCATED]
        if at_once is None and self._kept(apart, start, end) != self._kept(together, start, end):
            raise Undetermined("what is read at once depends on where in the file it lies")
        return apart if at_once is False else together

    def _kept(self, ranges: list[tuple[int, int]], start: int, end: int) -> Content | Errno:
        """What the cells at the ends of a range keep if these ranges are read of what is below."""
        kept = zeroes(self._room)
        try:
            for low, high in ranges:
                kept.paste(low, run_to_end(self._below(low, high), lambda request: None))
        except RequestFailed as why:
            return why.error
        kept.set(start, end, ZERO)
        return kept

    def _is_shown(self, place: int) -> bool:
        return self.backing is not None and (
            self.cells.at(place // self.cell) is Cell.UNALLOCATED)

    def _below(self, start: int, end: int) -> Program[Content]:
        """What the backing file has there; zeroes past its end or if there is none."""
        content = zeroes(end - start)
        if self.backing is not None and start < self.backing.size:
            stop = min(end, self.backing.size)
            content.paste(0, (yield from self.backing.read(start, stop)))
        return content

    def _check_pieces(self, start: int, end: int, content: Content) -> None:
        """Refuse a read of what is below that would give other content if it went piece by piece,
        as it may."""
        borders = self.in_doubt(start, end)
        for low, high in pairwise((start, *borders, end) if borders else ()):
            piece = run_to_end(self._below(low, high), lambda request: None)
            if piece != content.slice(low - start, high - start):
                raise Undetermined("what is read at once depends on where in the file it lies")

    @rule("qcow2.zeroes", source="docs/interop/qcow2.txt; experiment")
    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        """Whole cells become zero cells; so does a cell of which only a part is zeroed but which
        reads as zero already, unless it holds data.  In other cells the zeroes are written as
        data; a request to zero fast ends with ENOTSUP there, and what it has zeroed before stays
        so."""
        self.filling.check_apart(start, end)
        yield self._request(RequestKind.ZERO, start, end)
        for low, high in split(start, end, self.cell):
            cell_start = align_down(low, self.cell)
            cell_end = min(align_up(high, self.cell), self.size)
            partial = (low, high) != (cell_start, cell_end)
            rest = [False] if partial and self.cells.at(low // self.cell) is Cell.DATA else [
                (yield from self._is_zero(cell_start, low)),
                (yield from self._is_zero(high, cell_end))]
            if all(rest):
                if how.perhaps:
                    self._make_zero(low, high, Cell.PERHAPS_ZERO)
                else:
                    self._zero_cells(low, high, frees=how.unmap)
            elif how.fast:
                if False not in rest:
                    raise Undetermined("what may read as zero may be zeroed fast")
                raise RequestFailed(Errno.ENOTSUP)
            else:
                yield from self._store(low, zeroes(high - low))
                if False not in rest:
                    self._mark(low, high, Cell.PERHAPS_ZERO)

    def _zero_cells(self, start: int, end: int, *, frees: bool) -> None:
        """Zero cells in place of others; those that had data keep their space unless it may be
        freed, as that of subclusters may only with all of their cluster: of the last one, with
        all that the image has of it."""
        for low, high in split(align_down(start, self.cell), align_up(end, self.cell),
                               self.cluster):
            whole = low % self.cluster == 0 and high >= min(low + self.cluster, self.size)
            had = list(self.cells.runs(low // self.cell, high // self.cell))
            compressed = self.compressed.get(low // self.cluster)
            freed = whole and (frees or compressed is True)
            if compressed is not None and not freed and any(
                    run.value is Cell.DATA for run in had):
                raise Undetermined("what zeroes make of a cluster that may be compressed")
            self._make_zero(low, high)
            for run in had:
                if run.value is Cell.PERHAPS_ZERO:
                    self.cells.set(run.start, run.end, run.value)
                elif run.value in SPACE and not freed:
                    self.cells.set(run.start, run.end, Cell.ZERO_KEPT)

    def _make_zero(self, start: int, end: int, state: Cell = Cell.ZERO) -> None:
        """Make cells zero; those past the end of the image too if all of its last cluster is."""
        start = align_down(start, self.cell)
        end = align_up(end, self.cell)
        if end >= self.size and start <= self._room - self.cluster:
            end = self._room
        self._mark(start, end, state)
        self.content.set(start, end, ZERO)

    def _discard_cluster(self, start: int, end: int) -> None:
        """A cluster that has space, be it for one of its subclusters only, becomes zero, as does
        any over a backing file; others stay as they are."""
        states = {run.value for run in self.cells.runs(start // self.cell, end // self.cell)}
        has_space = self._has_space(start)
        if self.backing is None and Cell.UNALLOCATED in states and not has_space:
            if has_space is None:
                raise Undetermined("whether a zeroed subcluster has given its cluster space")
            return
        self._make_zero(start, end)

    def _is_zero(self, start: int, end: int) -> Program[bool | None]:
        """Whether the range, inside one cell, reads as zero by its status; None: undecided."""
        undecided = False
        while start < end:
            try:
                start, status = yield from self._look_up(start, end)
            except RequestFailed:
                return False
            if status.is_zero is False:
                return False
            undecided = undecided or status.is_zero is None
        return None if undecided else True

    @rule("qcow2.discards-whole-clusters", source="experiment: a discarded cluster reads as zero, "
          "even over a backing file; a part of one keeps its data")
    def _discard(self, start: int, end: int) -> Program[None]:
        """Only whole clusters are discarded; up to the end of the image, its last one counts as
        whole.  They read as zero.  What is unallocated without a backing file stays so."""
        self.filling.check_apart(start, end)
        yield self._request(RequestKind.DISCARD, start, end)
        for low, high in split(start, end, self.cluster):
            if low % self.cluster or (high % self.cluster and high != self.size):
                continue
            for cluster in range(low, high, self.cluster):
                self._discard_cluster(cluster, cluster + self.cluster)

    @rule("qcow2.status", source="experiment")
    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """Data cells are data, zero cells are zero; an unallocated one has the backing file's
        status, one image deeper, and is a hole that reads as zero where there is none."""
        yield self._request(RequestKind.STATUS, start, end)
        return (yield from self._look_up(start, end))

    def _look_up(self, start: int, end: int) -> Program[tuple[int, Status]]:
        stop, cell = self._run_of_cells(start, end)
        if cell is Cell.DATA:
            return self._data_status(start, stop)
        if cell is not Cell.UNALLOCATED:
            goes_on = stop < end and self._may_go_on(cell, stop)
            if cell is Cell.PERHAPS_ZERO:
                return stop, replace(ANYTHING_ZERO, goes_on=goes_on)
            ragged = cell is Cell.ZERO_KEPT or self.spec.subclusters
            return stop, replace(ZERO_HOLE, pieces=self.cluster if ragged else 0, goes_on=goes_on)
        if self.backing is None or start >= self.backing.size:
            return stop, replace(ZERO_HOLE, depths=(
                NOWHERE if self.backing is None else frozenset({1 + self.levels})))
        stop = min(stop, self.backing.size)
        borders = self.in_doubt(start, stop)
        stop, below = yield from self.backing.block_status(start, stop)
        if borders:
            place, other = run_to_end(self.backing.block_status(start, borders[0]),
                                      lambda request: None)
            if (place, other.flags) != (min(stop, borders[0]), below.flags):
                raise Undetermined("what is told at once depends on where in the file it lies")
        return stop, replace(below, depths=frozenset(
            depth and depth + self.levels for depth in below.depths))

    @rule("qcow2.sparse-data", source="qcow2 looks at the file below for preallocated clusters")
    def _data_status(self, start: int, end: int) -> tuple[int, Status]:
        """Data cells may be reported to read as zero if their part of the file is a hole, as it is
        after preallocation of metadata."""
        stop, reads_zero = self._run_of_zero(start, end)
        if not reads_zero:
            return stop, DATA
        stop, compressed = run_of_compressed(self.compressed, self.cluster, start, stop)
        return stop, DATA if compressed else DATA_OR_ZERO

    @property
    def discard_alignment(self) -> int:
        """A cluster."""
        return self.cluster

    def own_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """What is not allocated here is a hole of unknown content over a backing file."""
        self._check(start, end)
        yield self._request(RequestKind.STATUS, start, end)
        stop, cell = self._run_of_cells(start, end)
        if cell is Cell.UNALLOCATED and self.backing is not None:
            if start < self.backing.size:
                return stop, HOLE
            return stop, replace(ZERO_HOLE, depths=NOWHERE)
        return (yield from self._look_up(start, end))

    @rule("qcow2.resize", source="block_resize of qcow2 (experiment)")
    def check_resize(self, size: int) -> None:
        """Refused unless the size is whole sectors of 512 bytes, and every bitmap that the image
        keeps is one that can be changed."""
        super().check_resize(size)
        if size % SECTOR:
            raise CommandRefused(f"The new size must be a multiple of {SECTOR}")
        for bitmap in filter(None, [self.bitmap(stored.name) for stored in self.directory]):
            check_changeable(bitmap)

    @rule("qcow2.resize-keeps-the-last-cluster", source="experiment")
    def resize(self, size: int) -> None:
        """When an image is made smaller, the cluster that it ends in keeps what it has past the
        end, and shows that again when the image grows; all else that is new is unallocated.  But
        if the backing file is larger than the image was, all that is new is zero."""
        before = self.size
        self._resized(size)
        self.content.resize(self._room, ZERO)
        self.cells.resize(self._room // self.cell, Cell.UNALLOCATED)
        if size > before and self.backing is not None and self.backing.size > before:
            whole = align_up(before, self.cell)
            self._zero_cells(whole, size, frees=False)
            run_to_end(self._store(before, zeroes(min(whole, size) - before)),
                       lambda request: None)
