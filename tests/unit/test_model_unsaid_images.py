# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trace must not have, by what images hold and how: of which the model says nothing."""

from __future__ import annotations

import pytest

from model.capabilities import Capabilities
from model.configuration import Configuration, Fault, Format, Image, RequestKind
from model.errors import Errno
from model.job_operations import Backup, Sync
from model.machine import Impossible, Machine
from model.operations import (
    AddCopyOnRead,
    AddFilter,
    AddOverlay,
    AddSnapshot,
    BitmapAdd,
    BitmapRef,
    Export,
    Read,
    RemoveNode,
    Via,
    Write,
    Zero,
)
from tests.unit.fleecing import CLUSTER
from tests.unit.saying import said_if


def test_what_may_be_a_hole_is_not_read_where_it_would_be_kept() -> None:
    images = (Image("base", 2 * CLUSTER, filled=((0, CLUSTER),)),
              Image("src", 2 * CLUSTER, Format.QCOW2, backing="base"))
    machine = Machine(Configuration(images), Capabilities())
    machine.apply(1, AddCopyOnRead("cor", "src"))
    machine.apply(2, Export("cor"))
    assert machine.apply(3, Read("cor", 0, CLUSTER)).error is None, "this is no hole"
    with pytest.raises(Impossible, match="may be read, and kept"):
        machine.apply(4, Read("cor", CLUSTER, CLUSTER))
    assert machine.apply(5, Read("cor", 0, 2 * CLUSTER, Via.NBD_DF)).error is None
    assert machine.apply(6, Read("cor", 0, 2 * CLUSTER)).error is None, "it is kept already"


def test_what_may_be_a_hole_is_not_copied_where_a_read_would_be_kept() -> None:
    """Whether the copy reads it is up to the storage below the backing file."""
    images = (Image("base", 2 * CLUSTER, filled=((0, CLUSTER),)),
              Image("src", 2 * CLUSTER, Format.QCOW2, cluster_size=4096, backing="base"),
              Image("tmp", 2 * CLUSTER), Image("tmp2", 2 * CLUSTER))
    machine = Machine(Configuration(images), Capabilities())
    for number, operation in enumerate((
            AddCopyOnRead("cor", "src"), AddFilter("cbw", "cor", "tmp"), Export("cbw"))):
        machine.apply(number, operation)
    kept = machine.content_of("tmp")
    with pytest.raises(Impossible, match="may be read, and kept"):
        machine.apply(4, Write("cbw", 0, CLUSTER + 512))
    assert machine.content_of("tmp") == kept, "nothing has been copied"
    assert machine.apply(5, Write("cbw", 0, 512)).error is None
    with pytest.raises(Impossible, match="may be read, and kept"):
        machine.apply(6, Backup("job", "cor", "tmp2", Sync.FULL))


@pytest.mark.parametrize("below", ["vmdk", "cbw", "low"])
def test_what_formats_keep_again_is_not_recorded(below: str) -> None:
    """What a vmdk image has not allocated is written to it by copy-on-read, which shows only in
    the bitmaps of nodes that are further below."""
    images = (Image("src", CLUSTER), Image("vmdk", CLUSTER, Format.VMDK))
    machine = Machine(Configuration(images), Capabilities())
    for number, operation in enumerate((
            AddFilter("cbw", "vmdk", "src"), AddCopyOnRead("low", "vmdk"),
            AddCopyOnRead("cor", below), Export("cor"), BitmapAdd("vmdk", "b0"))):
        machine.apply(number, operation)
    read = Read("cor", 0, CLUSTER, Via.NBD_DF)
    with said_if(below == "vmdk", "whether a read is kept"):
        assert machine.apply(6, read).error is None


@pytest.mark.parametrize("filled", [0, CLUSTER])
def test_preallocated_zeroes_are_not_copied_over_failing_storage(filled: int) -> None:
    """They may be told to be a hole, which is not read."""
    images = (Image("src", CLUSTER, Format.QCOW2, preallocation="metadata",
                    filled=((0, filled),) * bool(filled), faults=(Fault(RequestKind.READ, 0),)),
              Image("tmp", CLUSTER))
    machine = Machine(Configuration(images), Capabilities())
    backup = Backup("job", "src", "tmp", Sync.FULL, max_workers=1)
    with said_if(filled > 0, "may be told to be zero"):
        assert machine.apply(1, backup).refused is None


@pytest.mark.parametrize(("fails", "known"), [
    (0, True), (CLUSTER, False), (2 * CLUSTER - 512, False), (2 * CLUSTER, True)])
def test_zeroes_in_data_may_cut_what_is_copied_at_once(fails: int, known: bool) -> None:
    """They are told to be data or a hole, so two clusters are one task or two: it matters if the
    second one fails.  A third one, which lies deeper, is another task in any case."""
    machine = Machine(Configuration((
        Image("base", 3 * CLUSTER, filled=((0, 3 * CLUSTER),)),
        Image("src", 3 * CLUSTER, Format.QCOW2, backing="base",
              filled=((0, 512), (CLUSTER, CLUSTER)), faults=(Fault(RequestKind.READ, fails),)),
        Image("tmp", 3 * CLUSTER))), Capabilities())
    backup = Backup("job", "src", "tmp", Sync.FULL, max_workers=1)
    with said_if(known, "may be told to be zero"):
        assert machine.apply(1, backup).refused is None


@pytest.mark.parametrize("preallocation", [None, "metadata"])
def test_compressed_data_needs_clusters_without_space(preallocation: str | None) -> None:
    """With subclusters and preallocation nothing is allocated, and yet there is no room."""
    machine = Machine(Configuration((
        Image("src", CLUSTER, filled=((0, CLUSTER),)),
        Image("tmp", CLUSTER, Format.QCOW2, subclusters=True, preallocation=preallocation))),
        Capabilities())
    with said_if(preallocation is None, "compressed data"):
        backup = Backup("job", "src", "tmp", Sync.FULL, compress=True)
        assert machine.apply(1, backup).refused is None


