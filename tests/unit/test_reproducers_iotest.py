# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests for QEMU's tree: run on the QEMU at hand, over a module of ours in place of
QEMU's own, and looked at by upstream's linters with upstream's settings."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, SYSTEM, Build
from harness.exploration.subjects import Subject, subject_of
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import SystemKind
from harness.lockstep.verdict import Conforms
from harness.processes import Workspace
from harness.reproducers.compile import Words, compiled
from harness.reproducers.iotest import OUTPUT, iotest
from harness.systems.probes import PROBES
from model.capabilities import Capabilities
from model.machine import Machine
from model.operations import Operation
from tests.unit.real_lab import real_build
from tests.unit.reproducers_lab import BY_MONITOR, KILLED, THOROUGH, in_the_end, trace

LAB = Path(__file__).parent / "iotests_lab"
WORDS = (Words(qemu_io=True), Words(qemu_io=False))
PROGRAMS = {"QSD_PROG": STORAGE_DAEMON, "QEMU_PROG": SYSTEM, "QEMU_IMG_PROG": "qemu-img",
            "QEMU_IO_PROG": "qemu-io"}


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(real_build(STORAGE_DAEMON))


def kind_of(operations: tuple[Operation, ...]) -> SystemKind:
    return SystemKind.QEMU_SYSTEM if operations is BY_MONITOR else SystemKind.QSD


def text_of(operations: tuple[Operation, ...], words: Words, capabilities: Capabilities) -> str:
    what = trace(operations, kind_of(operations))
    return iotest(compiled(what, in_the_end(what), lambda images: Machine(images, capabilities),
                           "99", words))


def run(text: str, build: Build) -> subprocess.CompletedProcess[str]:
    """As ``./check`` would."""
    with Workspace() as workspace:
        file = workspace.file("reproducer")
        file.write_text(text, encoding="utf-8")
        variables = {name: value for tool in build.tools.values()
                     for name, value in tool.env.items()}
        variables |= {name: shlex.join(build.tool(tool).argv) for name, tool in PROGRAMS.items()
                      if build.has(tool)}
        return subprocess.run(
            [sys.executable, file], cwd=workspace.path, capture_output=True, text=True,
            check=False, timeout=120, env={
                **os.environ, **variables, "PYTHONPATH": str(LAB),
                "TEST_DIR": str(workspace.path), "SOCK_DIR": str(workspace.path)})


# Run


@pytest.mark.parametrize("words", WORDS, ids=["qemu-io", "libnbd"])
@pytest.mark.parametrize("operations", [THOROUGH, KILLED, BY_MONITOR],
                         ids=["thorough", "killed", "by-monitor"])
def test_a_qemu_that_does_as_the_model_says_passes(
        words: Words, operations: tuple[Operation, ...], subject: Subject) -> None:
    if kind_of(operations) is SystemKind.QEMU_SYSTEM and not subject.build.has(SYSTEM):
        pytest.skip(f"no {SYSTEM}")
    done = run(text_of(operations, words, subject.profile.capabilities), subject.build)
    assert (done.returncode, done.stdout) == (0, OUTPUT), done.stderr


@pytest.mark.parametrize("name", [
    "snapshot_reads_source_before_done_run_ends", "empty_merge_crashes",
    "refused_enable_disables"])
def test_it_fails_on_a_qemu_with_the_defect_and_passes_on_others(
        name: str, subject: Subject) -> None:
    probe = next(each for each in PROBES if each.capability == name)
    what = trace(probe.operations, images=probe.configuration)
    believed = dataclasses.replace(subject.profile.capabilities, **{name: False})
    with subject.grounds[0].open() as real:
        stand = Stand(real.start, lambda images: Machine(images, believed))
        failure = replay(what, stand)
        has = name in subject.profile.defects
        assert has is not isinstance(failure, Conforms)
        if isinstance(failure, Conforms):
            failure = in_the_end(what)
        script = compiled(what, failure, stand.model, "99", WORDS[0])
    done = run(iotest(script), subject.build)
    if has:
        assert done.returncode == 1
        assert done.stdout == ""
        assert "FAILED (" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, OUTPUT), done.stderr


def test_what_is_expected_wrongly_fails(subject: Subject) -> None:
    text = text_of(THOROUGH, WORDS[0], subject.profile.capabilities)
    assert "'read -P 1 " in text
    done = run(text.replace("'read -P 1 ", "'read -P 2 "), subject.build)
    assert done.returncode == 1
    assert "Pattern verification failed" in done.stderr


# Looked at


@pytest.mark.parametrize(("linter", "arguments"), [
    # Only here are there several, which are alike.
    ("pylint", ["--rcfile", "pylintrc", "--disable", "duplicate-code"]),
    ("mypy", ["--config-file", "mypy.ini", "--no-incremental"])])
def test_linters_have_nothing_to_say(linter: str, arguments: list[str], tmp_path: Path) -> None:
    if importlib.util.find_spec(linter) is None:
        pytest.skip(f"no {linter} here; tox -e lint has it")
    for each in LAB.iterdir():
        if each.is_file():
            shutil.copy(each, tmp_path)
    files = []
    for number, (words, operations) in enumerate(
            (words, each) for words in WORDS for each in (THOROUGH, KILLED, BY_MONITOR)):
        files.append(f"reproducer-{number}")
        (tmp_path / files[-1]).write_text(text_of(operations, words, Capabilities()))
    done = subprocess.run([sys.executable, "-m", linter, *arguments, *files], cwd=tmp_path,
                          check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
