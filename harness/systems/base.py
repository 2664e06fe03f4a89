# SPDX-License-Identifier: GPL-2.0-or-later
"""What a system under test is: something that operations are done to and that can be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from model.errors import QmpError
from model.operations import BitmapRef, Operation, Request, Via
from model.outcome import Observation

WHOLE: Final = 64 << 20
"""A node of up to so many bytes is inspected whole; of a bigger one only what is not zero."""
ALL_CHANNELS: Final = frozenset(Via)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system answered to an operation; the measured twin of ``model.outcome.Outcome``.

    ``error`` is the errno's number as the channel showed it.  ``extents`` are (length, flags).
    ``denied`` lists, for an inspected snapshot, the ranges (start, end) that could not be read;
    ``data`` has zeroes there.  For an inspected node of more than :data:`WHOLE` bytes ``data`` is
    None and ``parts`` has what may be other than zero, as (offset, bytes) in ascending order; all
    else reads as zero.  ``disconnected``: the server closed the connection instead of answering.
    ``compressed``: how many clusters of each qcow2 file hold compressed data, when QEMU has ended.
    """

    error: int | None = None
    refused: QmpError | None = None
    data: bytes | None = None
    extents: tuple[tuple[int, int], ...] | None = None
    denied: tuple[tuple[int, int], ...] = ()
    disconnected: bool = False
    parts: tuple[tuple[int, bytes], ...] | None = None
    compressed: Mapping[str, int] | None = None


class System(Protocol):
    """A system under test, its images attached, ready for operations.

    Any method raises ``harness.systems.failure.SystemFailed`` when the system crashed, hung,
    hung up or answered garbage.
    """

    @property
    def channels(self) -> Collection[Via]:
        """The channels that requests can take here; see :func:`sent_as` for the others."""

    def apply(self, number: int, operation: Operation) -> Answer:
        """Do operation ``number`` and give the answer; data written is that of the number."""

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """All bitmaps of all nodes, and the digests of the named ones."""

    def close(self) -> None:
        """Stop the system and leave nothing behind."""


_SUBSTITUTES: Final = (Via.NBD, Via.QEMU_IO, Via.MONITOR)


def sent_as(operation: Operation, channels: Collection[Via]) -> Operation:
    """The operation as a system with these channels does it: the channel may be another one.

    A request by a channel that the system lacks goes by NBD or, where libnbd is absent, by
    qemu-io.  Systems do so by themselves; the model must be given the same.
    """
    if not isinstance(operation, Request) or operation.via in channels:
        return operation
    via = next((each for each in _SUBSTITUTES if each in channels), operation.via)
    return dataclasses.replace(operation, via=via)
