# SPDX-License-Identifier: GPL-2.0-or-later
"""Successors: while a job works with what a bitmap held at the start, another bitmap records.

The successor is anonymous and stands before all older bitmaps of the node.
"""

from __future__ import annotations

from dataclasses import dataclass

from .bitmap import DirtyBitmap
from .job_operations import BitmapMode
from .node import Node


@dataclass(frozen=True, slots=True)
class SyncBitmap:
    """The user's bitmap that a job works with, on ``node``, and when it is brought up to date."""

    bitmap: DirtyBitmap
    mode: BitmapMode
    node: Node


def create(node: Node, bitmap: DirtyBitmap) -> None:
    """Freeze the bitmap, which is busy from now on; its successor records if it did."""
    bitmap.successor = DirtyBitmap(bitmap.size, bitmap.granularity, recording=bitmap.recording)
    bitmap.recording, bitmap.busy = False, True
    node.add_bitmap(bitmap.successor)


def install(node: Node, bitmap: DirtyBitmap) -> DirtyBitmap:
    """The successor takes the bitmap's name and the bitmap is gone; gives the successor."""
    successor = _end(bitmap)
    successor.name, successor.persistent = bitmap.name, bitmap.persistent
    node.bitmaps.remove(bitmap)
    return successor


def reclaim(node: Node, bitmap: DirtyBitmap) -> None:
    """The bitmap takes on what its successor has recorded, and records again if that did."""
    successor = _end(bitmap)
    bitmap.merge(successor)
    bitmap.recording = successor.recording
    node.bitmaps.remove(successor)


def _end(bitmap: DirtyBitmap) -> DirtyBitmap:
    successor, bitmap.successor = bitmap.successor, None
    assert successor is not None, "a job's bitmap has a successor until the job ends"
    bitmap.busy = False
    return successor
