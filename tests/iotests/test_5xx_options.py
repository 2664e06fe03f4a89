# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a copy-before-write filter: what is taken, what is refused, in which words."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, MIB, Format, Image
from model.operations import AddFilter, AddSnapshot, BitmapAdd, BitmapRef, RemoveNode

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"


def images(iotest: Scenario) -> None:
    """An active disk, a temporary image, and a disk of another size."""
    iotest.images(Image("src", 4 * C), Image("tmp", 4 * C), Image("small", 2 * C))


def test_501_nodes(iotest: Scenario) -> None:
    """The children: both must be given, and must be there."""
    images(iotest)
    iotest.do(AddFilter("cbw", "src", None))
    iotest.do(AddFilter("cbw", None, "tmp"))
    iotest.do(AddFilter("cbw", None, None))
    iotest.do(AddFilter("cbw", "nowhere", "tmp"))
    iotest.do(AddFilter("cbw", "src", "nowhere"))
    iotest.section("A name that is taken")
    iotest.do(AddFilter("src", "src", "tmp"))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.section("snapshot-access over nothing, and under a name that is taken")
    iotest.do(AddSnapshot("acc", "nowhere"))
    iotest.do(AddSnapshot("cbw", "cbw"))
    iotest.section("Names that no node can have")
    for name in ("", "1", "a b", "#a", "src-file", "a" * 32):
        iotest.do(AddFilter(name, "src", "tmp"))
        iotest.do(AddSnapshot(name, "cbw"))
    iotest.do(AddSnapshot("a" * 31, "cbw"))
    iotest.do(RemoveNode("a" * 31))
    iotest.section("Nothing was left behind")
    iotest.do(RemoveNode("acc"))
    iotest.do(RemoveNode("cbw"))
    iotest.do(RemoveNode("cbw"))


def test_502_bitmap(iotest: Scenario) -> None:
    """The bitmap: it must be there, of the size of the disk, and not in use."""
    images(iotest)
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "dirty")))
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("nowhere", "dirty")))
    iotest.section("Of another size")
    iotest.do(BitmapAdd("small", "dirty"))
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("small", "dirty")))
    iotest.section("In use")
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src", BitmapRef("src", "dirty"))
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "dirty")))
    iotest.section("A disabled one is as good as any")
    iotest.do(BitmapAdd("src", "disabled", disabled=True))
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "disabled")))


def test_503_on_cbw_error(iotest: Scenario) -> None:
    """What a failed copy breaks: one of two."""
    images(iotest)
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error="break-everything"))
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error=""))
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error="break-snapshot"))
    iotest.do(RemoveNode("cbw"))
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error="break-guest-write"))


def test_504_cbw_timeout(iotest: Scenario) -> None:
    """A time limit for copies, in seconds: 32 bits; 0, the default, is none."""
    images(iotest)
    for seconds in (-1, 1 << 32, 1 << 64):
        iotest.do(AddFilter("cbw", "src", "tmp", cbw_timeout=seconds))
    for seconds in (0, 1, (1 << 32) - 1):
        iotest.do(AddFilter("cbw", "src", "tmp", cbw_timeout=seconds))
        iotest.do(RemoveNode("cbw"))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_505_cbw_timeout_that_does_not_expire(iotest: Scenario) -> None:
    """A copy that is quicker than its time limit is as one without limit."""
    iotest.images(Image("src", 4 * C, filled=((0, 4 * C),)), Image("tmp", 4 * C))
    iotest.do(AddFilter("cbw", "src", "tmp", cbw_timeout=4000, on_cbw_error="break-snapshot"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("cbw")
    iotest.write("cbw", C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")


@pytest.mark.golden(varies=["min_cluster_size"])
def test_506_min_cluster_size_errors(iotest: Scenario) -> None:
    """The least size of a cluster: a power of two, below 2^63.  QEMU before 9.2 has no such
    option."""
    images(iotest)
    for size in (3, 48 * KIB, 65537, 1 << 63, (1 << 64) - 1, 1 << 64, -1):
        iotest.do(AddFilter("cbw", "src", "tmp", min_cluster_size=size))
    iotest.section("0 is none")
    iotest.do(AddFilter("cbw", "src", "tmp", min_cluster_size=0))


@pytest.mark.golden(varies=[COPY_BITMAP, "min_cluster_size"])
def test_507_min_cluster_size(iotest: Scenario) -> None:
    """The cluster is the biggest of 64k, the temporary image's cluster, and this option."""
    iotest.images(Image("src", 2 * MIB, filled=((0, 2 * MIB),)),
                  Image("tmp", 2 * MIB, Format.QCOW2, cluster_size=128 * KIB))
    for size in (512, 64 * KIB, 128 * KIB, 1 * MIB, 4 * MIB):
        iotest.section(f"At least {size} bytes, over a temporary image with clusters of 128k")
        iotest.do(AddFilter("cbw", "src", "tmp", min_cluster_size=size))
        iotest.bitmaps("cbw", "src")
        iotest.do(RemoveNode("cbw"))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_508_where_the_cluster_size_comes_from(iotest: Scenario) -> None:
    """Of a temporary image with clusters of 1M, a whole one is copied before a byte changes."""
    iotest.images(Image("src", 2 * MIB + 512 * KIB, filled=((0, 2 * MIB + 512 * KIB),)),
                  Image("tmp", 2 * MIB + 512 * KIB, Format.QCOW2, cluster_size=1 * MIB))
    iotest.fleecing("src", "tmp")
    iotest.bitmaps("cbw", "src")
    iotest.section("One byte in the first cluster, one in the last, which the end cuts short")
    iotest.write("cbw", 5, 1)
    iotest.write("cbw", 2 * MIB + 5, 1)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.content("acc")
