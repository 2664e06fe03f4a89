# SPDX-License-Identifier: GPL-2.0-or-later
"""However a process ends, neither its children nor its files stay."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.errors import EnvironmentProblem
from harness.processes import Workspace, keeper
from harness.processes.keeper import CURRENT, PREFIX, Keeper, _claim_directory, cut_off
from harness.processes.workspace import SOCKET_PATH_LIMIT

ROOT = Path(__file__).parents[2]

OWNER = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
from harness.processes import Child, Workspace
from harness.processes.keeper import keeper
workspace = Workspace()
workspace.file("image").write_bytes(b"x" * 1000)
# As a wrapper script that does not exec.
child = Child(("/bin/sh", "-c", "trap '' INT TERM; sleep 1000; true"))
print(keeper()._guardian.pid, child.pid, workspace.path, flush=True)
sys.stdin.readline()
"""


class Owner:
    """A process with a child, a grandchild and a file."""

    def __init__(self, base: Path, rest: str = "signal.pause()") -> None:
        self.witness, writer = os.pipe()
        os.set_inheritable(writer, True)
        script = OWNER.replace('true")', f'true"), pass_fds=[{writer}]')
        self.process = subprocess.Popen(
            (sys.executable, "-c", script + rest),
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(base)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
            text=True,
        )
        os.close(writer)
        assert self.process.stdout is not None
        guardian, child, path = self.process.stdout.readline().split()
        self.guardian, self.child, self.path = int(guardian), int(child), Path(path)
        self.cleaned = os.pidfd_open(self.guardian)
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def gone(self) -> bool:
        """Whether it, its child and grandchild are gone, or go within ten seconds."""
        return _comes(self.witness, select.POLLHUP)

    def guardian_gone(self) -> bool:
        return _comes(self.cleaned, select.POLLIN)

    def finish(self) -> None:
        """Wait until it has ended by itself."""
        self.process.wait(20)
        self.close()

    def close(self) -> None:
        with self.process:
            self.process.kill()
        os.close(self.witness)
        os.close(self.cleaned)


def _comes(descriptor: int, event: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(10_000))


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(tmp_path)
    assert owner.path.is_dir()
    os.kill(owner.child, 0)
    yield owner
    owner.close()


def kill(owner: Owner, base: Path, *, guarded: bool) -> None:
    """Kill a process; without its guardian, which is killed first, the next one cleans up."""
    if not guarded:
        os.kill(owner.guardian, signal.SIGKILL)
        assert owner.guardian_gone()
    owner.process.kill()
    owner.process.wait()
    if not guarded:
        Owner(base, "").finish()


