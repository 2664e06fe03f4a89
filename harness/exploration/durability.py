# SPDX-License-Identifier: GPL-2.0-or-later
"""What a disk may hold after its QEMU was killed: what QEMU has promised to keep, or newer.

A write that has ended is promised once a flush that began after it has ended, or at once if it was
made with FUA, or if the image needs no data of its own to find it again (raw).  What is not
promised may be there or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness import stamps
from harness.exploration.load_oracle import BLOCK, Wrong
from model.content import ZERO, Stamp

_NEVER: Final = 1 << 62
ANYTHING: Final[Stamp] = 1 << 60
"""Stands for data of which nothing is known."""


@dataclass(slots=True, eq=False)
class Change:
    """A write, or zeroes; times are counted in events.

    ``certain`` False: a discard, after which a block reads as zero or as before.  ``frees``: it
    may free clusters of the image's format.  ``clears``: while it is under way, what it is to
    overwrite may read as zero, as qcow2 may zero a range that begins in a zero cluster before it
    writes there.
    """

    stamp: Stamp
    begun: int
    ended: int = _NEVER
    certain: bool = True
    frees: bool = False
    clears: bool = False

    def is_allowed(self, here: bytes) -> bool:
        """Whether the change may have left what was found, though nobody wrote it."""
        return self.frees or (self.clears and self.ended == _NEVER and not any(here))


class Durable:
    """What each block of a disk may read as after a kill."""

    def __init__(self, size: int, initial: list[Stamp]) -> None:
        """``initial``: block by block."""
        self._size = size
        self._kept = [[Change(stamp, 0, 0)] for stamp in initial]
        """What was promised last: of several, some order of the writes decides."""
        self._newer: dict[int, list[Change]] = {}

    def begin(self, offset: int, length: int, stamp: Stamp, now: int, *,
              certain: bool = True, frees: bool = False, clears: bool = False) -> Change:
        """A change of a range begins; hand what it returns to :meth:`end`."""
        change = Change(stamp, now, certain=certain, frees=frees, clears=clears)
        for block in _blocks(offset, length):
            self._newer.setdefault(block, []).append(change)
        return change

    def end(self, offset: int, length: int, change: Change, now: int, *, lasts: bool) -> None:
        """The change has ended; ``lasts``: and with that it is promised."""
        change.ended = now
        if lasts:
            for block in _blocks(offset, length):
                self._promise(block, [each for each in self._newer[block] if each is change
                                      or each.ended < change.begun])

    def flushed(self, begun: int) -> None:
        """A flush has ended that began then: what had ended before it is promised."""
        for block in list(self._newer):
            self._promise(block, [each for each in self._newer[block] if each.ended < begun])

    def settle(self, found: bytes) -> list[Stamp] | Wrong:
        """What each block turned out to hold, or the first one that holds what it must not."""
        whole: list[Stamp] = []
        for block, kept in enumerate(self._kept):
            place = block * BLOCK
            here = found[place:place + BLOCK]
            newer = self._newer.get(block, [])
            allowed = [each.stamp for each in (*kept, *newer)]
            stamp = next((each for each in allowed
                          if each != ANYTHING and stamps.data(each, place, len(here)) == here),
                         None)
            if stamp is None and (ANYTHING in allowed
                                  or any(each.is_allowed(here) for each in newer)):
                stamp = ANYTHING if any(here) else ZERO
            if stamp is None or not here:
                return Wrong(place, tuple(dict.fromkeys(allowed)), here)
            whole.append(stamp)
        return whole

    def _promise(self, block: int, changes: list[Change]) -> None:
        if not changes:
            return
        promised = [*self._kept[block], *changes]
        self._kept[block] = [each for each in promised
                             if not any(other.certain and other.begun > each.ended
                                        for other in promised)]
        left = [each for each in self._newer[block] if each not in changes]
        if left:
            self._newer[block] = left
        else:
            del self._newer[block]


def _blocks(offset: int, length: int) -> range:
    return range(offset // BLOCK, (offset + length) // BLOCK)
