# SPDX-License-Identifier: GPL-2.0-or-later
"""``verify`` ended from outside in the middle of its work: nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, SYSTEM
from harness.processes.keeper import PREFIX
from tests.unit.cli_lab import with_environment
from tests.unit.real_lab import real_build

PATIENCE = 90.0  # seconds
EXIT = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 130, signal.SIGINT: 130}

CACHE: dict[str, str] = {}
"""Where traces that were cut off go, and what is known of builds."""


def comes(what: Callable[[], object]) -> bool:
    """Whether it becomes true within the bound."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Verify:
    """``verify`` in a process of its own, all of its temporary files in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.folder = folder
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harness", "verify", "--seed", "1",
                 *(() if "--steps" in arguments else ("--seconds", "600")), *arguments],
                cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=with_environment({"TMPDIR": str(self.temporary), **CACHE}))

    def has(self, pattern: str, count: int = 1) -> bool:
        """Whether there are so many such temporary files."""
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return len(list(self.temporary.glob(pattern))) >= count

    def processes(self) -> list[int]:
        """All that run with its folder for temporary files, itself included."""
        return [int(process.name) for process in Path("/proc").glob("[0-9]*")
                if self._is_ours(process)]

    def _is_ours(self, process: Path) -> bool:
        try:
            return (f"TMPDIR={self.temporary}".encode()
                    in (process / "environ").read_bytes().split(b"\0"))
        except OSError:  # gone, or another user's
            return False

    def close(self) -> None:
        """End what is left, should a test have failed."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module", autouse=True)
def build(tmp_path_factory: pytest.TempPathFactory) -> None:
    real_build(STORAGE_DAEMON, SYSTEM)
    CACHE["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a short name, for sockets are to be in there."""
    # What the test before this one cut off would be brought back here.
    shutil.rmtree(Path(CACHE["XDG_CACHE_HOME"], "cbw-lockstep/cut-off"), ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="end-") as name:
        yield Path(name)


@pytest.fixture
def started(folder: Path) -> Iterator[list[Verify]]:
    found: list[Verify] = []
    yield found
    for each in found:
        each.close()


WHERE = {
    "held storage": (("--area", "concurrency", "--workers", "1"), f"{PREFIX}*/w-*/held", 1),
    "held storage of a worker": (("--area", "concurrency", "--workers", "2"),
                                 f"{PREFIX}*/w-*/held", 2),
    "qemu-system": (("--area", "concurrency", "--workers", "1"), f"{PREFIX}*/w-*/bios", 1),
}


@pytest.mark.parametrize(("where", "end"), [
    *((where, signal.SIGKILL) for where in WHERE),
    *(("held storage of a worker", end) for end in (signal.SIGTERM, signal.SIGINT))])
def test_nothing_stays(where: str, end: signal.Signals, folder: Path,
                       started: list[Verify]) -> None:
    arguments, pattern, count = WHERE[where]
    started.append(verify := Verify(folder, *arguments))
    assert comes(lambda: verify.has(pattern, count))
    assert len(verify.processes()) >= 2
    verify.process.send_signal(end)
    assert verify.process.wait(PATIENCE) == EXIT[end]
    assert comes(lambda: not verify.processes())
    assert comes(lambda: not list(verify.temporary.iterdir()))
    assert {each.name for each in folder.iterdir()} == {"log", "tmp"}
    if end == signal.SIGINT:  # whoever ends it knows that it was at something
        assert not Path(CACHE["XDG_CACHE_HOME"], "cbw-lockstep/cut-off").exists()


def test_workers_whose_budget_is_spent_leave_no_traces(folder: Path,
                                                       started: list[Verify]) -> None:
    started.append(verify := Verify(folder, "--steps", "40", "--workers", "2", "--no-directed",
                                    "--area", "tails"))
    assert verify.process.wait(PATIENCE) == 0
    assert comes(lambda: not list(verify.temporary.iterdir()))
    assert not Path(CACHE["XDG_CACHE_HOME"], "cbw-lockstep/cut-off").exists()


def test_the_next_run_finds_what_nobody_could_clean(folder: Path,
                                                    started: list[Verify]) -> None:
    """Killed together with all of its guardians, as when memory ran out."""
    started.append(verify := Verify(folder, "--area", "concurrency", "--workers", "2"))
    assert comes(lambda: verify.has(f"{PREFIX}*/w-*/held"))
    verify.process.send_signal(signal.SIGSTOP)
    guardians = [each for each in verify.processes()
                 if b"cbw-lockstep-guardian" in Path(f"/proc/{each}/cmdline").read_bytes()]
    assert guardians
    for each in (*guardians, verify.process.pid):
        os.kill(each, signal.SIGKILL)
    verify.process.wait()
    script = "from harness.processes import keeper; keeper()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder,
                   env=with_environment({"TMPDIR": str(verify.temporary), **CACHE}))
    # Workers see by themselves that their parent is gone, and their own keepers clean up.
    assert comes(lambda: not verify.processes())
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder,
                   env=with_environment({"TMPDIR": str(verify.temporary), **CACHE}))
    assert not list(verify.temporary.iterdir())
