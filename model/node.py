# SPDX-License-Identifier: GPL-2.0-or-later
"""A block node: what every driver has in common, and QEMU's generic layer above the driver.

Users of a node (exports, devices, nodes above) call :meth:`Node.read` and its siblings; these do
what the generic layer does (dirty bitmaps, ignored discards) and call the driver's underscored
method.  Ranges are half-open, ``[start, end)``, in bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Final, NoReturn

from .bitmap import DirtyBitmap, align_down, align_up
from .content import ZERO, Content, is_zero, zeroes
from .errors import CommandRefused, Errno, RequestFailed, Undetermined
from .outcome import Allocation, agreed
from .program import Program, Step
from .readings import Reading
from .rules import rule
from .tracking import TakesRequests

SECTOR: Final = 512
"""The unit of a node's size."""


@dataclass(frozen=True, slots=True)
class Status:
    """Block status of a range: what ``base:allocation`` may say, and how deep the data lies.

    ``flags`` and ``depths`` have more than one value where the storage below QEMU decides.  A
    depth counts images from the top, 1 being the node itself; 0: allocated nowhere.
    ``pieces``: QEMU may tell of the range in several pieces, none of fewer bytes than this, as
    its data lies scattered in the file; 0: in one piece.  ``kept``: a read of it changes an image.
    ``goes_on``: QEMU may tell of more than the range in one piece.
    """

    flags: frozenset[int]
    depths: frozenset[int] = frozenset({1})
    pieces: int = 0
    kept: bool = False
    goes_on: bool = False

    @property
    def is_zero(self) -> bool | None:
        """Whether the range is known to read as zero by its status; None: undecided."""
        return agreed(bool(flag & Allocation.ZERO) for flag in self.flags)

    @property
    def is_allocated(self) -> bool | None:
        """Whether the range is allocated, be it further down; None: undecided."""
        return agreed(map(bool, self.depths))


NOWHERE: Final = frozenset({0})
"""The depth of what is not allocated."""
HOLE = Status(frozenset({Allocation.HOLE}), NOWHERE)
"""Not allocated in the node itself; an image below may have data or not."""
DATA = Status(frozenset({Allocation.DATA}))
"""Holds data."""
DATA_OR_ZERO = Status(frozenset({Allocation.DATA, Allocation.ZERO}))
"""Takes space and reads as zero; whether that is noticed is up to the storage."""
ANYTHING_ZERO = Status(DATA_OR_ZERO.flags | {Allocation.HOLE | Allocation.ZERO})
"""Reads as zero; the rest is undecided."""
ZERO_HOLE = Status(frozenset({Allocation.HOLE | Allocation.ZERO}))
"""Reads as zero and takes no space."""
PERHAPS_HOLE = Status(frozenset({Allocation.DATA, Allocation.HOLE | Allocation.ZERO}))
"""Reads as zero; whether as a hole is up to the storage."""


def filtered(status: Status) -> Status:
    """The status as a filter shows it, which is a level of its own above the images below the one
    that it filters."""
    return replace(status, depths=frozenset(depth + (depth > 1) for depth in status.depths))


@dataclass(frozen=True, slots=True)
class Zeroing:
    """How zeroes are to be written.

    ``unmap``: the space may be freed.  ``fast``: without writing data, or not at all.
    ``perhaps``: it is not known whether they are written as zeroes or as data.  ``insists``: the
    space may be freed even if the node itself has no ``discard=unmap``; nodes below are asked.
    """

    unmap: bool = False
    fast: bool = False
    perhaps: bool = False
    insists: bool = False


