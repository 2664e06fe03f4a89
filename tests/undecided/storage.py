# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines of the model whose storage decides what the model leaves open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final
from unittest import mock

from model.capabilities import Capabilities
from model.configuration import Configuration, Format, RequestKind
from model.content import ZERO
from model.image import Image
from model.machine import Machine
from model.node import ANYTHING_ZERO, DATA, SECTOR, ZERO_HOLE, Status
from model.operations import Operation
from model.outcome import Allocation, Outcome
from model.program import Program
from model.qcow2 import Qcow2
from model.qcow2_cells import Cells
from model.qcow2_compressed import run_of_compressed

ALLOCATED_ZERO: Final = Status(frozenset({Allocation.ZERO}))
"""Takes space, and is known to read as zero."""
PAGE: Final = 4096
"""Bytes of a block of most file systems."""

_look_up = Qcow2._look_up
_in_doubt = Cells.in_doubt
_is_one_write = Cells._is_one_write
_end_of_alike = Cells._end_of_alike


class Storage(StrEnum):
    """What storage may be like, of which QEMU asks block status."""

    FULL = "full"
    """It knows of no holes, so zeroes are data, told together with what is before and after."""
    SPARSE = "sparse"
    """Each sector of zeroes is a hole; all that may be told at once is."""
    PAGED = "paged"
    """Some pages of zeroes are holes, others are data; what may be told in pieces is, and what
    may lie apart in the file of an image lies so."""

    def _has_hole(self, image: Image, start: int, end: int) -> bool:
        """Whether a block is one."""
        if self is Storage.FULL or (self is Storage.PAGED and start // PAGE % 3 == 1):
            return False
        return all(run.value == ZERO for run in image.content.runs(start, end))

    def _block(self, image: Image) -> int:
        """Bytes of a block; none is smaller than what requests are aligned to."""
        return max(PAGE if self is Storage.PAGED else SECTOR, image.request_alignment or 1)

    def _run(self, image: Image, start: int, end: int) -> tuple[int, bool]:
        """Where the run stops that begins at ``start``; and whether it is a hole."""
        block = self._block(image)
        place, found = start, False
        while place < end:
            low = place // block * block
            is_hole = self._has_hole(image, low, min(low + block, image.size))
            if place == start:
                found = is_hole
            elif is_hole is not found:
                break
            place = min(low + block, end)
        return place, found

    def block_status(self, image: Image, start: int, end: int) -> Program[tuple[int, Status]]:
        """In place of :meth:`model.image.Image._block_status`."""
        yield image._request(RequestKind.STATUS, start, end)
        if not image.traits.tells_holes:
            return end, DATA
        if image.spec.format is not Format.RAW:
            # The format's own tables tell where zeroes are, as what is up to it.
            stop, is_zero = image._run_of_zero(start, end)
            return stop, ZERO_HOLE if is_zero and self is not Storage.FULL else DATA
        stop, is_hole = self._run(image, start, end)
        return stop, ZERO_HOLE if is_hole else DATA

    def data_status(self, image: Qcow2, start: int, end: int) -> tuple[int, Status]:
        """In place of :meth:`model.qcow2.Qcow2._data_status`."""
        if self is Storage.FULL:
            return end, DATA
        stop, reads_zero = image._run_of_zero(start, end)
        if not reads_zero:
            return stop, DATA
        stop, compressed = run_of_compressed(image.compressed, image.cluster, start, stop)
        return stop, DATA if compressed else ALLOCATED_ZERO

    def look_up(self, image: Qcow2, start: int, end: int) -> Program[tuple[int, Status]]:
        """In place of :meth:`model.qcow2.Qcow2._look_up`."""
        stop, status = yield from _look_up(image, start, end)
        if status.flags == ANYTHING_ZERO.flags:
            status = replace(status, flags=_PERHAPS_ZERO[self].flags)
        if status.pieces and self is not Storage.SPARSE:
            stop = min(stop, start // status.pieces * status.pieces + status.pieces)
        return stop, replace(status, pieces=0, goes_on=False)

    def is_one_write(self, image: Cells, start: int, end: int) -> bool:
        """In place of :meth:`model.qcow2_cells.Cells._is_one_write`."""
        known = _is_one_write(image, start, end)
        return self is not Storage.PAGED if known is None else known

    def end_of_alike(self, image: Cells, start: int, end: int) -> int:
        """In place of :meth:`model.qcow2_cells.Cells._end_of_alike`."""
        stop = _end_of_alike(image, start, end)
        return min([stop, *(_in_doubt(image, start, stop) if self is Storage.PAGED else ())])

    def deciding(self) -> ExitStack:
        """The time in which storage decides so."""
        stack = ExitStack()
        for owner, name, instead in self._instead():
            stack.enter_context(mock.patch.object(owner, name, instead))
        return stack

    def _instead(self) -> tuple[tuple[type, str, Callable[..., Any]], ...]:
        return (
            (Image, "_block_status", lambda image, *place: self.block_status(image, *place)),
            (Qcow2, "_data_status", lambda image, *place: self.data_status(image, *place)),
            (Qcow2, "_look_up", lambda image, *place: self.look_up(image, *place)),
            (Cells, "in_doubt", lambda image, *place: []),
            (Cells, "_is_one_write", lambda image, *place: self.is_one_write(image, *place)),
            (Cells, "_end_of_alike", lambda image, *place: self.end_of_alike(image, *place)))


_PERHAPS_ZERO: Final = {
    Storage.FULL: DATA, Storage.SPARSE: ZERO_HOLE, Storage.PAGED: ALLOCATED_ZERO}
"""What is told of clusters that may have been written as zeroes or as data that is zero."""


class Deciding(Machine):
    """The model over storage that decides."""

    def __init__(self, storage: Storage, images: Configuration,
                 capabilities: Capabilities | None = None) -> None:
        super().__init__(images, capabilities)
        self._storage = storage

    def apply(self, number: int, operation: Operation) -> Outcome:
        """Do operation ``number``, while storage decides."""
        with self._storage.deciding():
            return super().apply(number, operation)
