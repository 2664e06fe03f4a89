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
from .content import Content, is_zero, zeroes
from .copy_on_read import CopyOnRead
from .errors import Errno, RequestFailed, Undetermined
from .node import SECTOR, Node, Status
from .operations import Context
from .outcome import Extent
from .permissions import parents_first
from .program import Program, run_to_end
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
                 allocation_depth: bool, heeds_unmap: bool, fired: Counter[str],
                 writethrough: bool = False) -> None:
        self.node = node
        self.called = node.name
        """The name by which clients ask for it."""
        self.writable = writable
        self.bitmaps = bitmaps
        self.allocation_depth = allocation_depth
        self.heeds_unmap = heeds_unmap
        """Whether a client's zeroes free space only on a node with ``discard=unmap``."""
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
                if status.is_zero is None:
                    self._check_kept_nowhere(place, stop)
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

    def _check_kept_nowhere(self, start: int, end: int) -> None:
        """Refuse to read what may be a hole, and is then not read, where copy-on-read would keep
        it."""
        for copier in parents_first([self.node]):
            if isinstance(copier, CopyOnRead):
                end = min(end, copier.file.size)
                stop, allocated = run_to_end(copier.file.is_allocated(start, end),
                                             lambda request: None)
                if stop < end or not allocated:
                    raise Undetermined("what may be a hole may be read, and kept")

    def status(self, start: int, end: int, context: str) -> Program[tuple[Extent, ...]]:
        """The extents of a block status request; EINVAL for a context that is not offered."""
        if start == end:
            raise RequestFailed(Errno.EINVAL)
        if context.startswith(BITMAP_CONTEXT):
            return self._bitmap_extents(start, end, context.removeprefix(BITMAP_CONTEXT))
        if context == Context.DEPTH and self.allocation_depth:
            return (yield from self._extents(start, end, lambda status: status.depths))
        if context == Context.ALLOCATION:
            return (yield from self._extents(start, end, lambda status: status.flags))
        raise RequestFailed(Errno.EINVAL)

    @rule("nbd.status-runs", source="NBD protocol: base:allocation; experiment")
    def _extents(self, start: int, end: int,
                 flags_of: Callable[[Status], frozenset[int]]) -> Program[tuple[Extent, ...]]:
        """The status of the node, run by run up to the end of what was asked; neighbours with
        the same flags are one extent."""
        extents: list[Extent] = []
        place = start
        while place < end:
            stop, status = yield from self.node.block_status(place, end)
            _append(extents, Extent(stop - place, flags_of(status)))
            place = stop
        return tuple(extents)

    @rule("nbd.bitmap-runs", source="docs/interop/nbd.txt: qemu:dirty-bitmap:NAME")
    def _bitmap_extents(self, start: int, end: int, name: str) -> tuple[Extent, ...]:
        """A dirty bitmap's runs: flag 1 is dirty; cut to what was asked.  Past the end of a bitmap
        of another, smaller node nothing is dirty."""
        bitmap = next((each for each in self.bitmaps if each.name == name), None)
        if bitmap is None:
            raise RequestFailed(Errno.EINVAL)
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
