# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage that fails: who gets to know, and what is still right afterwards."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import GIB, KIB, Fault, Format, Image, RequestKind
from model.operations import (
    AddFilter,
    AddSnapshot,
    Attach,
    BitmapAdd,
    BitmapMerge,
    BitmapRef,
    RemoveNode,
    Resize,
    Via,
)

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"

MODES = pytest.mark.parametrize("on_cbw_error", ["break-guest-write", "break-snapshot"])


def source(clusters: int, *faults: Fault) -> Image:
    """An active disk, full of data."""
    return Image("src", clusters * C, filled=((0, clusters * C),), faults=faults)


@pytest.mark.golden(varies=[COPY_BITMAP])
@MODES
def test_901_a_temporary_image_that_is_full(iotest: Scenario, on_cbw_error: str) -> None:
    """ENOSPC, for good: the guest gets it each time, or the snapshot is gone at the first."""
    iotest.images(source(4), Image("tmp", 4 * C, faults=(
        Fault(RequestKind.WRITE, C, errno="ENOSPC"),)))
    iotest.fleecing("src", "tmp", on_cbw_error=on_cbw_error)
    iotest.write("cbw", C, 512)
    iotest.write("cbw", C, 512)
    iotest.write("cbw", 2 * C, 512)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
@MODES
def test_902_a_disk_that_cannot_be_read(iotest: Scenario, on_cbw_error: str) -> None:
    """The old data cannot be read, so it cannot be copied: a failed copy like any other.

    The guest could write there, and with break-snapshot it does.
    """
    iotest.images(source(4, Fault(RequestKind.READ, C)), Image("tmp", 4 * C))
    iotest.fleecing("src", "tmp", on_cbw_error=on_cbw_error)
    iotest.write("cbw", C, C)
    iotest.write("cbw", 2 * C, C)
    iotest.bitmaps("cbw", "src")
    iotest.read("acc", 2 * C, C)


