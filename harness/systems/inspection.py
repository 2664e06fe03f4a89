# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a node whole: what it holds, and, of a snapshot, what of it can be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from harness.clients.errors import RequestFailed
from harness.ranges import Ranges, merged, pieces, widened
from harness.systems.base import WHOLE, Answer
from model.bitmap import align_up
from model.channels import seen_through
from model.errors import Errno
from model.inspection import PIECE
from model.operations import Via

_ASKED: Final = 1 << 30  # bytes asked about in one block status request
_DENIED: Final = int(seen_through(Via.NBD, Errno.EACCES))


class Reader(Protocol):
    """What is needed to inspect a node; both raise RequestFailed."""

    @property
    def size(self) -> int:
        """Of the node, in bytes."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a range, read plainly."""

    def nonzero(self, start: int, end: int) -> Iterable[tuple[int, int]]:
        """Where, by block status, the range may be other than zero."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to know about the node if it is a snapshot."""

    cluster: int
    """Every cluster can be read, or none of it; and a read of more than one is, on some builds,
    wrong: see the capability ``snapshot_reads_source_before_done_run_ends``."""


def inspect(reader: Reader, snapshot: Snapshot | None = None, touched: Ranges = ()) -> Answer:
    """The content of a node.

    Of a node of more than :data:`~harness.systems.base.WHOLE` bytes only the ``touched`` ranges
    are sure to be read; of the rest, what block status says holds data.
    """
    unit = snapshot.cluster if snapshot else None
    data: list[tuple[int, bytes]] = []
    denied: list[tuple[int, int]] = []
    try:
        ranges = [(0, reader.size)] if reader.size <= WHOLE else _interesting(
            reader, unit, touched)
        for start, end in (each for low, high in ranges
                           for each in pieces(low, high, unit or PIECE)):
            try:
                piece = reader.read(start, end)
            except RequestFailed as why:
                if unit is None or why.errno != _DENIED:
                    raise
                piece = bytes(end - start)
                denied.append((start, end))
            # Zeroes of a big node need not be kept: what is left out reads as zero.
            if reader.size <= WHOLE or piece.count(0) < len(piece):
                data.append((start, piece))
    except RequestFailed as why:
        return Answer(error=why.errno)
    forbidden = merged(denied)
    if reader.size <= WHOLE:
        return Answer(data=b"".join(piece for _, piece in data), denied=forbidden)
    return Answer(parts=tuple(data), denied=forbidden)


def _interesting(reader: Reader, unit: int | None, touched: Ranges) -> list[tuple[int, int]]:
    """The touched ranges, those that may hold data, and those that cannot be read."""
    found = [(start, min(end, reader.size)) for start, end in touched if start < reader.size]
    pending = [(start, min(start + _ASKED, reader.size))
               for start in range(0, reader.size, _ASKED)]
    while pending:
        start, end = pending.pop()
        try:
            found += reader.nonzero(start, end)
        except RequestFailed as why:
            if unit is None or why.errno != _DENIED:
                raise
            # One denied cluster spoils the answer about all: ask about each half.
            if end - start <= unit:
                found.append((start, end))
            else:
                middle = start + align_up(end - start, 2 * unit) // 2
                pending += [(start, middle), (middle, end)]
    return [(start, min(end, reader.size)) for start, end in widened(found, unit or PIECE)]
