# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step grain: who waits for whom, and for what."""

from __future__ import annotations

import dataclasses

import pytest

from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import Configuration, Image, Protocol
from model.errors import Errno
from model.job_operations import JobCancel, JobFinalize, Sync
from model.jobs import JobStatus
from model.machine import Impossible
from model.operations import Discard, Export, Read, Write
from model.outcome import Outcome
from model.schedule import CompleteAll, Expire, Start
from tests.unit.fleecing import CLUSTER
from tests.unit.held_lab import JOB, SIZE, Held, guest_write, read, write


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
    with pytest.raises(Impossible, match="while QEMU waits for requests to end"):
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
    with pytest.raises(Impossible, match="cannot be started beside requests"):
        held.do(Start(dataclasses.replace(JOB, auto_finalize=True)))
    held.do(guest_write(0))
    with pytest.raises(Impossible, match="cannot be started beside requests"):
        held.do(Start(JOB))


def test_a_refused_job_is_not_under_way() -> None:
    held = Held(Export("src"))
    job = dataclasses.replace(JOB, target="nope")
    assert held.machine.apply(2, Start(job)).refused is not None
    assert not held.machine.busy


def test_exports_run_in_a_thread_only_where_requests_overlap() -> None:
    """And where the first client to leave does no harm."""
    image = Image("src", SIZE, protocol=Protocol.HELD)
    for images, deadly, words in (
            ((image,), True, "first client to leave"),
            ((Image("src", SIZE),), False, "exports of a schedule")):
        machine = machine_for(Configuration(images, iothread=True),
                              Capabilities(threaded_client_aborts=deadly))
        with pytest.raises(Impossible, match=words):
            machine.apply(1, Export("src"))
    assert ConcurrentMachine(Configuration((image,), iothread=True)).apply(1, Export("src"))
