# SPDX-License-Identifier: GPL-2.0-or-later
"""Images under the filter: formats, protocols, backing files, sizes that do not divide."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, MIB, Format, Image, Protocol

C = 64 * KIB
COPY_BITMAP = "copy_bitmap_on_filter"
SIZE = 16 * MIB
"""Two clusters of the format with the biggest: vhdx has 8M."""

TEMPORARY = {
    "raw": Image("tmp", SIZE),
    "raw-over-nbd": Image("tmp", SIZE, protocol=Protocol.NBD),
    "qcow2": Image("tmp", SIZE, Format.QCOW2),
    "qcow2-4k": Image("tmp", SIZE, Format.QCOW2, cluster_size=4 * KIB),
    "qcow2-2M": Image("tmp", SIZE, Format.QCOW2, cluster_size=2 * MIB),
    "qcow2-subclusters": Image("tmp", SIZE, Format.QCOW2, cluster_size=128 * KIB,
                               subclusters=True),
    "qcow2-over-nbd": Image("tmp", SIZE, Format.QCOW2, protocol=Protocol.NBD),
    "qed": Image("tmp", SIZE, Format.QED),
    "vdi": Image("tmp", SIZE, Format.VDI),
    "vmdk": Image("tmp", SIZE, Format.VMDK),
    "vhdx": Image("tmp", SIZE, Format.VHDX),
    "vpc": Image("tmp", SIZE, Format.VPC),
    "parallels": Image("tmp", SIZE, Format.PARALLELS, discard=False),
    "luks": Image("tmp", SIZE, Format.LUKS),
}


@pytest.mark.golden(varies=[COPY_BITMAP])
@pytest.mark.parametrize("name", TEMPORARY)
def test_601_temporary_image(iotest: Scenario, name: str) -> None:
    """The temporary image in every format that QEMU can write, also over NBD.

    Whatever the format: what the guest overwrites is copied, by clusters, and the client reads the
    point in time.  A discard of what was copied takes the access away, whether or not the format
    can free anything.
    """
    iotest.images(Image("src", SIZE, filled=((0, 1 * MIB), (9 * MIB, 1 * MIB))), TEMPORARY[name])
    iotest.fleecing("src", "tmp")
    iotest.section("A write, zeroes, a discard")
    iotest.write("cbw", 512 * KIB + 5, 10)
    iotest.zero("cbw", 1 * MIB - 1024, 1024)
    iotest.discard("cbw", 9 * MIB, C)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.content("acc")
    iotest.content("src")
    iotest.section("The client discards the second half")
    iotest.discard("acc", 8 * MIB, 8 * MIB)
    iotest.bitmaps("cbw", "src")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_602_active_disk_with_backing_file(iotest: Scenario) -> None:
    """The active disk is a qcow2 over a base image: the client sees both as one."""
    iotest.images(Image("base", 6 * C, filled=((0, 4 * C),)),
                  Image("src", 6 * C, Format.QCOW2, backing="base", filled=((2 * C, C),)),
                  Image("tmp", 6 * C, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.content("acc")
    iotest.section("The guest writes to a cluster of base, one of src, and one that nobody wrote")
    for cluster in (1, 2, 4):
        iotest.write("cbw", cluster * C, 4 * KIB)
    iotest.bitmaps("cbw", "src")
    iotest.content("tmp")
    iotest.content("src")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_603_unaligned_tail(iotest: Scenario) -> None:
    """A disk that is no multiple of the cluster: the last cluster is what there is of it.

    The bitmaps count it as a whole one.
    """
    for size in (4 * C + 512, 4 * C + 4 * KIB, 5 * C - 512, C - 512, 512):
        iotest.section(f"{size} bytes")
        iotest.images(Image("src", size, filled=((0, size),)), Image("tmp", size, Format.QCOW2))
        iotest.fleecing("src", "tmp")
        iotest.bitmaps("cbw", "src")
        iotest.comment("the guest writes to the last sector")
        iotest.write("cbw", size - 512, 512)
        iotest.bitmaps("cbw", "src")
        iotest.content("tmp")
        iotest.read("acc", size - 512, 512)
        iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_604_zeroes_are_copied_as_zeroes(iotest: Scenario) -> None:
    """What reads as zero is not copied as data: the temporary image stays sparse.

    In a qcow2 temporary image the copied zeroes are still told from what was not copied.
    """
    iotest.images(Image("src", 6 * C, Format.QCOW2, filled=((2 * C, C),)),
                  Image("tmp", 6 * C, Format.QCOW2))
    iotest.fleecing("src", "tmp")
    iotest.export("tmp", depth=True)
    iotest.write("cbw", 0, 4 * C)
    iotest.bitmaps("cbw", "src")
    iotest.status("tmp", 0, 6 * C)
    iotest.content("tmp")
    iotest.content("acc")


@pytest.mark.golden(varies=[COPY_BITMAP])
def test_605_a_temporary_image_with_data_of_its_own(iotest: Scenario) -> None:
    """What the temporary image held before is never seen: only what was copied is read there."""
    iotest.images(Image("src", 4 * C, filled=((0, 3 * C),)),
                  Image("tmp", 4 * C, filled=((0, 4 * C),)))
    iotest.fleecing("src", "tmp")
    iotest.content("acc")
    iotest.write("cbw", 2 * C, 2 * C)
    iotest.bitmaps("cbw", "src")
    iotest.comment("cluster 3 was zeroes: they, too, were copied")
    iotest.content("tmp")
    iotest.content("acc")


@pytest.mark.golden(varies=["unallocated_copy_status_aborts"])
def test_606_zeroes_copied_to_parallels(iotest: Scenario) -> None:
    """A format that need not allocate the zeroes that are copied to it.

    The filter knows that they are there; what the temporary image says of them is its own matter.
    """
    iotest.images(Image("src", 4 * MIB), Image("tmp", 4 * MIB, Format.PARALLELS, discard=False))
    iotest.fleecing("src", "tmp")
    iotest.status("acc", 0, C)
    iotest.write("cbw", 0, C)
    iotest.status("acc", 0, C)
    iotest.content("acc")
