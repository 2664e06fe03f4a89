# SPDX-License-Identifier: GPL-2.0-or-later
"""A qcow2 image's clusters or, with ``extended_l2``, subclusters, and their states."""

from __future__ import annotations

from enum import Enum
from typing import Final

ENTRY: Final = 8
"""Bytes of a cluster's entry in its table; twice that with subclusters.  Source:
docs/interop/qcow2.txt, also for the number of subclusters."""
SUBCLUSTERS: Final = 32
"""Subclusters of a cluster with ``extended_l2``."""


class Cell(Enum):
    """The state of a cluster or subcluster."""

    UNALLOCATED = "unallocated"
    ZERO = "zero"
    ZERO_KEPT = "zero, its space kept"
    """It differs from ZERO in where a run of block status ends, and in what a discard of its
    cluster does."""
    DATA = "data"
    PERHAPS_ZERO = "zero, or data that is all zero"
    """Whether a write of zeroes to a part of it made it a zero cell is up to the storage below
    the backing file."""


SPACE: Final = frozenset({Cell.DATA, Cell.ZERO_KEPT})
"""What has space in the file."""
ZEROED: Final = frozenset({Cell.ZERO, Cell.ZERO_KEPT})
"""Zero, with space or without: subclusters of one cluster are alike in that."""
ALL_ZERO: Final = ZEROED | {Cell.PERHAPS_ZERO}
"""What reads as zero by itself."""
