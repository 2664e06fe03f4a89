# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleecing client that is done with a range says so: it discards it."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Format, Image
from model.operations import AddFilter, AddSnapshot, Context

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"
ROUNDS_INWARDS = "snapshot_discard_rounds_inwards"
ABORTS = "unaligned_snapshot_discard_aborts"


def source(size: int) -> Image:
    """An active disk, full of data."""
    return Image("src", size, filled=((0, size),))


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_201_discard_gives_up_access(iotest: Scenario) -> None:
    """Discarded clusters cannot be read any more, and are not copied any more either.

    The guest may then write there at no cost: the temporary image stays as empty as it was.
    """
    iotest.images(source(6 * C), Image("tmp", 6 * C, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.read("acc", 0, 2 * C)
    iotest.section("The client has read clusters 0 and 1, and discards them")
    iotest.discard("acc", 0, 2 * C)
    iotest.bitmaps("cbw", "src")
    iotest.read("acc", 0, C)
    iotest.read("acc", C, 2 * C)
    iotest.content("acc")
    iotest.section("The guest writes to clusters 1 and 2: only cluster 2 is copied")
    iotest.write("cbw", C, 2 * C)
    iotest.comment("both are done: no guest's write will look at them again")
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.export("tmp")
    iotest.status("tmp", 0, 6 * C)
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_202_discard_frees_the_temporary_image(iotest: Scenario) -> None:
    """What was copied and is then discarded is freed in the temporary image."""
    iotest.images(source(4 * C), Image("tmp", 4 * C, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", 0, 3 * C)
    iotest.content("tmp")
    iotest.export("tmp", depth=True)
    iotest.status("tmp", 0, 4 * C)
    iotest.section("The client discards cluster 1")
    iotest.discard("acc", C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.status("tmp", 0, 4 * C)
    iotest.status("tmp", 0, 4 * C, Context.DEPTH)
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP, ROUNDS_INWARDS, ABORTS])
def test_203_an_unaligned_discard_is_rounded_inwards(iotest: Scenario) -> None:
    """Of a discard that does not begin or end at a cluster, the whole clusters count.

    Access is a matter of whole clusters, and the client still may want the rest of them.  Before
    QEMU 9.1 such a discard ended the process; there it is not sent.
    """
    iotest.images(source(6 * C), Image("tmp", 6 * C))
    iotest.fleecing("src", "tmp")
    iotest.section("Less than a cluster: nothing happens")
    iotest.discard("acc", 4 * KIB, 4 * KIB)
    iotest.discard("acc", C, C - 512)
    iotest.discard("acc", C - 512, C)
    iotest.bitmaps("cbw", "src")
    iotest.section("From the middle of cluster 1 to the middle of cluster 4: clusters 2 and 3")
    iotest.discard("acc", C + C // 2, 3 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP, ROUNDS_INWARDS])
def test_204_discard_of_the_tail(iotest: Scenario) -> None:
    """A last cluster that the end of the image cuts short.

    Since QEMU 9.1 the end of the image is no exception to the rounding: that cluster cannot be
    discarded.  Before, it could.
    """
    size = 2 * C + 20 * KIB
    iotest.images(source(size), Image("tmp", size))
    iotest.fleecing("src", "tmp")
    iotest.section("The tail alone")
    iotest.discard("acc", 2 * C, 20 * KIB)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.section("The tail and the cluster before it")
    iotest.discard("acc", C, C + 20 * KIB)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_205_every_layer_must_let_a_discard_through(iotest: Scenario) -> None:
    """A discard has an effect as far down as nodes have ``discard=unmap``.

    Without it on the snapshot-access, nothing at all happens.  Without it on the temporary image,
    access goes but the copied data stays.  Without it on the filter, a *guest's* discard is not
    seen: nothing is copied, and the disk keeps its data.
    """
    iotest.images(source(4 * C), Image("tmp", 4 * C, discard=False))
    iotest.do(AddFilter("cbw", "src", "tmp", discard=False))
    iotest.do(AddSnapshot("deaf", "cbw", discard=False))
    iotest.do(AddSnapshot("acc", "cbw"))
    for node in ("cbw", "deaf", "acc"):
        iotest.export(node)
    iotest.section("A guest's discard ends at the filter")
    iotest.discard("cbw", 0, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    iotest.section("A client's discard ends at its snapshot-access")
    iotest.discard("deaf", 0, C)
    iotest.bitmaps("cbw", "src")
    iotest.section("A client's discard ends at the temporary image")
    iotest.write("cbw", C, C)
    iotest.discard("acc", C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
    iotest.content("tmp")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_206_read_discard_read_discard(iotest: Scenario) -> None:
    """A backup that discards behind itself: the guest pays only ahead of it.

    The client walks over the disk, reads a cluster and discards it.  The guest writes everywhere
    in between.  What is behind the client is never copied; the temporary image empties again.
    """
    iotest.images(source(5 * C), Image("tmp", 5 * C))
    iotest.fleecing("src", "tmp")
    for cluster in range(4):
        iotest.section(f"Cluster {cluster}")
        iotest.read("acc", cluster * C, C)
        iotest.discard("acc", cluster * C, C)
        iotest.comment("the guest writes a little to this cluster and to the next but one")
        iotest.write("cbw", cluster * C, 4 * KIB)
        iotest.write("cbw", (cluster + 2) % 5 * C, 4 * KIB)
        iotest.bitmaps("cbw", "src")
        iotest.content("tmp")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_207_discard_twice(iotest: Scenario) -> None:
    """To discard what is discarded already, or lies outside of the bitmap, is no error."""
    iotest.images(source(3 * C), Image("tmp", 3 * C))
    iotest.fleecing("src", "tmp")
    iotest.discard("acc", 0, 2 * C)
    iotest.discard("acc", 0, 2 * C)
    iotest.discard("acc", 0, 3 * C)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")
