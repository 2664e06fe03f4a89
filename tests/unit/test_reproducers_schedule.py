# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules as files that stand alone, on the QEMU at hand: right when the model is, and when the
model has forgotten a rule, wrong at the operation at which QEMU shows that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON
from harness.exploration.building import Check
from harness.exploration.directed import steering
from harness.exploration.directed.schedules import checks
from harness.exploration.subjects import Subject, subject_of
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import Header, Trace
from harness.lockstep.verdict import Conforms
from harness.reproducers.attempt import AS_EXPECTED, Attempt, attempt
from harness.reproducers.compile import NoReproducer
from harness.reproducers.handover import write_reproducers
from harness.reproducers.schedule import schedule
from harness.reproducers.unheld import is_held
from harness.systems.lies import FORGOTTEN
from model import operations as ops
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration
from model.copy_before_write import CopyBeforeWrite
from model.machine import Machine
from model.operations import Operation
from model.outcome import Outcome
from tests.unit.real_lab import real_build
from tests.unit.reproducers_lab import in_the_end

CHECKS = {each.name.removeprefix("schedule: "): each for each in checks()}
WITHOUT = ("a job and guest writes", "storage that is lost and found", "block status for jobs",
           "block status that fails", "a job of several tasks that fail",
           "the source shows through a job's target", "tasks that wait for memory",
           "a job of which a client gives up a part", "a job that copies a snapshot",
           "a job and a guest that wait for memory",
           "a job that is paused and cancelled with much left",
           "flushes of disks that nobody may write to",
           *(name for name in CHECKS if name.startswith(("QEMU killed", "schedule in an I/O"))),
           *(name for _, name, _ in steering.makers()))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(real_build(STORAGE_DAEMON))


def made(check: Check, subject: Subject) -> Trace:
    trace = check.make(subject.grounds[0].plan)
    if not trace.steps:
        pytest.skip("not for this build")
    return trace


def model_of(capabilities: Capabilities) -> Callable[[Configuration], Machine]:
    return lambda images: ConcurrentMachine(images, capabilities)


@pytest.mark.parametrize("name", [each for each in CHECKS if each not in WITHOUT])
def test_a_qemu_that_does_as_the_model_says_passes(name: str, subject: Subject) -> None:
    trace = made(CHECKS[name], subject)
    text = schedule(trace, in_the_end(trace), model_of(subject.profile.capabilities), "99", "x")
    assert attempt(text, subject.build) == Attempt(AS_EXPECTED, "AS EXPECTED")


@pytest.mark.parametrize("name", WITHOUT)
def test_what_a_schedule_cannot_do_alone_is_said(name: str, subject: Subject) -> None:
    trace = made(CHECKS[name], subject)
    with pytest.raises(NoReproducer, match="in a schedule: replay the trace"):
        schedule(trace, in_the_end(trace), model_of(subject.profile.capabilities), "99", "x")


def forgetful(name: str, capabilities: Capabilities) -> Callable[[Configuration], Machine]:
    """What makes a model that does not know a rule: QEMU, which does, diverges from it."""
    (forgotten,) = (each for each in FORGOTTEN if each.name == name)

    class Forgetful(ConcurrentMachine):
        def apply(self, number: int, operation: Operation) -> Outcome:
            outcome = super().apply(number, operation)
            if isinstance(operation, ops.AddFilter):
                node = self.nodes[operation.node]
                assert isinstance(node, CopyBeforeWrite)
                forgotten.forget(node)
            return outcome

    return lambda images: (Forgetful if is_held(Trace(Header(images))) else Machine)(
        images, capabilities)


@pytest.mark.parametrize(("rule", "check"), [
    ("no-wait", "guest writes and fleecing reads"),
    ("no-wait-for-copies", "guest writes and fleecing reads"),
    ("back-in-part", "copies of several tasks, of which some fail"),
    ("told-early", "block status under way"),
])
def test_it_fails_where_qemu_does_otherwise(rule: str, check: str, subject: Subject,
                                            tmp_path: Path) -> None:
    trace = made(CHECKS[check], subject)
    capabilities = subject.profile.capabilities
    with subject.grounds[0].open() as real:
        stand = Stand(real.start, forgetful(rule, capabilities))
        failure = replay(trace, stand)
        assert not isinstance(failure, Conforms)
        found = write_reproducers(trace, failure, stand, subject.build, tmp_path / "found")
    place = f"NOT AS EXPECTED at operation {failure.step.number} "
    assert found.note.startswith(f"tried: {place}")
    assert found.note.endswith("; no iotest of a schedule")
    assert [each.name for each in tmp_path.iterdir()] == ["found.sh"]
    assert found.shell is not None
    assert attempt(found.shell.read_text(), subject.build).said.startswith(place)
    true = schedule(trace, failure, model_of(capabilities), "99", "x")
    assert attempt(true, subject.build).status == AS_EXPECTED


def test_a_qemu_that_dies_or_hangs_is_told(subject: Subject) -> None:
    trace = made(CHECKS["filters over filters"], subject)
    text = schedule(trace, in_the_end(trace), model_of(subject.profile.capabilities), "99", "x")
    stopped = text.replace("        do(each_step)\n", "        do(each_step)\n"
                           "        if each_step is steps[4]: qemu.send_signal(19)\n")
    tried = attempt(stopped, subject.build, patience=2)
    assert tried.said.endswith("no answer in 2 s")
    killed = stopped.replace("send_signal(19)", "send_signal(11)")
    assert attempt(killed, subject.build).said.endswith("QEMU died, exit status 139")


def test_a_build_that_lacks_what_it_takes_cannot_be_judged(subject: Subject) -> None:
    trace = made(CHECKS["filters over filters"], subject)
    text = schedule(trace, in_the_end(trace), model_of(subject.profile.capabilities), "99", "x")
    tried = attempt(text.replace('"copy-before-write"', '"copy-before-light"'), subject.build)
    assert tried.status == 125
    assert "is refused" in tried.said


def test_how_qemu_ends_is_not_told_by_it(subject: Subject) -> None:
    trace = made(CHECKS["filters over filters"], subject)
    ending = dataclasses.replace(in_the_end(trace), observing=False, ending=True)
    with pytest.raises(NoReproducer, match="how QEMU ends"):
        schedule(trace, ending, model_of(subject.profile.capabilities), "99", "x")
