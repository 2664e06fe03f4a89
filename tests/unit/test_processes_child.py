# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, find
from harness.errors import EnvironmentProblem, HarnessError
from harness.processes import Child, keeper, run


def shell(script: str, *, tty_stdout: bool = False, witness: Witness | None = None) -> Child:
    descriptors = [witness.writer] if witness else []
    return Child(("/bin/sh", "-c", script), tty_stdout=tty_stdout, pass_fds=descriptors)


class Witness:
    """Tells when the last process that holds its writing end is gone."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def alone(self) -> bool:
        """Whether all others are gone, or go within five seconds."""
        os.close(self.writer)
        poll = select.poll()
        poll.register(self.reader, 0)
        return bool(poll.poll(5000))


def test_streams_and_status() -> None:
    with shell("echo out; echo err >&2; exit 3") as child:
        end = child.wait(10)
    assert end is not None
    assert (end.code, end.signal, end.stderr) == (3, None, "err\n")
    assert child.stdout.text() == "out\n"
    assert child.exit == end


def test_signal_of_its_own() -> None:
    with shell("kill -SEGV $$") as child:
        end = child.wait(10)
    assert end is not None
    assert (end.code, end.signal) == (None, "SIGSEGV")


def test_name_environment_and_folder(tmp_path: Path) -> None:
    argv = ("/bin/sh", "-c", "pwd; echo $X")
    with Child(argv, name="me", env={"X": "y"}, cwd=tmp_path) as child:
        child.wait(10)
    assert child.stdout.text() == f"{tmp_path}\ny\n"
    assert child.name == "me"


def test_output_can_be_read_while_it_runs() -> None:
    with shell("echo ready; exec sleep 1000") as child:
        assert child.stdout.wait(lambda data: data == b"ready\n") is not None
        assert child.exit is None
        assert child.wait(0) is None


def test_stop_is_gentle_first() -> None:
    with shell("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 1; done") as child:
        assert child.stdout.wait(bool)
        assert child.stop().code == 5
    assert child.stdout.text() == "ready\nbye\n"


def test_stop_escalates() -> None:
    with shell("trap '' TERM; echo ready; while :; do sleep 1; done") as child:
        assert child.stdout.wait(bool)
        assert child.stop(grace=0.05).signal == "SIGKILL"


def test_stop_of_a_stopped_process() -> None:
    with shell("kill -STOP $$") as child:
        assert child.stop(grace=0.05).signal in ("SIGKILL", "SIGTERM")


def test_after_the_end_nothing_happens() -> None:
    with shell("exit 4") as child:
        child.wait(10)
        child.send_signal(signal.SIGKILL)
        assert child.stop().code == 4
        assert child.kill().code == 4


def test_descendants_die_with_it() -> None:
    witness = Witness()
    with shell("sleep 1000 & sleep 1000 & echo ready; wait", witness=witness) as child:
        assert child.stdout.wait(bool)
        child.kill()
        assert witness.alone()


def test_descendants_do_not_outlive_it() -> None:
    witness = Witness()
    with shell("sleep 1000 & exit 0", witness=witness) as child:
        assert child.wait(10)
        assert witness.alone()


def test_a_session_of_its_own() -> None:
    """A Ctrl-C at the terminal must not reach it."""
    with shell("exec sleep 1000") as child:
        assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid


def test_another_holder_of_its_pipes_does_not_delay_the_end() -> None:
    witness = Witness()
    with shell("setsid sh -c 'echo $$; exec sleep 1000' & wait", witness=witness) as child:
        escaped = child.stdout.wait(lambda data: data.endswith(b"\n"))
        assert escaped is not None
        begin = time.monotonic()
        child.kill()
        assert time.monotonic() - begin < 5
    os.kill(int(escaped), signal.SIGKILL)
    assert witness.alone()


def test_terminal_makes_output_immediate() -> None:
    script = "print('1\\n2'); print(3); import time; time.sleep(1000)"
    with Child((sys.executable, "-c", script), tty_stdout=True) as child:
        assert child.stdout.wait(lambda data: data == b"1\n2\n3\n") is not None
        assert child.exit is None


def test_terminal_loses_nothing_at_the_end() -> None:
    with shell("seq 20000; echo done >&2", tty_stdout=True) as child:
        end = child.wait(10)
    assert end is not None
    assert end.stderr == "done\n"
    assert child.stdout.text() == "".join(f"{n}\n" for n in range(1, 20001))


def test_much_output_is_bounded() -> None:
    with Child(("seq", "200000"), limit=1000) as child:
        assert child.wait(20)
    assert child.stdout.position == len("".join(f"{n}\n" for n in range(1, 200001)))
    assert child.stdout.since().endswith(b"199999\n200000\n")
    assert len(child.stdout.since()) <= 2000


@pytest.mark.parametrize("core", [False, True])
def test_core_dumps_are_asked_for(core: bool) -> None:
    with Child(("sleep", "1000"), core=core) as child:
        soft, hard = resource.prlimit(child.pid, resource.RLIMIT_CORE)
    assert soft == (hard if core else 0)


def test_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot start /no/such: No such file"):
        Child(("/no/such",))
    with pytest.raises(EnvironmentProblem, match="cannot start /no/folder: No such file"):
        Child(("/bin/true",), cwd=Path("/no/folder"))
    (tmp_path / "x").touch()
    with pytest.raises(EnvironmentProblem, match="Permission denied"):
        Child((str(tmp_path / "x"),), tty_stdout=True)
    with pytest.raises(ValueError, match="null byte"):
        Child(("/bin/true", "\0"))


def test_nothing_is_leaked() -> None:
    keeper()
    before = os.listdir("/proc/self/fd")
    for terminal in (False, True):
        with shell("exec sleep 1000", tty_stdout=terminal):
            pass
        with pytest.raises(EnvironmentProblem):
            Child(("/no/such",), tty_stdout=terminal)
    assert os.listdir("/proc/self/fd") == before
    assert list((keeper().directory / "groups").iterdir()) == []


def test_run() -> None:
    finished = run(("/bin/sh", "-c", "echo out; echo err >&2; exit 2"))
    assert (finished.exit.code, finished.exit.stderr) == (2, "err\n")
    assert finished.stdout == b"out\n"
    with pytest.raises(HarnessError, match=r"nap did not end within 0\.05 s"):
        run(("sleep", "1000"), name="nap", timeout=0.05)


@pytest.mark.skipif(shutil.which(STORAGE_DAEMON) is None, reason="no qemu-storage-daemon on PATH")
def test_storage_daemon() -> None:
    tool = find().tool(STORAGE_DAEMON)
    ours, theirs = socket.socketpair()
    with ours, theirs, Child(
        (*tool.argv, "--chardev", f"socket,id=qmp,fd={theirs.fileno()}", "--monitor", "qmp"),
        name=tool.name,
        env=tool.env,
        pass_fds=[theirs.fileno()],
    ) as child:  # fmt: skip
        theirs.close()
        ours.settimeout(10)
        assert "QMP" in json.loads(ours.makefile().readline())
        assert child.stop().code == 0
