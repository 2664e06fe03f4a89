# SPDX-License-Identifier: GPL-2.0-or-later
"""Dirty bitmaps: which granules of a disk have changed, or are to be copied, or may be read.

A bitmap has one bit for each *granule*, ``granularity`` bytes of disk (a power of two).  The last
granule may reach past the end of the disk; it is a whole bit all the same.  All offsets and
lengths are bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from .errors import CommandRefused
from .outcome import BitmapView
from .runs import RunMap

SMALLEST_GRANULARITY: Final = 512
"""Bytes."""
WORD: Final = 8
"""Bytes of a machine word: QEMU hashes a bitmap's bits in whole words."""


def align_down(number: int, unit: int) -> int:
    """The largest multiple of ``unit`` that is not above ``number``."""
    return number - number % unit


def align_up(number: int, unit: int) -> int:
    """The smallest multiple of ``unit`` that is not below ``number``."""
    return align_down(number + unit - 1, unit)


def split(start: int, end: int, unit: int) -> list[tuple[int, int]]:
    """The range in up to three pieces (start, end): a partial unit, whole units, a partial one."""
    first, last = min(align_up(start, unit), end), max(align_down(end, unit), start)
    cuts = [start, end] if first > last else [start, first, last, end]
    return [(low, high) for low, high in pairwise(cuts) if low < high]


