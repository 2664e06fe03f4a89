# SPDX-License-Identifier: GPL-2.0-or-later
"""Dirty bitmaps: what a user's bitmap holds, and what a filter makes of it."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, MIB, Format, Image
from model.operations import (
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRef,
    BitmapRemove,
    Export,
    Unexport,
)

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"
DIRTY = BitmapRef("src", "dirty")
CONTEXT = "qemu:dirty-bitmap:dirty"


def images(iotest: Scenario, size: int) -> None:
    """An active disk, full of data, and an empty temporary image."""
    iotest.images(Image("src", size, filled=((0, size),)), Image("tmp", size))


def show_content(iotest: Scenario, size: int, bitmap: BitmapRef = DIRTY) -> None:
    """The dirty places of a bitmap, through a read-only export of its node."""
    iotest.do(Export(bitmap.node, writable=False, bitmaps=(bitmap,)))
    iotest.status(bitmap.node, 0, size, f"qemu:dirty-bitmap:{bitmap.name}")
    iotest.do(Unexport(bitmap.node))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_301_a_bitmap_finer_than_the_cluster(iotest: Scenario) -> None:
    """Granularity 4k, clusters of 64k: a cluster is taken whole if any part of it is dirty.

    One dirty granule in cluster 1; two next to each other, on either side of the border between
    clusters 3 and 4.
    """
    images(iotest, 6 * C)
    iotest.do(BitmapAdd("src", "dirty", granularity=4 * KIB))
    iotest.export("src")
    iotest.write("src", C + 5000, 10)
    iotest.write("src", 4 * C - 1, 2)
    iotest.do(Unexport("src"))
    show_content(iotest, 6 * C)
    iotest.section("Filter")
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.section("The guest writes to clusters 0 to 3: 1 and 3 are copied")
    iotest.write("cbw", 0, 4 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_302_a_bitmap_coarser_than_the_cluster(iotest: Scenario) -> None:
    """Granularity 256k, clusters of 64k: one dirty granule makes four clusters accessible.

    The second granule, which the end of the disk cuts short, makes two.
    """
    images(iotest, 10 * C)
    iotest.do(BitmapAdd("src", "dirty", granularity=256 * KIB))
    iotest.export("src")
    iotest.write("src", 5 * C, 512)
    iotest.write("src", 9 * C, 512)
    iotest.do(Unexport("src"))
    show_content(iotest, 10 * C)
    iotest.section("Filter")
    iotest.fleecing("src", "tmp", DIRTY)
    iotest.comment("dirty granules times granularity may be more than the disk has")
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.section("The guest writes to clusters 3 to 5")
    iotest.write("cbw", 3 * C, 3 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.content("acc")


def test_303_a_bitmap_of_another_node(iotest: Scenario) -> None:
    """The bitmap may be one of any node of the same size, even of the temporary image."""
    images(iotest, 4 * C)
    iotest.do(BitmapAdd("tmp", "chosen"))
    iotest.export("tmp")
    iotest.zero("tmp", 2 * C, C)
    iotest.do(Unexport("tmp"))
    iotest.fleecing("src", "tmp", BitmapRef("tmp", "chosen"))
    iotest.content("acc")
    iotest.read("acc", 2 * C, C)
    iotest.read("acc", C, C)


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_304_what_a_bitmap_records(iotest: Scenario) -> None:
    """Writes, zeroes and discards are recorded, by granules; reads and refused requests are not.

    A bitmap on the disk records what reaches the disk: also a guest's writes through the filter.
    """
    images(iotest, 1 * MIB)
    iotest.do(BitmapAdd("src", "dirty", granularity=32 * KIB))
    iotest.fleecing("src", "tmp")
    iotest.section("A write of one byte, zeroes over a border, a discard, a read")
    iotest.write("cbw", 100, 1)
    iotest.zero("cbw", 3 * C - 512, 1024)
    iotest.discard("cbw", 8 * C, 2 * C)
    iotest.read("cbw", 12 * C, C)
    iotest.write("acc", 14 * C, C)
    iotest.bitmaps("src")
    iotest.digest("src", "dirty")
    iotest.section("The same, seen by a client that asks block status")
    iotest.do(Export("src", writable=False, bitmaps=(DIRTY,)))
    iotest.status("src", 0, 1 * MIB, CONTEXT)


def test_305_bitmap_commands(iotest: Scenario) -> None:
    """Disable, enable, clear, merge over different granularities, remove."""
    images(iotest, 1 * MIB)
    iotest.do(BitmapAdd("src", "dirty", granularity=64 * KIB))
    iotest.do(BitmapAdd("src", "fine", granularity=4 * KIB, disabled=True))
    iotest.export("src")
    iotest.section("Only an enabled bitmap records")
    iotest.write("src", C, 4 * KIB)
    iotest.bitmaps("src")
    iotest.do(BitmapDisable("src", "dirty"))
    iotest.do(BitmapEnable("src", "fine"))
    iotest.write("src", 4 * C + 4 * KIB, 4 * KIB)
    iotest.bitmaps("src")
    iotest.do(Unexport("src"))
    iotest.section("Fine into coarse: each touched granule becomes dirty as a whole")
    iotest.do(BitmapMerge("src", "dirty", sources=(BitmapRef("src", "fine"),)))
    show_content(iotest, 1 * MIB)
    iotest.section("Coarse into fine")
    iotest.do(BitmapMerge("src", "fine", sources=(DIRTY,)))
    show_content(iotest, 1 * MIB, BitmapRef("src", "fine"))
    iotest.section("Cleared and removed")
    iotest.do(BitmapClear("src", "dirty"))
    iotest.bitmaps("src")
    iotest.do(BitmapRemove("src", "fine"))
    iotest.bitmaps("src")


def test_306_a_bitmap_in_use(iotest: Scenario) -> None:
    """An exported bitmap is busy: it goes on recording, but no command may touch it."""
    images(iotest, 4 * C)
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src", DIRTY)
    iotest.write("src", C, C)
    iotest.bitmaps("src")
    iotest.do(BitmapClear("src", "dirty"))
    iotest.do(BitmapDisable("src", "dirty"))
    iotest.do(BitmapMerge("src", "dirty", sources=(DIRTY,)))
    iotest.do(BitmapRemove("src", "dirty"))
    iotest.section("No longer exported")
    iotest.do(Unexport("src"))
    iotest.do(BitmapClear("src", "dirty"))
    iotest.bitmaps("src")


def test_307_bitmap_errors(iotest: Scenario) -> None:
    """What is refused, and in which words."""
    iotest.images(Image("src", 4 * C), Image("other", 2 * C), Image("qcow", 4 * C, Format.QCOW2))
    iotest.section("Granularity: a power of two, at least 512")
    for granularity in (0, 3, 256, 513, 1 << 32, 1 << 64):
        iotest.do(BitmapAdd("src", "dirty", granularity=granularity))
    iotest.section("Names")
    iotest.do(BitmapAdd("src", ""))
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.do(BitmapAdd("nowhere", "dirty"))
    iotest.do(BitmapClear("src", "nothing"))
    iotest.do(BitmapClear("nowhere", "dirty"))
    iotest.section("Names of 1023 bytes, and of a byte more")
    for name in ("b" * 1023, "b" * 1024, "\u00e9" * 511 + "b", "\u00e9" * 512):
        iotest.do(BitmapAdd("src", name))
        iotest.do(BitmapRemove("src", name))
    iotest.section("Persistent ones need a format that can keep them")
    iotest.do(BitmapAdd("src", "kept", persistent=True))
    iotest.do(BitmapAdd("qcow", "kept", persistent=True))
    iotest.section("Merging needs disks of one size; one bad source, and nothing is merged")
    iotest.do(BitmapAdd("other", "small"))
    iotest.do(BitmapMerge("src", "dirty", sources=(BitmapRef("other", "small"),)))
    iotest.do(BitmapMerge("src", "dirty", sources=(DIRTY, BitmapRef("src", "nothing"))))
    iotest.section("A bitmap may be merged into itself, which changes nothing")
    iotest.export("src")
    iotest.write("src", C, 512)
    iotest.do(BitmapMerge("src", "dirty", sources=(DIRTY,)))
    iotest.do(BitmapMerge("src", "dirty", sources=(DIRTY, DIRTY)))
    iotest.bitmaps("src", "other", "qcow")


def test_308_default_granularity(iotest: Scenario) -> None:
    """Without being told, QEMU takes the image's cluster size, within 4k and 64k."""
    for image in (Image("src", 1 * MIB),
                  Image("src", 1 * MIB, Format.QCOW2),
                  Image("src", 1 * MIB, Format.QCOW2, cluster_size=4 * KIB),
                  Image("src", 1 * MIB, Format.QCOW2, cluster_size=512),
                  Image("src", 2 * MIB, Format.QCOW2, cluster_size=2 * MIB)):
        iotest.section(f"{image.format}, clusters of {image.cluster_size or 'the usual size'}")
        iotest.images(image)
        iotest.do(BitmapAdd("src", "dirty"))
        iotest.bitmaps("src")
