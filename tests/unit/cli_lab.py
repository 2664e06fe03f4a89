# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the command line: in this process against simulated builds, or as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import user_cache
from harness.builds import STORAGE_DAEMON, Build, Tool
from harness.cli import single, verify
from harness.exploration.building import Plan
from harness.exploration.grounds import SimulatedGround
from harness.exploration.subjects import Subject
from harness.systems.capabilities import Profile
from harness.systems.probes import Found
from model.capabilities import Capabilities

ROOT = Path(__file__).parents[2]
TODAY = Capabilities()
FULL = SimpleNamespace(total=1 << 30, used=(1 << 30) - (1 << 20), free=(1 << 20) - 1)
"""What ``shutil.disk_usage`` says of a disk that is nearly full."""


def fake_build(name: str = "simulated") -> Build:
    tool = Tool(STORAGE_DAEMON, Path("/nowhere") / STORAGE_DAEMON,
                (f"/nowhere/{STORAGE_DAEMON}",), "99.0 (simulated)")
    return Build(name, Path("/nowhere"), "99.0 (simulated)", {STORAGE_DAEMON: tool})


def simulate(monkeypatch: pytest.MonkeyPatch, lie: str | None = None, truthful_for: int = 0,
             defects: tuple[str, ...] = (), strange: tuple[Found, ...] = ()) -> None:
    """Let every build that is asked for be a simulated one."""
    def subject_of(build: Build, *, cache: bool = True, deadly: bool = True) -> Subject:
        ground = SimulatedGround(Plan(), lie, truthful_for)
        profile = Profile(TODAY, defects, strange)
        return Subject(build, profile, (ground,), ("what simulations lack",
                                                       *(() if deadly else ("what kills",))))  # type: ignore

    # What a killed run of somebody else has left in the user's cache is no affair of tests.
    monkeypatch.setattr(verify, "bring_back", lambda folder: None)
    for module in (verify, single):
        monkeypatch.setattr(module, "find", lambda spec: fake_build(spec or "PATH"))
        monkeypatch.setattr(module, "subject_of", subject_of)


def harness(*arguments: str | Path, cwd: Path,
            **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m harness`` to its end, with a cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        _share_builds(Path(cache))
        return subprocess.run([sys.executable, "-m", "harness", *map(str, arguments)],
                              cwd=cwd, timeout=120, check=False, capture_output=True, text=True,
                              env=with_environment({"XDG_CACHE_HOME": cache, **environment}),
                              stdin=subprocess.DEVNULL)


def _share_builds(cache: Path) -> None:
    """What is known of builds is the user's; what runs have left that were killed is not heard."""
    (cache / "cbw-lockstep").mkdir()
    for name in ("builds", "luks", "probes"):
        user_cache.place(name).mkdir(parents=True, exist_ok=True)
        (cache / "cbw-lockstep" / name).symlink_to(user_cache.place(name))


def with_environment(changes: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def is_one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text
