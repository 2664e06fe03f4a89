# SPDX-License-Identifier: GPL-2.0-or-later
"""What a system under test is: something that operations are done to and that can be looked at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from model.errors import QmpError
from model.operations import BitmapRef, Operation, Via
from model.outcome import Observation


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system answered to an operation; the measured twin of ``model.outcome.Outcome``.

    ``error`` is the errno's number as the channel showed it.  ``extents`` are (length, flags).
    ``denied`` lists, for an inspected snapshot, the ranges (start, end) that could not be read.
    """

    error: int | None = None
    refused: QmpError | None = None
    data: bytes | None = None
    extents: tuple[tuple[int, int], ...] | None = None
    denied: tuple[tuple[int, int], ...] = ()


class System(Protocol):
    """A system under test, its images attached, ready for operations.

    Any method raises ``harness.systems.failure.SystemFailed`` when the system crashed, hung,
    hung up or answered garbage.
    """

    @property
    def channels(self) -> Collection[Via]:
        """The channels that requests can take here; a request by another one goes by NBD."""

    def apply(self, number: int, operation: Operation) -> Answer:
        """Do operation ``number`` and give the answer; data written is that of the number."""

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """All bitmaps of all nodes, and the digests of the named ones."""

    def close(self) -> None:
        """Stop the system and leave nothing behind."""
