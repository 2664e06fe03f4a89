# SPDX-License-Identifier: GPL-2.0-or-later
"""What a disk and its snapshot may read as while requests overlap in ways that nobody knows.

Time is counted in events: a request begins at one and ends at another, as its client sees it.  A
write certainly comes before another if it ended before the other began; otherwise either order is
possible.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from harness import stamps
from model.bitmap import divide_up
from model.content import Stamp

BLOCK: Final = 4096
"""All requests of a load are multiples of it, at multiples of it."""


@dataclass(slots=True, eq=False)
class Change:
    """A write, or zeroes, that some blocks may show."""

    stamp: Stamp
    begun: int
    ended: int | None


@dataclass(frozen=True, slots=True)
class Wrong:
    """A block that reads as it must not; ``offset`` in bytes."""

    offset: int
    allowed: tuple[Stamp, ...]
    found: bytes


class Disk:
    """What each block of the active disk may read as."""

    def __init__(self, initial: list[Stamp]) -> None:
        self._changes = [[Change(stamp, 0, 0)] for stamp in initial]

    def begin(self, offset: int, length: int, stamp: Stamp, now: int) -> Change:
        """A change of a range begins; hand what it returns to :meth:`end`."""
        change = Change(stamp, now, None)
        for block in _blocks(offset, length):
            self._changes[block].append(change)
        return change

    def end(self, offset: int, length: int, change: Change, now: int, oldest: int) -> None:
        """The change has ended; no read is under way that began before ``oldest``."""
        change.ended = now
        for block in _blocks(offset, length):
            if len(self._changes[block]) > 1:
                self._changes[block] = _visible(self._changes[block], oldest)

    def check(self, offset: int, data: bytes, begun: int) -> Wrong | None:
        """The first block of a read that began at ``begun`` which no order of the changes gives;
        None if all is well."""
        for place in range(0, len(data), BLOCK):
            block = (offset + place) // BLOCK
            allowed = [each.stamp for each in _visible(self._changes[block], begun)]
            found = data[place:place + BLOCK]
            sources = [stamps.data(stamp, offset + place, len(found)) for stamp in allowed]
            if found not in sources and not _mixed(found, sources):
                return Wrong(offset + place, tuple(allowed), found)
        return None

    def settle(self, data: bytes) -> list[Stamp] | Wrong:
        """Nothing is under way and the disk reads as ``data``: who wrote each block."""
        found: list[Stamp] = []
        for block, changes in enumerate(self._changes):
            here = data[block * BLOCK:(block + 1) * BLOCK]
            allowed = [each.stamp for each in _visible(changes, None)]
            writer = next((stamp for stamp in allowed
                           if here == stamps.data(stamp, block * BLOCK, len(here))), None)
            if writer is None:
                return Wrong(block * BLOCK, tuple(allowed), here)
            found.append(writer)
        return found


def _mixed(found: bytes, sources: list[bytes]) -> bool:
    """Whether each byte is of one of the sources: a file's block that is written while it is
    read may come half old, half new."""
    return all(byte in column for byte, column in zip(found, zip(*sources, strict=True),
                                                      strict=True))


def _visible(changes: list[Change], then: int | None) -> list[Change]:
    """The changes that may be seen from ``then`` on (None: when all have ended): those that no
    other, itself ended by then, certainly came after."""
    latest = max((each.begun for each in changes if each.ended is not None and (
        then is None or each.ended < then)), default=-1)
    return [each for each in changes if each.ended is None or each.ended >= latest]


def _blocks(offset: int, length: int) -> range:
    return range(offset // BLOCK, divide_up(offset + length, BLOCK))


@dataclass(slots=True)
class PointInTime:
    """What the snapshot must read as, block by block, and which clusters were given up."""

    content: list[Stamp]
    cluster: int
    begun: dict[int, int] = field(default_factory=dict)
    """When the first discard of each cluster began."""
    ended: dict[int, int] = field(default_factory=dict)
    """When the first one ended."""

    def clusters(self, offset: int, length: int) -> range:
        """The clusters that a range touches."""
        return range(offset // self.cluster, divide_up(offset + length, self.cluster))

    def give_up(self, offset: int, length: int, now: int, *, ended: bool) -> None:
        """A snapshot discard of whole clusters begins, or has ended."""
        times = self.ended if ended else self.begun
        for cluster in self.clusters(offset, length):
            times.setdefault(cluster, now)

    def may_be_denied(self, offset: int, length: int) -> bool:
        """Whether a read that ends now can have found a cluster without access."""
        return any(cluster in self.begun for cluster in self.clusters(offset, length))

    def must_be_denied(self, offset: int, length: int, begun: int) -> bool:
        """Whether a read that began then must have found a cluster without access."""
        return any(self.ended.get(cluster, begun) < begun
                   for cluster in self.clusters(offset, length))

    def check(self, offset: int, data: bytes) -> Wrong | None:
        """The first block that is not of the point in time.

        A client that gives up a cluster while it reads it may find it freed already.
        """
        for place in range(0, len(data), BLOCK):
            stamp = self.content[(offset + place) // BLOCK]
            found = data[place:place + BLOCK]
            right = stamps.data(stamp, offset + place, len(found))
            freed = (offset + place) // self.cluster in self.begun and _mixed(
                found, [right, bytes(len(right))])
            if found != right and not freed:
                return Wrong(offset + place, (stamp,), found)
        return None
