# SPDX-License-Identifier: GPL-2.0-or-later
"""Graphs: filters over filters, filters under a running guest, and how they go away again."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Image
from model.operations import (
    AddFilter,
    AddSnapshot,
    Attach,
    BitmapAdd,
    BitmapRef,
    Export,
    RemoveNode,
    Resize,
    Unexport,
    Via,
)

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"


def source(clusters: int) -> Image:
    """An active disk, full of data."""
    return Image("src", clusters * C, filled=((0, clusters * C),))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_701_two_points_in_time(iotest: Scenario) -> None:
    """A second filter over the first one keeps a second, later point in time.

    The guest goes from filter to filter.  What it overwrites is copied by each filter that has not
    copied it yet, each as it was when that filter came.
    """
    iotest.images(source(5), Image("tmp1", 5 * C), Image("tmp2", 5 * C))
    iotest.section("The first point in time")
    iotest.fleecing("src", "tmp1", filter_node="cbw1", snapshot="acc1")
    iotest.write("cbw1", C, C)
    iotest.section("The second one; the guest moves up")
    iotest.do(Unexport("cbw1"))
    iotest.fleecing("cbw1", "tmp2", filter_node="cbw2", snapshot="acc2")
    iotest.content("acc1")
    iotest.content("acc2")
    iotest.section("The guest writes to cluster 1, again, and to cluster 2, for the first time")
    iotest.write("cbw2", C, 2 * C)
    iotest.bitmaps("cbw1", "cbw2", "src")
    iotest.content("tmp1")
    iotest.content("tmp2")
    iotest.content("acc1")
    iotest.content("acc2")
    iotest.content("src")
    iotest.section("The client of the first one discards cluster 3")
    iotest.discard("acc1", 3 * C, C)
    iotest.write("cbw2", 3 * C, C)
    iotest.content("acc1")
    iotest.content("acc2")


def test_702_snapshot_access_over_something_else(iotest: Scenario) -> None:
    """Only a copy-before-write filter has a point in time to show; elsewhere reads are refused."""
    iotest.images(source(2))
    iotest.do(AddSnapshot("acc", "src"))
    iotest.export("acc")
    iotest.read("acc", 0, C)
    iotest.read("acc", 0, C, Via.NBD_DF)
    iotest.status("acc", 0, C)
    iotest.write("acc", 0, C)
    iotest.discard("acc", 0, C)
    iotest.export("src")
    iotest.read("src", 0, 2 * C)


def test_703_taking_it_apart(iotest: Scenario) -> None:
    """Everything goes again, users first; the guest's data stays."""
    iotest.images(source(3), Image("tmp", 3 * C))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, C)
    iotest.section("In use")
    iotest.do(RemoveNode("cbw"))
    iotest.do(RemoveNode("acc"))
    iotest.do(Export("cbw"))
    iotest.section("Exports, then nodes")
    iotest.do(Unexport("acc"))
    iotest.do(Unexport("acc"))
    iotest.do(RemoveNode("acc"))
    iotest.do(Unexport("cbw"))
    iotest.do(RemoveNode("cbw"))
    iotest.section("And once more: what the first filter copied is nothing to the second one")
    iotest.fleecing("src", "tmp")
    iotest.content("acc")
    iotest.write("cbw", 2 * C, C)
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_704_a_running_guest(iotest: Scenario) -> None:
    """A filter slides in under a guest's device, and out again.

    The snapshot-access comes last and goes first: while it is there, the filter lets nobody else
    write to the disk.
    """
    iotest.images(source(3), Image("tmp", 3 * C), monitor=True)
    iotest.do(Attach("src"))
    iotest.write("src", 0, C, Via.DEVICE)
    iotest.section("In: the point in time is now")
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(Attach("cbw"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("acc")
    iotest.write("cbw", C, C, Via.DEVICE)
    iotest.bitmaps("cbw", "src")
    for cluster in range(3):
        iotest.read("acc", cluster * C, C, Via.MONITOR)
    iotest.read("acc", C, C)
    iotest.section("Out, in the wrong order")
    iotest.do(Attach("src"))
    iotest.section("Out")
    iotest.do(Unexport("acc"))
    iotest.do(RemoveNode("acc"))
    iotest.do(Attach("src"))
    iotest.do(RemoveNode("cbw"))
    iotest.write("src", 2 * C, C, Via.DEVICE)
    iotest.content("src")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_705_incremental_pull_backup(iotest: Scenario) -> None:
    """How a backup tool pulls what changed since its last visit.

    The bitmap of the first period tells the filter what the client may read, and, exported with
    the snapshot's node as its user's disk, tells the client what to ask for.  The bitmap of the
    next period records the guest meanwhile.
    """
    iotest.images(source(6), Image("tmp", 6 * C))
    iotest.do(BitmapAdd("src", "monday", granularity=C))
    iotest.export("src")
    iotest.write("src", C, C)
    iotest.write("src", 4 * C, 4 * KIB)
    iotest.do(Unexport("src"))
    iotest.section("The point in time: Tuesday begins")
    iotest.do(BitmapAdd("src", "tuesday", granularity=C))
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "monday")))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("cbw")
    iotest.export("acc", BitmapRef("src", "monday"))
    iotest.section("The guest writes to clusters 1 and 2 while the client asks and reads")
    iotest.write("cbw", C, 2 * C)
    iotest.status("acc", 0, 6 * C, "qemu:dirty-bitmap:monday")
    for cluster in (1, 4):
        iotest.read("acc", cluster * C, C)
        iotest.discard("acc", cluster * C, C)
    iotest.bitmaps("cbw", "src")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_706_two_filters_side_by_side(iotest: Scenario) -> None:
    """Two filters over one disk, neither over the other: both may be added, one may be used.

    A filter in use lets nobody but itself write to the disk, and the other one would.
    """
    iotest.images(source(3), Image("tmp1", 3 * C), Image("tmp2", 3 * C))
    iotest.do(AddFilter("cbw1", "src", "tmp1"))
    iotest.do(AddFilter("cbw2", "src", "tmp2"))
    iotest.export("cbw1")
    iotest.export("cbw2")
    iotest.do(AddSnapshot("acc2", "cbw2"))
    iotest.section("What the guest does through the one, the other does not see")
    iotest.do(AddSnapshot("acc1", "cbw1"))
    iotest.write("cbw1", C, C)
    iotest.bitmaps("cbw1", "cbw2", "src")
    iotest.content("acc1")
    iotest.section("The other way round")
    iotest.do(Unexport("cbw1"))
    iotest.do(RemoveNode("acc1"))
    iotest.do(AddSnapshot("acc2", "cbw2"))
    iotest.export("cbw2")
    iotest.write("cbw2", 2 * C, C)
    iotest.bitmaps("cbw1", "cbw2", "src")
    iotest.content("acc2")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_707_resize(iotest: Scenario) -> None:
    """Who lets a node be resized, and what then becomes of bitmaps and snapshots.

    A filter that nobody uses keeps nobody from resizing its disk, and stays as it is; the filter
    itself may be resized even while a client reads the snapshot, and takes the disk along.
    """
    iotest.images(source(4), Image("tmp", 4 * C))
    iotest.do(BitmapAdd("src", "dirty", 4 * KIB))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.section("The disk, below a filter that nobody uses; the temporary image, never")
    iotest.do(Resize("src", 6 * C - 1000))
    iotest.do(Resize("tmp", 6 * C))
    iotest.bitmaps("cbw", "src")
    iotest.section("With a snapshot, only the filter can be")
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.do(Resize("src", 4 * C))
    iotest.do(Resize("acc", 5 * C))
    iotest.do(Resize("cbw", 5 * C))
    iotest.bitmaps("cbw", "src")
    iotest.section("What is new is neither copied nor can it be accessed")
    iotest.do(AddSnapshot("larger", "cbw"))
    iotest.export("cbw")
    iotest.export("larger")
    iotest.write("cbw", 3 * C, 2 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.content("larger")
    iotest.section("In use, it keeps its size")
    iotest.do(Resize("cbw", 4 * C))
    iotest.do(Resize("larger", 4 * C))
    iotest.section("Sizes that cannot be")
    iotest.do(Unexport("cbw"))
    iotest.do(Resize("cbw", -1))
    iotest.do(Resize("cbw", (1 << 63) - 1))
    iotest.do(Resize("nope", C))
    iotest.section("What is cut off is lost, also to bitmaps")
    iotest.do(Resize("cbw", 3 * C + 4 * KIB))
    iotest.do(Resize("cbw", 5 * C))
    iotest.bitmaps("cbw", "src")
    iotest.digest("src", "dirty")
    iotest.content("src")
