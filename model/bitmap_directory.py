# SPDX-License-Identifier: GPL-2.0-or-later
"""The persistent bitmaps that a qcow2 image keeps: its directory of bitmaps.

A QEMU that has the image open for writing marks what it has loaded as *in use*; a mark that is
still there when the image is opened again means that the bitmap was not stored, and makes it
inconsistent.  What is new is not in the directory before the image is closed.
"""

from __future__ import annotations

from dataclasses import replace

from .bitmap import DirtyBitmap, StoredBitmap
from .qcow2 import Qcow2


def store(node: Qcow2) -> None:
    """The image is closed, or becomes read-only.  Persistent bitmaps keep their places in the
    directory; new ones come last, the newest of them first.  Inconsistent ones, and those that
    are read-only, stay as they are."""
    if node.read_only:
        return
    places = {stored.name: index for index, stored in enumerate(node.directory)}
    for bitmap in node.bitmaps:
        if not must_store(bitmap):
            continue
        assert bitmap.name is not None
        stored = StoredBitmap(bitmap.name, bitmap.granularity, bitmap.recording,
                              bitmap.bits.copy())
        if bitmap.name in places:
            node.directory[places[bitmap.name]] = stored
        else:
            node.directory.append(stored)


def must_store(bitmap: DirtyBitmap) -> bool:
    """Whether the image has to store the bitmap: it is persistent, and its bits may be stored."""
    return bitmap.persistent and not (bitmap.inconsistent or bitmap.read_only)


def protect(node: Qcow2) -> None:
    """What the image keeps may not change any more."""
    for bitmap in node.bitmaps:
        bitmap.read_only = bitmap.persistent


def release(node: Qcow2) -> None:
    """What the image keeps may change again, and is marked as in use."""
    node.directory = [replace(stored, in_use=True) for stored in node.directory]
    for bitmap in node.bitmaps:
        bitmap.read_only = False


def load(node: Qcow2) -> None:
    """The image is opened.  Bitmaps come in the order of the directory, so that the last one is
    the newest."""
    for index, stored in enumerate(node.directory):
        bitmap = node.add_bitmap(DirtyBitmap(
            node.size, stored.granularity, stored.name, persistent=True))
        bitmap.read_only = node.read_only
        if stored.in_use:
            bitmap.inconsistent = True
            continue
        bitmap.recording = stored.recording
        bitmap.bits = stored.bits.copy()
        if not node.read_only:
            node.directory[index] = replace(stored, in_use=True)


def forget(node: Qcow2, name: str) -> None:
    """A bitmap is removed: from the image too, at once."""
    node.directory = [stored for stored in node.directory if stored.name != name]
