# SPDX-License-Identifier: GPL-2.0-or-later
"""The copy-on-read driver: what is read from a backing file is kept in the image above it.

It stands over a filter to show what a *write that changes nothing* is: data that could be read all
along is now allocated in the image, which touches nobody's point in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final

from .bitmap import align_down, align_up
from .configuration import MIB
from .content import Content, is_zero, zeroes
from .copy_before_write import CopyBeforeWrite
from .errors import Undetermined
from .node import DATA, Node, Status, Zeroing, filtered
from .program import Program
from .qcow2_cells import Cells
from .rules import rule
from .tracking import in_order

MOST_KEPT: Final = 16 * MIB
"""Bytes: no more is kept at once."""


class CopyOnRead(Node):
    """A filter: all but reads go to its ``file`` as they are.  Length: the file's."""

    driver = "copy-on-read"
    heeds_nothing = True

    def __init__(self, name: str, file: Node, *, by_subclusters: bool,
                 fired: Counter[str]) -> None:
        super().__init__(name, file.size, discard=False, fired=fired)
        self.file = file
        self.reported_cluster_size = file.reported_cluster_size
        self.subcluster_size = file.subcluster_size
        self._by_subclusters = by_subclusters
        self.zeroes_fast = file.zeroes_fast
        self.most_at_once = file.most_at_once
        self._discard_alignment = file.discard_alignment

    @property
    def discard_alignment(self) -> int:
        """The file's when it was opened."""
        return self._discard_alignment

    @property
    def unit(self) -> int:
        """Bytes of what is kept together."""
        subcluster = self.file.subcluster_size if self._by_subclusters else None
        return subcluster or self.file.reported_cluster_size or 1

    def _read(self, start: int, end: int) -> Program[Content]:
        return self.file.alone(start, end, self.file.reported_cluster_size or 1,
                               self._read_alone(start, end))

    def _read_alone(self, start: int, end: int) -> Program[Content]:
        if start < end:
            stop, allocated = yield from self._is_allocated_below(start, end)
            if allocated is not False and stop == end:
                return (yield from self.file.read_now(start, end))
        return (yield from self._keep(start, end))

    @rule("copy-on-read.keeps-what-was-read", source="driver copy-on-read; experiment")
    def _keep(self, start: int, end: int) -> Program[Content]:
        """If the image below has not itself allocated all that is read, what it lacks of the
        clusters (or subclusters, if it has any) that are read is written to it, with the content
        that it reads as already; as zeroes if that is all zero.  This goes run by run, as the
        image tells of them, and by at most 16 MiB.  An empty read inside a cluster counts as one
        that is not allocated, so all of the cluster is kept.  The dirty bitmaps of the node right
        below record nothing, those of the nodes below that do."""
        place, last = align_down(start, self.unit), min(align_up(end, self.unit), self.size)
        found = zeroes(last)
        while place < last:
            stop, allocated = yield from self._is_allocated_below(place, last)
            if allocated is not False:
                low, high = (min(max(edge, start), end) for edge in (place, stop))
                found.paste(low, (yield from self.file.read_now(low, high)))
            else:
                stop = min(stop, place + MOST_KEPT)
                content = yield from self.file.read_now(place, stop)
                self._check_pieces(place, content)
                yield from self.file.write_unchanged(place, content)
                found.paste(place, content)
            place = stop
        return found.slice(start, end)

    def _is_allocated_below(self, start: int, end: int) -> Program[tuple[int, bool | None]]:
        stop, allocated = yield from self.file.is_allocated(start, end)
        if allocated is None and self._is_recorded():
            raise Undetermined("whether a read is kept, and recorded below, is up to the storage")
        return stop, allocated

    def _check_pieces(self, start: int, content: Content) -> None:
        """Refuse to keep what is zero in a part that may be kept by itself."""
        image = [self.file, *self._filtered()][-1]
        end = start + content.size
        borders = image.in_doubt(start, end) if isinstance(image, Cells) else []
        if len({is_zero(content.slice(low - start, high - start))
                for low, high in pairwise((start, *borders, end))}) > 1:
            raise Undetermined("whether zeroes are kept as such depends on where in the file what "
                               "is beside them lies")

    def _is_recorded(self) -> bool:
        """Whether bitmaps record what is kept."""
        return any(bitmap.recording or bitmap.read_only
                   for node in self._filtered() for bitmap in node.bitmaps)

    def _filtered(self) -> Iterator[Node]:
        """The nodes that the file is a filter of, top first."""
        node = self.file
        while isinstance(node, (CopyBeforeWrite, CopyOnRead)):
            node = node.source if isinstance(node, CopyBeforeWrite) else node.file
            yield node

    def _write(self, start: int, content: Content) -> Program[None]:
        return self.file.write(start, content)

    def write_unchanged(self, start: int, content: Content) -> Program[None]:
        """Passed on, as what changes nothing."""
        return self.file.take_unchanged(start, content)

    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        return self.file.write_zeroes(start, end, how)

    def _flush(self) -> Program[None]:
        return in_order(self.flushes, self.file.flush())

    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """The file's; what is not the image's own is kept when it is read."""
        stop, status = yield from self.file.block_status(start, end)
        return stop, replace(filtered(status), kept=status.kept or status.depths != DATA.depths)

    def own_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """What the node below has allocated itself."""
        return self.file.own_status(start, end)

    def is_allocated(self, start: int, end: int) -> Program[tuple[int, bool | None]]:
        """What the node below says."""
        return self.file.is_allocated(start, end)
