# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules that a real QEMU has fired are remembered; the others are listed first."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.exploration import confirmed
from model.block_copy import BlockCopy
from model.configuration import Configuration, Fault, Image, RequestKind
from model.machine import Machine
from model.operations import AddFilter, Export, Write
from tests.unit.cli_lab import simulate

K = 1024


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_counts_add_up_by_version() -> None:
    assert confirmed.load() == {}
    confirmed.add("9.9", {"a": 1, "b": 2})
    confirmed.add("9.9", {"b": 3})
    confirmed.add("10.0", {"a": 1})
    assert confirmed.load() == {"9.9": {"a": 1, "b": 5}, "10.0": {"a": 1}}


@pytest.mark.parametrize("text", ["", "[]", '{"9.9": 3}', '{"9.9": {"a": null}}'])
def test_a_file_that_is_not_ours_is_nothing(text: str) -> None:
    confirmed.file().parent.mkdir(parents=True)
    confirmed.file().write_text(text)
    assert confirmed.load() == {}


def test_what_never_fired_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    confirmed.add("9.9", {"cbw.failed-copy": 1234})
    assert main(["rules", "cbw.failed-copy", "cbw.timeout"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("never fired on a real QEMU by verify, as far as is known here: 1\n")
    assert said.index("cbw.timeout") < said.index("cbw.failed-copy")
    assert "fired: 1,234 on 9.9" in said


def test_a_simulation_confirms_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--steps", "20", "--workers", "1", "--no-directed"]) == 0
    capsys.readouterr()
    assert confirmed.load() == {}


CONSEQUENCES = {"cbw.timeout", "block-copy.memory", "block-copy.waits-for-others",
                "block-copy.failed-clusters-come-back", "node.writes-are-widened"}


def _fired(*faults: Fault) -> set[str]:
    machine = Machine(Configuration((
        Image("src", 256 * K, filled=((0, 256 * K),)), Image("tmp", 256 * K, faults=faults))))
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp", cbw_timeout=3), Export("cbw"),
            Write("cbw", 0, 512)), start=1):
        machine.apply(number, operation)
    return set(machine.rules)


def test_rules_fire_when_they_decide_something() -> None:
    """A copy that nothing befalls says nothing about time-outs, memory, others and failures."""
    assert not _fired() & CONSEQUENCES
    assert _fired(Fault(RequestKind.WRITE, 0)) & CONSEQUENCES == {
        "block-copy.failed-clusters-come-back"}


def test_a_copy_waits_for_memory_where_it_is_short() -> None:
    machine = Machine(Configuration((Image("src", 256 * K), Image("tmp", 256 * K))))
    machine.apply(1, AddFilter("cbw", "src", "tmp"))
    copy: BlockCopy = machine.graph.nodes["cbw"].block_copy  # type: ignore[attr-defined]
    copy.memory = 0
    assert not copy._until_there_is_memory(1).condition()
    copy.memory = 1
    assert copy._until_there_is_memory(1).condition()
