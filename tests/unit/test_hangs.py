# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that hang for real: what becomes of the find, and how often it is waited for in full."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Self

import pytest

from harness.builds import STORAGE_DAEMON
from harness.cli import single
from harness.cli.main import main
from harness.exploration.building import Plan
from harness.exploration.grounds import Ground, unexcusing
from harness.exploration.investigate import Investigated, investigate, keep
from harness.exploration.subjects import subject_of
from harness.exploration.tally import Find
from harness.lockstep.replay import Stand
from harness.lockstep.trace import Header, Step, Trace, load, save
from harness.systems.base import Answer
from harness.systems.failure import SystemHung
from harness.systems.probes import ABORTED_GROUP
from harness.systems.simulated import Simulated
from model.configuration import Configuration
from model.machine import Machine
from model.operations import BitmapAdd, BitmapRemove, Discard, Operation, Read, Write
from tests.unit import lockstep_lab as lab
from tests.unit.real_lab import real_build

K = 1024
FULL, HASTE = 0.5, 0.02  # seconds


@dataclass(frozen=True)
class Sleepy:
    """Systems that take ``takes`` seconds for a discard, as real ones do: they are waited for."""

    takes: float
    timeout: float = FULL
    waits: Counter[float] = field(default_factory=Counter)
    """How often each limit was waited for until its end."""
    plan: Plan = field(default_factory=Plan)

    @contextmanager
    def open(self) -> Iterator[Stand]:
        yield Stand(self._start, Machine)

    def planned(self, plan: Plan) -> Self:
        return dataclasses.replace(self, plan=plan)

    def hasty(self) -> Self:
        return dataclasses.replace(self, timeout=HASTE)

    def _start(self, images: Configuration) -> Simulated:
        ground = self

        class Slow(Simulated):
            def apply(self, number: int, operation: Operation) -> Answer:
                if isinstance(operation, Discard):
                    Event().wait(min(ground.takes, ground.timeout))
                    if ground.takes > ground.timeout:
                        ground.waits[ground.timeout] += 1
                        raise SystemHung("discard", ground.timeout)
                return super().apply(number, operation)

        return Slow(Machine(images))


TRACE = lab.fleecing(*(each for place in range(8) for each in (
    Write("cbw", place * 64 * K, 512), Read("snap", 0, 64 * K))), Discard("cbw", 0, 64 * K))


def looked_into(trace: Trace, ground: Ground, folder: Path, seconds: float) -> Investigated:
    find = Find("area", 0, trace, ("fails", "SystemHung"), "hang", "hang")
    return investigate(keep(find, 1, folder), ground, seconds)


def test_a_hang_is_made_small_in_haste_and_waited_for_in_full_once(tmp_path: Path) -> None:
    ground = Sleepy(takes=100)
    done = looked_into(TRACE, ground, tmp_path, seconds=20)
    assert done.shrunk is not None
    assert [step.operation.name for step in load(done.shrunk).steps] == [
        "add-filter", "export", "discard"]
    assert ground.waits[FULL] == 1
    assert ground.waits[HASTE] > 3
    assert f"no answer in {FULL:g} s" in done.summary, "it is told as it was confirmed"


def test_what_is_only_slow_is_no_hang_in_the_end(tmp_path: Path) -> None:
    ground = Sleepy(takes=2 * HASTE)
    done = looked_into(TRACE, ground, tmp_path, seconds=20)
    assert done.shrunk is None
    assert done.again.startswith("hangs no longer when it is waited for, only in haste: hang at")
    assert ground.waits[FULL] == 0
    assert load(done.trace) == TRACE


@pytest.mark.parametrize(("takes", "code"), [(100.0, 1), (2 * HASTE, 0)])
def test_the_command_does_so_too(takes: float, code: int, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    ground = Sleepy(takes)
    monkeypatch.setattr(single, "ground_of", lambda trace, spec: ground)
    save(tmp_path / "trace.jsonl", TRACE)
    assert main(["shrink", str(tmp_path / "trace.jsonl")]) == code
    assert ground.waits[FULL] == 2 * code, "as it was given, and as it has become"
    capsys.readouterr()


@pytest.mark.slow
def test_a_hang_of_a_real_qemu_is_made_small(tmp_path: Path) -> None:
    subject = subject_of(real_build(STORAGE_DAEMON))
    name = ABORTED_GROUP.capability
    if name not in subject.profile.defects:
        pytest.skip("this build does not hang")
    noise = [each for number in range(8) for each in (
        BitmapAdd("src", f"b{number}"), BitmapRemove("src", f"b{number}"))]
    trace = Trace(Header(ABORTED_GROUP.configuration), tuple(
        Step(number, each)
        for number, each in enumerate((*noise, *ABORTED_GROUP.operations), start=1)))
    ground = unexcusing(subject.grounds[0], [name])
    done = looked_into(trace, ground, tmp_path, seconds=20)
    assert done.shrunk is not None
    (step,) = load(done.shrunk).steps
    assert step.operation.name == "transaction"
    assert "no answer in 30 s" in done.summary
    assert done.reproducers.shell is not None
