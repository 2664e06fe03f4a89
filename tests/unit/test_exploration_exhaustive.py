# SPDX-License-Identifier: GPL-2.0-or-later
"""The exhaustive mode: every sequence once, on clusters of its own, counted; and it ends."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.exploration import exhaustive
from harness.exploration.batches import Part
from harness.exploration.building import Plan
from harness.exploration.campaign import Budget, explore
from harness.exploration.exhaustive import Graph
from harness.exploration.explorer import Mission
from harness.exploration.grounds import SimulatedGround
from harness.exploration.images import SOURCE
from model.capabilities import Capabilities
from model.machine import Machine
from model.operations import Request, Via
from tests.unit.cli_lab import simulate


def test_each_sequence_comes_once() -> None:
    every = [exhaustive.sequence(index) for index in range(exhaustive.count(2))]
    assert len(every) == len(set(every)) == 90 + 90 ** 2 == exhaustive.count(2)
    assert [len(each) for each in every] == [1] * 90 + [2] * 90 ** 2


def test_ranges_are_where_it_matters() -> None:
    cluster = exhaustive.CLUSTER
    assert {(0, 512), (cluster - 512, 512), (cluster, cluster), (cluster - 512, 1024),
            (0, 3 * cluster)} <= set(exhaustive.RANGES)
    assert len(set(exhaustive.RANGES)) == 15


@pytest.mark.parametrize("graph", range(len(Graph)))
def test_sequences_have_clusters_of_their_own(graph: int) -> None:
    made = exhaustive.trace(Plan(channels=tuple(Via)), 2 * len(Graph) + graph, 2)
    requests = [step.operation for step in made.steps if isinstance(step.operation, Request)
                and step.operation.node != SOURCE]
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
    assert tally.traces == exhaustive.traces(1) == 6
    assert tally.operations["zero"] == tally.operations["status"] == 15 * len(Graph)
    assert tally.sequences == mission.sequences == 90 * len(Graph)
    assert list(exhaustive.undone(1, tally.sequences, tally.killing, mission.sequences)) == []


def test_graphs_make_a_difference() -> None:
    """What is denied on one is read on another; what one keeps another frees."""
    seen = []
    for graph in range(len(Graph)):
        denied = freed = 0
        for number in (graph, len(Graph) + graph):
            made = exhaustive.trace(Plan(), number, 1)
            machine = Machine(made.configuration)
            denied += sum(machine.apply(step.number, step.operation).error is not None
                          for step in made.steps)
            freed += machine.rules["image.discarded-reads-as-zero"]
        seen.append((denied > 0, freed > 0))
    assert seen == [(False, True), (True, True), (False, False)]


@pytest.mark.parametrize(("longest", "of"), [(1, 1), (1, 2), (2, 3), (2, 7)])
def test_parts_have_all_sequences_between_them(longest: int, of: int) -> None:
    mission = Mission((SimulatedGround(Plan()),), (1,), (exhaustive.AREA,), 0, exhaustive=longest)
    parts = [dataclasses.replace(mission, part=Part(number, of)) for number in range(1, of + 1)]
    for part in parts:
        assert part.sequences == sum(exhaustive.within(number, longest)
                                     for batch in part.batches() for number in batch)
    assert sum(part.sequences for part in parts) == 3 * exhaustive.count(longest)


def test_a_lie_is_found() -> None:
    ground = SimulatedGround(Plan(), "wrong-byte", truthful_for=60)
    mission = Mission((ground,), (1,), (exhaustive.AREA,), 0, exhaustive=2)
    assert explore(mission, Budget(None, finds=1)).finds


def test_what_is_left_out_is_counted() -> None:
    old = Plan(capabilities=Capabilities(
        min_cluster_size=False, snapshot_discard_rounds_inwards=False,
        unaligned_snapshot_discard_aborts=True))
    # Of the snapshot discards only those of whole clusters do no harm.
    mission = Mission((SimulatedGround(old),), (1,), (exhaustive.AREA,), 0, exhaustive=1)
    tally = explore(mission, Budget(None))
    assert (tally.sequences, tally.killing) == (3 * (90 - 11), 3 * 11)
    assert sum(exhaustive.deadly(old, number, 2) for number in range(
        exhaustive.traces(2))) == 3 * (exhaustive.count(2) - 79 - 79 ** 2)
    spent, deadly = exhaustive.undone(2, 640, 60, 24_570)
    assert spent == ("23,870 of all 24,570 sequences of up to 2 operations on 3 graphs: the "
                     "budget was spent, or a divergence came first")
    assert deadly.startswith("60 of all 24,570 sequences")


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                     capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--exhaustive", "1", "--workers", "1", "--json", "out.json"]) == 0
    said = capsys.readouterr()
    assert "all 270 sequences of up to 1 operation on 3 graphs\n" in said.err
    assert "; 270 of all 270 sequences of up to 1 operation on 3 graphs\n" in said.out
    assert "seed" not in said.out
    result = json.loads(Path("out.json").read_text())
    assert result["not_checked"] == ["what simulations lack"]
    assert result["sequences"] == 270
    assert main(["verify", "--exhaustive", "2", "--workers", "1", "--part", "1/40",
                 "--seconds", "0.01"]) == 0
    said = capsys.readouterr()
    assert ", part 1/40\n" in said.out
    assert " of all 24,570 sequences of up to 2 operations on 3 graphs: the budget" in said.out
