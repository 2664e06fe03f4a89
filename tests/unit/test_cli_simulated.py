# SPDX-License-Identifier: GPL-2.0-or-later
"""``verify --simulated``: from a defect that no build here has to the picture of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.cli import verify
from harness.cli.main import main
from harness.invocation import program
from harness.systems.lies import (
    FORGOTTEN,
    FORGOTTEN_WHEN_STEERED,
    MISDEEDS,
    MISREPORTS,
    catalogue,
    texts,
)
from tests.unit.report_lab import data_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QEMU_BUILD", "/nowhere")
    monkeypatch.setattr(verify, "SHRINKING", 5.0)


def _verify(*arguments: str) -> int:
    return main(["verify", "--workers", "1", "--seed", "1", *arguments])


def test_the_truth_conforms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert _verify("--simulated", "--steps", "3000") == 0
    said = capsys.readouterr().out
    assert "not checked:\n  any QEMU: this is a simulation\n" in said
    assert "CONFORMS\n" in said
    assert not list(tmp_path.iterdir()), "a simulation's finds are not kept for later runs"


@pytest.mark.parametrize(("lie", "area"), [
    ("lost-write", "access"), ("no-wait", "concurrency"), ("lost-answer", "concurrency")])
def test_a_lie_is_found_shown_and_replayed(lie: str, area: str,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify("--simulated", lie, "--area", area, "--steps", "400", "--report", "page.html",
                   "--json", "out.json") == 1
    said = capsys.readouterr().out
    assert f"in which {texts()[lie]}\n" in said
    words = re.findall(rf"replay it: {program()} (.*)", said)
    assert words
    assert words[0].endswith(f" --simulated {lie}")
    assert main(words[0].split()) == 1
    assert f"simulated {lie}\n" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text())["build"]["name"] == f"simulated {lie}"
    page = Path("page.html").read_text()
    assert words[0] in page
    drawn = data_of(page)["traces"][0]["timeline"]
    assert drawn["grids"]
    assert bool(drawn["sequence"]) is (area == "concurrency")


def test_lies_have_names_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(texts()) == (len(catalogue()) + len(FORGOTTEN) + len(FORGOTTEN_WHEN_STEERED)
                            + len(MISREPORTS) + len(MISDEEDS))
    assert _verify("--simulated", "nothing") == 2
    said = capsys.readouterr().err
    assert all(name in said for name in texts())


@pytest.mark.parametrize("arguments", [("--load", "3"), ("--kill-rounds", "3"),
                                       ("--qemu-build", "x")])
def test_what_is_not_for_simulations(arguments: tuple[str, ...],
                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify("--simulated", *arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