def divide_up(number: int, unit: int) -> int:
    """How many units it takes to hold ``number``."""
    return -(-number // unit)


@dataclass(frozen=True, slots=True)
class StoredBitmap:
    """A bitmap as an image keeps it; the bits are stale while it is in use."""

    name: str
    granularity: int
    recording: bool
    bits: RunMap[bool]
    in_use: bool = False


class _Summary:
    """What is computed from the bits of a bitmap, kept until they change: bitmaps are looked at
    far more often than that."""

    def __init__(self, bits: RunMap[bool]) -> None:
        self._bits = bits
        self._changes = bits.changes

    def is_of(self, bits: RunMap[bool]) -> bool:
        """Whether it is about these bits, as they are now."""
        return self._bits is bits and self._changes == bits.changes

    @cached_property
    def dirty(self) -> int:
        """How many bits are set."""
        return self._bits.total(True)

    @cached_property
    def digest(self) -> str:
        """See :meth:`DirtyBitmap.digest`."""
        text = "".join([("1" if run.value else "0") * run.length
                        for run in reversed(list(self._bits.runs()))])
        length = max(divide_up(self._bits.size, 8 * WORD), 1) * WORD
        return hashlib.sha256(int(text or "0", 2).to_bytes(length, "little")).hexdigest()


class DirtyBitmap:
    """One bitmap of one node."""

    def __init__(self, size: int, granularity: int, name: str | None = None, *,
                 recording: bool = False, persistent: bool = False) -> None:
        """A clean bitmap over ``size`` bytes; ``name`` None: an anonymous, internal one."""
        self.size = size
        self.granularity = granularity
        self.name = name
        self.recording = recording
        """Whether it records writes; a disabled bitmap does not."""
        self.persistent = persistent
        """Whether an image is to keep it."""
        self.busy = False
        """Whether an export or a job holds it."""
        self.inconsistent = False
        """Whether its bits are lost, as QEMU was killed before it stored them."""
        self.read_only = False
        """Whether the image that keeps it is open read-only, or was to be."""
        self.successor: DirtyBitmap | None = None
        """Records the writes while a job works with what this bitmap had when it started."""
        self.bits: RunMap[bool] = RunMap(divide_up(size, granularity), False)
        self._summary = _Summary(self.bits)

    # Changing bits

    def set(self, start: int, end: int) -> None:
        """Make dirty every granule that ``[start, end)`` touches: rounded outwards."""
        end = min(end, self.size)
        if start < end:
            self.bits.set(start // self.granularity, divide_up(end, self.granularity), True)

    def set_all(self) -> None:
        """Make all granules dirty."""
        self.bits.set(0, self.bits.size, True)

    def reset(self, start: int, end: int) -> None:
        """Make ``[start, end)`` clean; both must be multiples of the granularity, or the end."""
        end = min(end, self.size)
        if start % self.granularity or (end % self.granularity and end != self.size):
            raise ValueError(f"reset of {start}..{end} is not aligned to {self.granularity}")
        if start < end:
            self.bits.set(start // self.granularity, divide_up(end, self.granularity), False)

    def clear(self) -> None:
        """Make all granules clean."""
        self.bits.set(0, self.bits.size, False)

    def merge(self, source: DirtyBitmap) -> None:
        """Take on what is dirty in ``source``, a bitmap of the same size.

        Each dirty range of the source, in bytes, is set here, rounded outwards to this bitmap's
        granularity.
        """
        for start, end in source.dirty_ranges():
            self.set(start, end)

    def resize(self, size: int) -> None:
        """The disk has another size: granules beyond its end are gone, new ones are clean, and
        one that the end cuts stays as it is."""
        self.size = size
        self.bits.resize(divide_up(size, self.granularity), False)

    def record(self, start: int, end: int) -> None:
        """A write to ``[start, end)`` of the node: set, if the bitmap is recording."""
        if self.recording:
            self.set(start, end)

    # Asking

    def all_dirty(self, start: int, end: int) -> bool:
        """Whether every granule that ``[start, end)`` touches is dirty; past the end none is."""
        if end > self.size:
            return False
        first, last = start // self.granularity, divide_up(end, self.granularity)
        return all(run.value for run in self.bits.runs(first, last))

    def run(self, start: int, end: int) -> tuple[bool, int]:
        """The state at ``start``, and where in ``(start, end]`` the run of that state stops."""
        run = self.bits.run_at(start // self.granularity, divide_up(end, self.granularity))
        return run.value, min(run.end * self.granularity, end)

    def next_dirty(self, start: int, end: int, longest: int) -> tuple[int, int] | None:
        """The first dirty run in ``[start, end)``, at most ``longest`` bytes of it, or None.

        It is cut to the range asked and to the end of the disk.
        """
        end = min(end, self.size)
        while start < end:
            dirty, stop = self.run(start, end)
            if dirty:
                return start, min(stop, start + longest)
            start = stop
        return None

    def dirty_ranges(self, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
        """The dirty ranges (start, end), cut to the range asked and to the end of the disk."""
        end = self.size if end is None else min(end, self.size)
        if start >= end:
            return []
        unit = self.granularity
        return [(max(run.start * unit, start), min(run.end * unit, end))
                for run in self.bits.runs(start // unit, divide_up(end, unit)) if run.value]

    @property
    def count(self) -> int:
        """Dirty granules times granularity: bytes, not cut at the end of the disk."""
        return self._current().dirty * self.granularity

    def view(self) -> BitmapView:
        """The bitmap as ``query-named-block-nodes`` shows it.

        An inconsistent bitmap shows no dirty granule and records nothing; a busy one whose
        successor records is shown as recording.
        """
        successor_records = self.successor is not None and self.successor.recording
        return BitmapView(self.name, self.granularity, self.count,
                          self.recording or successor_records, self.busy, self.persistent,
                          self.inconsistent)

    def digest(self) -> str:
        """SHA-256 over the bits: least significant bit first, padded with zeroes to whole words.

        Source: x-debug-block-dirty-bitmap-sha256, confirmed by experiment.
        """
        return self._current().digest

    def _current(self) -> _Summary:
        if not self._summary.is_of(self.bits):
            self._summary = _Summary(self.bits)
        return self._summary


def check_usable(bitmap: DirtyBitmap) -> None:
    """Refuse a bitmap that an export or a job holds, or whose bits are lost."""
    if bitmap.busy:
        raise CommandRefused(f"Bitmap '{bitmap.name}' is currently in use by another operation "
                             "and cannot be used")
    if bitmap.inconsistent:
        raise CommandRefused(f"Bitmap '{bitmap.name}' is inconsistent and cannot be used")


def check_writable(bitmap: DirtyBitmap) -> None:
    """Refuse a bitmap of an image that is open read-only."""
    if bitmap.read_only:
        raise CommandRefused(f"Bitmap '{bitmap.name}' is readonly and cannot be modified")


def check_changeable(bitmap: DirtyBitmap) -> None:
    """Refuse a bitmap whose bits a command may not change, for any of these reasons."""
    if not bitmap.busy:
        check_writable(bitmap)
    check_usable(bitmap)


def check_same_size(destination: DirtyBitmap, source: DirtyBitmap) -> None:
    """Refuse to merge bitmaps that do not cover the same number of bytes."""
    if destination.size != source.size:
        raise CommandRefused(
            f"Bitmaps are of different sizes (destination size is {destination.size}, source "
            f"size is {source.size}) and can't be merged")
