# SPDX-License-Identifier: GPL-2.0-or-later
"""An image on storage that the harness holds, so that every request to it can be seen.

What is exact here is what QEMU's NBD client and the layer above it make of a request.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from . import configuration
from .configuration import MIB, RequestKind
from .content import ZERO, Content
from .image import Image
from .node import DATA, ZERO_HOLE, Status, Zeroing
from .outcome import Allocation
from .program import Program
from .rules import rule
from .runs import RunMap
from .tracking import in_order

ZERO_DATA = Status(frozenset({Allocation.ZERO}))
"""Reads as zero and takes space."""
MOST_ZEROES: Final = 32 * MIB
"""Bytes of zeroes in one request (experiment)."""


class HeldImage(Image):
    """A raw image whose storage tells what was written to it, and how, or tells nothing."""

    def __init__(self, spec: configuration.Image, index: int, fired: Counter[str]) -> None:
        super().__init__(spec, index, fired)
        self._known_data: tuple[int, int] | None = None
        self.states = RunMap(self.size, ZERO_HOLE)
        """What block status says, if the storage is asked."""
        for offset, length in spec.filled:
            self.states.set(offset, min(offset + length, self.size), DATA)

    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        return self._find_out(start, end, remember=True)

    def is_allocated(self, start: int, end: int) -> Program[tuple[int, bool]]:
        """What the storage says to this is not remembered."""
        stop, _ = yield from self._find_out(start, end, remember=False)
        return stop, True

    def _find_out(self, start: int, end: int, *, remember: bool) -> Program[tuple[int, Status]]:
        known = self._known_data
        if known is not None and known[0] <= start < known[1]:
            return self._remembered(known, end)
        stop, status = yield from self._ask(start, end)
        if remember and status == DATA:
            self._known_data = (start, stop)
        return stop, status

    @rule("image.remembers-data", source="block layer: the last range that the storage said is "
          "data is not asked about again (experiment)")
    def _remembered(self, known: tuple[int, int], end: int) -> tuple[int, Status]:
        """QEMU remembers the last range of which the storage said that it is data.  Asked about a
        place in it, QEMU answers by itself, and no further than the range goes; until a discard
        or a write of zeroes begins in it.  Of storage that offers no block status, all that is
        asked about is data."""
        return min(end, known[1]), DATA

    def _ask(self, start: int, end: int) -> Program[tuple[int, Status]]:
        if not self.spec.tells_status:
            return end, DATA
        yield self._request(RequestKind.STATUS, start, end)
        return self._told(start, end)

    @rule("image.status-when-it-completes", source="NBD protocol: base:allocation; experiment")
    def _told(self, start: int, end: int) -> tuple[int, Status]:
        """Storage is asked about a whole range and tells of the run at its start: data, even if it
        reads as zero; or zeroes that take space; or, after a discard or a write of zeroes that
        may free space, zeroes that take none.  It tells what is so when the request completes."""
        run = self.states.run_at(start, end)
        return run.end, run.value

    def _forget(self, start: int, end: int) -> None:
        known = self._known_data
        if known is not None and known[0] < end and start < known[1]:
            self._known_data = None

    def _write(self, start: int, content: Content) -> Program[None]:
        yield from super()._write(start, content)
        self.states.set(start, start + content.size, DATA)

    @rule("image.zeroes-in-pieces", source="NBD protocol: what every server must take; experiment")
    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        """Zeroes are written 32 MiB at a time, one after the other."""
        self._forget(start, end)
        for place in range(start, end, MOST_ZEROES):
            stop = min(place + MOST_ZEROES, end)
            yield self._request(RequestKind.ZERO, place, stop, unmap=how.unmap)
            self.content.set(place, stop, ZERO)
            self.states.set(place, stop, ZERO_HOLE if how.unmap else ZERO_DATA)

    @rule("image.flushed-through-blkdebug", source="the driver nbd; experiment")
    def _flush_through(self) -> Program[None]:
        """A flush reaches the storage below a ``blkdebug`` twice, by way of it and then by itself;
        but once, by itself, if nothing had changed between the last flush that succeeded and when
        it came.  Only then the next one has its turn."""
        return in_order(self.flushes, self._flush_twice(self.changes))

    def _flush_twice(self, changes: int) -> Program[None]:
        if not self._is_flushed(changes):
            yield self._flush_request()
        yield self._flush_request()
        self._flushed = changes

    def _flush(self) -> Program[None]:
        if self.format_node != self.name:
            return self._flush_through()
        return in_order(self.flushes, super()._flush())

    def _discard(self, start: int, end: int) -> Program[None]:
        self._forget(start, end)
        yield from super()._discard(start, end)
        self.states.set(start, end, ZERO_HOLE)
