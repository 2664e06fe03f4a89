# SPDX-License-Identifier: GPL-2.0-or-later
"""Manners: how an area's requests overlap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Manner:
    """What schedules dwell on.  Chances are in sixteenths."""

    failing: int = 0
    """Chance that storage fails in a schedule at all."""
    failures: int = 3
    """Chance, completion by completion, of a failure, where storage fails."""
    timeouts: bool = False
    """Whether the filter has a ``cbw-timeout``, which is to run out once: that takes a second."""
    breaking: int = 4
    """Chance that a failed copy is to break the snapshot instead of the guest's request."""
    cuts: int = 1
    """Chance, burst by burst, that storage is cut off, for a moment or until it is back."""
    kills: int = 0
    """Chance, burst by burst, that QEMU is killed in the midst of it."""
    threads: int = 3
    """Chance that exports run in an I/O thread."""
    large: int = 1
    """Chance of a disk that is copied by many tasks."""
