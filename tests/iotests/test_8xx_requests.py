# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests of every kind and alignment, the guest's and the client's."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Format, Image
from model.operations import Context, Export, Flush, Status, Unexport, Via, Write

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"
WRONG_RUNS = "snapshot_reads_source_before_done_run_ends"


def source(clusters: int) -> Image:
    """An active disk, full of data."""
    return Image("src", clusters * C, filled=((0, clusters * C),))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_801_zeroes_and_discards_of_the_guest(iotest: Scenario) -> None:
    """Old data is kept before zeroes and discards as before writes."""
    iotest.images(source(8), Image("tmp", 8 * C))
    iotest.fleecing("src", "tmp")
    iotest.zero("cbw", 0, C)
    iotest.zero("cbw", 2 * C, C, unmap=True)
    iotest.discard("cbw", 4 * C, C)
    iotest.section("Of parts of clusters")
    iotest.zero("cbw", 6 * C + 512, 512)
    iotest.discard("cbw", 7 * C + 4 * KIB, 4 * KIB)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    iotest.content("tmp")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_802_unaligned_writes(iotest: Scenario) -> None:
    """A write is rounded outwards: every cluster that it touches is copied.

    Two bytes over a border copy two clusters.
    """
    iotest.images(source(8), Image("tmp", 8 * C))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C - 1, 2)
    iotest.bitmaps("cbw", "src")
    iotest.section("The last byte of cluster 3, the first one of cluster 5")
    iotest.write("cbw", 4 * C - 1, 1)
    iotest.write("cbw", 5 * C, 1)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.content("acc")
    iotest.content("src")


def test_803_block_status_of_a_snapshot(iotest: Scenario) -> None:
    """Block status tells of the point in time: from the disk, or from the temporary image.

    The active disk has data, then zeroes; the guest turns them round.
    """
    size = 6 * C
    iotest.images(Image("src", size, Format.QCOW2, filled=((0, 3 * C),)),
                  Image("tmp", size, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.export("src")
    iotest.status("acc", 0, size)
    iotest.section("The guest zeroes clusters 1 and 2, and writes to 3 and 4")
    iotest.zero("cbw", C, 2 * C, unmap=True)
    iotest.write("cbw", 3 * C, 2 * C)
    iotest.comment("of the disk, through the filter")
    iotest.status("cbw", 0, size)
    iotest.comment("of the snapshot, cluster by cluster")
    for cluster in range(6):
        iotest.status("acc", cluster * C, C)
    iotest.content("acc")


def test_804_allocation_depth(iotest: Scenario) -> None:
    """The other thing that block status can tell: how deep in a backing chain data is.

    A snapshot-access asks the disk, or the temporary image, but not the disk's backing file: what
    only that one has counts as allocated nowhere, though it can be read.
    """
    size = 4 * C
    iotest.images(Image("base", size, filled=((0, size),)),
                  Image("src", size, Format.QCOW2, backing="base", filled=((C, C),)),
                  Image("tmp", size, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.do(Unexport("acc"))
    iotest.export("acc", depth=True)
    iotest.write("cbw", 2 * C, C)
    for cluster in range(4):
        iotest.status("acc", cluster * C, C, Context.DEPTH)
    iotest.section("Of the active disk itself")
    iotest.do(Export("src", writable=False, allocation_depth=True))
    iotest.status("src", 0, size, Context.DEPTH)
    iotest.section("One extent only")
    iotest.do(Status("src", 0, size, context=Context.DEPTH, one=True))


@pytest.mark.golden(varies=[WRONG_RUNS])
def test_805_reads_over_copied_and_untouched_data(iotest: Scenario) -> None:
    """One read takes each part from where it is.

    Before QEMU 9.1, a read that goes on past the end of copied data finds there what the guest
    wrote since, unless the server asks block status first and cuts the read up: a known defect.
    """
    iotest.images(source(8), Image("tmp", 8 * C))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, C)
    iotest.write("cbw", 4 * C, 2 * C)
    for via in (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE, Via.QEMU_IO):
        iotest.section(f"By {via.value}")
        iotest.comment("from untouched data on, over copied data")
        iotest.read("acc", 0, 3 * C, via)
        iotest.comment("from copied data on")
        iotest.read("acc", C, 3 * C, via)
        iotest.read("acc", 5 * C - 512, 1024, via)
        iotest.read("acc", 5 * C + 512, C, via)
        iotest.comment("to the end of copied data, and not further")
        iotest.read("acc", 4 * C, 2 * C, via)
        iotest.comment("everything")
        iotest.read("acc", 0, 8 * C, via)


@pytest.mark.golden(varies=[WRONG_RUNS])
def test_806_the_same_after_zeroes(iotest: Scenario) -> None:
    """The guest zeroes, the client reads over it.

    With the known defect of 805, even the server that asks block status first is misled: it takes
    the guest's zeroes for the client's.
    """
    size = 4 * C
    iotest.images(Image("src", size, Format.QCOW2, filled=((0, size),)),
                  Image("tmp", size, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.zero("cbw", C, C, unmap=True)
    for via in (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE):
        iotest.read("acc", C, 2 * C, via)
    iotest.status("acc", C, C)
    iotest.status("acc", C, 2 * C)


def test_807_flush_and_fua(iotest: Scenario) -> None:
    """A flush goes to the disk; a write may ask to be durable at once.  Neither copies more."""
    iotest.images(source(3), Image("tmp", 3 * C))
    iotest.fleecing("src", "tmp")
    iotest.do(Flush("cbw"))
    iotest.content("tmp")
    iotest.do(Write("cbw", C, 512, fua=True))
    iotest.do(Flush("cbw"))
    iotest.content("tmp")
    iotest.content("acc")


def test_808_out_of_bounds(iotest: Scenario) -> None:
    """Past the end of the disk: the server refuses, and nothing happens."""
    iotest.images(source(2), Image("tmp", 2 * C))
    iotest.fleecing("src", "tmp")
    iotest.read("acc", 2 * C - 512, 1024)
    iotest.read("cbw", 2 * C, 512)
    iotest.write("cbw", 2 * C - 512, 1024)
    iotest.discard("acc", C, 2 * C)
    iotest.content("acc")
    iotest.content("src")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_809_guest_and_client_take_turns(iotest: Scenario) -> None:
    """Many small requests: whatever the guest does, the client's disk does not change."""
    size = 8 * C
    iotest.images(Image("src", size, filled=((0, 5 * C),)), Image("tmp", size, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    before = iotest.content("acc")
    for turn, (offset, length) in enumerate([
            (0, 4 * KIB), (C + 100, 3 * C), (7 * C + 512, 512), (3 * C, 2 * C), (0, size)]):
        if turn % 2:
            iotest.zero("cbw", offset, length)
        else:
            iotest.write("cbw", offset, length)
        iotest.read("acc", offset // C * C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    assert iotest.content("acc").content == before.content
