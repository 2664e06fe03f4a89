# SPDX-License-Identifier: GPL-2.0-or-later
"""The reads of a node that are under way, for which changes may have to wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from .program import Program, Wait


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A read of ``[start, end)`` under way."""

    start: int
    end: int


def until_read(reads: Sequence[Reading], start: int, end: int, reason: str) -> Program[None]:
    """Wait for those of the reads that are under way in the range, one by one in their order."""
    while True:
        read = next((each for each in reads if each.start < end and start < each.end), None)
        if read is None:
            return
        yield Wait(partial(_has_ended, read, reads), reason)


def _has_ended(read: Reading, reads: Sequence[Reading]) -> bool:
    return read not in reads