class Node(TakesRequests):
    """One node of the block graph."""

    driver = ""
    heeds_nothing: ClassVar[bool] = False
    """Whether a write of no bytes reaches the driver, or what is below it."""

    def __init__(self, name: str, size: int, *, discard: bool, fired: Counter[str]) -> None:
        self.name = name
        self.size = size
        self.age = 0
        """When the node was added, as a number in the graph's history: higher is newer."""
        self.link_ages: dict[str, int] = {}
        """When its links to children were made, by role, if later than the node itself."""
        self.discard_enabled = discard
        self.reading: list[Reading] = []
        """The reads under way, latest first."""
        super().__init__()
        self.changes = 0
        """How many requests that change the node have ended."""
        self.fired = fired
        self.bitmaps: list[DirtyBitmap] = []
        """Newest first, as QEMU lists them; the anonymous ones of filters too."""
        self.read_only = False
        self.request_alignment = 1
        self.reported_cluster_size: int | None = 0
        """What the node says of its cluster size when asked (0: none); None: it cannot say."""
        self.subcluster_size: int | None = None
        """Bytes of its smallest unit of allocation, as far as that is known; None: it is not."""
        self.zeroes_fast = False
        """Whether the driver can zero without writing data, and be told not to do otherwise."""

    # What users of the node call

    def read_now(self, start: int, end: int) -> Program[Content]:
        """A read that has its turn."""
        self._check(start, end)
        reading = Reading(start, end)
        self.reading.insert(0, reading)
        try:
            return (yield from self._read(start, end))
        finally:
            self.reading.remove(reading)

    def write(self, start: int, content: Content, *, durable: bool = False) -> Program[None]:
        """Write ``content`` at ``start``; ``durable`` (FUA): it is not done before it lasts."""
        end = start + content.size
        self._check_change(start, end)
        if start < end:
            change = self._changed_by(start, content)
            yield from self._changing(start, end, self._dirtying(
                *self._aligned(start, end), self._lasting(change) if durable else change))
            return
        if self.heeds_nothing:
            yield from self._write(start, content)
        if start % self.request_alignment == 0:
            self._nothing_changed()
        if durable:
            yield from self.flush()

    def _nothing_changed(self) -> None:
        """A write or a heeded discard of no bytes counts as a change all the same."""
        self.changes += 1

    def _changed_by(self, start: int, content: Content) -> Program[None]:
        yield from self._blocks_beside(start, start + content.size)
        yield from self._write(start, content)

    @rule("node.durable-by-flush", source="FUA of the block layer over storage that has none "
          "(experiment)")
    def _lasting(self, change: Program[None]) -> Program[None]:
        """A durable write (FUA, or by an export with ``writethrough``), also one of zeroes, is
        one followed by a flush of the node.  Dirty bitmaps record it when the flush has ended."""
        yield from change
        yield from self.flush()

    def write_unchanged(self, start: int, content: Content) -> Program[None]:
        """Write what the node reads as already, so that it is allocated here; as zeroes if it is
        all zero.  Not for users: nothing is recorded."""
        if is_zero(content):
            return self._write_zeroes(start, start + content.size, Zeroing())
        return self._write(start, content)

    def take_unchanged(self, start: int, content: Content) -> Program[None]:
        """The same from a node above: the node's bitmaps record it as any other write."""
        end = start + content.size
        self._check_change(start, end)
        yield from self._changing(start, end, self._dirtying(
            *self._aligned(start, end), self.write_unchanged(start, content)))

    def write_zeroes(self, start: int, end: int, how: Zeroing, *,
                     durable: bool = False) -> Program[None]:
        """Make the range read as zero; ``durable``: as of :meth:`write`."""
        self._check(start, end)
        if start == end:
            return
        self._check_change(start, end)
        if how.fast and self._aligned(start, end) != (start, end):
            raise RequestFailed(Errno.ENOTSUP)
        if how.unmap:
            how = replace(how, unmap=self._may_unmap(how), insists=False)
        yield from self._changing(start, end, self._zero(start, end, how, durable))

    def _zero(self, start: int, end: int, how: Zeroing, durable: bool) -> Program[None]:
        if self._aligned(start, end) != (start, end):
            parts = yield from self._zero_in_parts(start, end, how)
        elif self.zeroes_fast or not how.fast:
            parts = {(start, end): self._write_zeroes(start, end, how)}
        else:
            parts = {(start, end): self._cannot_zero_fast()}
        for (low, high), part in parts.items():
            yield from self._dirtying(low, high, self._lasting(part) if durable else part)

    def _zero_in_parts(self, start: int, end: int,
                       how: Zeroing) -> Program[dict[tuple[int, int], Program[None]]]:
        """Parts of a block of the request alignment are zeroed by writing the block as data, two
        blocks with nothing between them at once.  The blocks are read first; then all is written
        in its order, and recorded, up to what fails."""
        low, high = self._widened(start, end)
        blocks = yield from self._blocks_beside(start, end)
        content = zeroes(high - low)
        for block, kept in blocks.items():
            kept.set(max(start - block, 0), min(end - block, kept.size), ZERO)
            content.paste(block - low, kept)
        unit = self.request_alignment
        first, last = align_up(start, unit), align_down(end, unit)
        cuts = {low, high} | ({first, last} if first < last else set())
        return {(place, stop): (
            self._write_zeroes(place, stop, how) if (place, stop) == (first, last)
            else self._write(place, content.slice(place - low, stop - low)))
            for place, stop in pairwise(sorted(cuts))}

    def _blocks_beside(self, start: int, end: int) -> Program[dict[int, Content]]:
        """The blocks of the request alignment of which the range covers only a part, by where they
        begin, as they read; two of them that follow each other count as one."""
        unit = self.request_alignment
        blocks: dict[int, Content] = {}
        edges = sorted({align_down(edge, unit) for edge in (start, end) if edge % unit})
        both = len(edges) > 1 and edges[0] + unit == edges[1]
        for block in edges[:1] if both else edges:
            try:
                blocks[block] = yield from self._read(
                    block, min(block + (2 * unit if both else unit), self.size))
            except RequestFailed as why:
                raise Undetermined("a change beside what cannot be read: docs/findings") from why
        return blocks

    def discard(self, start: int, end: int) -> Program[None]:
        """Discard the range: advice, which a node without ``discard=unmap`` takes and forgets."""
        self._check_change(start, end)
        if not self._heeds_discard():
            return
        if start == end:
            self._nothing_changed()
            return
        yield from self._changing(start, end, self._dirtying(
            start, end, self._advised(self._discard(start, end))))

    def flush(self) -> Program[None]:
        """Make what was written durable."""
        yield from self._flush()

    def block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """Where in ``(start, end]`` the status at ``start`` stops, and that status."""
        self._check(start, end)
        return (yield from self._block_status(start, end))

    def own_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """The same for this image alone, without the backing files below it."""
        return self.block_status(start, end)

    def is_allocated(self, start: int, end: int) -> Program[tuple[int, bool | None]]:
        """Where in ``(start, end]`` it changes, or may, whether this image itself has something at
        ``start``, and whether it has; None: undecided."""
        stop, status = yield from self.own_status(start, end)
        return stop, status.is_allocated

    @property
    def discard_alignment(self) -> int:
        """What discards had better be aligned to, in bytes; 1: the driver does not say."""
        return 1

    # What drivers do

    def _read(self, start: int, end: int) -> Program[Content]:
        raise NotImplementedError

    def _write(self, start: int, content: Content) -> Program[None]:
        raise NotImplementedError

    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        raise NotImplementedError

    def _discard(self, start: int, end: int) -> Program[None]:
        raise NotImplementedError

    def _flush(self) -> Program[None]:
        raise NotImplementedError

    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        raise NotImplementedError

    # What a snapshot-access node asks of the node below it

    def snapshot_read(self, start: int, end: int) -> Program[Content]:
        """Read the point in time that the node keeps: ENOTSUP, as most nodes keep none."""
        return self._keeps_no_snapshot()

    def snapshot_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """Block status of the point in time that the node keeps: ENOTSUP, as for reads."""
        return self._keeps_no_snapshot()

    def snapshot_discard(self, start: int, end: int) -> Program[None]:
        """Say that the point in time is no longer needed in the range: ENOTSUP, as for reads."""
        return self._keeps_no_snapshot()

    @rule("node.keeps-no-snapshot", source="snapshot-access over a node that is no filter: "
          "opening succeeds, requests fail (experiment)")
    def _keeps_no_snapshot(self) -> Generator[Step, None, NoReturn]:
        """Only a copy-before-write filter keeps a point in time; others answer ENOTSUP."""
        raise RequestFailed(Errno.ENOTSUP)
        yield  # makes this a program

    # The generic layer

    @rule("node.fast-zero-or-not-at-all", source="NBD_CMD_FLAG_FAST_ZERO (experiment)")
    def _cannot_zero_fast(self) -> Program[None]:
        """Asked to zero fast or not at all, a node whose driver does not know how answers ENOTSUP
        before anything is done.  So does a filter over such a node; and any node asked for a part
        of a block of its request alignment, which its bitmaps do not even record."""
        raise RequestFailed(Errno.ENOTSUP)
        yield  # makes this a program

    @rule("node.discard-needs-unmap", source="option discard of blockdev-add: default ignore")
    def _heeds_discard(self) -> bool:
        """A node opened without ``discard=unmap`` answers a discard with success and does
        nothing: nothing below sees it and no bitmap records it."""
        return self.discard_enabled

    def _may_unmap(self, how: Zeroing) -> bool:
        return how.insists or self._heeds_unmap()

    @rule("node.unmap-needs-unmap", source="option discard of blockdev-add: default ignore")
    def _heeds_unmap(self) -> bool:
        """Zeroes that may free space free none if the node was opened without ``discard=unmap``,
        neither in the node nor below it."""
        return self.discard_enabled

    @rule("node.unsupported-discard-is-ignored", source="discard is advice (experiment)")
    def _advised(self, discard: Program[None]) -> Program[None]:
        """A discard that ends with ENOTSUP is answered with success and has done nothing.  It does
        not matter what was not supported: the discard itself, or a copy before it."""
        try:
            yield from discard
        except RequestFailed as why:
            if why.error is not Errno.ENOTSUP:
                raise

    @rule("node.changes-are-recorded", source="docs/interop/bitmaps.rst; a failed write marks "
          "too (experiment)")
    def _dirtying(self, start: int, end: int, change: Program[None]) -> Program[None]:
        """Every write, write of zeroes and heeded discard that ends at a node, even in failure,
        is recorded by the node's recording bitmaps."""
        try:
            yield from change
        finally:
            self.changes += 1
            for bitmap in self.bitmaps:
                bitmap.record(start, end)

    def _aligned(self, start: int, end: int) -> tuple[int, int]:
        unit = self.request_alignment
        return (start, end) if start % unit == end % unit == 0 else self._widened(start, end)

    @rule("node.writes-are-widened", source="request_alignment of the block layer (experiment)")
    def _widened(self, start: int, end: int) -> tuple[int, int]:
        """A write is widened to the node's request alignment before it is done and recorded: what
        is beside it in its blocks is read first, and written back.  Of zeroes each part is done
        and recorded by itself, up to what fails.  A discard is not widened."""
        unit = self.request_alignment
        return align_down(start, unit), align_up(end, unit)

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.size:
            raise RequestFailed(Errno.EIO)

    def _check_change(self, start: int, end: int) -> None:
        self._check(start, end)
        if any(bitmap.read_only for bitmap in self.bitmaps):
            self._could_not_record()

    @rule("node.read-only-bitmaps-deny-changes", source="experiment")
    def _could_not_record(self) -> NoReturn:
        """A change of a node is refused with EPERM, and recorded by no bitmap, while the node has
        a bitmap that may not change: one of an image that is, or was to become, read-only."""
        raise RequestFailed(Errno.EPERM)

    # Resizing

    def check_resize(self, size: int) -> None:
        """Refuse what the driver cannot do."""
        raise CommandRefused("Image format driver does not support resize")

    def resize(self, size: int) -> None:
        """Give the node another size, one that :meth:`check_resize` has not refused."""
        raise NotImplementedError

    @rule("node.resize-resizes-bitmaps", source="block_resize; experiment")
    def _resized(self, size: int) -> None:
        """All bitmaps of a node are resized with it, those of a filter or job too.  What is cut
        off is forgotten; what is new is clean: growth is not recorded as a change."""
        self.size = size
        self.changes += 1
        for bitmap in self.bitmaps:
            bitmap.resize(size)

    # Bitmaps

    def bitmap(self, name: str) -> DirtyBitmap | None:
        """The node's bitmap of that name, if it has one."""
        return next((each for each in self.bitmaps if each.name == name), None)

    def add_bitmap(self, bitmap: DirtyBitmap) -> DirtyBitmap:
        """Put a bitmap on the node: at the head of the list, as QEMU does."""
        self.bitmaps.insert(0, bitmap)
        return bitmap
