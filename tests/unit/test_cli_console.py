# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said while a command runs, and the summary at its end."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pexpect
import pytest

from harness.cli import builds
from harness.cli.console import HEARTBEAT, Progress
from harness.cli.main import main
from harness.cli.results import Divergence, Result
from harness.cli.summary import show
from harness.exploration.load import Load
from harness.exploration.subjects import Subject
from harness.exploration.tally import Find, Tally
from harness.invocation import command
from harness.lockstep.trace import Header, Trace
from harness.systems.capabilities import Profile
from harness.systems.known_defects import KNOWN
from model.capabilities import Capabilities
from model.configuration import Configuration
from tests.unit.cli_lab import TODAY, fake_build, with_environment

FIND = Find("tails", 0, Trace(Header(Configuration(())), ()), ("x",), "x")


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_long_run_says_that_it_lives(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tally = Tally()
    with Progress(clock) as progress:
        progress.phase("verifying")
        progress.expect(("tails", "access", "jobs"), 3600.0, None)
        for _ in range(360):
            clock.now += 10
            tally.steps += 1000
            tally.areas += Counter({"tails": 1000})
            progress.tally(tally)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "harness: verifying"
    assert len(lines) == 3600 / HEARTBEAT
    assert re.fullmatch(r"harness: verifying: 6,000 steps, 100/s, rules 0/\d+, "
                        r"areas 1/3 \(tails\), 3540 s left", lines[0])
    assert lines[-1].endswith(" 0 s left")


def test_a_short_run_says_its_phases_only(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(clock) as progress:
        for phase in ("probing", "verifying"):
            progress.phase(phase)
            for _ in range(4):
                clock.now += HEARTBEAT / 5
                progress.tally(Tally(steps=1))
                progress.note("a divergence")
    assert capsys.readouterr().err.splitlines() == ["harness: probing", "harness: verifying"]


def test_time_is_left_for_the_steps_that_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(clock) as progress:
        progress.phase("verifying")
        progress.expect(("tails",), None, 600)
        clock.now += HEARTBEAT
        progress.tally(Tally(steps=200, finds={FIND.key: FIND}))
    (_, line) = capsys.readouterr().err.splitlines()
    assert "1 finding" in line
    assert line.endswith(" 120 s left")


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_has_a_live_line(environment: dict[str, str], tmp_path: Path) -> None:
    arguments = ["-m", "harness", "verify", "--simulated", "--area", "tails,access", "--workers",
                 "1", "--no-directed", "--steps", "2000", "-vv"]
    with pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=60, cwd=tmp_path,
                       dimensions=(24, 160),
                       env=with_environment({"TERM": "xterm-256color", "COLUMNS": "160",
                                             "LINES": "24", **environment})) as run:
        run.expect(pexpect.EOF)
        said = run.before
    assert re.search(r"rules \d+/\d+, areas [12]/2 \((tails|access)\), \d+ s left", said)
    assert re.search(r"(tails|access) on simulated, trace \d+: \d+ steps", said)
    assert "CONFORMS" in said
    coloured = re.search("\x1b\\[[0-9;]*3[0-9]", said)
    assert bool(coloured) is not ("NO_COLOR" in environment)


def result(defects: tuple[str, ...] = (), divergences: int = 0) -> Result:
    made = Result(fake_build(), Profile(TODAY, defects), 1, ("tails",), elapsed=60.0,
                  load=Load(rounds=16, requests=24000, seconds=3.0),
                  not_checked=["167 of 231 directed checks: the budget was spent before they were "
                               "done"])
    made.divergences += [
        Divergence("tails", f"diverges at operation {number}", number, Path("t.jsonl"),
                   system="qsd", lines=("     src: 64k raw", "   1 export src"))
        for number in range(divergences)]
    return made


def rows(text: str, width: int = 80) -> int:
    """How many rows of a terminal the text takes."""
    return sum(max(1, -(-len(line) // width)) for line in text.splitlines())


def test_a_summary_fits_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    defects = tuple(sorted(KNOWN, key=len))[-16:]
    show(result(defects))
    said = capsys.readouterr().out
    assert rows(said) < 24
    for name in defects:
        assert name.replace("_", "-") in said
    assert "CONFORMS, but for 16 known defects" in said
    show(result(defects), verbose=True)
    said = capsys.readouterr().out
    assert all(f"  {name.replace('_', '-')}: " in said for name in defects)


def test_many_divergences_are_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(result(divergences=6))
    said = capsys.readouterr().out
    assert said.count("replay it: ") == 3
    for number in range(6):
        assert f"diverges at operation {number}\n" in said
    show(result(divergences=6), verbose=True)
    assert capsys.readouterr().out.count("replay it: ") == 6


def test_what_does_it_again_names_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    made = result()
    made.divergences.append(Divergence("tails", "diverges", 1, Path("t.jsonl"), system="qsd",
                                       reproducer=Path("t.sh")))
    for build, on, folder in ((fake_build("PATH"), "", ""), (
            fake_build("my build"), " --qemu-build 'my build'", " /nowhere")):
        made.build = build
        show(made)
        said = capsys.readouterr().out
        assert f"  replay it: {command(f'replay t.jsonl{on}')}\n" in said
        assert f"  without the harness: sh t.sh{folder}\n" in said


@pytest.mark.parametrize(("environment", "pythons", "way"), [
    ("verify", "", "tox -e harness --"), ("harness", "", "tox -e harness --"),
    ("tests", "", "tox -e harness --"), ("somebody-elses", "", f"{sys.executable} -m harness"),
    ("", "python3", "python3 -m harness"), ("", "python python3", "python -m harness")])
def test_what_does_it_again_works_where_it_is_read(
        environment: str, pythons: str, way: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TOX_ENV_NAME", environment)
    monkeypatch.setattr(shutil, "which", dict.fromkeys(pythons.split(), sys.executable).get)
    show(result(divergences=1))
    assert f"  replay it: {way} replay t.jsonl " in capsys.readouterr().out


def test_builds_stand_side_by_side_in_full(monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    suites = ["debian:bookworm-backports", "debian:trixie-backports"]
    monkeypatch.setattr(builds, "fetched", lambda: suites)
    monkeypatch.setattr(builds, "find", lambda spec: fake_build(spec or "PATH"))
    monkeypatch.setattr(builds, "subject_of",
                        lambda build: Subject(build, Profile(TODAY), (), ()))
    assert main(["builds", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    names = [line.split()[0] for line in lines if line.startswith("  ") and line.strip()]
    for each in fields(Capabilities):
        assert each.name.replace("_", "-") in names
    can, defects = (next(index for index, line in enumerate(lines) if line.startswith(title))
                    for title in ("can do", "known defects"))
    empty, = (index for index, line in enumerate(lines) if line.startswith("  empty-merge-crash"))
    assert 0 < can < defects < empty
