# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests under way: those that have their blocks to themselves, and writes that fill clusters
of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from .bitmap import align_down, align_up
from .content import Content
from .errors import Errno, RequestFailed, Undetermined
from .program import OnlyLooking, Program, Result, Wait, ending
from .readings import Reading, until_read
from .rules import rule


@dataclass(slots=True, eq=False)
class Tracked:
    """A request for ``[start, end)`` under way at a node.  ``alone``: it has its blocks to itself.
    ``waits``: for another request to end."""

    start: int
    end: int
    alone: bool
    waits: bool = False

    @classmethod
    def of(cls, start: int, end: int, unit: int = 1, *, alone: bool = False) -> Tracked:
        """A request that is widened to whole units."""
        return cls(align_down(start, unit), align_up(end, unit), alone)


def in_turn(requests: list[Tracked], tracked: Tracked,
            program: Program[Result]) -> Program[Result]:
    """Do the request when it has its turn among those under way, the latest of which come first.
    Whoever waits already is not waited for: it would wait for ever."""
    requests.insert(0, tracked)
    return (yield from ending(_after_others(requests, tracked, program),
                              partial(requests.remove, tracked)))


def _after_others(requests: Sequence[Tracked], tracked: Tracked,
                  program: Program[Result]) -> Program[Result]:
    while (other := _in_the_way(requests, tracked)) is not None:
        tracked.waits = True
        try:
            yield Wait(partial(_has_ended, other, requests),
                       "a request in the same blocks to end")
        except OnlyLooking:
            break
        tracked.waits = False
    return (yield from program)


def in_order(turns: list[object], program: Program[None]) -> Program[None]:
    """Do the program, of which nothing is done before, when those that came earlier have ended."""
    turn = object()
    turns.append(turn)
    yield from ending(_as_the_first(turns, turn, program), partial(turns.remove, turn))


def _as_the_first(turns: Sequence[object], turn: object, program: Program[None]) -> Program[None]:
    if turns[0] is not turn:
        yield Wait(lambda: turns[0] is turn, "the flushes before it to end")
    yield from program


def _in_the_way(requests: Sequence[Tracked], tracked: Tracked) -> Tracked | None:
    return next((each for each in requests if each is not tracked and not each.waits
                 and (each.alone or tracked.alone)
                 and each.start < tracked.end and tracked.start < each.end), None)


def _has_ended(other: Tracked, requests: Sequence[Tracked]) -> bool:
    return other not in requests


def least(*limits: int | None) -> int | None:
    """The least of limits, each of which there may be or not."""
    return min((limit for limit in limits if limit is not None), default=None)


class TakesRequests:
    """What has requests under way."""

    request_alignment: int
    fired: Counter[str]
    most_at_once: int | None = None
    """Bytes that a read or write may have, as far as a ``blkdebug`` here or below limits it."""

    def __init__(self) -> None:
        self.requests: list[Tracked] = []
        """Reads, and all that change it, the latest first."""
        self.flushes: list[object] = []
        """In the order in which they have their turns."""

    def read(self, start: int, end: int) -> Program[Content]:
        """Read; fails with the errno of the driver, EIO past the end of the node."""
        return in_turn(self.requests, Tracked.of(start, end, self.request_alignment),
                       self.read_now(start, end))

    def read_now(self, start: int, end: int) -> Program[Content]:
        """The same when it has its turn."""
        raise NotImplementedError

    @rule("node.blocks-to-oneself", source="serialising requests of the block layer (experiment)")
    def alone(self, start: int, end: int, unit: int, program: Program[Result]) -> Program[Result]:
        """A write of a part of a block of the request alignment, and a read that copy-on-read may
        keep, has its blocks, or the clusters of the image, to itself: it waits for all others that
        are under way there, the latest first, and whoever comes later waits for it.  Nobody waits
        for one that waits already."""
        return in_turn(self.requests, Tracked.of(start, end, unit, alone=True), program)

    def _changing(self, start: int, end: int, change: Program[None]) -> Program[None]:
        unit = self.request_alignment
        if start % unit or end % unit:
            return self.alone(start, end, unit, change)
        return in_turn(self.requests, Tracked.of(start, end), change)


class Filling:
    """The clusters of an image that writes under way fill; ``fails``: the errno of the first."""

    def __init__(self, cluster: int, fails: str | None, fired: Counter[str]) -> None:
        self.cluster = cluster
        self._fails = fails
        self.fired = fired
        self._under_way: list[Reading] = []

    def in_turn(self, start: int, end: int, write: Program[None]) -> Program[None]:
        """Do a write when no other one fills a cluster of its own."""
        filled = Reading(align_down(start, self.cluster), align_up(end, self.cluster))
        yield from self.wait(filled.start, filled.end)
        if self._fails is not None:
            self._fail(filled, Errno[self._fails])
        self._under_way.insert(0, filled)
        yield from ending(write, partial(self._under_way.remove, filled))

    @rule("qcow2.clusters-filled-in-turn", source="docs/interop/qcow2.txt; experiment")
    def wait(self, start: int, end: int) -> Program[None]:
        """A write waits for others under way that fill a cluster of its own, and then finds the
        cluster allocated."""
        if any(start < each.start < end for each in self._under_way):
            raise Undetermined("a write that begins below what another one fills is cut in parts")
        return until_read(self._under_way, start, end, "a write that fills the same cluster")

    @rule("qcow2.failed-writes-allocate-nothing", source="experiment")
    def _fail(self, filled: Reading, error: Errno) -> NoReturn:
        """A write whose data cannot be written to the file allocates nothing: what was there
        before is there."""
        if filled.end - filled.start > self.cluster:
            raise Undetermined("which clusters of a write lie together in the file")
        self._fails = None
        raise RequestFailed(error)

    def check_apart(self, start: int, end: int) -> None:
        """Refuse a change of another kind in a cluster that a write fills."""
        if any(each.start < end and start < each.end for each in self._under_way):
            raise Undetermined("zeroes and discards of a cluster that a write is filling")