def test_compressed_data_is_not_written_over_what_another_has_written() -> None:
    """Be that a client or the copy of a filter; beside it there is room."""
    size = 4 * CLUSTER
    machine = Machine(Configuration((
        Image("src", size, filled=((0, size),)), Image("other", size, filled=((0, size),)),
        Image("tmp", size, Format.QCOW2))), Capabilities())
    for number, done in enumerate((
            Export("src"), Export("tmp"), Backup("job", "src", "tmp", Sync.NONE, compress=True),
            AddFilter("cbw", "other", "tmp"), Export("cbw"), Write("tmp", 0, 512),
            Write("cbw", CLUSTER, 512), Write("src", 2 * CLUSTER, 512)), 1):
        outcome = machine.apply(number, done)
        assert outcome.refused is None
        assert outcome.error is None
    for cluster in (0, 1):
        with pytest.raises(Impossible, match="written over other data"):
            machine.apply(9, Write("src", cluster * CLUSTER, 512))
    assert machine.apply(10, Write("src", 3 * CLUSTER, 512)).error is None


@pytest.mark.parametrize(("image_format", "filled", "possible"), [
    (Format.VDI, CLUSTER, False), (Format.VDI, 2 * CLUSTER, True), (Format.VMDK, CLUSTER, False),
    (Format.QCOW2, CLUSTER, True), (Format.RAW, CLUSTER, True)])
def test_what_of_its_zeroes_an_image_has_is_not_known_of_every_format(
        image_format: Format, filled: int, possible: bool) -> None:
    machine = Machine(Configuration((
        Image("src", 2 * CLUSTER, image_format, filled=((0, filled),)),
        Image("tmp", 2 * CLUSTER))), Capabilities())
    backup = Backup("job", "src", "tmp", Sync.TOP)
    with said_if(possible, "anything of its zeroes"):
        assert machine.apply(1, backup).refused is None


@pytest.mark.parametrize(("filled", "offset", "possible"), [
    (CLUSTER, 512, True),  # there is data on both sides
    (512, 512, True),  # on one
    (512, 0, False)])  # on none
def test_what_reads_as_zero_need_not_be_read_to_fill_a_cluster(
        filled: int, offset: int, possible: bool) -> None:
    fails = (Fault(RequestKind.READ, CLUSTER - 512),)
    machine = Machine(Configuration((
        Image("base", CLUSTER, filled=((0, filled),), faults=fails),
        Image("src", CLUSTER, Format.QCOW2, backing="base"))), Capabilities())
    machine.apply(1, Export("src"))
    write = Write("src", offset, 512)
    with said_if(possible, "need not be read"):
        assert machine.apply(2, write).error == Errno.EIO


def test_a_job_over_failing_storage_copies_nothing_that_may_be_told_to_be_zero() -> None:
    """Zeroes of a part of a cluster of data are data, of which the file may have a hole."""
    size = 3 * CLUSTER + 4096
    machine = Machine(Configuration((
        Image("src", size, Format.QCOW2, cluster_size=2 * CLUSTER,
              filled=((2 * CLUSTER, CLUSTER),)),
        Image("tmp", size, faults=(Fault(RequestKind.ZERO, 3 * CLUSTER - 512),)))),
        Capabilities())
    for number, operation in enumerate((
            Export("src"), BitmapAdd("src", "b0"), Zero("src", 2 * CLUSTER, CLUSTER))):
        machine.apply(number, operation)
    with pytest.raises(Impossible, match="may be told to be zero"):
        machine.apply(4, Backup("job", "src", "tmp", Sync.INCREMENTAL, "b0", max_workers=1))


def test_a_zero_cluster_and_one_that_shows_what_is_below_are_read_at_once() -> None:
    """So is what a write between them replaces, which a snapshot may deny."""
    size = CLUSTER + 512
    machine = Machine(Configuration((
        Image("src", size), Image("tmp", size), Image("over", size, Format.QCOW2))),
        Capabilities())
    for number, operation in enumerate((
            BitmapAdd("src", "b0"), AddFilter("cbw", "src", "tmp", BitmapRef("src", "b0")),
            AddSnapshot("snap", "cbw"), RemoveNode("over"), AddOverlay("over", "snap"),
            Export("over"), Zero("over", 0, CLUSTER))):
        assert machine.apply(number, operation).refused is None
    with pytest.raises(Impossible, match="need not be read"):
        machine.apply(8, Write("over", CLUSTER - 512, 1024))


@pytest.mark.parametrize(("zeroes", "bitmap", "possible"), [
    (4096, "b0", False), (4096, None, True), (0, "b0", True)])
def test_a_snapshot_may_record_how_much_of_a_job_it_refuses_at_once(
        zeroes: int, bitmap: str | None, possible: bool) -> None:
    """What reads as zero may be a hole, by which the first copy is cut, or be copied with more."""
    machine = Machine(Configuration(tuple(
        Image(name, 3 * CLUSTER, filled=((0, 3 * CLUSTER),)) for name in ("src", "tmp"))),
        Capabilities())
    machine.apply(1, Export("src"))
    if zeroes:
        machine.apply(2, Zero("src", 0, zeroes))
    machine.apply(3, AddSnapshot("snap", "tmp"))
    if bitmap:
        machine.apply(4, BitmapAdd("snap", bitmap))
    job = Backup("job", "src", "snap", Sync.FULL, max_workers=1)
    with said_if(possible, "which records it"):
        assert machine.apply(5, job).refused is None
