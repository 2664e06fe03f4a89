# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of an image that the harness serves."""

from __future__ import annotations

import mmap
from typing import Final

from harness import stamps
from harness.ranges import pieces
from harness.storage.held_wire import State
from model.bitmap import align_down, align_up
from model.content import ZERO, Content, Stamp
from model.runs import RunMap

_PAGE: Final = mmap.PAGESIZE
_PIECE: Final = 4 << 20
HOLE: Final = State.HOLE | State.ZERO


class HeldDisk:
    """A sparse disk of ``size`` bytes in memory; what was never written takes no space."""

    def __init__(self, size: int) -> None:
        self.size = size
        # Pages are there from the first write on, whatever the size says.
        self._memory = mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._states = RunMap(size, HOLE)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range."""
        return self._memory[offset:offset + length]

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at ``offset``."""
        self._memory[offset:offset + len(data)] = data
        self._states.set(offset, offset + len(data), State.DATA)

    def extents(self, offset: int, length: int) -> list[tuple[int, State]]:
        """Block status of a range, run by run: bytes, and what they are."""
        return [(run.length, run.value) for run in self._states.runs(offset, offset + length)]

    def zero(self, offset: int, length: int, *, hole: bool = True) -> None:
        """Make a range read as zero, and give back the space of its whole pages.

        ``hole``: the range is then unallocated, as block status tells.
        """
        end = offset + length
        self._states.set(offset, end, HOLE if hole else State.ZERO)
        first, last = align_up(offset, _PAGE), align_down(end, _PAGE)
        if first >= last:
            self._memory[offset:end] = bytes(length)
            return
        self._memory[offset:first] = bytes(first - offset)
        self._memory[last:end] = bytes(end - last)
        self._memory.madvise(mmap.MADV_DONTNEED, first, last - first)

    def fill(self, stamp: Stamp, offset: int, length: int) -> None:
        """Write what ``stamp`` writes to the range."""
        for start, end in pieces(offset, offset + length, _PIECE):
            self.write(start, stamps.data(stamp, start, end - start))

    def wrong(self, expected: Content) -> tuple[int, int] | None:
        """The first piece of the disk that is not as ``expected``, none of it if all is well."""
        for run in expected.runs():
            for start, end in pieces(run.start, run.end, _PIECE):
                if self.read(start, end - start) != _bytes_of(run.value, start, end):
                    return start, end
        return None

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def _bytes_of(stamp: Stamp, start: int, end: int) -> bytes:
    return bytes(end - start) if stamp == ZERO else stamps.data(stamp, start, end - start)
