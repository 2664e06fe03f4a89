# SPDX-License-Identifier: GPL-2.0-or-later
"""What the new scheme of image fleecing is better at than the classic one, benefit by benefit.

Classic: the temporary image is a qcow2 whose backing file is the active disk.  The filter copies
old data into it; the client reads it, and through its backing link what was not copied.

New: the filter itself keeps track of what was copied, and a snapshot-access node over it shows the
point in time.  The temporary image is only storage.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Fault, Format, Image, Protocol, RequestKind
from model.operations import (
    AddFilter,
    AddSnapshot,
    BitmapAdd,
    BitmapRef,
    Context,
    Read,
    RemoveNode,
    Unexport,
    Write,
)

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"
DIRTY = BitmapRef("src", "dirty")
READ, WRITE = RequestKind.READ, RequestKind.WRITE


def source(clusters: int) -> Image:
    """An active disk, full of data."""
    return Image("src", clusters * C, filled=((0, clusters * C),))


def held(clusters: int) -> Image:
    """The same, on storage that completes a request when it is told to."""
    return replace(source(clusters), protocol=Protocol.HELD)


def overlay(clusters: int) -> Image:
    """The classic scheme's temporary image."""
    return Image("tmp", clusters * C, Format.QCOW2, backing="src")


def classic(iotest: Scenario, bitmap: BitmapRef | None = None) -> None:
    """Build the classic scheme: the guest writes to ``cbw``, the client reads ``tmp``."""
    iotest.do(AddFilter("cbw", "src", "tmp", bitmap=bitmap))
    iotest.export("cbw")
    iotest.export("tmp", depth=True)


def record_a_write_to_cluster_1(iotest: Scenario) -> None:
    """The bitmap ``dirty`` has cluster 1."""
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src")
    iotest.write("src", C, C)
    iotest.do(Unexport("src"))


def test_400_both_schemes_show_the_same_point_in_time(iotest: Scenario) -> None:
    """Where the client behaves, and nothing fails, the two schemes are two ways to one thing."""
    iotest.section("Classic")
    iotest.images(source(6), overlay(6))
    classic(iotest)
    iotest.write("cbw", C, 4 * KIB)
    iotest.zero("cbw", 3 * C - 512, 1024)
    iotest.comment("what was copied, and how deep the client's data is: 1 copied, 2 still below")
    iotest.status("tmp", 0, 6 * C, Context.DEPTH)
    old = iotest.read("tmp", 0, 6 * C)
    iotest.section("New")
    iotest.images(source(6), Image("tmp", 6 * C))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, 4 * KIB)
    iotest.zero("cbw", 3 * C - 512, 1024)
    new = iotest.content("acc")
    assert old.content == new.content


def test_401_benefit_1_access_control(iotest: Scenario) -> None:
    """1. Access control.

    Only cluster 1 is in the bitmap.  The classic scheme lets the client read the rest as well; and
    once the guest has written there, which is not copied, what it reads is no point in time at
    all.  The new scheme refuses.
    """
    iotest.section("Classic: cluster 2, outside of the bitmap, is read, then read differently")
    iotest.images(source(4), overlay(4))
    record_a_write_to_cluster_1(iotest)
    classic(iotest, DIRTY)
    before = iotest.read("tmp", 2 * C, C)
    iotest.write("cbw", C, 2 * C)
    iotest.read("tmp", C, C)
    after = iotest.read("tmp", 2 * C, C)
    assert before.content != after.content
    iotest.section("New: cluster 2 cannot be read, neither before nor after")
    iotest.images(source(4), Image("tmp", 4 * C))
    record_a_write_to_cluster_1(iotest)
    iotest.fleecing("src", "tmp", DIRTY)
    assert iotest.read("acc", 2 * C, C).error
    iotest.write("cbw", C, 2 * C)
    iotest.read("acc", C, C)
    assert iotest.read("acc", 2 * C, C).error


