# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trace must not have: operations that would kill a build by a known defect, and those of
which the model says nothing.  By what images hold: test_model_unsaid_images.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.capabilities import Capabilities
from model.configuration import MIB, Configuration, Fault, Format, Image, RequestKind
from model.errors import Errno
from model.job_operations import (
    FAST,
    Abort,
    Backup,
    BitmapMode,
    JobCancel,
    JobSetSpeed,
    OnError,
    Sync,
    Transaction,
)
from model.machine import Impossible, Machine
from model.operations import (
    AddCopyOnRead,
    AddFilter,
    AddSnapshot,
    Attach,
    BitmapAdd,
    Discard,
    Export,
    Inspect,
    Read,
    Resize,
    Status,
    Via,
    Write,
)
from tests.unit.fleecing import CLUSTER
from tests.unit.saying import said_if


def test_a_target_that_has_no_status_is_deadly_too() -> None:
    """A snapshot over what is no filter has none; nothing is copied to it, but what the guest
    changes counts as done."""
    images = Configuration(tuple(Image(name, CLUSTER) for name in ("src", "other")))
    machine = Machine(images, Capabilities(failed_target_status_aborts=True))
    for number, operation in enumerate((
            Export("src"), AddSnapshot("through", "other"), AddSnapshot("snap", "src"),
            BitmapAdd("src", "b0", disabled=True),
            Backup("job", "src", "through", Sync.BITMAP, "b0", BitmapMode.NEVER,
                   auto_finalize=False, max_workers=1))):
        machine.apply(number, operation)
    assert machine.deadly(Status("snap", 0, CLUSTER)) is None
    machine.apply(9, Write("src", 0, 512))
    assert machine.deadly(Status("snap", 0, CLUSTER)) == "failed_target_status_aborts"


