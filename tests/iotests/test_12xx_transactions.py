# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions: all of their actions or none, points in time, jobs that end together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Fault, Image, RequestKind
from model.job_operations import (
    Abort,
    Backup,
    BitmapMode,
    JobCancel,
    JobFinalize,
    OnError,
    Sync,
    Transaction,
)
from model.operations import (
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRef,
    BitmapRemove,
    Operation,
)

C = 64 * KIB
SIZE = 6 * C
COPY_BITMAP = "copy_bitmap_on_filter"


def disks(iotest: Scenario, *faults: Fault) -> None:
    """Two disks and two places for their backups; the first disk has bitmaps, and is written."""
    iotest.images(*(Image(node, SIZE, filled=((0, SIZE),)) for node in ("src", "other")),
                  Image("copy", SIZE), Image("copy2", SIZE, faults=faults))
    for name, disabled in (("dirty", False), ("clean", False), ("off", True)):
        iotest.do(BitmapAdd("src", name, disabled=disabled))
    iotest.export("src")
    iotest.write("src", C, 2 * C)
    iotest.do(BitmapClear("src", "clean"))


def test_1201_all_or_nothing(iotest: Scenario) -> None:
    """What was done before an action that is refused is undone, whatever it was."""
    disks(iotest)
    actions: tuple[Operation, ...] = (
        BitmapAdd("src", "new"), BitmapClear("src", "dirty"), BitmapEnable("src", "off"),
        BitmapDisable("src", "clean"),
        BitmapMerge("src", "clean", (BitmapRef("src", "dirty"),)),
        Backup("job", "src", "copy", Sync.FULL))
    iotest.bitmaps("src")
    for last in (Abort(), BitmapAdd("src", "dirty"), BitmapClear("src", "nothing")):
        iotest.section(f"The last action is {last.name}")
        iotest.do(Transaction((*actions, last)))
        iotest.bitmaps("src")
        iotest.jobs()
    iotest.section("One by one")
    for action in actions:
        iotest.do(Transaction((action, Abort())))
    iotest.digest("src", "dirty")
    iotest.bitmaps("src")
    iotest.section("All is well")
    iotest.do(Transaction(actions))
    iotest.bitmaps("src")
    iotest.content("copy")


def test_1202_actions_build_on_one_another(iotest: Scenario) -> None:
    """Each action finds what those before it have done: a bitmap is rotated at a point in time."""
    disks(iotest)
    iotest.section("The old bitmap ends where the new one begins")
    iotest.do(Transaction((
        BitmapDisable("src", "dirty"), BitmapAdd("src", "since"),
        Backup("job", "src", "copy", Sync.BITMAP, "dirty", BitmapMode.NEVER))))
    iotest.write("src", 4 * C, 512)
    iotest.bitmaps("src")
    iotest.content("copy")
    iotest.section("Merged into another one, and removed")
    iotest.do(Transaction((
        BitmapMerge("src", "clean", (BitmapRef("src", "dirty"), BitmapRef("src", "since"))),
        BitmapRemove("src", "dirty"), BitmapAdd("src", "last"))))
    iotest.bitmaps("src")
    iotest.section("What has been removed cannot be used, nor added again")
    iotest.do(Transaction((BitmapRemove("src", "since"), BitmapClear("src", "since"))))
    iotest.do(Transaction((BitmapRemove("src", "since"), BitmapAdd("src", "since"))))
    iotest.bitmaps("src")


@pytest.mark.golden(varies=[COPY_BITMAP, "x_perf"])
@pytest.mark.parametrize("grouped", [False, True], ids=["individual", "grouped"])
def test_1203_jobs_of_a_transaction(iotest: Scenario, grouped: bool) -> None:
    """Two jobs that end by themselves, or together: both, or neither."""
    one = Backup("one", "src", "copy", Sync.BITMAP, "dirty", BitmapMode.ON_SUCCESS,
                 filter_node="f1", max_workers=1)
    two = replace(one, job="two", device="other", target="copy2", sync=Sync.FULL, bitmap=None,
                  bitmap_mode=None, filter_node="f2", auto_finalize=False)
    iotest.section("Both succeed; one waits to be finalized")
    disks(iotest)
    iotest.do(Transaction((one, two), grouped=grouped))
    iotest.write("src", 4 * C, 512)
    iotest.jobs()
    iotest.bitmaps("f1", "f2", "src")
    iotest.do(JobFinalize("two"))
    iotest.bitmaps("src")
    iotest.section("One is cancelled")
    disks(iotest)
    iotest.do(Transaction((one, two), grouped=grouped))
    iotest.do(JobCancel("two"))
    iotest.jobs()
    iotest.bitmaps("src")
    iotest.section("One stops at an error, and is cancelled")
    disks(iotest, Fault(RequestKind.WRITE, 2 * C, "ENOSPC", once=True))
    iotest.do(Transaction((replace(one, sync=Sync.NONE, bitmap=None, bitmap_mode=None), replace(
        two, max_chunk=C, on_target_error=OnError.ENOSPC)), grouped=grouped))
    iotest.jobs()
    iotest.do(JobCancel("two"))
    iotest.jobs()
    iotest.do(JobCancel("one"))


@pytest.mark.golden(varies=["completion_mode_checked_first"])
def test_1204_only_jobs_end_together(iotest: Scenario) -> None:
    """Completion mode grouped is for jobs alone."""
    disks(iotest)
    job = Backup("job", "src", "copy", Sync.FULL)
    for actions in ((BitmapClear("src", "dirty"),), (BitmapAdd("src", "new"), job),
                    (job, BitmapAdd("src", "new")), (Abort(),), (job,), ()):
        iotest.do(Transaction(actions, grouped=True))
    iotest.bitmaps("src")