def test_402_benefit_2_discard(iotest: Scenario) -> None:
    """2. Discard.

    The client has read cluster 0, which nobody has written to yet, and will not need it again.
    In the classic scheme all it can do is to discard it in the temporary image; the filter does
    not hear of it, and copies the cluster when the guest writes there.  In the new scheme the
    filter hears of it: nothing is copied, and the client cannot read it again by mistake.
    """
    iotest.section("Classic: the guest's write has cluster 0 copied")
    iotest.images(source(3), overlay(3))
    classic(iotest)
    iotest.read("tmp", 0, C)
    iotest.discard("tmp", 0, C)
    iotest.read("tmp", 0, C)
    iotest.write("cbw", 0, C)
    iotest.status("tmp", 0, 3 * C, Context.DEPTH)
    iotest.content("tmp")
    iotest.section("New: it does not")
    iotest.images(source(3), Image("tmp", 3 * C, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.read("acc", 0, C)
    iotest.discard("acc", 0, C)
    assert iotest.read("acc", 0, C).error
    iotest.write("cbw", 0, C)
    iotest.export("tmp")
    iotest.status("tmp", 0, 3 * C)
    iotest.content("tmp")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_403_benefit_3_synchronisation(iotest: Scenario) -> None:
    """3. Synchronisation of fleecing reads with copying: less is waited for.

    Storage completes nothing by itself here, so that requests overlap.  A client is reading a half
    of cluster 0 when the guest writes there; then it reads the other.

    In the classic scheme the copy is written to the image that the client reads, and waits for
    that read and for each that comes meanwhile; the guest's write waits with it.  In the new
    scheme the copy waits for nobody, a second read is answered from the temporary image, and the
    guest's write waits for the first read, which looks at the active disk, and for nothing else.

    Area concurrency has more of it, in every order of completion: its directed checks "guest
    writes and fleecing reads", "the source shows through the target" and the interleavings.
    """
    iotest.section("Classic: the copy, and with it the guest, wait for all reads that come")
    iotest.images(held(2), overlay(2))
    classic(iotest)
    iotest.start(Read("tmp", 0, C // 2))
    iotest.start(Write("cbw", 0, C))
    iotest.comment("the copy has read; it is not written as long as the client reads")
    iotest.complete("src", READ, 0, C)
    iotest.bitmaps("cbw")
    iotest.start(Read("tmp", C // 2, C // 2))
    iotest.complete("src", READ, 0, C // 2)
    iotest.comment("no read is under way any more: the copy is written, the guest has its turn")
    iotest.complete("src", READ, C // 2, C // 2)
    iotest.bitmaps("cbw")
    iotest.complete("src", WRITE, 0, C)
    iotest.section("New: the copy and the second read wait for nobody")
    iotest.images(held(2), Image("tmp", 2 * C, protocol=Protocol.HELD))
    iotest.fleecing("src", "tmp")
    iotest.start(Read("acc", 0, C // 2))
    iotest.start(Write("cbw", 0, C))
    iotest.comment("the copy has read; it is written while the client reads")
    iotest.complete("src", READ, 0, C)
    iotest.complete("tmp", WRITE, 0, C)
    iotest.bitmaps("cbw")
    iotest.start(Read("acc", C // 2, C // 2))
    iotest.complete("tmp", READ, C // 2, C // 2)
    iotest.comment("the read of the active disk is over: the guest has its turn")
    iotest.complete("src", READ, 0, C // 2)
    iotest.complete("src", WRITE, 0, C)
    iotest.section("New: a read goes where the data is, and never makes the filter copy")
    iotest.images(source(4), Image("tmp", 4 * C))
    iotest.fleecing("src", "tmp")
    iotest.read("acc", 0, 4 * C)
    iotest.content("tmp")
    iotest.bitmaps("cbw", "src")
    iotest.write("cbw", C, 2 * C)
    iotest.content("tmp")
    iotest.bitmaps("cbw", "src")
    for cluster in range(4):
        iotest.read("acc", cluster * C, C)
    iotest.bitmaps("cbw", "src")


def test_404_benefit_4_any_format(iotest: Scenario) -> None:
    """4. The temporary image may be of any format, as no backing file is needed.

    A raw temporary image has no backing file, so in the classic scheme its client reads zeroes
    wherever nothing was copied.  In the new scheme it is as good as any: see also 601.
    """
    iotest.section("Classic, on raw: only what was copied can be read")
    iotest.images(source(3), Image("tmp", 3 * C))
    classic(iotest)
    iotest.write("cbw", C, C)
    wrong = iotest.read("tmp", 0, 3 * C)
    iotest.section("New, on raw")
    iotest.images(source(3), Image("tmp", 3 * C))
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", C, C)
    right = iotest.content("acc")
    assert wrong.content != right.content


def test_405_benefit_5_permissions(iotest: Scenario) -> None:
    """5. Permission relations are simpler.

    The filter does not let anybody but itself write to the active disk once it is in use.  In the
    classic scheme the temporary image, through its backing link, is one more user of that disk, so
    the filter has to share the temporary image with writers.  In the new scheme nothing but the
    filter uses the temporary image.  (QEMU does not make use of that yet: it still lets others
    write to the temporary image.)
    """
    iotest.section("Classic: the active disk has two users, and neither can go before the other")
    iotest.images(source(2), overlay(2))
    classic(iotest)
    iotest.do(RemoveNode("src"))
    iotest.do(RemoveNode("tmp"))
    iotest.do(Unexport("cbw"))
    iotest.do(Unexport("tmp"))
    iotest.do(RemoveNode("cbw"))
    iotest.comment("the filter is gone, the backing link still holds the disk")
    iotest.do(RemoveNode("src"))
    iotest.do(RemoveNode("tmp"))
    iotest.do(RemoveNode("src"))
    iotest.section("New: no other writer on the disk once the filter is in use")
    iotest.images(source(2), Image("tmp", 2 * C))
    iotest.fleecing("src", "tmp")
    iotest.export("src")
    iotest.section("New: nobody but the filter uses the temporary image, yet others may write")
    iotest.export("tmp")
    iotest.do(Unexport("tmp"))
    iotest.section("New: the filter gone, the disk is free")
    iotest.do(Unexport("acc"))
    iotest.do(Unexport("cbw"))
    iotest.do(RemoveNode("cbw"))
    iotest.do(RemoveNode("acc"))
    iotest.do(RemoveNode("cbw"))
    iotest.do(RemoveNode("src"))
    iotest.do(RemoveNode("tmp"))


def test_406_benefit_5_a_writer_is_in_the_way(iotest: Scenario) -> None:
    """5, the other way round: a filter over a disk that has a writer.

    As long as nobody uses the filter, it takes no rights, and may be added.  A snapshot-access
    over it is a user, and is refused.
    """
    iotest.images(source(2), Image("tmp", 2 * C))
    iotest.export("src")
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("cbw")
    iotest.section("The writer gone")
    iotest.do(Unexport("src"))
    iotest.do(AddSnapshot("acc", "cbw"))
    iotest.export("cbw")


TARGET_FAILS = (Fault(RequestKind.WRITE, offset=C, once=True),)


@pytest.mark.golden(varies=[COPY_BITMAP])
@pytest.mark.parametrize("on_cbw_error", ["break-guest-write", "break-snapshot"])
def test_407_benefit_6_failed_copies(iotest: Scenario, on_cbw_error: str) -> None:
    """6. What a failed copy breaks can be chosen.

    The temporary image cannot take cluster 1, once.  With break-guest-write, the way of the
    classic scheme and of backup jobs of old, the guest's request fails and the point in time is
    whole; a second try may succeed.  With break-snapshot the guest does not notice, and the client
    may read no more.  The classic scheme cannot have that: nobody tells its client, who reads what
    the guest has written since.
    """
    iotest.section("Classic")
    iotest.images(source(4), replace(overlay(4), faults=TARGET_FAILS))
    iotest.do(AddFilter("cbw", "src", "tmp", on_cbw_error=on_cbw_error))
    iotest.export("cbw")
    iotest.export("tmp")
    iotest.write("cbw", C, C)
    iotest.read("tmp", 0, 4 * C)
    iotest.section("New")
    iotest.images(source(4), Image("tmp", 4 * C, faults=TARGET_FAILS))
    iotest.fleecing("src", "tmp", on_cbw_error=on_cbw_error)
    iotest.write("cbw", 0, 512)
    iotest.section("The copy of cluster 1 fails")
    iotest.write("cbw", C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    iotest.content("acc")
    iotest.section("The guest writes there again, and elsewhere")
    iotest.write("cbw", C, C)
    iotest.write("cbw", 2 * C, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("src")
    iotest.content("tmp")
    iotest.content("acc")
