# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step grain: who waits for whom, and for what."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import pytest

from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import Configuration, Image, Protocol
from model.errors import Errno
from model.job_operations import Backup, JobCancel, JobFinalize, OnError, Sync
from model.jobs import JobStatus
from model.machine import Impossible
from model.operations import (
    AddFilter,
    AddSnapshot,
    Context,
    Discard,
    Export,
    Kill,
    Operation,
    Read,
    Restart,
    Status,
    Via,
    Write,
    Zero,
)
from model.outcome import Allocation, Extent, Outcome
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start
from tests.unit.fleecing import CLUSTER

SIZE = 4 * CLUSTER


class Held:
    """A fleecing set-up whose source and temporary image complete nothing by themselves."""

    images: ClassVar = Configuration((
        Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),)),
        Image("tmp", SIZE, protocol=Protocol.HELD)))

    def __init__(self, *graph: Operation, **options: str | int) -> None:
        self.machine = ConcurrentMachine(self.images)
        self.number = 0
        self.answers: dict[int, Outcome] = {}
        for operation in graph or (
                AddFilter("cbw", "src", "tmp", **options),  # type: ignore[arg-type]
                AddSnapshot("snap", "cbw"), Export("cbw"), Export("snap")):
            self.do(operation)

    def do(self, operation: Operation) -> int:
        self.number += 1
        assert self.machine.apply(self.number, operation).refused is None
        self.answers |= self.machine.answers()
        return self.number

    def complete(self, index: int = 0, error: str | None = None) -> None:
        request = self.machine.pending()[index]
        self.do(Complete.of(request, error))

    def pending(self) -> list[tuple[str, str, int]]:
        return [(request.node, request.kind.value, request.offset // CLUSTER)
                for request in self.machine.pending()]

    def bits(self, which: str) -> list[int]:
        bits = getattr(self.machine.filters()[0], which).bits
        return [place for place in range(bits.size) if bits.at(place)]


def write(cluster: int, length: int = 512) -> Start:
    return Start(Write("cbw", cluster * CLUSTER, length))


def read(cluster: int) -> Start:
    """A fleecing read of a part of the cluster, so that it looks different from a copy."""
    return Start(Read("snap", cluster * CLUSTER, 512, Via.NBD_DF))


def test_a_guest_write_waits_for_the_fleecing_read_but_its_copy_does_not() -> None:
    held = Held()
    reader, writer = held.do(read(0)), held.do(write(0))
    assert held.pending() == [("src", "read", 0), ("src", "read", 0)]
    held.complete(1)
    held.complete(1)
    assert held.bits("done") == [0]
    assert held.pending() == [("src", "read", 0)], "the write waits for the frozen read"
    held.complete()
    assert reader in held.answers
    assert held.pending() == [("src", "write", 0)]
    held.complete()
    assert held.answers[writer].error is None


def test_a_guest_write_elsewhere_does_not_wait() -> None:
    held = Held()
    held.do(read(0))
    writer = held.do(write(1))
    for _ in range(3):
        held.complete(1)
    assert held.answers[writer].error is None


def test_a_fleecing_read_of_what_is_being_copied_is_never_blocked() -> None:
    held = Held()
    held.do(write(0))
    reader = held.do(read(0))
    assert held.pending() == [("src", "read", 0), ("src", "read", 0)]
    held.complete(1)
    assert held.answers[reader].error is None


def test_two_writes_share_one_copy() -> None:
    held = Held()
    held.do(write(0))
    held.do(write(0))
    assert held.pending() == [("src", "read", 0)]
    held.complete()
    held.complete()
    assert held.pending() == [("src", "write", 0), ("src", "write", 0)]


def test_a_write_tries_again_what_somebody_else_failed_to_copy() -> None:
    held = Held()
    first, second = held.do(write(0)), held.do(write(0))
    held.complete(error="EIO")
    assert held.answers[first].error is Errno.EIO
    assert second not in held.answers
    assert held.pending() == [("src", "read", 0)]


def test_a_discard_while_the_copy_is_in_flight() -> None:
    held = Held()
    held.do(write(0))
    discarder = held.do(Start(Discard("snap", 0, CLUSTER)))
    assert held.bits("access") == [1, 2, 3]
    assert ("tmp", "discard", 0) in held.pending()
    held.complete(1)
    assert held.answers[discarder].error is None
    held.complete()
    held.complete()
    assert held.bits("done") == [0]


def test_a_timed_out_copy_goes_on_behind_the_guests_back() -> None:
    held = Held(cbw_timeout=1)
    writer = held.do(write(0))
    held.do(Expire())
    assert held.answers[writer].error is Errno.EINVAL
    assert (held.bits("copy"), held.bits("done")) == ([1, 2, 3], [])
    held.complete()
    held.complete()
    again = held.do(write(0))
    assert held.pending() == [("src", "write", 0)], "nothing is left to copy"
    held.complete()
    assert held.answers[again].error is None
    assert held.bits("done") == [0]


def test_a_late_failure_of_a_timed_out_copy_brings_its_clusters_back() -> None:
    held = Held(cbw_timeout=1, on_cbw_error="break-snapshot")
    held.do(write(0))
    held.do(Expire())
    held.complete(error="EIO")
    assert held.bits("copy") == [0, 1, 2, 3]
    assert held.pending() == [("src", "write", 0)]
    assert held.answers[held.do(read(2))].error is Errno.EINVAL


# Jobs

JOB = Backup("job", "src", "tmp", Sync.FULL, filter_node="filter", auto_finalize=False,
             on_source_error=OnError.STOP, on_target_error=OnError.IGNORE, max_workers=1,
             max_chunk=CLUSTER)


def guest_write(cluster: int) -> Start:
    return Start(Write("src", cluster * CLUSTER, 512))


def test_a_guest_write_waits_for_the_cluster_that_the_job_copies() -> None:
    held = Held(Export("src"))
    held.do(Start(JOB))
    writer = held.do(guest_write(0))
    assert held.pending() == [("src", "read", 0)], "one copy, that of the job"
    held.complete()
    held.complete()
    assert held.pending() == [("src", "write", 0), ("src", "read", 1)]
    held.complete()
    assert held.answers[writer].error is None


def test_what_the_guest_has_had_copied_the_job_does_not_copy() -> None:
    held = Held(Export("src"))
    job = held.do(Start(JOB))
    held.do(guest_write(2))  # cluster 1 is claimed by a task that waits for its turn
    for _ in range(3):
        held.complete(1)
    copied = []
    while job not in held.answers:
        copied += [place for node, _, place in held.pending() if node == "tmp"]
        held.complete()
    assert copied == [0, 1, 3]
    held.do(JobFinalize("job"))


def test_a_guest_write_takes_over_what_the_job_failed_to_copy() -> None:
    held = Held(Export("src"))
    held.do(Start(JOB))
    writer = held.do(guest_write(0))
    held.complete()
    held.complete(error="EIO")
    assert [thread for thread, _ in held.machine.standing().items()] == [2, writer]
    assert held.pending() == [("src", "read", 0), ("src", "read", 1)]
    held.complete(error="EPERM")
    assert held.answers[writer].error is Errno.EPERM, "the job's next try is not waited for"


def test_a_job_that_an_error_stops_rests() -> None:
    held = Held(Export("src"))
    job = held.do(Start(JOB))
    held.complete(error="EIO")
    assert held.answers[job] == Outcome()
    assert [each.status for each in held.machine.observe().jobs] == [JobStatus.PAUSED]
    writer = held.do(guest_write(0))
    for _ in range(3):
        held.complete()
    assert held.answers[writer].error is None


def test_who_asks_storage_again_while_a_job_ends_is_answered() -> None:
    held = Held(Export("src"))
    held.do(Start(dataclasses.replace(JOB, sync=Sync.NONE)))
    writer, reader = held.do(guest_write(0)), held.do(Start(Read("src", CLUSTER, 512)))
    held.do(Start(JobCancel("job")))
    with pytest.raises(Impossible):
        held.complete()
    held.do(CompleteAll("src"))
    assert held.answers[reader].error is None
    assert held.machine.passed() == []
    held.do(CompleteAll("tmp"))
    assert held.pending() == [("src", "write", 0)], "it has been elsewhere in between"
    held.do(CompleteAll("src", "EIO"))
    assert held.answers[writer].error is Errno.EIO
    assert held.pending() == [("src", "flush", 0)], "that is of the job"
    assert held.machine.silent


def test_what_asks_storage_again_passes_once_the_first_has_failed() -> None:
    held = Held(Export("src"))
    held.do(Start(dataclasses.replace(JOB, sync=Sync.NONE)))
    writers = [held.do(guest_write(0)), held.do(Start(Write("src", 512, 512)))]
    held.do(Start(JobCancel("job")))
    held.do(CompleteAll("src", "EIO"))
    assert held.answers[writers[0]].error is Errno.EIO
    assert [each.kind for each in held.machine.passed()] == ["read"]
    assert held.pending() == [("tmp", "write", 0)], "for who waited for the other's copy"


def test_a_job_is_started_when_nothing_is_under_way_and_stays() -> None:
    held = Held(Export("src"))
    with pytest.raises(Impossible):
        held.do(Start(dataclasses.replace(JOB, auto_finalize=True)))
    held.do(guest_write(0))
    with pytest.raises(Impossible):
        held.do(Start(JOB))


def test_a_refused_job_is_not_under_way() -> None:
    held = Held(Export("src"))
    job = dataclasses.replace(JOB, target="nope")
    assert held.machine.apply(2, Start(job)).refused is not None
    assert not held.machine.busy


# Storage that tells block status


class Telling(Held):
    """The same over storage that tells block status; the third cluster reads as zero."""

    images: ClassVar = Configuration((
        Image("src", SIZE, protocol=Protocol.HELD, tells_status=True,
              filled=((0, 2 * CLUSTER), (3 * CLUSTER, CLUSTER))),
        Image("tmp", SIZE, protocol=Protocol.HELD, tells_status=True)))


def status(cluster: int, clusters: int, node: str = "snap") -> Start:
    return Start(Status(node, cluster * CLUSTER, clusters * CLUSTER))


def extents(*runs: tuple[int, int]) -> tuple[Extent, ...]:
    return tuple(Extent(clusters * CLUSTER, frozenset({flags})) for clusters, flags in runs)


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
    with pytest.raises(Impossible):
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
@pytest.mark.parametrize("landed", [False, True])
def test_what_is_pending_when_qemu_is_killed_has_taken_effect_or_not(landed: bool) -> None:
    held = Held()
    cut_off, done = held.do(write(0, CLUSTER)), held.do(write(1, CLUSTER))
    for _ in range(4):
        held.complete(-1)
    assert held.pending() == [("tmp", "write", 0)]
    held.do(Kill(landed=landed))
    stored = held.machine.stored()
    assert [stored["src"].at(place * CLUSTER) for place in (0, 1)] == [-1, done]
    assert stored["tmp"].at(0) == (-1 if landed else 0)
    assert not held.machine.busy
    assert set(held.machine.nodes) == {"src", "tmp"}
    assert done in held.answers
    assert cut_off not in held.answers


def test_changes_of_one_place_do_not_land_together() -> None:
    held = Held(Export("src"))
    for _ in range(2):
        held.do(guest_write(0))
    with pytest.raises(Impossible):
        held.do(Kill(landed=True))
    assert len(held.pending()) == 2
    held.do(Kill())
    assert held.pending() == []


def test_a_killed_qemu_does_not_wait_for_a_server_that_is_gone() -> None:
    held = Held()
    held.do(Gone("tmp"))
    with pytest.raises(Impossible):
        held.do(Cut("tmp"))
    held.do(Kill())
    assert held.machine.away == []
    with pytest.raises(Impossible):
        held.do(Back("tmp"))


def test_qemu_starts_anew_over_storage_that_is_held() -> None:
    held = Held()
    held.do(write(0))
    with pytest.raises(Impossible):
        held.do(Restart())
    for _ in range(3):
        held.complete()
    held.do(Restart())
    assert held.machine.stored()["src"].at(0) == 5


def test_exports_run_in_a_thread_only_where_requests_overlap() -> None:
    """And where the first client to leave does no harm."""
    image = Image("src", SIZE, protocol=Protocol.HELD)
    for images, deadly in (((image,), True), ((Image("src", SIZE),), False)):
        machine = machine_for(Configuration(images, iothread=True),
                              Capabilities(threaded_client_aborts=deadly))
        with pytest.raises(Impossible):
            machine.apply(1, Export("src"))
    assert ConcurrentMachine(Configuration((image,), iothread=True)).apply(1, Export("src"))


def test_the_next_qemu_asks_storage_that_remembers_what_was_written() -> None:
    held = Telling(Export("src"))
    held.do(Start(Zero("src", 0, CLUSTER, unmap=True)))
    held.complete()
    held.do(Start(Write("src", 2 * CLUSTER, CLUSTER)))
    held.do(Kill(landed=True))
    held.do(Export("src"))
    asker = held.do(Start(Status("src", 0, SIZE)))
    while held.machine.pending():
        held.complete()
    assert held.answers[asker].extents == extents(
        (1, Allocation.HOLE | Allocation.ZERO), (3, Allocation.DATA))
