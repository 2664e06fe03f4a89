# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests held by QEMU's own blkdebug, and what it would take to deceive the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.builds import STORAGE_DAEMON, SYSTEM, Build
from harness.exploration import breakpoints
from harness.exploration.breakpoints import (
    SCENARIOS,
    Hold,
    Resume,
    Scenario,
    check,
    schedule_of,
)
from harness.exploration.subjects import subject_of
from harness.lockstep.replay import replay
from harness.lockstep.verdict import Conforms
from harness.systems import breakpoints as real
from harness.systems.qemu_system import QemuSystem
from harness.systems.starting import starter
from model.capabilities import Capabilities
from model.configuration import Configuration
from tests.unit.real_lab import real_build

Start = Callable[[Configuration], QemuSystem]


@pytest.fixture(scope="module")
def build() -> Build:
    return real_build(SYSTEM)


@pytest.fixture(scope="module")
def capabilities(build: Build) -> Capabilities:
    return subject_of(build).profile.capabilities


@pytest.fixture(scope="module")
def start(build: Build) -> Iterator[Start]:
    with starter(build, SYSTEM) as found:
        yield found  # type: ignore[misc]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_what_is_held_is_waited_for_and_nothing_else(
        scenario: Scenario, start: Start, capabilities: Capabilities) -> None:
    assert check(scenario, start, capabilities) == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_the_model_holds_something_in_each(scenario: Scenario) -> None:
    foretold = breakpoints._Foretold(scenario, Capabilities())
    most = 0
    for number, step in enumerate(scenario.steps, start=100):
        foretold.do(number, step)
        most = max(most, len(foretold.held))
    assert most == 1
    assert not foretold.held, "it is let go in the end"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_held_storage_can_do_the_same(scenario: Scenario) -> None:
    ground = subject_of(real_build(STORAGE_DAEMON)).grounds[0]
    with ground.open() as stand:
        trace = schedule_of(scenario, ground.plan.capabilities)
        assert replay(trace, stand) == Conforms(len(trace.steps))


def test_a_qemu_that_holds_nothing_is_caught(
        start: Start, capabilities: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real.Breakpoints, "hold", lambda *arguments: None)
    monkeypatch.setattr(real, "PATIENCE", 0.2)
    (first,) = check(SCENARIOS[0], start, capabilities)
    assert "no request of src is held, one must be" in first
    monkeypatch.setattr(real.Breakpoints, "await_held", lambda *arguments: None)
    # A command waits for its file's thread, so the answer comes with the second request's.
    (first, *_) = check(SCENARIOS[0], start, capabilities)
    assert "expected no answer yet, found success" in first


def test_a_qemu_that_holds_too_much_is_caught(
        start: Start, capabilities: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real.Breakpoints, "resume", lambda *arguments: None)
    monkeypatch.setattr(real, "PATIENCE", 0.2)
    (first, *_) = check(SCENARIOS[1], start, capabilities)
    assert "expected an answer, none came" in first


def test_an_error_that_did_not_come_is_caught(
        start: Start, capabilities: Capabilities) -> None:
    failing = next(each for each in SCENARIOS if each.failing is not None)
    healthy = Scenario(failing.name, failing.steps)
    (first, *_) = check(healthy, start, capabilities)
    assert "ENOSPC" in first


def test_a_crash_is_told(start: Start, capabilities: Capabilities,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    systems: list[QemuSystem] = []

    def started(configuration: Configuration) -> QemuSystem:
        systems.append(start(configuration))
        return systems[-1]

    def die(breakpoints: real.Breakpoints, *arguments: object) -> None:
        systems[-1].process.child.kill()

    monkeypatch.setattr(real.Breakpoints, "hold", die)
    (told,) = check(SCENARIOS[0], started, capabilities)
    assert "crash: QEMU came to its end, killed by SIGKILL" in told


def test_only_what_is_held_can_be_let_go() -> None:
    assert all(isinstance(step, (Hold, Resume)) is not hasattr(step, "length")
               for scenario in SCENARIOS for step in scenario.steps)
