# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may read what: a fleecing client sees exactly the point in time it was given, no more."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Image
from model.operations import (
    AddSnapshot,
    BitmapAdd,
    BitmapClear,
    BitmapRef,
    BitmapRemove,
    Flush,
    RemoveNode,
    Unexport,
    Via,
)

C = 64 * KIB
"""A cluster of the filter, as long as the temporary image has none bigger."""

COPY_BITMAP = "copy_bitmap_on_filter"
DIRTY = BitmapRef("src", "dirty")


def source(clusters: int) -> Image:
    """An active disk of so many clusters, full of data."""
    return Image("src", clusters * C, filled=((0, clusters * C),))


def temporary(clusters: int) -> Image:
    """A temporary image for it."""
    return Image("tmp", clusters * C)


def record_writes(iotest: Scenario, *ranges: tuple[int, int]) -> None:
    """Have the bitmap ``dirty`` of ``src`` record these guest writes (offset, length)."""
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src")
    for offset, length in ranges:
        iotest.write("src", offset, length)
    iotest.do(Unexport("src"))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_101_access_control(iotest: Scenario) -> None:
    """Access control: a fleecing client reads what the dirty bitmap covers, and nothing else.

    The filter looks at the bitmap once, when it is opened.  A cluster that the bitmap has dirty,
    wholly or in part, may be read.  A request that touches any other cluster is refused as a
    whole.  Inside QEMU the errno is EACCES; NBD has no such error, so its clients get EINVAL.
    """
    iotest.images(source(8), temporary(8))
    iotest.section("The guest writes to clusters 2, 3 (in part) and 6; the bitmap records it")
    record_writes(iotest, (2 * C, C + 4 * KIB), (6 * C, 512))
    iotest.section("A filter opened with that bitmap; snapshot-access over it")
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.comment("of the filter: access, done and, on today's QEMU, copy")
    iotest.bitmaps("cbw", "src")
    iotest.section("Inside of the bitmap")
    iotest.read("acc", 2 * C, C)
    iotest.read("acc", 2 * C, 2 * C)
    iotest.comment("all of cluster 6 may be read, though the guest wrote 512 bytes of it")
    iotest.read("acc", 6 * C, C)
    iotest.section("Outside of the bitmap")
    iotest.read("acc", 0, C)
    iotest.read("acc", 4 * C, 512)
    iotest.section("Partly inside")
    iotest.comment("one byte too early, one byte too late, a gap in the middle, everything")
    iotest.read("acc", 2 * C - 1, 2)
    iotest.read("acc", 4 * C - 1, 2)
    iotest.read("acc", 3 * C, 4 * C)
    iotest.read("acc", 0, 8 * C)
    iotest.section("All of it, cluster by cluster")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_102_access_control_while_the_guest_writes(iotest: Scenario) -> None:
    """A guest's write changes what is copied, never what may be read.

    Clusters outside of the bitmap are not copied when the guest writes there, and are shown as
    done all the same.
    """
    iotest.images(source(6), temporary(6))
    record_writes(iotest, (C, C), (4 * C, C))
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.section("The guest writes to clusters 0 to 2; only cluster 1 is in the bitmap")
    iotest.write("cbw", 0, 3 * C)
    iotest.bitmaps("cbw", "src")
    iotest.comment("so one cluster was copied")
    iotest.content("tmp")
    iotest.section("The client reads cluster 1 from the temporary image, cluster 4 from the disk")
    iotest.read("acc", C, C)
    iotest.read("acc", 4 * C, C)
    iotest.read("acc", 0, C)
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_103_the_bitmap_is_looked_at_once(iotest: Scenario) -> None:
    """What becomes of the bitmap after the filter was opened changes nothing."""
    iotest.images(source(4), temporary(4))
    record_writes(iotest, (C, C))
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.section("Cleared")
    iotest.do(BitmapClear("src", "dirty"))
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.section("Dirty elsewhere: the guest writes to cluster 3")
    iotest.write("cbw", 3 * C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.section("Removed")
    iotest.do(BitmapRemove("src", "dirty"))
    iotest.content("acc")
    iotest.bitmaps("cbw", "src")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_104_a_filter_without_bitmap(iotest: Scenario) -> None:
    """Without a bitmap the client may read everything, and everything is copied before it
    changes."""
    iotest.images(source(4), temporary(4))
    iotest.fleecing("src", "tmp")
    iotest.bitmaps("cbw", "src")
    iotest.read("acc", 0, 4 * C)
    iotest.section("The guest writes to the middle of cluster 1, then to clusters 1 and 2")
    iotest.write("cbw", C + 4 * KIB, 8 * KIB)
    iotest.bitmaps("cbw", "src")
    iotest.write("cbw", C, 2 * C)
    iotest.bitmaps("cbw", "src")
    iotest.comment("the first write had cluster 1 copied; the second one copied cluster 2 only")
    iotest.content("tmp")
    iotest.content("src")
    iotest.content("acc")


def test_105_block_status_needs_access(iotest: Scenario) -> None:
    """Block status is refused like a read: for the whole range that is asked about.

    A client that wants to know what it may read therefore asks cluster by cluster.
    """
    iotest.images(source(4), temporary(4))
    record_writes(iotest, (C, 2 * C))
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.status("acc", C, 2 * C)
    iotest.status("acc", 0, 4 * C)
    for cluster in range(4):
        iotest.status("acc", cluster * C, C)


def test_106_the_snapshot_is_read_only(iotest: Scenario) -> None:
    """Nobody changes a point in time: writes and zeroes are refused, and leave no trace."""
    iotest.images(source(2), temporary(2))
    iotest.fleecing("src", "tmp")
    iotest.write("acc", 0, C)
    iotest.zero("acc", 0, C)
    iotest.zero("acc", 0, C, unmap=True)
    iotest.section("A flush does nothing, and may")
    iotest.do(Flush("acc"))
    iotest.content("acc")
    iotest.content("src")
    iotest.content("tmp")


def test_107_channels(iotest: Scenario) -> None:
    """The same refusal by every way that a read can take.

    Structured replies make the NBD server ask block status before it reads; without them, or with
    the flag "do not fragment", it only reads.
    """
    iotest.images(source(3), temporary(3))
    record_writes(iotest, (C, C))
    iotest.fleecing("src", "tmp", DIRTY)
    for via in (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE, Via.QEMU_IO):
        iotest.read("acc", C, C, via)
        iotest.read("acc", 0, C, via)
        iotest.read("acc", C, 2 * C, via)


def test_108_the_errno_is_eacces(iotest: Scenario) -> None:
    """Where no NBD server stands between, the client sees QEMU's own errno: EACCES."""
    iotest.images(source(3), temporary(3), monitor=True)
    record_writes(iotest, (C, C))
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.read("acc", C, C, Via.MONITOR)
    iotest.read("acc", 0, C, Via.MONITOR)
    iotest.read("acc", C, 2 * C, Via.MONITOR)
    iotest.write("acc", C, C, Via.MONITOR)
    iotest.comment("the same, through an NBD export of the same node")
    iotest.read("acc", 0, C)
    iotest.write("acc", C, C)


def test_109_access_belongs_to_the_filter(iotest: Scenario) -> None:
    """Two snapshot-access nodes over one filter show one point in time, and one access."""
    iotest.images(source(3), temporary(3))
    record_writes(iotest, (0, 2 * C))
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.do(AddSnapshot("other", "cbw"))
    iotest.export("other")
    iotest.section("What one client discards, the other may not read any more")
    iotest.discard("other", 0, C)
    iotest.content("acc")
    iotest.content("other")
    iotest.section("One of them goes")
    iotest.do(Unexport("other"))
    iotest.do(RemoveNode("other"))
    iotest.write("cbw", C, C)
    iotest.content("acc")
