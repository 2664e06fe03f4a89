# SPDX-License-Identifier: GPL-2.0-or-later
"""What backup clients do with jobs: fleecing by a job, pull and push of increments."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Fault, Format, Image, RequestKind
from model.job_operations import (
    Backup,
    BitmapMode,
    JobCancel,
    JobFinalize,
    JobResume,
    OnError,
    Sync,
    Transaction,
)
from model.operations import (
    AddFilter,
    AddSnapshot,
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapMerge,
    BitmapRef,
    BitmapRemove,
    Context,
    Export,
    RemoveNode,
    Unexport,
)

C = 64 * KIB
SIZE = 10 * C + 512
COPY_BITMAP = "copy_bitmap_on_filter"
DIRTY = "qemu:dirty-bitmap:"


@pytest.mark.golden(varies=[COPY_BITMAP, "snapshot_access"], without_snapshots=True)
def test_1101_fleecing_by_a_job(iotest: Scenario) -> None:
    """The old way: a job of sync mode none to an image whose backing file is the disk; the client
    reads that image, in which old data covers what the guest has changed."""
    iotest.images(Image("src", SIZE, filled=((0, SIZE),)),
                  Image("tmp", SIZE, Format.QCOW2, backing="src"))
    iotest.export("src")
    iotest.do(Backup("fleecing", "src", "tmp", Sync.NONE, filter_node="filter"))
    iotest.do(Export("tmp", writable=False, allocation_depth=True))
    iotest.section("The guest writes")
    iotest.write("src", C + 100, 100)
    iotest.zero("src", 3 * C - 1, 2)
    iotest.write("src", 10 * C, 512)
    iotest.bitmaps("filter", "src")
    iotest.section("The client reads")
    iotest.content("tmp")
    iotest.status("tmp", 0, SIZE, Context.DEPTH)
    iotest.section("The end")
    iotest.do(JobCancel("fleecing"))
    iotest.write("src", 0, 512)
    iotest.comment("nobody keeps the point in time any more: the image shows what the disk has")
    iotest.content("tmp")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_1102_pull_of_increments(iotest: Scenario) -> None:
    """A client pulls what has changed since the last backup, through an export that shows the
    point in time and a dirty bitmap.

    Checkpoints are bitmaps.  In one transaction a new one begins to record, the one before ends,
    and what has changed since an older one is merged for the client.
    """
    iotest.images(Image("src", SIZE, Format.QCOW2, filled=((0, SIZE),)), Image("tmp", SIZE))
    iotest.export("src")
    iotest.do(BitmapAdd("src", "monday", persistent=True))
    iotest.write("src", C, 2 * C)
    iotest.write("src", 9 * C, 512)
    iotest.section("Tuesday: the next checkpoint")
    iotest.do(Transaction((BitmapDisable("src", "monday"),
                           BitmapAdd("src", "tuesday", persistent=True))))
    iotest.write("src", 5 * C - 512, 1024)
    iotest.section("Wednesday: all since Monday is wanted")
    iotest.do(Unexport("src"))
    iotest.do(Transaction((
        BitmapDisable("src", "tuesday"), BitmapAdd("src", "wednesday", persistent=True),
        BitmapAdd("src", "wanted", disabled=True),
        BitmapMerge("src", "wanted", (BitmapRef("src", "monday"), BitmapRef("src", "tuesday"))))))
    wanted = BitmapRef("src", "wanted")
    iotest.fleecing("src", "tmp", wanted)
    iotest.do(Unexport("acc"))
    iotest.do(Export("acc", bitmaps=(wanted,)))
    iotest.bitmaps("cbw", "src")
    iotest.section("The guest writes meanwhile")
    iotest.write("cbw", 2 * C, C)
    iotest.write("cbw", 7 * C, C)
    iotest.section("The client asks what to read, reads it, and gives it up")
    iotest.status("acc", 0, SIZE, f"{DIRTY}wanted")
    for cluster in (1, 2, 4, 5, 9):
        length = min(C, SIZE - cluster * C)
        iotest.read("acc", cluster * C, length)
        iotest.discard("acc", cluster * C, length)
    iotest.read("acc", 0, 512)
    iotest.bitmaps("cbw", "src")
    iotest.section("The end")
    iotest.do(Unexport("acc"))
    iotest.do(Unexport("cbw"))
    iotest.do(RemoveNode("acc"))
    iotest.do(RemoveNode("cbw"))
    iotest.do(Transaction((
        BitmapRemove("src", "wanted"),
        BitmapMerge("src", "tuesday", (BitmapRef("src", "monday"),)),
        BitmapRemove("src", "monday"))))
    iotest.bitmaps("src")
    iotest.digest("src", "tuesday")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_1103_pull_through_a_job(iotest: Scenario) -> None:
    """The same with a job of sync mode none as the keeper of the point in time: the job and the
    bitmaps begin in one transaction, and snapshot-access is put over the job's filter."""
    iotest.images(Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE))
    iotest.do(BitmapAdd("src", "monday"))
    iotest.export("src")
    iotest.write("src", 3 * C, 10)
    iotest.do(Transaction((
        BitmapDisable("src", "monday"), BitmapAdd("src", "tuesday"),
        Backup("keeper", "src", "tmp", Sync.NONE, filter_node="filter"))))
    iotest.do(AddSnapshot("acc", "filter"))
    iotest.do(Export("acc", bitmaps=(BitmapRef("src", "monday"),)))
    iotest.write("src", 3 * C, C)
    iotest.write("src", 6 * C, C)
    iotest.bitmaps("filter", "src")
    iotest.status("acc", 0, SIZE, f"{DIRTY}monday")
    iotest.read("acc", 3 * C, C)
    iotest.content("acc")
    iotest.do(Unexport("acc"))
    iotest.do(RemoveNode("acc"))
    iotest.do(JobCancel("keeper"))
    iotest.do(Transaction((BitmapMerge("src", "tuesday", (BitmapRef("src", "monday"),)),
                           BitmapRemove("src", "monday"))))
    iotest.bitmaps("src")


