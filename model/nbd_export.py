# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's NBD server: what it makes of a client's request before a node sees it.

This matters to what a fleecing client reads: a server that sends structured replies asks for block
status first, and then reads only what is not zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from .bitmap import DirtyBitmap, align_down
from .capabilities import Capabilities
from .content import Content, is_zero, zeroes
from .errors import Errno, RequestFailed, Undetermined
from .node import SECTOR, Node, Status
from .operations import Context
from .outcome import Extent
from .program import Program
from .rules import rule

BITMAP_CONTEXT = "qemu:dirty-bitmap:"
"""What a bitmap's metadata context begins with; its name follows (docs/interop/nbd.txt)."""
LONGEST_NAME = 4096
"""Bytes: the longest string that the protocol allows."""


class Disconnected(Exception):
    """The server closes the connection to the client, who gets no answer."""


@dataclass(frozen=True, slots=True)
class SparseRead:
    """Content as a client gets it, and the ranges of the node that may come as zero instead."""

    content: Content
    perhaps_zero: tuple[tuple[int, int], ...] = ()


class NbdExport:
    """One node served over NBD."""

    def __init__(self, node: Node, *, writable: bool, bitmaps: tuple[DirtyBitmap, ...],
                 allocation_depth: bool, capabilities: Capabilities, fired: Counter[str],
                 writethrough: bool = False) -> None:
        self.node = node
        self.called = node.name
        """The name by which clients ask for it."""
        self.writable = writable
        self.bitmaps = bitmaps
        self.allocation_depth = allocation_depth
        self.capabilities = capabilities
        self.writethrough = writethrough
        """Whether each write, also one of zeroes, is durable when answered."""
        self.size = align_down(node.size, SECTOR)
        self.fired = fired
        self.age = 0

    @rule("nbd.checks-request", source="the server answers a bad request EINVAL (experiment)")
    def check(self, start: int, end: int, *, changes: bool) -> None:
        """A request past the end, or one to change a read-only export, gets EINVAL."""
        if end > self.size or (changes and not self.writable):
            raise RequestFailed(Errno.EINVAL)

    def read_plain(self, start: int, end: int) -> Program[SparseRead]:
        """Without structured replies, or with the flag "don't fragment": one read."""
        return SparseRead((yield from self.node.read(start, end)))

    @rule("nbd.structured-read", source="NBD protocol: structured replies may hold holes; "
          "experiment")
    def read_structured(self, start: int, end: int) -> Program[SparseRead]:
        """With structured replies the server asks for the block status of what is left of the
        request, sends a hole as far as that reads as zero, and otherwise reads as far as the
        status goes; and so on.  If the status fails, the client gets the error.  If the read
        fails, it is too late for an error: the connection is dropped."""
        if start == end:
            yield from self.node.read(start, end)
        content = zeroes(end - start)
        perhaps_zero: list[tuple[int, int]] = []
        place = start
        while place < end:
            stop, status = yield from self.node.block_status(place, end)
            if status.is_zero is not True:
                if status.is_zero is None and status.kept:
                    raise Undetermined("what may be a hole may be read, and kept")
                try:
                    piece = yield from self.node.read(place, stop)
                except RequestFailed as why:
                    if status.is_zero is None:
                        raise Undetermined("what may be a hole may be read, and fail") from why
                    raise Disconnected from why
                content.paste(place - start, piece)
                if status.is_zero is None:
                    perhaps_zero += [] if is_zero(piece) else [(place, stop)]
            place = stop
        return SparseRead(content, tuple(perhaps_zero))

    @property
    def contexts(self) -> tuple[str, ...]:
        """The metadata contexts on offer, in the order in which answers have them."""
        depth = (Context.DEPTH,) if self.allocation_depth else ()
        bitmaps = (f"{BITMAP_CONTEXT}{each.name}" for each in self.bitmaps)
        return (Context.ALLOCATION, *depth, *bitmaps)

    @rule("nbd.contexts", source="NBD protocol: a block status request is answered in each "
          "metadata context that was negotiated; experiment")
    def statuses(self, start: int, end: int, asked: tuple[str, ...],
                 *, one: bool) -> Program[dict[str, tuple[Extent, ...]]]:
        """The extents of a block status request in each of the contexts asked for that is on
        offer; EINVAL if none is, or if the range is empty.  If one fails, all do: the client
        gets the first error.  What a build that has the defect makes of the connection then is
        not followed."""
        contexts = [each for each in self.contexts if each in asked]
        if start == end or not contexts:
            raise RequestFailed(Errno.EINVAL)
        told: dict[str, tuple[Extent, ...]] = {}
        for context in contexts:
            try:
                told[context] = yield from self._status(start, end, context, one=one)
            except RequestFailed as why:
                if self.capabilities.failed_status_goes_on and context != contexts[-1]:
                    raise Undetermined("an answer that goes on after its end") from why
                raise
        return told

    def _status(self, start: int, end: int, context: str, *,
                one: bool) -> Program[tuple[Extent, ...]]:
        if context == Context.ALLOCATION:
            return (yield from self._extents(start, end, lambda status: status.flags, one=one))
        if context == Context.DEPTH:
            return (yield from self._extents(start, end, lambda status: status.depths, one=one))
        name = context.removeprefix(BITMAP_CONTEXT)
        bitmap = next(each for each in self.bitmaps if each.name == name)
        return self._bitmap_extents(start, end, bitmap)

    @rule("nbd.status-runs", source="NBD protocol: base:allocation; experiment")
    def _extents(self, start: int, end: int, flags_of: Callable[[Status], frozenset[int]], *,
                 one: bool) -> Program[tuple[Extent, ...]]:
        """The status of the node, run by run up to the end of what was asked, or of the ``one``
        extent; neighbours with the same flags are one extent."""
        extents: list[Extent] = []
        place = start
        while place < end:
            try:
                stop, status = yield from self.node.block_status(place, end)
            except RequestFailed as why:
                if one and any(len(each.allowed) > 1 for each in extents):
                    raise Undetermined("whether the extent ends before what fails") from why
                raise
            extent = Extent(stop - place, flags_of(status))
            if one and extents and not extents[0].allowed & extent.allowed:
                break
            _append(extents, extent)
            place = stop
        return tuple(extents)

    @rule("nbd.bitmap-runs", source="docs/interop/nbd.txt: qemu:dirty-bitmap:NAME")
    def _bitmap_extents(self, start: int, end: int, bitmap: DirtyBitmap) -> tuple[Extent, ...]:
        """A dirty bitmap's runs: flag 1 is dirty; cut to what was asked.  Past the end of a bitmap
        of another, smaller node nothing is dirty."""
        extents: list[Extent] = []
        while start < end:
            dirty, stop = False, end
            if start < bitmap.size:
                dirty, stop = bitmap.run(start, min(end, bitmap.size))
            _append(extents, Extent(stop - start, frozenset({int(dirty)})))
            start = stop
        return tuple(extents)


def _append(extents: list[Extent], extent: Extent) -> None:
    if extents and extents[-1].allowed == extent.allowed:
        extent = Extent(extents.pop().length + extent.length, extent.allowed)
    extents.append(extent)
