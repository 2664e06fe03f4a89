# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshot-access driver: a point in time as a node of its own.

Its child ``file`` keeps the point in time, normally a copy-before-write filter.  It asks for no
permission on the child and shares all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from .content import Content
from .errors import Errno, RequestFailed
from .node import DATA, HOLE, Node, Status, Zeroing
from .program import Program
from .rules import rule


class SnapshotAccess(Node):
    """What a fleecing client reads, asks the status of and discards.  Length: the child's."""

    driver = "snapshot-access"
    heeds_nothing = True

    def __init__(self, name: str, file: Node, *, discard: bool, fired: Counter[str]) -> None:
        super().__init__(name, file.size, discard=discard, fired=fired)
        self.file = file
        self.reported_cluster_size = None
        self.most_at_once = file.most_at_once
        self._discard_alignment = file.discard_alignment

    @property
    def discard_alignment(self) -> int:
        """The filter's when it was opened."""
        return self._discard_alignment

    @rule("snapshot-access.reads-the-point-in-time", source="driver snapshot-access")
    def _read(self, start: int, end: int) -> Program[Content]:
        """A read gives the point in time; an empty one succeeds without asking."""
        return self.file.snapshot_read(start, end)

    @rule("snapshot-access.one-level", source="experiment: qemu:allocation-depth")
    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """Whatever has a known content is at level 1, as if it were allocated here; what a
        backing file of the source has is a hole of unknown content, at no level."""
        stop, status = yield from self.file.snapshot_status(start, end)
        return stop, status if status.flags == HOLE.flags else replace(status, depths=DATA.depths)

    @rule("snapshot-access.is-not-written", source="driver snapshot-access")
    def _refuse(self) -> Program[None]:
        """A write, of data or of zeroes, is refused with ENOTSUP and changes nothing."""
        raise RequestFailed(Errno.ENOTSUP)
        yield  # makes this a program

    def _write(self, start: int, content: Content) -> Program[None]:
        return self._refuse()

    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        return self._refuse()

    @rule("snapshot-access.discard-gives-up", source="commit 'block: introduce snapshot-access "
          "block driver'")
    def _discard(self, start: int, end: int) -> Program[None]:
        """A discard tells the child that the range of its point in time is not needed any more;
        over a child that keeps none it does nothing."""
        return self.file.snapshot_discard(start, end)

    @rule("snapshot-access.flush-does-nothing", source="experiment")
    def _flush(self) -> Program[None]:
        """A flush succeeds."""
        return
        yield  # makes this a program