def leftovers(base: Path) -> list[Path]:
    return list(base.glob(PREFIX + "*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_death_by_signal(owner: Owner, tmp_path: Path, number: signal.Signals) -> None:
    owner.process.send_signal(number)
    assert owner.gone()
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []


def test_guardian_is_not_easily_put_off(owner: Owner, tmp_path: Path) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(owner.guardian, number)
    owner.process.kill()
    assert owner.gone()
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("rest", ["", "sys.exit(3)", "1 / 0", "os.abort()", "os._exit(1)"])
def test_end_by_itself(tmp_path: Path, rest: str) -> None:
    owner = Owner(tmp_path, rest)
    assert owner.gone()
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []
    owner.close()


@pytest.mark.parametrize("rest", ["", "sys.exit(3)", "1 / 0"])
def test_a_normal_end_does_not_count_on_the_guardian(tmp_path: Path, rest: str) -> None:
    owner = Owner(tmp_path, f"os.kill(keeper()._guardian.pid, signal.SIGKILL); {rest}")
    owner.finish()
    assert leftovers(tmp_path) == []


def test_fork_does_not_keep_the_guardian_waiting(tmp_path: Path) -> None:
    """A worker that outlives its parent for a while holds nothing of the parent's."""
    owner = Owner(tmp_path, "os.write(1, b'%d\\n' % os.fork()); signal.pause()")
    assert owner.process.stdout is not None
    workers = {int(owner.process.stdout.readline()), int(owner.process.stdout.readline())} - {0}
    owner.process.kill()
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert owner.gone()
    owner.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # The tests' own threads.
def test_forked_child_has_its_own(tmp_path: Path) -> None:
    mine = keeper().directory
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, bytes(keeper().directory))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    theirs = Path(os.fsdecode(os.read(reader, 4096)))
    assert theirs != mine
    assert mine.is_dir()
    os.close(reader)


def test_next_run_sweeps_when_the_guardian_died_too(owner: Owner, tmp_path: Path) -> None:
    os.kill(owner.guardian, signal.SIGKILL)
    assert owner.guardian_gone()
    owner.process.kill()
    owner.process.wait()
    assert leftovers(tmp_path) == [owner.path.parent]
    assert not select.select([owner.witness], [], [], 0)[0], "its child lives on"
    Owner(tmp_path, "").finish()
    assert leftovers(tmp_path) == []
    assert owner.gone(), "its child as well"


@pytest.mark.parametrize("guarded", [True, False])
def test_the_trace_that_a_killed_process_was_in_is_kept(
        tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    owner = Owner(tmp_path)
    (owner.path / CURRENT).write_text("a trace\n")
    kill(owner, tmp_path, guarded=guarded)
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []
    (kept,) = cut_off().iterdir()
    assert (kept.name, kept.read_text()) == (f"{owner.path.name}.jsonl", "a trace\n")
    owner.close()


@pytest.mark.parametrize("guarded", [True, False])
def test_the_trace_of_a_process_that_is_ended_on_purpose_is_not_kept(
        tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    guardian = "" if guarded else "os.kill(keeper()._guardian.pid, signal.SIGKILL)\n"
    owner = Owner(tmp_path, f"workspace.file('{CURRENT}').write_text('a trace')\n{guardian}"
                            "keeper().dismiss()\nos.kill(os.getpid(), signal.SIGKILL)")
    assert owner.process.wait(20) == -signal.SIGKILL
    assert owner.guardian_gone()
    if not guarded:
        assert leftovers(tmp_path) == [owner.path.parent]
        Owner(tmp_path, "").finish()
    assert leftovers(tmp_path) == []
    assert not cut_off().exists()
    owner.close()


@pytest.mark.parametrize(("end", "kept"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_the_trace_of_a_process_that_is_told_to_end_is_kept_unless_by_a_person(
        end: signal.Signals, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    owner = Owner(tmp_path, f"""
from harness.cli.interrupts import heed_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
heed_interrupts()
workspace.file("{CURRENT}").write_text("a trace")
os.kill(os.getpid(), {int(end)})
signal.pause()
""")
    owner.process.wait(20)
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []
    assert [each.read_text() for each in cut_off().glob("*")] == ["a trace"] * kept
    owner.close()


def test_a_process_that_ends_by_itself_leaves_no_trace(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Owner(tmp_path, f"workspace.file('{CURRENT}').write_text('a trace')").finish()
    assert not cut_off().exists()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_child_that_is_in_no_file_yet_is_found(owner: Owner, tmp_path: Path,
                                                 guarded: bool) -> None:
    """As when its parent died between starting it and writing that down."""
    (owner.path.parent / "groups" / str(owner.child)).unlink()
    kill(owner, tmp_path, guarded=guarded)
    assert owner.gone()
    assert owner.guardian_gone()
    assert leftovers(tmp_path) == []


def test_the_living_are_not_swept(owner: Owner, tmp_path: Path) -> None:
    Owner(tmp_path, "").finish()
    assert owner.path.is_dir()


def test_only_directories_of_this_user_are_swept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{PREFIX}file").touch()
    Owner(tmp_path, "").finish()
    assert len(leftovers(tmp_path)) == 2
    assert (tmp_path / "elsewhere").is_dir()


def test_a_directory_that_is_swept_before_it_is_claimed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that begin together: each takes the other's new directory for a dead one's."""
    names = iter(("early", "late", "well"))

    def make(prefix: str) -> str:
        path = tmp_path / next(names)
        path.mkdir()
        if path.name == "early":
            path.rmdir()
        return str(path)

    def lock(descriptor: int, how: int) -> None:
        with suppress(FileNotFoundError):
            (tmp_path / "late").rmdir()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", make)
    monkeypatch.setattr(fcntl, "flock", lock)
    path, descriptor = _claim_directory()
    os.close(descriptor)
    assert path == tmp_path / "well"


def test_one_that_has_closed_can_be_dismissed() -> None:
    one = Keeper()
    one.close()
    one.dismiss()


def test_no_temporary_directory(tmp_path: Path) -> None:
    script = (
        "import tempfile; tempfile.tempdir = '/no/such'\n"
        "from harness.processes import keeper\n"
        "try: keeper()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    out = subprocess.check_output((sys.executable, "-c", script), cwd=ROOT, text=True)
    assert out.startswith("EnvironmentProblem no temporary directory can be made: No such file")


def test_workspace_is_removed() -> None:
    with Workspace() as workspace:
        workspace.file("image").touch()
        assert workspace.file("image").parent == workspace.path
    assert not workspace.path.exists()


def test_workspace_is_kept(tmp_path: Path) -> None:
    with Workspace(keep=tmp_path / "new") as workspace:
        workspace.file("image").touch()
        socket = workspace.socket("qmp")
        assert workspace.path.parent == tmp_path / "new"
        assert socket.parent != workspace.path
        assert socket.parent.is_dir()
    assert workspace.file("image").exists()
    assert not socket.parent.exists()


def test_workspace_in_an_impossible_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match=r"cannot make a folder in .*: Not a directory"):
        Workspace(keep=tmp_path / "file" / "folder")


def test_socket_path_is_short() -> None:
    with Workspace() as workspace:
        room = SOCKET_PATH_LIMIT - len(bytes(workspace.path)) - 1
        assert room > 40
        workspace.socket("s" * room)
        with pytest.raises(EnvironmentProblem, match="set TMPDIR to a shorter path"):
            workspace.socket("s" * (room + 1))
