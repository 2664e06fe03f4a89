# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds that no trace shows by itself: what is handed over of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import load as parts
from harness.cli.main import main
from harness.cli.parser import parse
from harness.cli.results import Divergence, Result
from harness.cli.summary import show
from harness.exploration.breakpoints import SCENARIOS
from harness.exploration.building import Plan
from harness.exploration.directed.ends import ENDS
from harness.exploration.grounds import RealGround
from harness.exploration.kills import Kills
from harness.exploration.load import Load
from harness.invocation import command, program
from harness.lockstep.trace import load
from harness.systems.capabilities import Profile
from model.capabilities import Capabilities
from tests.unit.cli_lab import fake_build


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> Result:
    @contextlib.contextmanager
    def nothing(*arguments: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(parts, "starter", nothing)
    return Result(fake_build("my build"), Profile(Capabilities()), 7, ("concurrency",))


def forge(monkeypatch: pytest.MonkeyPatch, name: str, found: Any) -> None:
    monkeypatch.setattr(parts, name, lambda *arguments: found)


def can_be_done_again(divergence: Divergence) -> list[str]:
    words = divergence.repeat.replace("'my build'", "my-build").split()
    verify = words.index("verify")
    assert words[:verify] == program().split()
    options = parse(words[verify:])
    assert options.seed == 7
    assert options.steps == 1
    return words


def test_load(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(monkeypatch, "put_load", Load(violations=["it leaks"], place=("src: 8M raw", "round 2")))
    parts.verify_load(result, 12.5)
    (found,) = result.divergences
    assert found.summary == "under load: it leaks"
    assert found.lines == ("src: 8M raw", "round 2")
    assert can_be_done_again(found)[-3:] == ["--no-directed", "--load", "12.5"]


def test_kills(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(monkeypatch, "kill_rounds", Kills(9, 8, violations=["it is lost"], place=("round 9",)))
    parts.verify_kills(result, 20)
    (found,) = result.divergences
    assert found.lines == ("round 9",)
    assert can_be_done_again(found)[-2:] == ["--kill-rounds", "9"]


@pytest.mark.parametrize(("check", "verify", "count", "then"), [
    ("check_end", parts.verify_ends, len(ENDS),
     "then: quit with requests under way: QEMU hangs up on its clients and ends what they had "
     "begun, then itself."),
    ("check", parts.verify_breakpoints, len(SCENARIOS),
     "then: the same on qemu-system, whose blkdebug holds the requests"),
])
def test_what_follows_a_schedule(
        check: str, verify: Any, count: int, then: str, result: Result, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    forge(monkeypatch, check, ["it does not wait"])
    verify(result, tmp_path / "found")
    assert len(result.divergences) == count
    first = result.divergences[0]
    assert first.lines[-1] == then
    assert first.trace is not None
    assert f"{load(first.trace).steps[-1].number:4}" == first.lines[-2][:4]
    can_be_done_again(first)
    assert main(["replay", str(first.trace), "--simulated"]) == 0, "the schedule itself is well"
    capsys.readouterr()
    show(result)
    said = capsys.readouterr().out
    assert (f"  what leads there: {command(f'replay {first.trace} --qemu-build ')}"
            "'my build'\n") in said
    assert f"  do it again: {first.repeat}\n" in said


def test_what_a_short_load_cannot_tell_is_said(result: Result) -> None:
    grounds = [RealGround(result.build, Plan())]
    (text,) = parts.growth_unseen(result, grounds, 5)
    assert text == "whether QEMU's memory grows: that takes a load of 100 s (--load 100)"
    assert parts.growth_unseen(result, grounds, 100) == []
    result.areas = ("tails",)
    assert parts.growth_unseen(result, grounds, 5) == []