@pytest.mark.golden(varies=[COPY_BITMAP])
@MODES
def test_903_one_bad_cluster_of_a_longer_write(iotest: Scenario, on_cbw_error: str) -> None:
    """The request fails as a whole, also where it touches what was copied before.

    Clusters 1 and 3 are done, cluster 2 cannot be copied.
    """
    iotest.images(source(5), Image("tmp", 5 * C, faults=(
        Fault(RequestKind.WRITE, 2 * C, once=True),)))
    iotest.fleecing("src", "tmp", on_cbw_error=on_cbw_error)
    iotest.write("cbw", C, 512)
    iotest.write("cbw", 3 * C, 512)
    iotest.section("The guest writes to clusters 1 to 3")
    iotest.write("cbw", C, 3 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.content("src")
    iotest.section("Again")
    iotest.write("cbw", C, 3 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.content("src")


def test_904_a_broken_snapshot_stays_broken(iotest: Scenario) -> None:
    """After a failed copy with break-snapshot nothing brings the point in time back."""
    iotest.images(source(4), Image("tmp", 4 * C, faults=(
        Fault(RequestKind.WRITE, C, once=True),)))
    iotest.fleecing("src", "tmp", on_cbw_error="break-snapshot")
    iotest.write("cbw", 0, C)
    iotest.read("acc", 0, C)
    iotest.write("cbw", C, C)
    iotest.section("Not what was copied before, not what was never touched")
    iotest.read("acc", 0, C)
    iotest.read("acc", 3 * C, C)
    iotest.status("acc", 3 * C, C)
    iotest.section("Nor a discard; the guest writes freely, and nothing is copied any more")
    iotest.discard("acc", C, C)
    iotest.write("cbw", 2 * C, C)
    iotest.content("tmp")
    iotest.read("acc", 2 * C, C)


def test_905_the_client_cannot_read(iotest: Scenario) -> None:
    """A fleecing read fails because of the storage below: that breaks nothing but the read.

    A server that has asked block status has already begun its answer, and can only hang up.
    """
    iotest.images(source(3, Fault(RequestKind.READ, C)), Image("tmp", 3 * C))
    iotest.fleecing("src", "tmp", on_cbw_error="break-snapshot")
    iotest.read("acc", C, C, Via.NBD_DF)
    iotest.read("acc", C, C, Via.NBD_SIMPLE)
    iotest.read("acc", C, C)
    iotest.section("The rest is as it was")
    iotest.read("acc", 0, C)
    iotest.write("cbw", 2 * C, C)
    iotest.read("acc", 2 * C, C)


def test_906_the_temporary_image_cannot_be_read(iotest: Scenario) -> None:
    """What was copied and cannot be read is the client's loss alone."""
    iotest.images(source(3), Image("tmp", 3 * C, faults=(Fault(RequestKind.READ, C),)))
    iotest.fleecing("src", "tmp")
    iotest.read("acc", C, C, Via.NBD_DF)
    iotest.write("cbw", C, C)
    iotest.read("acc", C, C, Via.NBD_DF)
    iotest.read("acc", 0, C, Via.NBD_DF)
    iotest.write("cbw", C, C)
    iotest.content("src")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_907_the_guest_cannot_write(iotest: Scenario) -> None:
    """The copy succeeds, the guest's own write fails: the copy stays, and is right."""
    iotest.images(source(3, Fault(RequestKind.WRITE, C, once=True)), Image("tmp", 3 * C))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    iotest.content("tmp")
    iotest.content("acc")
    iotest.section("Again")
    iotest.write("cbw", C, C)
    iotest.content("src")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_908_a_failing_discard_of_the_client(iotest: Scenario) -> None:
    """The temporary image cannot free the space: the client hears of it, its access is gone."""
    iotest.images(source(3), Image("tmp", 3 * C, faults=(Fault(RequestKind.DISCARD, C),)))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, C)
    iotest.discard("acc", C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")


# What kills QEMU.  On a build that has the defect, the operation is written down and not sent.


@pytest.mark.golden(varies=["short_target_aborts"])
def test_951_a_temporary_image_that_is_too_small(iotest: Scenario) -> None:
    """A copy past the end of the temporary image ends the process; others are made."""
    iotest.images(source(4), Image("tmp", 2 * C, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, C)
    iotest.content("acc")
    iotest.write("cbw", 2 * C, 512)


@pytest.mark.golden(varies=["huge_min_cluster_size_aborts", "min_cluster_size"])
def test_952_a_huge_cluster(iotest: Scenario) -> None:
    """A cluster of 4G, a power of two below 2^63, is more than a bitmap can be made for."""
    iotest.images(source(2), Image("tmp", 2 * C))
    iotest.do(AddFilter("cbw", "src", "tmp", min_cluster_size=4 * GIB))


@pytest.mark.golden(varies=["busy_bitmap_removal_aborts"])
def test_953_a_node_whose_bitmap_is_exported_elsewhere(iotest: Scenario) -> None:
    """The export of one node holds a bitmap of another one, which then goes."""
    iotest.images(source(2), Image("tmp", 2 * C))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(BitmapAdd("cbw", "dirty"))
    iotest.export("src", BitmapRef("cbw", "dirty"))
    iotest.do(RemoveNode("cbw"))


@pytest.mark.golden(varies=["attaching_again_aborts"])
def test_954_a_device_that_stays_where_it_is(iotest: Scenario) -> None:
    """The guest's device is put on the node that it is on."""
    iotest.images(source(2), monitor=True)
    iotest.do(Attach("src"))
    iotest.do(Attach("src"))


@pytest.mark.golden(varies=["empty_merge_crashes"])
def test_955_merging_nothing(iotest: Scenario) -> None:
    """A bitmap takes on the dirty places of no bitmaps."""
    iotest.images(source(2))
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.do(BitmapMerge("src", "dirty", sources=()))


@pytest.mark.golden(varies=["busy_bitmap_resize_aborts"])
def test_956_a_resize_while_a_bitmap_is_exported_elsewhere(iotest: Scenario) -> None:
    """The export of one node holds a bitmap of another one, which is resized."""
    iotest.images(source(2), Image("tmp", 2 * C))
    iotest.do(BitmapAdd("tmp", "dirty"))
    iotest.export("src", BitmapRef("tmp", "dirty"))
    iotest.do(Resize("tmp", 4 * C))


@pytest.mark.golden(varies=["resized_filter_snapshot_aborts"])
def test_957_a_snapshot_past_the_end_of_its_filter(iotest: Scenario) -> None:
    """The filter has been made smaller; the snapshot has the size that it was opened with."""
    iotest.images(source(4), Image("tmp", 4 * C))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("acc")
    iotest.do(Resize("cbw", 2 * C))
    iotest.read("acc", C, C)
    iotest.read("acc", 2 * C, C)


@pytest.mark.golden(varies=["shrunk_source_aborts"])
def test_958_a_filter_past_the_end_of_its_source(iotest: Scenario) -> None:
    """The disk has been made smaller before the filter was used, which keeps its size."""
    iotest.images(source(4), Image("tmp", 4 * C))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(Resize("src", 2 * C))
    iotest.export("cbw")
    iotest.write("cbw", C, C)
    iotest.write("cbw", 2 * C, C)


@pytest.mark.golden(varies=["empty_filter_growth_aborts"])
def test_959_an_empty_filter_grows(iotest: Scenario) -> None:
    """A filter of no length becomes one that is no whole sectors long."""
    iotest.images(source(4), Image("tmp", 4 * C))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(Resize("cbw", 0))
    iotest.do(Resize("cbw", 513))
