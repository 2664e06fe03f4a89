# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.processes import Child, backtrace
from tests.unit.fake_builds import write_script

needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")


@needs_gdb
def test_live_process_goes_on() -> None:
    with Child(("sleep", "1000")) as child:
        text = backtrace.of_process(child.pid)
        assert text is not None
        assert text.startswith("Thread 1 ")
        assert "nanosleep" in text
        assert child.exit is None


@needs_gdb
def test_nothing_to_see(tmp_path: Path) -> None:
    assert backtrace.of_core(Path("/bin/true"), tmp_path / "core") is None


def test_without_gdb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert backtrace.of_process(os.getpid()) is None


def test_slow_gdb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_script(tmp_path / "gdb", "exec sleep 1000")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert backtrace.of_process(os.getpid(), timeout=0.1) is None
