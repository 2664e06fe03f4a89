# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a process under steady load goes on growing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.configuration import KIB, MIB

ENOUGH: Final = 16
"""So many samples tell something."""
TOLERATED: Final = 4 * MIB
"""Growth after the first quarter that an allocator may have reasons for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How much memory (bytes) a process had after so many requests."""

    requests: int
    resident: int


def resident(pid: int) -> int | None:
    """Bytes of memory that a process has; None if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    _, found, rest = status.partition("VmRSS:")
    return int(rest.split()[0]) * KIB if found else None


def growth(samples: Sequence[Sample]) -> float | None:
    """Bytes a request by which the process goes on growing, if it does so and it matters.

    The first quarter of the samples is for caches to fill.  Of the rest, the least that the
    process had in the last third must exceed the most that it had in the first third.
    """
    if len(samples) < ENOUGH:
        return None
    rest = samples[len(samples) // 4:]
    third = len(rest) // 3
    early, late = rest[:third], rest[-third:]
    more = min(each.resident for each in late) - max(each.resident for each in early)
    if more <= TOLERATED:
        return None
    return more / (late[0].requests - early[-1].requests)
