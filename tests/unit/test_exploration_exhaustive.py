# SPDX-License-Identifier: GPL-2.0-or-later
"""The exhaustive mode: every sequence once, on clusters of its own, counted; and it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.exploration import exhaustive
from harness.exploration.building import Plan
from harness.exploration.campaign import Budget, explore
from harness.exploration.explorer import Mission
from harness.exploration.grounds import SimulatedGround
from model.capabilities import Capabilities
from model.operations import Request, Via
from tests.unit.cli_lab import simulate


def test_each_sequence_comes_once() -> None:
    every = [exhaustive.sequence(index) for index in range(exhaustive.count(2))]
    assert len(every) == len(set(every)) == 75 + 75 ** 2 == exhaustive.count(2)
    assert [len(each) for each in every] == [1] * 75 + [2] * 75 ** 2


def test_ranges_are_where_it_matters() -> None:
    cluster = exhaustive.CLUSTER
    assert {(0, 512), (cluster - 512, 512), (cluster, cluster), (cluster - 512, 1024),
            (0, 3 * cluster)} <= set(exhaustive.RANGES)
    assert len(set(exhaustive.RANGES)) == 15


def test_sequences_have_clusters_of_their_own() -> None:
    made = exhaustive.trace(Plan(channels=tuple(Via)), 2, 2)
    requests = [step.operation for step in made.steps if isinstance(step.operation, Request)]
    room = exhaustive.CLUSTERS * exhaustive.CLUSTER
    owners = [each.offset // room for each in requests]
    assert owners == sorted(owners)
    assert set(owners) == set(range(exhaustive.TOGETHER))
    assert all((each.offset + each.length - 1) // room == owner
               for each, owner in zip(requests, owners, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_run_ends_when_all_is_done(workers: int) -> None:
    mission = Mission((SimulatedGround(Plan()),), (1,), (exhaustive.AREA,), 0, exhaustive=1)
    tally = explore(mission, Budget(None), workers)
    assert tally.finds == {}
    assert tally.traces == exhaustive.traces(1) == 2
    assert tally.operations["write"] + tally.operations["zero"] == 30
    assert list(exhaustive.undone(Plan(), 1, tally.traces)) == []


def test_a_lie_is_found() -> None:
    ground = SimulatedGround(Plan(), "wrong-byte", truthful_for=60)
    mission = Mission((ground,), (1,), (exhaustive.AREA,), 0, exhaustive=2)
    assert explore(mission, Budget(None, finds=1)).finds


def test_what_is_left_out_is_counted() -> None:
    old = Plan(capabilities=Capabilities(
        min_cluster_size=False, snapshot_discard_rounds_inwards=False,
        unaligned_snapshot_discard_aborts=True))
    # Of the snapshot discards only those of whole clusters do no harm.
    assert exhaustive.left_out(old, 1) == 11
    assert exhaustive.left_out(old, 2) == exhaustive.count(2) - 64 - 64 ** 2
    spent, deadly = exhaustive.undone(old, 2, 10)
    assert spent == "5,060 of all 5,700 sequences of up to 2 operations: the budget was spent"
    assert deadly.startswith("1,540 of all 5,700 sequences")


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                     capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--exhaustive", "1", "--workers", "1", "--json", "out.json"]) == 0
    said = capsys.readouterr()
    assert "all 75 sequences of up to 1 operation\n" in said.err
    assert json.loads(Path("out.json").read_text())["not_checked"] == ["what simulations lack"]
