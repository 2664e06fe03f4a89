# SPDX-License-Identifier: GPL-2.0-or-later
"""Two builds compared: capabilities explain what they explain, and nothing else is hidden."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.cli import compare as command
from harness.cli.main import main
from harness.exploration.areas import Area, named
from harness.exploration.building import Plan
from harness.exploration.differential import Comparison, common_plan, compare, telling
from harness.exploration.grounds import SimulatedGround
from harness.exploration.subjects import Subject
from harness.lockstep.trace import SystemKind
from harness.systems.capabilities import Profile
from model.capabilities import Capabilities
from tests.unit.cli_lab import fake_build

TODAY = Capabilities()
OLD = Capabilities(min_cluster_size=False, copy_bitmap_on_filter=False,
                   snapshot_discard_rounds_inwards=False,
                   snapshot_reads_source_before_done_run_ends=True,
                   unaligned_snapshot_discard_aborts=True)
AREAS: tuple[Area, ...] = tuple(map(named, ("access", "discard", "options", "tails")))


def _compared(first: SimulatedGround, second: SimulatedGround, traces: int = 24) -> Comparison:
    found = Comparison()
    for found in compare((first, second), AREAS, seed=1):
        if found.traces >= traces:
            break
    return found


def test_equal_builds_do_not_differ() -> None:
    ground = SimulatedGround(Plan())
    found = _compared(ground, ground)
    assert (found.explained, found.unexplained) == ({}, {})
    assert found.steps > 500


def test_capabilities_explain_differences() -> None:
    found = _compared(SimulatedGround(Plan(capabilities=OLD)), SimulatedGround(Plan()))
    assert found.unexplained == {}
    assert {"copy_bitmap_on_filter", "min_cluster_size"} <= set(found.explained)
    assert "add-filter" in found.explained["min_cluster_size"].operations


@pytest.mark.parametrize("side", [0, 1])
def test_the_one_that_lies_is_named(side: int) -> None:
    grounds = [SimulatedGround(Plan()), SimulatedGround(Plan())]
    grounds[side] = SimulatedGround(Plan(), "wrong-byte", truthful_for=10)
    found = _compared(*grounds)
    assert found.unexplained
    for each in found.unexplained.values():
        assert each.side == side
        assert each.other == "conforms"
        assert "diverges" in each.summary


def test_no_trace_kills_either() -> None:
    plan = common_plan(Plan(), Plan(capabilities=OLD))
    assert plan.capabilities.unaligned_snapshot_discard_aborts
    assert plan.capabilities.min_cluster_size
    assert common_plan(Plan(capabilities=OLD), Plan()).capabilities == OLD


@pytest.mark.parametrize(("lie", "code"), [(None, 0), ("count-off", 1)])
def test_the_command(lie: str | None, code: int, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def subject_of(build: object) -> Subject:
        old = str(build).startswith("Build(name='old'")
        plan = Plan(capabilities=OLD if old else TODAY)
        ground = SimulatedGround(plan, None if old else lie, 5)
        build = fake_build("old" if old else "new")
        return Subject(build, Profile(plan.capabilities), (ground,), ())  # type: ignore

    monkeypatch.setattr(command, "find", fake_build)
    monkeypatch.setattr(command, "subject_of", subject_of)
    file = tmp_path / "out.json"
    assert main(["compare", "old", "new", "--steps", "600", "--seed", "1", "--area",
                 "options,access", "--json", str(file)]) == code
    said = capsys.readouterr().out
    assert re.match(r"99\.0 of old → 99\.0 of new: \d+ observable differences\n", said)
    assert "copy-bitmap-on-filter, only 99.0 of new: " in said
    assert ("the model sides with 99.0 of old" in said) is bool(code)
    result = json.loads(file.read_text())
    assert "copy-bitmap-on-filter" in [each["capability"] for each in result["explained"]]
    assert bool(result["unexplained"]) is bool(code)


def test_what_tells_two_builds_apart_is_compared_first() -> None:
    first = list(telling(OLD, TODAY, SystemKind.SIMULATED))
    assert first
    found = Comparison()
    grounds = SimulatedGround(Plan(capabilities=OLD)), SimulatedGround(Plan())
    for found in compare(grounds, AREAS, 1, first):
        if found.traces == len(first):
            break
    assert {"copy_bitmap_on_filter", "snapshot_discard_rounds_inwards"} <= set(found.explained)
    assert list(telling(TODAY, TODAY, SystemKind.SIMULATED)) == []
