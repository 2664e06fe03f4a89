# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules on the storage daemon that is found, and what it would take to deceive them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, Build
from harness.exploration.building import Check, Plan
from harness.exploration.directed import schedules as directed_schedules
from harness.exploration.directed.interleavings import SMALL, Small, bundle, bundles, paths
from harness.exploration.subjects import subject_of
from harness.lockstep.concurrent import PendingDiffers, StoredDiffers
from harness.lockstep.run import run
from harness.lockstep.trace import Step
from harness.lockstep.verdict import Conforms, Diverges, Verdict
from harness.processes.asleep import wait_until_asleep
from harness.storage import held
from harness.storage.images import ImageStore
from harness.systems import held_daemon
from harness.systems.base import Answer
from harness.systems.concurrent import Awaited, ConcurrentSystem
from harness.systems.held_daemon import HeldDaemon
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import KIB, Configuration, Format, Image, Protocol, RequestKind
from model.content import stamped
from model.errors import Errno
from model.job_operations import Backup, JobCancel, JobFinalize, JobResume, OnError, Sync
from model.operations import (
    AddFilter,
    AddSnapshot,
    Export,
    Inspect,
    Kill,
    Operation,
    Read,
    Via,
    Write,
)
from model.program import StorageRequest
from model.schedule import Back, Complete, Cut, Expire, Gone, Start
from tests.unit.real_lab import real_build

K = 64 * KIB
IMAGES = Configuration((
    Image("src", 4 * K, protocol=Protocol.HELD, filled=((0, 4 * K),)),
    Image("tmp", 4 * K, protocol=Protocol.HELD)))
EXPORTS = (AddSnapshot("snap", "cbw"), Export("cbw"), Export("snap"))
GRAPH = (AddFilter("cbw", "src", "tmp"), *EXPORTS)
TIMED = (AddFilter("cbw", "src", "tmp", cbw_timeout=1), *EXPORTS)
LOOKS = (Inspect("src"), Inspect("tmp"), Inspect("snap"))


@pytest.fixture(scope="module")
def build() -> Build:
    return real_build(STORAGE_DAEMON)


@pytest.fixture(scope="module")
def capabilities(build: Build) -> Capabilities:
    return subject_of(build).profile.capabilities


@pytest.fixture
def store(build: Build) -> Iterator[ImageStore]:
    with closing(ImageStore(build)) as found:
        yield found


@pytest.fixture
def daemon(build: Build, store: ImageStore) -> Iterator[HeldDaemon]:
    with closing(HeldDaemon(build, IMAGES, store)) as found:
        yield found


def do(daemon: HeldDaemon, capabilities: Capabilities, *operations: Operation) -> Verdict:
    steps = [Step(number, each) for number, each in enumerate(operations, start=1)]
    return run(steps, daemon, ConcurrentMachine(IMAGES, capabilities))


def write(cluster: int, length: int = K) -> Start:
    return Start(Write("cbw", cluster * K, length))


def read(cluster: int, length: int = K) -> Start:
    return Start(Read("snap", cluster * K, length, Via.NBD_DF))


def complete(node: str, kind: str, cluster: int, length: int = K, error: str | None = None,
             younger: int = 0) -> Complete:
    return Complete(node, kind, cluster * K, length, error, younger)


def test_it_is_what_schedules_need(daemon: HeldDaemon) -> None:
    assert isinstance(daemon, ConcurrentSystem)