@pytest.mark.parametrize(("length", "deadly"), [
    (CLUSTER // 2, None), (CLUSTER // 2 + 1, "uneven_copy_on_read_aborts")])
def test_all_that_is_read_may_be_told_of_cluster_by_cluster(
        length: int, deadly: str | None) -> None:
    """Then copy-on-read looks at the rest of the last cluster, too."""
    image = Image("src", 2 * CLUSTER, Format.QCOW2, subclusters=True,
                  filled=((0, CLUSTER + CLUSTER // 2),))
    machine = Machine(Configuration((image,)), Capabilities(uneven_copy_on_read_aborts=True))
    machine.apply(1, AddCopyOnRead("cor", "src"))
    machine.apply(2, Export("cor"))
    assert machine.deadly(Read("cor", CLUSTER // 2, length, Via.NBD_DF)) == deadly


@pytest.mark.parametrize(("target", "deadly"), [
    (CLUSTER, None), (CLUSTER - 512, "short_target_aborts")])
def test_a_cluster_is_copied_past_the_new_end_of_the_disk(target: int, deadly: str | None) -> None:
    machine = Machine(Configuration((Image("src", CLUSTER), Image("tmp", target))),
                      Capabilities(short_target_aborts=True))
    machine.apply(1, AddFilter("cbw", "src", "tmp"))
    machine.apply(2, Resize("cbw", 512))
    machine.apply(3, Export("cbw"))
    assert machine.deadly(Write("cbw", 0, 512)) == deadly


def test_the_first_look_at_a_disk_is_deadly_where_a_read_is() -> None:
    machine = Machine(Configuration(tuple(Image(name, CLUSTER) for name in ("src", "tmp"))),
                      Capabilities(resized_filter_snapshot_aborts=True))
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Resize("cbw", 512))):
        machine.apply(number, operation)
    assert machine.deadly(Attach("snap")) is None
    machine.apply(3, Resize("cbw", 0))
    assert machine.deadly(Attach("snap")) == "resized_filter_snapshot_aborts"
    machine.apply(4, Attach("tmp"))
    assert machine.deadly(Attach("snap")) is None  # one that moves is not looked at


def test_a_refused_job_over_a_target_over_its_device_is_not_followed() -> None:
    images = tuple(Image(name, CLUSTER) for name in ("src", "tmp", "tmp2"))
    machine = Machine(Configuration(images))
    for number, operation in enumerate((AddFilter("cbw", "src", "tmp"), Export("cbw"))):
        machine.apply(number, operation)
    with pytest.raises(Impossible, match="newer users"):
        machine.apply(2, Backup("job", "src", "cbw", Sync.FULL))
    assert machine.apply(3, Backup("job", "src", "tmp2", Sync.FULL, speed=-1)).refused is not None


@pytest.mark.parametrize(("target", "possible"), [("snap", False), ("tmp2", True)])
def test_nor_is_one_that_a_transaction_takes_back(target: str, possible: bool) -> None:
    images = tuple(Image(name, CLUSTER) for name in ("src", "tmp", "tmp2"))
    machine = Machine(Configuration(images))
    for number, operation in enumerate((
            Export("src", writable=False), AddFilter("cbw", "src", "tmp"),
            AddSnapshot("snap", "cbw"))):
        machine.apply(number, operation)
    taken_back = Transaction((Backup("job", "src", target, Sync.NONE), Abort()))
    with said_if(possible, "newer users"):
        assert machine.apply(3, taken_back).refused is not None


@pytest.mark.parametrize(("device", "possible"), [("src", True), ("tmp2", False)])
def test_a_filter_is_not_looked_at_through_what_showed_another_of_its_name(
        device: str, possible: bool) -> None:
    machine = Machine(Configuration(tuple(
        Image(name, CLUSTER, filled=((0, CLUSTER),)) for name in ("src", "tmp", "tmp2"))))
    job = Backup("job", "src", "tmp", Sync.NONE, filter_node="filter")
    for number, operation in enumerate((
            job, Export("filter"), JobCancel("job"), replace(job, device=device))):
        assert machine.apply(number, operation).refused is None
    with said_if(possible, "shows node 'src'"):
        assert machine.apply(4, Inspect("filter")).content is not None


def test_copies_to_a_filter_make_it_copy() -> None:
    """What that copies of zeroes, to storage that fails, is data or zeroes as the storage says."""
    images = (Image("src", CLUSTER, filled=((0, CLUSTER),)), Image("low", CLUSTER),
              Image("tmp", CLUSTER, faults=(Fault(RequestKind.WRITE, 0),)))
    for last in (Write("cbw", 0, 512), Backup("job", "src", "below", Sync.FULL, max_workers=1)):
        machine = Machine(Configuration(images), Capabilities())
        machine.apply(1, AddFilter("below", "low", "tmp"))
        if isinstance(last, Write):
            machine.apply(2, AddFilter("cbw", "src", "below"))
            machine.apply(3, Export("cbw"))
        with pytest.raises(Impossible, match="may be told to be zero"):
            machine.apply(4, last)


def test_a_snapshot_of_a_resized_filter_is_deadly_below_copy_on_read_too() -> None:
    machine = Machine(Configuration((Image("src", 2 * CLUSTER), Image("tmp", 2 * CLUSTER))),
                      Capabilities(resized_filter_snapshot_aborts=True))
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Resize("cbw", CLUSTER),
            AddCopyOnRead("cor", "snap"), Export("cor"))):
        machine.apply(number, operation)
    assert machine.deadly(Read("cor", 0, CLUSTER)) is None
    assert machine.deadly(Read("cor", CLUSTER, 512)) == "resized_filter_snapshot_aborts"


def test_copies_to_what_takes_no_data_fail_one_by_one_or_together() -> None:
    machine = Machine(Configuration(tuple(
        Image(name, 2 * CLUSTER, filled=((0, 2 * CLUSTER),)) for name in ("src", "tmp"))),
        Capabilities())
    for number, operation in enumerate((
            AddSnapshot("snap", "tmp"), AddFilter("cbw", "src", "snap"), Export("cbw"))):
        assert machine.apply(number, operation).refused is None
    with pytest.raises(Impossible, match="several clusters"):
        machine.apply(4, Write("cbw", 0, 2 * CLUSTER))
    assert machine.apply(5, Write("cbw", 0, 512)).error == Errno.ENOTSUP


def test_a_stopped_job_may_have_to_wait_for_its_limit_of_speed() -> None:
    """When it is cancelled: then it copies nothing more, and else it does."""
    machine = Machine(Configuration((
        Image("src", CLUSTER, filled=((0, CLUSTER),)),
        Image("tmp", CLUSTER, faults=(Fault(RequestKind.WRITE, 0, once=True),)))), Capabilities())
    job = Backup("job", "src", "tmp", Sync.FULL, max_workers=1, speed=FAST,
                 on_target_error=OnError.STOP)
    for number, command in enumerate((job, JobSetSpeed("job"), JobSetSpeed("job", speed=FAST))):
        assert machine.apply(number, command).refused is None
    with pytest.raises(Impossible, match="how much a stopped job copies"):
        machine.apply(3, JobCancel("job"))
    for number, command in enumerate((JobSetSpeed("job"), JobCancel("job")), start=4):
        assert machine.apply(number, command).refused is None


@pytest.mark.parametrize("size", [16 * CLUSTER, 17 * CLUSTER])
def test_storage_that_copies_by_itself_copies_more_than_a_piece_later(size: int) -> None:
    """After the cluster that the image holds, all of its backing file that is left is one task;
    if storage does not copy by itself, a task has a megabyte, which is all of a small disk."""
    machine = Machine(Configuration((
        Image("base", size, filled=((0, size),), faults=(Fault(RequestKind.READ, CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="base", filled=((0, CLUSTER),)),
        Image("tmp", size))), Capabilities())
    job = Backup("job", "src", "tmp", Sync.FULL, max_workers=1)
    for number, command in enumerate((job, replace(job, use_copy_range=True, max_chunk=CLUSTER))):
        assert machine.apply(number, command).refused is None
    with said_if(size == 16 * CLUSTER, "storage has copied by itself"):
        assert machine.apply(2, replace(job, use_copy_range=True)).refused is None


def test_a_target_that_is_a_filter_copies_several_clusters_over_failing_storage() -> None:
    """Also when a client discards, which ends in the target."""
    full = ((0, 2 * CLUSTER),)
    machine = Machine(Configuration((
        Image("src", 2 * CLUSTER, filled=full), Image("low", 2 * CLUSTER),
        Image("tmp", 2 * CLUSTER, filled=full, faults=(Fault(RequestKind.READ, CLUSTER),)))),
        Capabilities())
    for number, operation in enumerate((
            AddFilter("kept", "tmp", "low"),
            AddFilter("cbw", "src", "kept", min_cluster_size=2 * CLUSTER),
            AddSnapshot("snap", "cbw"), Export("cbw"), Export("snap"))):
        assert machine.apply(number, operation).refused is None
    for number, request in enumerate((
            Write("cbw", 0, 512), Discard("snap", 0, 2 * CLUSTER)), start=5):
        with pytest.raises(Impossible, match="several clusters"):
            machine.apply(number, request)


@pytest.mark.parametrize(("first", "known"), [(Format.QCOW2, True), (Format.RAW, False)])
def test_who_asks_for_one_extent_may_or_may_not_hear_of_a_failure_behind_it(
        first: Format, known: bool) -> None:
    """Where it is up to the storage whether what reads as zero is a hole."""
    size = 3 * CLUSTER
    machine = Machine(Configuration((
        Image("src", size, first, filled=((0, CLUSTER), (2 * CLUSTER, CLUSTER))),
        Image("tmp", size, faults=(Fault(RequestKind.STATUS, 2 * CLUSTER),)))), Capabilities())
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("cbw"),
            Export("snap"), Write("cbw", 2 * CLUSTER, 512))):
        machine.apply(number, operation)
    with said_if(known, "extent ends before"):
        assert machine.apply(6, Status("snap", 0, size, one=True)).error is None


def test_where_a_discard_is_cut_may_be_as_before_a_job_came_below() -> None:
    size = 4096 + 512
    machine = Machine(Configuration((
        Image("src", size, Format.QCOW2, cluster_size=1024), Image("tmp", size),
        Image("tmp2", size, Format.QCOW2))), Capabilities(unaligned_snapshot_discard_aborts=True))
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("snap"),
            Backup("job", "src", "tmp2", Sync.NONE))):
        assert machine.apply(number, operation).refused is None
    assert machine.deadly(Discard("snap", 0, size)) == "unaligned_snapshot_discard_aborts"


@pytest.mark.parametrize(("own", "failing", "known"), [
    (6, 0, True), (7, 0, False), (7, 8, True)])
def test_how_many_pieces_are_read_beside_one_that_fails(
        own: int, failing: int, known: bool) -> None:
    """Of more than eight those behind the one that fails may not have begun."""
    size = (own + 2) * CLUSTER
    machine = Machine(Configuration((
        Image("base", size, filled=((0, size),), faults=(
            Fault(RequestKind.READ, failing * CLUSTER, once=True),)),
        Image("src", size, Format.QCOW2, backing="base", filled=((CLUSTER, own * CLUSTER),)))),
        Capabilities())
    machine.apply(1, Export("src"))
    read = Read("src", 0, size, Via.NBD_DF)
    if known:
        assert machine.apply(2, read).error is Errno.EIO
        assert machine.apply(3, read).error is None
    else:
        for _ in range(2):  # nothing has been done
            with pytest.raises(Impossible, match="beside what fails"):
                machine.apply(2, read)
            with pytest.raises(Impossible, match="beside what fails"):
                machine.apply(2, Inspect("src"))


@pytest.mark.parametrize(("changed", "known"), [
    ({}, False), ({"use_copy_range": False}, True), ({"max_chunk": CLUSTER}, True),
    ({"device": "other"}, True)])
def test_how_much_storage_copies_by_itself_matters_where_some_of_it_fails(
        changed: dict[str, Any], known: bool) -> None:
    size = 2 * MIB
    fails = (Fault(RequestKind.READ, size - 512),)
    machine = Machine(Configuration((
        Image("base", size, filled=((0, size),), faults=fails),
        Image("src", size, Format.QCOW2, backing="base", filled=((0, CLUSTER),)),
        Image("other", size, filled=((0, size),), faults=fails), Image("tmp", size))),
        Capabilities())
    job = replace(Backup("job", "src", "tmp", Sync.FULL, max_workers=1, use_copy_range=True),
                  **changed)
    with said_if(known, "fails together"):
        assert machine.apply(1, job).refused is None


@pytest.mark.parametrize(("via", "offset", "known"), [
    (Via.QEMU_IO, CLUSTER - 1, False), (Via.QEMU_IO, 0, True), (Via.NBD, CLUSTER - 1, True)])
def test_qemu_io_asks_for_block_status_beside_what_it_writes(
        via: Via, offset: int, known: bool) -> None:
    """The export's client is told the alignment of blocks, and reads the rest of one itself."""
    machine = Machine(Configuration((Image("src", CLUSTER, request_alignment=512, faults=(
        Fault(RequestKind.STATUS, CLUSTER - 512, once=True),)),)), Capabilities())
    machine.apply(1, Export("src"))
    with said_if(known, "qemu-io makes"):
        assert machine.apply(2, Write("src", offset, 1, via)).error is None
