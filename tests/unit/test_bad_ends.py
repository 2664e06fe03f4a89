# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU that crashes, hangs or does not come to an end: what is told of it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from harness.builds import STORAGE_DAEMON, Build
from harness.clients.qmp import QmpRefused
from harness.exploration.subjects import subject_of
from harness.lockstep.explain import explain
from harness.lockstep.replay import Stand
from harness.lockstep.run import run
from harness.lockstep.shrink import Budget, shrink
from harness.lockstep.trace import Step
from harness.lockstep.verdict import Conforms, Failed
from harness.storage.images import ImageStore
from harness.systems.concurrent import Awaited
from harness.systems.daemon import QsdSystem
from harness.systems.failure import SystemCrashed, SystemGarbled, SystemHung
from harness.systems.held_daemon import HeldDaemon
from harness.systems.qmp_system import QmpSystem
from harness.systems.simulated import Simulated
from harness.systems.verdicts import unrefused
from model.configuration import KIB, Configuration, Image, Protocol
from model.machine import Machine
from model.operations import AddFilter, Discard, Export, Operation, Read, Write
from model.schedule import Start
from tests.unit import lockstep_lab as lab
from tests.unit.real_lab import real_build

C = 64 * KIB


# What is told, on simulated systems


class Leaky(Simulated):
    """A truthful system that never ends once something was discarded: a request has leaked."""

    def __init__(self, images: Configuration) -> None:
        super().__init__(Machine(images))
        self._leaks = False

    def apply(self, number: int, operation: Operation):  # type: ignore[no-untyped-def]
        """Do the operation."""
        self._leaks = self._leaks or isinstance(operation, Discard)
        return super().apply(number, operation)

    def shut_down(self) -> None:
        """End, or do not."""
        if self._leaks:
            raise SystemHung("quit", 30.0)


def test_a_look_that_is_refused_is_a_verdict() -> None:
    with pytest.raises(SystemGarbled, match="Block device src is ejected"), unrefused():
        raise QmpRefused("query-named-block-nodes", "GenericError", "Block device src is ejected")


def test_a_leaked_request_is_a_hang_at_the_end_and_is_shrunk_like_others() -> None:
    trace = lab.fleecing(Write("cbw", 0, C), Read("snap", 0, C), Discard("cbw", C, C),
                         Write("cbw", 0, C), Read("snap", C, C))
    stand = Stand(Leaky, Machine)
    result = shrink(trace, stand, budget=Budget(seconds=10))
    assert isinstance(result.verdict, Failed)
    assert result.verdict.ending
    assert "hang at the end, after operation" in result.verdict.summary
    assert [step.operation.name for step in result.trace.steps][-1] == "discard"
    assert len(result.trace.steps) <= 3


def test_without_being_asked_nobody_ends_the_system() -> None:
    trace = lab.fleecing(Discard("cbw", C, C))
    with closing(Leaky(trace.configuration)) as system:
        assert isinstance(run(trace.steps, system, Machine(trace.configuration)), Conforms)


def test_the_story_tells_where_all_stands() -> None:
    trace = lab.fleecing(Write("cbw", 0, C))
    failure = SystemHung("write", 30.0)
    failure.details = ("request 5: sent, not answered", "stacks:", "Thread 1 (main)")
    story = explain(trace, Failed(4, trace.steps[4], failure), Machine)
    assert "How QEMU stands\n  request 5: sent, not answered\n  stacks:\n  Thread 1" in story


# On the storage daemon that is found


@pytest.fixture(scope="module")
def build() -> Build:
    return real_build(STORAGE_DAEMON)


HELD = Configuration((Image("src", 4 * C, protocol=Protocol.HELD, filled=((0, 4 * C),)),
                      Image("tmp", 4 * C, protocol=Protocol.HELD)))
GRAPH = (AddFilter("cbw", "src", "tmp"), Export("cbw"))

Started = Callable[..., QmpSystem]


@pytest.fixture
def started(build: Build) -> Iterator[Started]:
    """Starts systems, with a small filter each."""
    systems: list[QmpSystem] = []
    with closing(ImageStore(build)) as store:
        def start(kind: type[QsdSystem], images: Configuration, timeout: float) -> QmpSystem:
            systems.append(kind(build, images, store, timeout=timeout, core=True))
            for number, operation in enumerate(GRAPH, start=1):
                assert systems[-1].apply(number, operation).refused is None
            return systems[-1]

        yield start
        for each in systems:
            each.close()


def has_stacks(details: tuple[str, ...]) -> bool:
    return "stacks:" in details and any(line.startswith("Thread 1 ") for line in details)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_told_with_its_stacks(number: signal.Signals, started: Started) -> None:
    system = started(QsdSystem, PLAIN, 30)
    system.process.child.send_signal(number)
    with pytest.raises(SystemCrashed) as caught:
        system.apply(5, Write("cbw", 0, 512))
    assert caught.value.signal == number.name
    cores = list(system.workspace.path.glob("core*"))
    assert has_stacks(caught.value.details) is bool(cores and shutil.which("gdb"))


def test_a_hang_is_told_with_who_waits_for_what(started: Started) -> None:
    system = started(HeldDaemon, HELD, 5)
    assert isinstance(system, HeldDaemon)
    system.apply(5, Start(Write("cbw", 0, 512)))
    assert len(system.settle(Awaited()).pending) <= 1
    system.timeout = 0.5
    for fence in system._fences:
        fence.timeout = 0.5
    system.process.child.send_signal(signal.SIGSTOP)
    with pytest.raises(SystemHung) as caught:
        system.settle(Awaited(answers=(5,)))
    details = caught.value.details
    assert details[:2] == ("request 5: sent, not answered",
                           "storage: read of src 65536 at 0 is held")
    assert has_stacks(details) is bool(shutil.which("gdb"))


PLAIN = Configuration((Image("src", C), Image("tmp", C)))
STEPS = tuple(Step(number, each)
              for number, each in enumerate((*GRAPH, Write("cbw", 0, 512)), start=1))


@pytest.mark.parametrize("stuck", [False, True])
def test_a_system_is_to_end_well(stuck: bool, build: Build,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    shut_down = QsdSystem.shut_down

    def stopped(system: QsdSystem) -> None:
        system.timeout = 0.5
        system.process.qmp.timeout = 0.5
        system.process.child.send_signal(signal.SIGSTOP)
        shut_down(system)

    if stuck:
        monkeypatch.setattr(QsdSystem, "shut_down", stopped)
    model = Machine(PLAIN, subject_of(build).profile.capabilities)
    with closing(ImageStore(build)) as store, closing(QsdSystem(build, PLAIN, store)) as system:
        verdict = run(STEPS, system, model, ends=True)
        end = system.process.child.exit
    assert end is not None
    if stuck:
        assert verdict.summary.startswith("hang at the end, after operation 3")
        assert end.signal == "SIGKILL"
    else:
        assert verdict == Conforms(3)
        assert end.code == 0
