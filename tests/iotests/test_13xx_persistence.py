# SPDX-License-Identifier: GPL-2.0-or-later
"""Bitmaps that an image keeps: what the next QEMU finds, however the last one ended."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Format, Image
from model.job_operations import Backup, BitmapMode, Sync
from model.operations import (
    AddFilter,
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRef,
    BitmapRemove,
    Export,
    Flush,
    Kill,
    RemoveNode,
    Restart,
)

C = 64 * KIB
SIZE = 8 * C
KEPT = BitmapRef("src", "kept")


def disk(iotest: Scenario) -> None:
    """A qcow2 image with bitmaps that it keeps, one of them disabled, and one that it does not."""
    iotest.images(Image("src", SIZE, Format.QCOW2), Image("copy", SIZE))
    iotest.do(BitmapAdd("src", "kept", persistent=True))
    iotest.do(BitmapAdd("src", "off", granularity=4 * KIB, persistent=True, disabled=True))
    iotest.do(BitmapAdd("src", "lost"))
    iotest.export("src")
    iotest.write("src", C + 512, C)
    iotest.write("src", 5 * C, 512)
    iotest.do(BitmapMerge("src", "off", (KEPT,)))
    iotest.do(Flush("src"))
    iotest.bitmaps("src")
    iotest.digest("src", "off")


def test_1301_a_restart(iotest: Scenario) -> None:
    """QEMU stores persistent bitmaps as it ends, with all that they are."""
    disk(iotest)
    iotest.do(Restart())
    iotest.bitmaps("src")
    iotest.digest("src", "off")
    iotest.section("They go on as before, and are kept again")
    iotest.export("src")
    iotest.write("src", 7 * C, 1)
    iotest.do(BitmapEnable("src", "off"))
    iotest.write("src", 0, 1)
    iotest.bitmaps("src")
    iotest.do(Restart())
    iotest.bitmaps("src")
    iotest.section("One that is removed does not come back")
    iotest.do(BitmapRemove("src", "off"))
    iotest.do(Restart())
    iotest.bitmaps("src")


def test_1302_a_node_that_is_removed(iotest: Scenario) -> None:
    """An image also stores its bitmaps when its node is removed."""
    iotest.images(Image("src", SIZE, Format.QCOW2))
    iotest.do(BitmapAdd("src", "kept", persistent=True))
    iotest.do(RemoveNode("src"))
    iotest.do(Kill())
    iotest.bitmaps("src")


def test_1303_a_kill(iotest: Scenario) -> None:
    """A QEMU that is killed stores nothing: what the image had is inconsistent from then on, and
    can only be removed; what was new never was."""
    disk(iotest)
    iotest.do(Restart())
    iotest.do(BitmapAdd("src", "newer", persistent=True))
    iotest.do(Kill())
    iotest.bitmaps("src")
    iotest.section("What an inconsistent bitmap is good for")
    for operation in (
            BitmapClear("src", "kept"), BitmapEnable("src", "kept"), BitmapDisable("src", "kept"),
            BitmapMerge("src", "kept", (BitmapRef("src", "off"),)), BitmapAdd("src", "kept"),
            Export("src", bitmaps=(KEPT,)), AddFilter("cbw", "src", "copy", KEPT),
            Backup("job", "src", "copy", Sync.BITMAP, "kept", BitmapMode.NEVER)):
        iotest.do(operation)
    iotest.do(BitmapRemove("src", "kept"))
    iotest.section("Nor does it mend by itself")
    iotest.do(Restart())
    iotest.bitmaps("src")


@pytest.mark.golden(varies=["persistent_needs_writable"])
def test_1304_a_read_only_image(iotest: Scenario) -> None:
    """Bitmaps of an image that was opened read-only can be read and not changed."""
    disk(iotest)
    iotest.do(Restart(read_only=("src",)))
    iotest.bitmaps("src")
    for operation in (
            BitmapClear("src", "kept"), BitmapAdd("src", "more", persistent=True),
            BitmapRemove("src", "kept"), BitmapAdd("src", "new"),
            BitmapMerge("src", "kept", (BitmapRef("src", "new"),)),
            BitmapMerge("src", "new", (KEPT,)),
            Backup("job", "src", "copy", Sync.BITMAP, "kept", BitmapMode.ON_SUCCESS)):
        iotest.do(operation)
    iotest.bitmaps("src")
    iotest.section("A job may read one")
    iotest.do(Backup("job", "src", "copy", Sync.BITMAP, "kept", BitmapMode.NEVER))
    iotest.content("copy")
    iotest.do(Restart())
    iotest.bitmaps("src")


@pytest.mark.parametrize("mode", BitmapMode)
def test_1305_a_job_that_the_end_cuts_short(iotest: Scenario, mode: BitmapMode) -> None:
    """A job that QEMU's end cancels gives its bitmap back before that is stored."""
    disk(iotest)
    iotest.do(Backup("job", "src", "copy", Sync.BITMAP, "kept", mode, auto_finalize=False))
    iotest.write("src", 3 * C, 512)
    iotest.do(Restart())
    iotest.bitmaps("src")
    iotest.digest("src", "kept")
