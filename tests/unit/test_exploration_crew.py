# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers that are stopped: what becomes of the traces that they are at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.exploration import crew
from harness.exploration.batches import Course, Queue
from harness.processes import Workspace
from harness.processes.keeper import CURRENT, PREFIX, cut_off

PATIENCE = 20.0  # seconds


@dataclass(frozen=True)
class Work:
    """Work that leaves its trace behind."""

    def queue(self, deadline: float | None) -> Queue:
        return Queue([], [[1], [2]], deadline)

    def begin(self) -> Means:
        return Means()


class Means:
    """Those of a worker."""

    def __init__(self) -> None:
        self._workspace = Workspace()

    def explore(self, numbers: Sequence[int], deadline: float | None = None,
                course: Course | None = None) -> str:
        self._workspace.file(CURRENT).write_text("a trace")
        return "done"

    def close(self) -> None:
        """Nobody comes to that."""


@pytest.mark.parametrize("told", [True, False])
def test_the_traces_of_workers_are_kept_if_we_are_told_to_end(
        told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(crew, "keeps_traces", lambda: told)
    reports = crew.batches(Work(), None, 1)
    assert next(reports) == "done"
    reports.close()
    deadline = time.monotonic() + PATIENCE
    while list(tmp_path.glob(f"{PREFIX}*")) and time.monotonic() < deadline:
        time.sleep(0.01)  # its guardian is still at it
    assert [each.read_text() for each in cut_off().glob("*")] == ["a trace"] * told
