# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk content, held as *who wrote what where* instead of as bytes.

A place on a disk either reads as zero or holds what one write put there.  The model keeps, for
each place, that write's *stamp*; the harness turns (stamp, offset) into bytes that occur nowhere
else, so stale, shifted and mixed data all look wrong, and wrong bytes tell who wrote them.

Data never moves to another offset: copy-before-write copies to the same offset, so stamp and
offset together say what is read.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from .runs import RunMap

Stamp: TypeAlias = int
"""Who wrote: an operation's number (from 1 up), or ``-1 - i``: the initial fill of image i."""

ZERO: Final[Stamp] = 0
"""Nobody: the place reads as zero."""

Content: TypeAlias = RunMap[Stamp]
"""What a disk, or a piece of one, holds: a stamp for each byte."""


def zeroes(length: int) -> Content:
    """``length`` bytes that read as zero."""
    return RunMap(length, ZERO)


def is_zero(content: Content) -> bool:
    """Whether all of it reads as zero."""
    return all(run.value == ZERO for run in content.runs())


def stamped(length: int, stamp: Stamp) -> Content:
    """``length`` bytes written by ``stamp``."""
    return RunMap(length, stamp)


def initial_stamp(image_index: int) -> Stamp:
    """The stamp of what image number ``image_index`` (from 0) held before the run began."""
    return -1 - image_index
