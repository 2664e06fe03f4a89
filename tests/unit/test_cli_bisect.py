# SPDX-License-Identifier: GPL-2.0-or-later
"""``bisect``: good, bad, and what cannot be judged, in the exit codes of ``git bisect run``."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from harness.cli import bisect, single
from harness.cli.main import main
from harness.errors import EnvironmentProblem
from harness.exploration.grounds import SimulatedGround
from harness.lockstep.differences import ErrnoDiffers
from harness.lockstep.trace import SystemKind, Trace, save
from harness.lockstep.verdict import Diverges
from harness.reproducers.compile import Words, compiled
from harness.reproducers.shell import shell
from harness.systems.failure import SystemHung
from model.machine import Machine
from model.operations import Via, Write
from tests.unit.cli_lab import simulate
from tests.unit.lockstep_lab import SET_UP, THOROUGH, trace_of

ASKED = dataclasses.replace(THOROUGH, steps=THOROUGH.steps[:-1])
"""Its last step shows the bitmaps, of which there are none once QEMU has quit."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "found.jsonl"
    save(path, ASKED)
    return path


@pytest.mark.parametrize(("lie", "truthful_for", "code", "word"), [
    (None, 0, 0, "good: "),
    ("count-off", len(ASKED.steps) - 1, 1, "bad: "),
    ("crash", len(ASKED.steps) - 1, 1, "bad: "),
    ("wrong-byte", 0, 125, "cannot be judged: "),
])
def test_the_exit_codes(lie: str | None, truthful_for: int, code: int, word: str, trace: Path,
                        monkeypatch: pytest.MonkeyPatch,
                        capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, lie, truthful_for)
    assert main(["bisect", str(trace)]) == code
    assert capsys.readouterr().out.startswith(word)


def test_no_build_cannot_be_judged(trace: Path, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bisect", str(trace), "--qemu-build", str(tmp_path / "none")]) == 125
    assert "cannot be judged: " in capsys.readouterr().out


def test_no_trace_is_a_mistake_of_the_user(tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bisect", str(tmp_path / "none.jsonl")]) == EnvironmentProblem.exit_code == 2
    capsys.readouterr()


def test_a_qemu_that_dies_before_the_trace_begins_cannot_be_judged(
        trace: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """As of a commit on which something else is broken: that is not the defect looked for."""
    def fails(*_: object) -> None:
        raise SystemHung("blockdev-add", 30)

    monkeypatch.setattr(bisect, "ground_of", fails)
    assert main(["bisect", str(trace)]) == 125
    assert "cannot be judged: before the trace began, no answer" in capsys.readouterr().out


@pytest.mark.parametrize(("judge", "status"), [
    ("exit 1", 1), ("exit 0", 0), ("exit 125", 125),
    # As of a shell that is not there, or of a trace that cannot be read: no commit is at fault.
    ("exit 2", 255), ("exit 127", 255), ("exit 130", 255)])
def test_the_script_builds_and_judges(judge: str, status: int, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    """With a reproducer as judge, in a tree whose configure and ninja do nothing."""
    reproducer = tmp_path / "found.sh"
    reproducer.write_text(f'test -d "$1" || exit 99\n{judge}\n')
    script = tmp_path / "bisect.sh"
    assert main(["bisect", str(reproducer), "--script", str(script)]) == 0
    assert "git bisect run sh" in capsys.readouterr().out
    done = _run(script, tmp_path, ninja="exit 0")
    assert done.returncode == status
    assert _run(script, tmp_path, ninja="exit 1").returncode == 125


@pytest.mark.parametrize("form", ["found.sh", "found.jsonl"])
def test_a_judge_that_has_gone_stops_the_bisection(form: str, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    """Git would take each commit for a bad one."""
    judge = tmp_path / form
    save(judge, THOROUGH)
    script = tmp_path / "bisect.sh"
    assert main(["bisect", str(judge), "--script", str(script)]) == 0
    capsys.readouterr()
    judge.unlink()
    done = _run(script, tmp_path, ninja="exit 0")
    assert done.returncode == 255
    assert done.stdout == f"{judge} has gone\n"


def test_a_script_for_a_trace_calls_the_harness(trace: Path, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "bisect.sh"
    assert main(["bisect", str(trace), "--script", str(script)]) == 0
    capsys.readouterr()
    assert f"-m harness bisect {trace} --qemu-build" in script.read_text()
    assert _run(script, tmp_path, ninja="exit 0").returncode == 125, "an empty folder is no build"


def test_a_trace_of_a_qemu_system_is_not_judged_by_a_daemon(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """What a daemon answers in its place would be good whatever the defect."""
    simulate(monkeypatch)
    path = tmp_path / "found.jsonl"
    save(path, Trace(dataclasses.replace(THOROUGH.header, system=SystemKind.QEMU_SYSTEM),
                     THOROUGH.steps))
    assert main(["bisect", str(path)]) == 125
    said = capsys.readouterr().out
    assert "found on a qemu-system-x86_64, and the build has none" in said
    assert "--target-list=x86_64-softmmu" in said
    monkeypatch.setattr(single, "RealGround", SimulatedGround)
    assert main(["replay", str(path)]) == 0
    assert ("the trace was found on a qemu-system-x86_64, and the build has none: it is done on "
            "its qemu-storage-daemon\n") in capsys.readouterr().out


@pytest.mark.parametrize(("form", "system"), [
    ("trace", True), ("trace", False), ("script", True), ("script", False)])
def test_the_script_builds_what_its_judge_runs(form: str, system: bool, tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    kind = SystemKind.QEMU_SYSTEM if system else SystemKind.QSD
    via = Via.MONITOR if system else Via.QEMU_IO
    trace = trace_of(*SET_UP, Write("cbw", 0, 512, via))
    trace = Trace(dataclasses.replace(trace.header, system=kind), trace.steps)
    judge = tmp_path / ("found.jsonl" if form == "trace" else "found.sh")
    if form == "trace":
        save(judge, trace)
    else:
        failure = Diverges(len(trace.steps) - 1, trace.steps[-1], (ErrnoDiffers(None, 5),))
        judge.write_text(shell(compiled(trace, failure, Machine, "9.9", Words(qemu_io=True)),
                               judge.name))
    script_file = tmp_path / "bisect.sh"
    assert main(["bisect", str(judge), "--script", str(script_file)]) == 0
    capsys.readouterr()
    text = script_file.read_text()
    assert ("--target-list=x86_64-softmmu " in text) is system
    assert ("ninja -C $build qemu-system-x86_64 " in text) is system
    assert ("build=build-bisect-system" in text) is system, "no folder that was set up without"
    assert "storage-daemon/qemu-storage-daemon" in text


def _run(script: Path, folder: Path, ninja: str) -> subprocess.CompletedProcess[str]:
    for name, does in (("configure", "touch config.status"), ("ninja", ninja)):
        file = folder / name
        file.write_text(f"#!/bin/sh\n{does}\n")
        file.chmod(0o755)
    return subprocess.run(["sh", script], cwd=folder, check=False, capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})