@pytest.mark.golden(varies=[COPY_BITMAP, "discard_source"])
def test_1104_push_from_the_snapshot(iotest: Scenario) -> None:
    """A job reads the snapshot and writes the backup, so that a slow target holds up no guest; it
    discards what it has copied, which frees the temporary image and ends the copying before
    writes of the guest."""
    size = 10 * C
    iotest.images(Image("src", size, filled=((0, size),)), Image("tmp", size), Image(
        "copy", size, faults=(Fault(RequestKind.WRITE, 5 * C, once=True),)))
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error="break-snapshot"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("cbw")
    iotest.write("cbw", 2 * C + 1, 10)
    iotest.do(Backup("push", "acc", "copy", Sync.FULL, discard_source=True, max_workers=1,
                     max_chunk=C, on_target_error=OnError.STOP, auto_dismiss=False))
    iotest.section("The job stops in the middle, and the guest writes on either side")
    iotest.write("cbw", 3 * C, C)
    iotest.write("cbw", 8 * C, C)
    iotest.bitmaps("cbw")
    iotest.content("acc")
    iotest.content("tmp")
    iotest.section("The job goes on to its end")
    iotest.do(JobResume("push"))
    iotest.jobs()
    iotest.bitmaps("cbw")
    iotest.content("tmp")
    iotest.content("copy")
    iotest.write("cbw", 9 * C, 512)
    iotest.bitmaps("cbw")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_1105_push_from_a_broken_snapshot(iotest: Scenario) -> None:
    """The temporary image is full: the guest goes on, the snapshot is gone, and the job fails."""
    iotest.images(Image("src", SIZE, filled=((0, SIZE),)), Image("copy", SIZE),
                  Image("tmp", SIZE, faults=(Fault(RequestKind.WRITE, 8 * C, errno="ENOSPC"),)))
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error="break-snapshot"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("cbw")
    iotest.write("cbw", 8 * C, C)
    iotest.bitmaps("cbw")
    iotest.do(Backup("push", "acc", "copy", Sync.FULL, max_workers=1, auto_dismiss=False))
    iotest.jobs()
    iotest.content("copy")
    iotest.content("src")


@pytest.mark.golden(varies=[COPY_BITMAP, "discard_source"])
def test_1106_push_of_an_increment(iotest: Scenario) -> None:
    """Only what a bitmap has dirty: the filter is given the bitmap, and so is the job, as a copy
    on the snapshot's node; in one transaction the next increment begins to record."""
    iotest.images(Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE), Image("copy", SIZE))
    iotest.do(BitmapAdd("src", "since"))
    iotest.export("src")
    iotest.write("src", C, C)
    iotest.write("src", 6 * C - 1, 2)
    iotest.do(Unexport("src"))
    since = BitmapRef("src", "since")
    iotest.do(AddFilter("cbw", "src", "tmp", since, on_cbw_error="break-snapshot"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.do(BitmapAdd("acc", "todo", disabled=True))
    iotest.do(Transaction((
        BitmapMerge("acc", "todo", (since,)), BitmapClear("src", "since"),
        Backup("push", "acc", "copy", Sync.BITMAP, "todo", BitmapMode.NEVER, auto_finalize=False,
               discard_source=True))))
    iotest.export("cbw")
    iotest.write("cbw", C, 512)
    iotest.write("cbw", 8 * C, 512)
    iotest.bitmaps("cbw", "src", "acc")
    iotest.do(JobFinalize("push"))
    iotest.content("copy")
    iotest.comment("all of it would have been too much")
    iotest.do(Backup("push", "acc", "copy", Sync.FULL, max_workers=1))
