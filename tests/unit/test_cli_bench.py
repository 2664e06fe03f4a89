# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench`` measures, and says so in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, find
from harness.cli.main import main
from harness.errors import EnvironmentProblem


def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        if not find().has(STORAGE_DAEMON):
            pytest.skip("no qemu-storage-daemon")
    except EnvironmentProblem as why:
        pytest.skip(str(why))
    file = tmp_path / "bench.json"
    assert main(["bench", "--seconds", "0.5", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["ratio"] == pytest.approx(
        figures["lockstep_steps_per_s"] / figures["raw_steps_per_s"], abs=0.01)
    assert 0 < figures["ratio"] < 5
    assert 0 < figures["startup_ms"] < 5000
    assert 10 < figures["resident_mib"] < 200
    assert figures["steps"] >= 100
    assert figures["explored_steps_per_s"] > 0
    assert figures["explored_by_two_steps_per_s"] >= 0, "workers take longer than this to begin"
    assert 0 < figures["drawing_share"] < 1
    said = capsys.readouterr().out
    assert "ratio" in said
