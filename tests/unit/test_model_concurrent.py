# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step grain: who waits for whom, and for what."""

from __future__ import annotations

import dataclasses

import pytest

from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, Image, Protocol
from model.errors import Errno
from model.job_operations import Backup, JobFinalize, OnError, Sync
from model.jobs import JobStatus
from model.machine import Impossible
from model.operations import AddFilter, AddSnapshot, Discard, Export, Operation, Read, Via, Write
from model.outcome import Outcome
from model.schedule import Complete, Expire, Start
from tests.unit.fleecing import CLUSTER

SIZE = 4 * CLUSTER


class Held:
    """A fleecing set-up whose source and temporary image complete nothing by themselves."""

    def __init__(self, *graph: Operation, **options: str | int) -> None:
        self.machine = ConcurrentMachine(Configuration((
            Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),)),
            Image("tmp", SIZE, protocol=Protocol.HELD))))
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
        self.do(Complete(request.node, request.kind, request.offset, request.length, error))

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
