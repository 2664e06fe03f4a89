# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus: a trace of each kind of find, the shortest, done first by later runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.cli import verify
from harness.cli.main import main
from harness.exploration import corpus
from harness.exploration.building import Plan
from harness.exploration.campaign import Budget, explore
from harness.exploration.explorer import Mission
from harness.exploration.grounds import SimulatedGround
from harness.exploration.investigate import Investigated
from harness.exploration.tally import Find
from harness.lockstep.trace import Header, Step, SystemKind, Trace, load, save
from model.configuration import Configuration, Image
from model.operations import Export, Read, Unexport, Write
from tests.unit.cli_lab import simulate

TRACE = Trace(Header(Configuration((Image("src", 1 << 16),)), SystemKind.SIMULATED), (
    Step(1, Export("src")), Step(2, Write("src", 0, 512)), Step(3, Read("src", 0, 512))))
FIND = Find("access", 0, TRACE, ("diverges", "data"), "wrong")


def test_finds_of_a_kind_share_a_file_and_the_shortest_stays(tmp_path: Path) -> None:
    shorter = dataclasses.replace(TRACE, steps=(TRACE.steps[0], TRACE.steps[2]))
    path = corpus.keep(FIND, TRACE, tmp_path)
    assert corpus.keep(FIND, shorter, tmp_path) == path
    assert corpus.keep(FIND, TRACE, tmp_path) == path
    assert load(path) == shorter


def test_of_as_many_operations_the_simpler_stays(tmp_path: Path) -> None:
    simpler = dataclasses.replace(TRACE, steps=(
        *TRACE.steps[:1], Step(2, Write("src", 0, 1)), *TRACE.steps[2:]))
    for trace in (TRACE, simpler, TRACE):
        path = corpus.keep(FIND, trace, tmp_path)
    assert load(path) == simpler


@pytest.mark.parametrize("other", [
    dataclasses.replace(FIND, area="tails"),
    dataclasses.replace(FIND, signature=("diverges", "errno")),
    dataclasses.replace(FIND, signature=("fails", "SystemCrashed", "Assertion `a' failed")),
    dataclasses.replace(FIND, summary="ERROR: #0 0x1234 in bdrv_co_preadv #1 0x5 in main"),
    dataclasses.replace(FIND, verdict="crash"),
])
def test_finds_of_another_kind_do_not(other: Find) -> None:
    assert corpus.name_of(other) != corpus.name_of(FIND)
    assert corpus.name_of(dataclasses.replace(FIND, elapsed=3.0)) == corpus.name_of(FIND)


def test_what_is_not_a_trace_is_left_alone(tmp_path: Path) -> None:
    corpus.keep(FIND, TRACE, tmp_path)
    (tmp_path / "access-older.jsonl").write_text('{"cbw-lockstep": 99}')
    (each,) = corpus.kept(tmp_path, (SimulatedGround(Plan(SystemKind.SIMULATED)),))
    assert (each.ground, each.area, each.trace) == (0, "access", TRACE)
    assert corpus.kept(tmp_path / "none", ()) == ()


@pytest.mark.parametrize("workers", [1, 2])
def test_earlier_finds_come_first_and_change_nothing_else(workers: int) -> None:
    impossible = dataclasses.replace(TRACE, steps=(*TRACE.steps[1:], Step(4, Unexport("src"))))
    mission = Mission((SimulatedGround(Plan()),), (1,), ("access",), 7, corpus=(
        corpus.Kept(0, "tails", impossible), corpus.Kept(0, "tails", TRACE)))
    tally = explore(mission, Budget(None, steps=60), workers)
    assert tally.areas["tails"] == len(TRACE.steps), "what is impossible here is not done"
    without = explore(dataclasses.replace(mission, corpus=()), Budget(None, steps=57), 1)
    if workers == 1:
        assert tally.areas["access"] == without.areas["access"]


@pytest.mark.parametrize("looked_into", [0, 1])
def test_a_find_is_kept_before_it_is_shrunk(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        looked_into: int) -> None:
    """Ctrl-C while the second is looked into; the first is kept as small as it was made."""
    monkeypatch.chdir(tmp_path)
    simulate(monkeypatch, "no-error")
    left = iter(range(looked_into))

    def look(kept: Investigated, *arguments: object) -> Investigated:
        if next(left, None) is None:
            raise KeyboardInterrupt
        small = dataclasses.replace(kept.find.trace, steps=kept.find.trace.steps[-1:])
        save(kept.trace.with_suffix(".shrunk.jsonl"), small)
        return dataclasses.replace(kept, shrunk=kept.trace.with_suffix(".shrunk.jsonl"))

    monkeypatch.setattr(verify, "investigate", look)
    assert main(["verify", "--workers", "1", "--area", "access,faults", "--no-directed",
                 "--corpus", "kept", "--steps", "600", "--seed", "1"]) == 130
    lengths = sorted(len(load(path).steps) for path in Path("kept").glob("*.jsonl"))
    assert len(lengths) > 1
    assert (lengths[0] == 1) == bool(looked_into)
    capsys.readouterr()


def test_a_later_run_finds_it_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "SHRINKING", 1.0)
    simulate(monkeypatch, "count-off", truthful_for=4)
    options = ["verify", "--workers", "1", "--area", "access", "--no-directed", "--corpus", "kept"]
    assert main([*options, "--steps", "60", "--seed", "1", "--json", "out.json"]) == 1
    assert json.loads(Path("out.json").read_text())["pairs_of_rules"] > 0
    kept = list(Path("kept").glob("access-*.jsonl"))
    assert kept
    assert main([*options, "--steps", "1", "--seed", "2", "--json", "out.json"]) == 1
    result = json.loads(Path("out.json").read_text())
    assert result["traces"] == len(kept), "all that is kept is done, and then the budget is spent"
    assert result["divergences"][0]["elapsed_s"] is not None
    assert 0 <= result["drawing_share"] <= 1
    assert main([*options[:-2], "--no-corpus", "--steps", "1", "--seed", "2"]) in (0, 1)
    capsys.readouterr()


def test_a_corpus_that_cannot_be_written_costs_no_verdict(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "SHRINKING", 1.0)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(corpus, "default_folder", lambda: tmp_path / "file" / "below")
    monkeypatch.setattr(verify, "build_of", lambda ground: True)  # as for a real build
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no rule was confirmed by that
    simulate(monkeypatch, "count-off", truthful_for=4)
    options = ["verify", "--workers", "1", "--area", "access,tails", "--no-directed", "--steps",
               "60", "--seed", "1"]
    assert main(options) == 1
    said = capsys.readouterr()
    assert "DIVERGES" in said.out
    assert said.err.count(f"cannot keep finds in {tmp_path}/file/below: Not a directory") == 1
    assert "--corpus chooses another place\n" in said.err
    assert main([*options, "--corpus", "file"]) == 2, "one that was asked for must be fit for it"
    said = capsys.readouterr()
    assert said.err == ("harness: cannot write to file: it is not a folder; --corpus chooses "
                        "another place\n")
