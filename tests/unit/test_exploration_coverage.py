# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage of QEMU's lines: what a run adds to the counts of a build tree, as gcov tells them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import EnvironmentProblem
from harness.exploration import coverage
from harness.exploration.coverage import Reached
from tests.unit.cli_lab import is_one_line, simulate

GCOV = """#!/bin/sh
test "$*" = "--json-format --stdout libblock.a.p_block_backup.c.gcno" || exit 1
cat counts.json
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build tree whose gcov prints what is in ``counts.json``."""
    gcov = tmp_path / "gcov"
    gcov.write_text(GCOV)
    gcov.chmod(0o755)
    monkeypatch.setattr(coverage, "GCOV", str(gcov))
    (tmp_path / "build").mkdir()
    (tmp_path / "build/libblock.a.p_block_backup.c.gcno").touch()
    return tmp_path / "build"


def _count(tree: Path, *counts: int) -> None:
    lines = [{"line_number": number, "count": count} for number, count in enumerate(counts, 1)]
    (tree / "counts.json").write_text(json.dumps({"files": [
        {"file": "../block/backup.c", "lines": lines},
        {"file": "../include/block/block.h", "lines": [{"line_number": 1, "count": 9}]}]}))


def test_what_was_executed_meanwhile(tree: Path) -> None:
    _count(tree, 5, 0, 0, 2)
    before = coverage.read(tree)
    assert before == {"block/backup.c": {1: 5, 2: 0, 3: 0, 4: 2}}
    _count(tree, 5, 1, 0, 3)
    assert coverage.reached(before, coverage.read(tree)) == {"block/backup.c": Reached(2, 4)}


@pytest.mark.parametrize("spoil", [
    lambda tree: (tree / "libblock.a.p_block_backup.c.gcno").unlink(),
    lambda tree: (tree / "counts.json").write_text("gcov: stamp mismatch"),
    lambda tree: (tree / "counts.json").write_text('{"files": [{"file": "block/backup.c"}]}'),
    lambda tree: (tree / "counts.json").unlink(),
])
def test_what_cannot_be_read_is_a_line(tree: Path, spoil: object) -> None:
    _count(tree, 1)
    spoil(tree)  # type: ignore[operator]
    with pytest.raises(EnvironmentProblem) as caught:
        coverage.read(tree)
    assert is_one_line(str(caught.value))


def test_the_command(tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                     capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    monkeypatch.chdir(tmp_path)
    _count(tree, 1, 0)
    assert main(["verify", "--steps", "1", "--workers", "1", "--coverage", str(tree),
                 "--json", "out.json"]) == 0
    assert "lines of QEMU executed: block/backup.c 0 of 2\n" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text())["coverage"] == {
        "block/backup.c": {"lines": 0, "of": 2}}


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("gcov")), reason="no gcc, no gcov")
def test_gcov_itself(tmp_path: Path) -> None:
    (tmp_path / "block").mkdir()
    (tmp_path / "block/backup.c").write_text(
        "int main(int count, char **words)\n{\n    if (count > 1) {\n        return 2;\n    }\n"
        "    return 0;\n}\n")
    compiled = tmp_path / "build/libblock.a.p/block_backup.c.o"
    compiled.parent.mkdir(parents=True)
    program = str(tmp_path / "build/program")
    for command in (["gcc", "--coverage", "-c", "../block/backup.c", "-o", str(compiled)],
                    ["gcc", "--coverage", str(compiled), "-o", program], [program]):
        if command == [program]:
            nothing = coverage.read(tmp_path / "build")
        subprocess.run(command, cwd=tmp_path / "build", check=True)
    once = coverage.read(tmp_path / "build")
    assert coverage.reached(nothing, once) == {"block/backup.c": Reached(3, 4)}
    assert subprocess.run([program, "more"], check=False).returncode == 2
    assert coverage.reached(once, coverage.read(tmp_path / "build")) == {
        "block/backup.c": Reached(3, 4)}
