# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage of QEMU's lines: what the processes of a run count, as gcov tells it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, find
from harness.cli import verify
from harness.cli.main import main
from harness.errors import EnvironmentProblem
from harness.exploration import campaign, coverage
from harness.exploration.coverage import Gauge, Reached, reached
from harness.exploration.explorer import Mission
from harness.exploration.tally import Tally
from harness.processes import run
from tests.unit.cli_lab import is_one_line, simulate
from tests.unit.fake_builds import write_script, write_tool

pytestmark = pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("gcov")),
                                reason="no gcc, no gcov")

MAIN = "block/backup.c"
SOURCE = """#include <stdio.h>
int main(int count, char **words)
{
    if (count > 1) {
        puts("qemu-storage-daemon version 9.8.7 (counting)");
        return 0;
    }
    return 3;
}
"""


def _compile(qemu: Path, *, source: str = SOURCE, link: bool = True) -> Path:
    """A storage daemon of one file, which counts its lines, in the way of meson; its tree."""
    tree = qemu / "build"
    compiled = "libblock.a.p/block_backup.c.o"
    for file in (qemu / MAIN, tree / compiled):
        file.parent.mkdir(parents=True, exist_ok=True)
    (qemu / MAIN).write_text(source)
    commands = [["-c", f"../{MAIN}", "-o", compiled], [compiled, "-o", STORAGE_DAEMON]]
    for words in commands if link else commands[:1]:
        subprocess.run(["gcc", "--coverage", *words], cwd=tree, check=True)
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The build tree of a QEMU that counts its lines."""
    return _compile(tmp_path / "qemu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a run keeps its counts."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def test_what_a_run_executes(tree: Path, folder: Path) -> None:
    gauge = Gauge(tree, folder)
    tool = gauge.on(find(str(tree))).tool(STORAGE_DAEMON)
    # It has been asked for its version.
    assert reached(gauge.read()) == {MAIN: Reached(4, 5)}
    assert run(tool.argv, env=tool.env).exit.code == 3
    assert gauge.read() == {MAIN: {2: 2, 4: 2, 5: 1, 6: 1, 8: 1}}


def test_what_was_executed_since_it_was_last_asked(tree: Path, folder: Path) -> None:
    gauge = Gauge(tree, folder)
    tool = gauge.on(find(str(tree))).tool(STORAGE_DAEMON)
    taken = []
    for words in ([], ["--version"]):
        run([*tool.argv, *words], env=tool.env)
        taken.append({number for _, number in gauge.taken()})
    assert taken == [{2, 4, 5, 6, 8}, {2, 4, 5, 6}], "at first, the check of the gauge is in it"
    assert gauge.taken() == frozenset(), "nobody has ended"
    run(tool.argv, env=tool.env)
    assert reached(gauge.read(), {(MAIN, 5)}) == {MAIN: Reached(4, 5)}


def test_other_runs_are_not_counted(tree: Path, folder: Path) -> None:
    subprocess.run([tree / STORAGE_DAEMON], check=False)
    gauge = Gauge(tree, folder)
    gauge.on(find(str(tree)))
    assert gauge.read()[MAIN][8] == 0


def test_clients_are_not_counted(tree: Path, folder: Path) -> None:
    shutil.copy(tree / STORAGE_DAEMON, tree / "qemu-img")
    gauge = Gauge(tree, folder)
    tool = gauge.on(find(str(tree))).tool("qemu-img")
    run(tool.argv, env=tool.env)
    assert gauge.read()[MAIN][8] == 0


def test_a_tree_that_was_moved(tree: Path, folder: Path, tmp_path: Path) -> None:
    moved = (tmp_path / "qemu").rename(tmp_path / "elsewhere") / tree.name
    gauge = Gauge(moved, folder)
    gauge.on(find(str(moved)))
    assert gauge.read()[MAIN][4] == 1


def _other_gcc(tree: Path) -> None:
    notes = tree / "libblock.a.p/block_backup.c.gcno"
    data = bytearray(notes.read_bytes())
    data[4:8] = b"*14B"
    notes.write_bytes(data)


@pytest.mark.parametrize(("spoil", "told"), [
    pytest.param(lambda tree: write_tool(tree), "--enable-gcov", id="counts nothing"),
    pytest.param(lambda tree: (tree / "libblock.a.p/block_backup.c.gcno").unlink(),
                 "--enable-gcov", id="another tree"),
    pytest.param(lambda tree: _compile(tree.parent, source=SOURCE.replace("> 1", "== 2"),
                                       link=False), "stamp mismatch", id="compiled since"),
    pytest.param(_other_gcc, "version 'B41*'", id="compiled by another GCC"),
    pytest.param(lambda tree: (tree.parent.parent / "kept/counts").touch(),
                 "cannot keep its counts: profiling:", id="no place for counts"),
])
def test_what_cannot_be_counted_is_a_line(
        tree: Path, folder: Path, spoil: Callable[[Path], object], told: str) -> None:
    spoil(tree)
    with pytest.raises(EnvironmentProblem) as caught:
        Gauge(tree, folder).on(find(str(tree)))
    assert told in str(caught.value)
    assert is_one_line(str(caught.value))


@pytest.mark.parametrize(("script", "told"), [
    (None, "cannot start"),
    ("echo \"gcov: unrecognized option '--json-format'\" >&2; echo usage >&2; exit 1",
     "unrecognized option"),
    ("echo lines executed: 80%", "Expecting value"),
    ("echo '{}'", "files"),
])
def test_a_gcov_that_does_not_answer_is_a_line(
        tree: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        script: str | None, told: str) -> None:
    gcov = tmp_path / "gcov"
    if script is not None:
        write_script(gcov, script)
    monkeypatch.setattr(coverage, "GCOV", str(gcov))
    with pytest.raises(EnvironmentProblem, match=told) as caught:
        Gauge(tree, folder).on(find(str(tree)))
    assert is_one_line(str(caught.value))


@pytest.fixture
def command(tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What verifies a simulation in the name of the build, which only tells its version."""
    simulate(monkeypatch)
    monkeypatch.setattr(verify, "find", find)
    monkeypatch.chdir(tmp_path)
    return ["verify", "--steps", "1", "--workers", "1", "--qemu-build", str(tree),
            "--coverage", str(tree), "--json", "out.json"]


def test_the_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    assert f"lines of QEMU executed: {MAIN} 4 of 5\n" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text())["coverage"] == {MAIN: {"lines": 4, "of": 5}}


def test_a_tree_that_is_made_anew_meanwhile(
        command: list[str], tree: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    def explore(mission: Mission, *others: object) -> Tally:
        _compile(tree.parent, source=SOURCE.replace("> 1", "== 2"))
        return Tally()

    monkeypatch.setattr(campaign, "explore", explore)
    assert main(command) == 0
    assert "which lines of QEMU were executed: gcov cannot tell" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text())["coverage"] is None


def test_a_simulation_has_no_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", "--simulated", "--coverage", str(tmp_path)]) == 2
    assert "executes no lines of QEMU: leave out --coverage" in capsys.readouterr().err