def test_a_guest_write_waits_for_the_fleecing_read(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, *GRAPH, read(0), write(0), complete("src", "read", 0,
                 younger=1), complete("tmp", "write", 0), complete("src", "read", 0),
                 complete("src", "write", 0), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


def test_the_rest_of_a_fleecing_read_is_frozen_too(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, *GRAPH, Write("cbw", K, K), read(0, 2 * K), write(1, 512),
                 complete("src", "read", 0), complete("tmp", "read", 1),
                 complete("src", "write", 1, 512), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


def test_a_failed_copy_is_tried_again_by_who_waits(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, *GRAPH, write(0), write(0, 512),
                 complete("src", "read", 0, error="EIO"), complete("src", "read", 0),
                 complete("tmp", "write", 0, error="ENOSPC"), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


def test_a_time_out_before_the_copy_ends(daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, *TIMED, write(0), Expire(), complete("src", "read", 0),
                 complete("tmp", "write", 0), write(0), complete("src", "write", 0), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


def test_a_time_out_that_nobody_notices(daemon: HeldDaemon, capabilities: Capabilities) -> None:
    broken = AddFilter("cbw", "src", "tmp", on_cbw_error="break-snapshot", cbw_timeout=1)
    verdict = do(daemon, capabilities, broken, *EXPORTS, read(0), write(0), Expire(),
                 write(1), complete("src", "write", 1), complete("src", "read", 0, younger=1),
                 complete("tmp", "write", 0), complete("src", "read", 0),
                 complete("src", "write", 0), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize(("ends", "late"), [((), True), ((Expire(),), False)])
def test_a_time_out_that_may_have_run_out_before_it_was_stopped(
        ends: tuple[Operation, ...], late: bool, daemon: HeldDaemon,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine so slow that nobody knows which came first; what was to run out may."""
    for number, operation in enumerate((*TIMED, write(0)), start=1):
        assert daemon.apply(number, operation).refused is None
    copied = StorageRequest("src", RequestKind.READ, 0, K)
    assert not daemon.settle(Awaited((copied,), timed=(5,))).late
    monkeypatch.setattr(held_daemon, "HASTE", 0.0)
    for number, operation in enumerate(ends, start=6):
        daemon.apply(number, operation)
    assert daemon.settle(Awaited((copied,))).late is late


def test_a_connection_lost_is_made_again(daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, *GRAPH, write(0), read(1), Cut("src"),
                 complete("src", "read", 0), Cut("tmp"), complete("tmp", "write", 0),
                 complete("src", "write", 0), complete("src", "read", 1), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize("node", ["src", "tmp"])
def test_a_server_that_is_gone_is_waited_for(
        node: str, daemon: HeldDaemon, capabilities: Capabilities) -> None:
    """A guest's write and a fleecing read are under way, others begin while the server is gone."""
    other = {"src": complete("tmp", "write", 1), "tmp": complete("src", "read", 0)}[node]
    verdict = do(daemon, capabilities, *GRAPH, write(0), write(1), complete("src", "read", 1),
                 Gone(node), other, read(2), read(1), Back(node),
                 *([complete("tmp", "write", 1)] if node == "tmp" else
                   [complete("src", "read", 0)]),
                 complete("tmp", "write", 0))
    assert isinstance(verdict, Conforms), verdict.summary


def test_a_server_is_gone_before_anybody_needs_it(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, *GRAPH, Gone("tmp"), write(0), complete("src", "read", 0),
                 Back("tmp"), complete("tmp", "write", 0), complete("src", "write", 0), *LOOKS)
    assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize("node", ["src", "tmp"])
def test_who_waits_too_long_for_its_server_fails(
        node: str, build: Build, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``reconnect-delay`` the guest's write fails: its copy does, or what it is to copy."""
    monkeypatch.setattr(held, "RECONNECT_DELAY", 1)
    monkeypatch.setattr(held_daemon, "PATIENCE", 20.0)
    with closing(HeldDaemon(build, IMAGES, store)) as daemon:
        for number, operation in enumerate(GRAPH, start=1):
            assert daemon.apply(number, operation).refused is None
        daemon.apply(5, Gone(node))
        daemon.apply(6, write(0))
        if node == "tmp":
            copied = StorageRequest("src", RequestKind.READ, 0, K)
            assert daemon.settle(Awaited((copied,))).pending == (copied,)
            daemon.apply(7, complete("src", "read", 0))
        assert daemon.settle(Awaited(answers=(6,))).answers[6].error == Errno.EIO


def test_who_does_not_wait_for_its_server_is_caught(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    """As if the server that is gone were there."""
    for deed in ("stall", "cut"):
        setattr(daemon.storage, deed, lambda node: None)
    verdict = do(daemon, capabilities, *GRAPH, write(0), Gone("src"))
    assert isinstance(verdict, Diverges)
    assert isinstance(verdict.differences[0], PendingDiffers)


def test_copies_of_more_tasks_than_are_sent_at_a_time(
        build: Build, store: ImageStore, capabilities: Capabilities) -> None:
    size = 20 << 20
    images = Configuration((Image("src", size, protocol=Protocol.HELD, filled=((0, size),)),
                            Image("tmp", size, protocol=Protocol.HELD)))
    model = ConcurrentMachine(images, capabilities)

    def steps() -> Iterator[Step]:
        number = 0
        for operation in (*GRAPH, Start(Write("cbw", 0, size))):
            number += 1
            yield Step(number, operation)
        most = 0
        while model.busy:
            pending = model.pending()
            most = max(most, len(pending))
            last = pending[-1]
            number += 1
            yield Step(number, Complete(last.node, last.kind, last.offset, last.length))
        assert most > 16

    with closing(HeldDaemon(build, images, store)) as daemon:
        verdict = run(steps(), daemon, model)
    assert isinstance(verdict, Conforms), verdict.summary


JOB = Backup("job", "src", "tmp", Sync.FULL, filter_node="filter", auto_finalize=False,
             on_source_error=OnError.STOP, on_target_error=OnError.IGNORE, max_workers=1,
             max_chunk=K)


def guest_write(cluster: int, length: int = K) -> Start:
    return Start(Write("src", cluster * K, length))


def test_a_job_and_a_guest_copy_nothing_twice(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, Export("src"), Start(JOB), guest_write(0, 512),
                 guest_write(2), complete("src", "read", 2), complete("src", "read", 0),
                 complete("tmp", "write", 0), complete("src", "write", 0, 512),
                 complete("tmp", "write", 2), complete("src", "read", 1),
                 complete("tmp", "write", 1), complete("src", "read", 3),
                 complete("src", "write", 2), complete("tmp", "write", 3), JobFinalize("job"))
    assert isinstance(verdict, Conforms), verdict.summary


def test_a_job_that_fails_lets_who_waits_go_first(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, Export("src"), Start(JOB), guest_write(0),
                 complete("src", "read", 0), complete("tmp", "write", 0, error="EIO"),
                 complete("src", "read", 0), complete("tmp", "write", 0, error="EPERM"),
                 complete("src", "read", 1, error="EIO"), JobResume("job"), JobFinalize("job"))
    assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize("small", [each for each in SMALL if each.count < 300],
                         ids=lambda each: each.name)
def test_interleavings_are_counted(small: Small) -> None:
    assert sum(1 for _ in paths(small, Plan())) == small.count


def test_the_interleavings_are_told() -> None:
    told = Path("docs/concurrency.md").read_text(encoding="utf-8")
    assert f"names {len(SMALL)} small configurations" in told
    assert f" {sum(small.count for small in SMALL)} of them in today's QEMU" in told


@pytest.mark.parametrize("small", [each for each in SMALL if each.count < 100],
                         ids=lambda each: each.name)
def test_every_interleaving(build: Build, store: ImageStore, capabilities: Capabilities,
                            small: Small) -> None:
    plan = Plan(capabilities=capabilities)
    assert sum(1 for _ in paths(small, plan)) <= small.count
    for number in range(bundles(small)):
        trace = bundle(small, plan, number)
        with closing(HeldDaemon(build, trace.configuration, store)) as daemon:
            verdict = run(trace.steps, daemon, ConcurrentMachine(trace.configuration,
                                                                 capabilities))
        assert isinstance(verdict, Conforms), verdict.summary


@pytest.mark.parametrize("check", [each for each in directed_schedules.checks()
                                   if "more tasks than go at a time" not in each.name],
                         ids=lambda each: each.name)
def test_each_rule_on_purpose(build: Build, store: ImageStore, capabilities: Capabilities,
                              check: Check) -> None:
    trace = check.make(Plan(capabilities=capabilities))
    with closing(HeldDaemon(build, trace.configuration, store)) as daemon:
        verdict = run(trace.steps, daemon, ConcurrentMachine(trace.configuration, capabilities))
    assert isinstance(verdict, Conforms), verdict.summary


class Meddled(HeldDaemon):
    """A daemon of which somebody else uses the storage, too."""

    def apply(self, number: int, operation: Operation) -> Answer:
        if isinstance(operation, Complete):
            self.storage.disks["tmp"].write(0, b"not what was copied")
        return super().apply(number, operation)


def test_what_is_stored_is_looked_at(
        build: Build, store: ImageStore, capabilities: Capabilities) -> None:
    with closing(Meddled(build, IMAGES, store)) as daemon:
        verdict = do(daemon, capabilities, *GRAPH, write(1, 512), complete("src", "read", 1),
                     complete("tmp", "write", 1), complete("src", "write", 1, 512))
    assert isinstance(verdict, Diverges)
    (found,) = verdict.differences
    assert isinstance(found, StoredDiffers)
    assert (found.node, found.places) == ("tmp", ((0, 19),))


def test_a_kill_after_which_something_lands_is_caught(
        daemon: HeldDaemon, capabilities: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if storage went on with what it was asked for."""
    steps = (*GRAPH, write(0), complete("src", "read", 0), complete("tmp", "write", 0))
    kill = daemon.process.child.kill

    def late() -> None:
        daemon.storage.land()
        kill()

    monkeypatch.setattr(daemon.process.child, "kill", late)
    verdict = do(daemon, capabilities, *steps, Kill())
    assert isinstance(verdict, Diverges)
    (found,) = verdict.differences
    assert isinstance(found, StoredDiffers)
    assert (found.node, found.places) == ("src", ((0, K),))


class Careless(HeldDaemon):
    """A daemon to which another client, of whom the model does not know, sends a request."""

    def apply(self, number: int, operation: Operation) -> Answer:
        if isinstance(operation, Start):
            self.storage.hold()
            self._under_way.start(1000, Read("snap", 3 * K, 512, Via.NBD_DF))
        return super().apply(number, operation)


@pytest.fixture
def threaded(capabilities: Capabilities) -> Configuration:
    if capabilities.threaded_client_aborts:
        pytest.skip("this build cannot have exports in an I/O thread")
    return replace(IMAGES, iothread=True)


def waits(daemon: HeldDaemon) -> int:
    """How often threads other than the main one have waited for something."""
    main = daemon.process.child.pid
    status = [thread / "status" for thread in Path(f"/proc/{main}/task").iterdir()
              if thread.name != str(main)]
    return sum(int(line.split()[1]) for each in status for line in each.read_text().splitlines()
               if line.startswith("voluntary_ctxt_switches"))


@pytest.mark.parametrize("thread", [False, True])
def test_exports_and_storage_are_in_the_thread(
        build: Build, store: ImageStore, thread: bool, request: pytest.FixtureRequest) -> None:
    images = request.getfixturevalue("threaded") if thread else IMAGES
    with closing(HeldDaemon(build, images, store)) as daemon:
        for number, operation in enumerate(GRAPH, start=1):
            daemon.apply(number, operation)
        before = waits(daemon)
        for number in range(100):
            daemon.apply(10 + number, Read("snap", 0, 512, Via.NBD_SIMPLE))
        # Each time for the client, and most times for the storage; or not at all.
        assert (waits(daemon) - before > 100) is thread


@pytest.mark.parametrize("thread", [False, True])
def test_what_nobody_awaits_is_noticed(
        build: Build, store: ImageStore, capabilities: Capabilities, thread: bool,
        request: pytest.FixtureRequest) -> None:
    images = request.getfixturevalue("threaded") if thread else IMAGES
    with closing(Careless(build, images, store)) as daemon:
        verdict = do(daemon, capabilities, *GRAPH, write(1, 512))
    assert isinstance(verdict, Diverges)
    found = verdict.differences[0]
    assert isinstance(found, PendingDiffers)
    assert [each.offset for each in found.extra] == [3 * K]
    assert found.missing == ()


def test_it_ends_when_its_clients_have_taken_their_answers(
        daemon: HeldDaemon, capabilities: Capabilities) -> None:
    verdict = do(daemon, capabilities, Export("src"), Start(replace(JOB, sync=Sync.NONE)),
                 Start(Read("src", 0, 4 * K, Via.NBD_DF)), Start(JobCancel("job")))
    assert isinstance(verdict, Conforms), verdict.summary
    daemon.shut_down()


def test_content_of_storage_is_what_was_written(daemon: HeldDaemon) -> None:
    assert daemon.wrongly_stored("tmp", stamped(4 * K, 0)) is None
    assert daemon.wrongly_stored("src", stamped(4 * K, -1)) is None
    wrong = daemon.wrongly_stored("src", stamped(4 * K, 7))
    assert wrong is not None


@pytest.mark.parametrize("target", [
    Image("tmp", 4 * K, Format.QCOW2, backing="src"),
    Image("tmp", 4 * K, protocol=Protocol.HELD)])
def test_writes_to_files_are_waited_for(build: Build, store: ImageStore, target: Image,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """No request that is seen tells when they end; those to held storage are all seen."""
    waited: list[bool] = []

    def wait(pid: int, timeout: float) -> bool:
        waited.append(wait_until_asleep(pid, timeout))
        return waited[-1]

    monkeypatch.setattr(held_daemon, "wait_until_asleep", wait)
    with closing(HeldDaemon(build, Configuration((IMAGES.images[0], target)), store)) as daemon:
        daemon.settle(Awaited())
    assert waited == [True] * (target.protocol is not Protocol.HELD)
