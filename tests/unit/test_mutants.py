# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of mutants of the model: it can let one live, and it can catch one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harness.exploration.areas import named
from harness.exploration.building import Plan
from harness.exploration.grounds import SimulatedGround
from harness.exploration.traces import TraceSource
from model.operations import Via
from tests.mutants.__main__ import CAUGHT, SURVIVED, judged
from tests.mutants.operators import Mutant, mutants
from tests.mutants.recording import record, save

ROOT = Path(__file__).parents[2]
FILES = ("bitmap", "block_copy", "copy_before_write", "snapshot_access")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a simulation, which serves as well as a QEMU here."""
    file = tmp_path_factory.mktemp("mutants") / "recording"
    plan = Plan(channels=tuple(Via))
    traces = [trace for area in ("bitmaps", "concurrency") for index in range(3)
              if (trace := TraceSource(plan, named(area)).trace(1, index)) is not None]
    records = record(SimulatedGround(plan), 60.0, traces)
    assert any(each.overlapping for each in records)
    save(records, file)
    return file


def test_the_unchanged_model_lives(recording: Path) -> None:
    same = Mutant(0, "", (ROOT / "model/bitmap.py").read_text())
    assert judged(same, "model.bitmap", recording) == SURVIVED


@pytest.mark.parametrize(("old", "new"), [
    ("return number - number % unit", "return number + number % unit"),
    ("SMALLEST_GRANULARITY: Final = 512", "this is no Python"),
])
def test_a_changed_one_is_caught(old: str, new: str, recording: Path) -> None:
    source = (ROOT / "model/bitmap.py").read_text()
    assert old in source
    changed = Mutant(0, "", source.replace(old, new))
    assert judged(changed, "model.bitmap", recording) == CAUGHT


def test_mutants_differ_in_one_place() -> None:
    source = "\n".join(("def f(a: int = 1) -> int:", "    'Text.'", "    if a < 2:", "        g()",
                        "    return a + 1"))
    found = [each.source for each in mutants(source)]
    assert len(found) == len(set(found)) == 8
    expected = {"a <= 2", "not a < 2", "a: int=2", "a < 3", "a - 1", "a + 2", "return None"}
    for text in expected:
        assert sum(text in each for each in found) == 1, text
    assert any("g()" not in each for each in found)
    assert all("Text." in each for each in found)


@pytest.mark.parametrize("name", FILES)
def test_mutants_of_the_model_are_python(name: str) -> None:
    source = (ROOT / f"model/{name}.py").read_text()
    every = list(mutants(source))
    assert len(every) > 10
    for each in every:
        assert ast.dump(ast.parse(each.source)) != ast.dump(ast.parse(source))
