# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step grain over storage that tells block status: who asks, and who waits for that."""

from __future__ import annotations

import dataclasses

import pytest

from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.errors import Errno
from model.job_operations import Backup, OnError, Sync
from model.machine import Impossible
from model.operations import (
    AddFilter,
    AddSnapshot,
    Context,
    Discard,
    Export,
    Read,
    Status,
    Via,
    Write,
    Zero,
)
from model.outcome import Allocation
from model.schedule import Complete, Start
from tests.unit.fleecing import CLUSTER
from tests.unit.held_lab import JOB, Held, Telling, extents, status, write


@pytest.mark.parametrize(("node", "waits"), [("snap", True), ("cbw", False)])
def test_a_guest_write_waits_for_the_status_that_a_client_asks(node: str, waits: bool) -> None:
    held = Telling()
    held.do(Start(Status(node, 0, 512)))  # other than a copy's
    held.do(write(0))
    for _ in range(3):
        held.complete(1)
    assert held.pending() == [("src", "block-status", 0), ("src", "write", 0)][:2 - waits]
    held.complete()
    assert held.pending() == [("src", "write", 0)]


def test_what_is_done_is_asked_of_the_target() -> None:
    held = Telling()
    held.do(write(0))
    for _ in range(4):
        held.complete()
    asker, writer = held.do(status(0, 1)), held.do(write(0))
    assert held.pending() == [("tmp", "block-status", 0), ("src", "write", 0)]
    held.complete(1)
    assert held.answers[writer].error is None
    held.complete()
    assert held.answers[asker].extents == extents((1, Allocation.DATA))


def test_zeroes_are_not_read_to_be_copied() -> None:
    held = Telling()
    held.do(write(2))
    held.complete()
    assert held.pending() == [("tmp", "write-zeroes", 2)]


def test_a_copy_whose_status_fails_is_of_one_cluster_of_data() -> None:
    held = Telling()
    held.do(write(2, 2 * CLUSTER))
    held.complete(error="ENOSPC")
    assert held.pending() == [("src", "read", 2), ("src", "block-status", 3)]


def test_a_client_hears_of_a_status_that_fails() -> None:
    held = Telling()
    asker, reader = held.do(status(0, 1)), held.do(Start(Read("snap", 0, 512, Via.NBD)))
    held.complete(error="ENOSPC")
    held.complete(error="EPERM")
    assert [held.answers[each].error for each in (asker, reader)] == [Errno.ENOSPC, Errno.EPERM]


def test_who_cuts_a_copy_goes_on_with_the_rest_and_who_waits_looks_again() -> None:
    held = Telling()
    held.do(write(1, 3 * CLUSTER))
    waiter = held.do(write(2))
    held.complete()
    assert held.machine.pending()[1].length == 2 * CLUSTER, "not what the other one waits for"
    held.complete(1)
    held.complete(1)
    assert held.pending() == [("src", "read", 1), ("src", "block-status", 3), ("src", "write", 2)]
    held.complete(2)
    assert held.answers[waiter].error is None


def test_a_status_tells_of_what_is_there_when_it_completes() -> None:
    held = Telling(Export("src"))
    asker = held.do(status(0, 4, "src"))
    held.do(Start(Zero("src", 0, CLUSTER)))
    held.do(Start(Zero("src", 3 * CLUSTER, CLUSTER, unmap=True)))
    held.do(Start(Discard("src", CLUSTER, CLUSTER)))
    held.do(Start(Write("src", 2 * CLUSTER, CLUSTER)))
    while len(held.pending()) > 1:
        held.complete(1)
    while asker not in held.answers:
        held.complete()
    assert held.answers[asker].extents == extents(
        (1, Allocation.ZERO), (1, Allocation.HOLE | Allocation.ZERO), (1, Allocation.DATA),
        (1, Allocation.HOLE | Allocation.ZERO))


def test_what_is_told_to_be_data_is_not_asked_again() -> None:
    held = Telling()
    held.do(status(0, 2))
    held.complete()
    held.do(write(1))
    assert held.pending() == [("src", "read", 1)]


@pytest.mark.parametrize("options", [{"context": Context.DEPTH}, {"one": True}])
def test_some_status_is_not_for_storage_that_tells_it(options: dict[str, str | bool]) -> None:
    request = Status("snap", 0, CLUSTER, **options)  # type: ignore[arg-type]
    with pytest.raises(Impossible, match="nobody has found out"):
        Telling().do(request)
    Held().machine.apply(5, request)


def test_what_the_model_has_nothing_to_say_of_is_impossible_when_started_too() -> None:
    held = Held()
    job = Backup("job", "src-file", "tmp", "full", on_source_error=OnError.STOP,
                 on_target_error=OnError.STOP, auto_finalize=False)
    with pytest.raises(Impossible, match="part of an image"):
        held.machine.apply(held.number + 1, Start(job))


def test_what_would_kill_the_build_is_impossible_when_started_too() -> None:
    held = Held()
    held.machine = ConcurrentMachine(
        held.images, Capabilities(overlapping_snapshot_reads_abort=True))
    for operation in (AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("snap"),
                      Start(Read("snap", 0, CLUSTER))):
        held.do(operation)
    with pytest.raises(Impossible, match="overlapping-snapshot-reads-abort"):
        held.machine.apply(held.number + 1, Start(Read("snap", 0, 512)))


def test_a_target_whose_status_fails_as_if_nothing_were_there_is_deadly() -> None:
    held = Telling()
    held.do(write(0))
    for _ in range(4):
        held.complete()
    held.do(status(0, 1))
    fails = {error: held.machine.deadly(Complete("tmp", "block-status", 0, CLUSTER, error))
             for error in ("EIO", "ENOSPC")}
    assert fails == {"EIO": None, "ENOSPC": None}, "as it should be"
    held.machine.capabilities = dataclasses.replace(
        held.machine.capabilities, failed_target_status_aborts=True)
    assert held.machine.deadly(Complete("tmp", "block-status", 0, CLUSTER, "EIO")) is None
    assert held.machine.deadly(Complete("tmp", "block-status", 0, CLUSTER, "ENOSPC")) == (
        "failed_target_status_aborts")


def test_a_job_with_sync_top_asks_for_all_there_is_before_it_copies() -> None:
    held = Telling(Export("src"))
    job = held.do(Start(dataclasses.replace(JOB, sync=Sync.TOP)))
    asked = []
    while held.pending()[0][1] == "block-status" and len(asked) < 4:
        asked.append(held.machine.pending()[0].offset // CLUSTER)
        held.complete()
    assert asked == [0, 2, 3, 0], "and only then of the first it copies"
    while job not in held.answers:
        held.complete()


def test_what_a_job_with_sync_top_asks_must_not_fail_in_a_schedule() -> None:
    held = Telling(Export("src"))
    held.do(Start(dataclasses.replace(JOB, sync=Sync.TOP)))
    with pytest.raises(Impossible, match="which QEMU then flushes"):
        held.complete(error="EIO")
