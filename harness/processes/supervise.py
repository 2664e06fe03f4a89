# SPDX-License-Identifier: GPL-2.0-or-later
"""Start, watch and stop a child process.

A child is the leader of its own session and process group, so that a Ctrl-C at the terminal goes
to the harness alone, and so that all of a wrapper script's descendants are reached.  A program
that starts a session of its own (`qemu-nbd --fork`) escapes: do not run it so.

A thread for each child starts it, reads what it writes and collects its exit status.  As Python
raises KeyboardInterrupt in the main thread only, a child that was started is always known.
"""

from __future__ import annotations

import errno
import os
import pty
import resource
import selectors
import signal
import subprocess
import threading
import time
import tty
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.errors import EnvironmentProblem, HarnessError
from harness.processes.capture import Capture
from harness.processes.exit import Exit
from harness.processes.keeper import MARK, keeper

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
KILL_TIMEOUT = 30.0  # seconds; a process that survives SIGKILL for so long hangs in the kernel
DEFAULT_LIMIT = 256 * 1024  # bytes
RUN_LIMIT = 256 * 1024 * 1024  # bytes, of `run`, whose output is the result
LINGER = 0.5  # seconds that the pipes of a dead child are read, should another process hold them


class Child:
    """A running process.  Its `stdin` is empty, its `stdout` and `stderr` are captured.

    A context manager, which kills at its end what still runs.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Iterable[int] = (),
        tty_stdout: bool = False,
        core: bool = False,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        """`env` is added to the environment.  `tty_stdout`: stdout is a terminal (raw), for a
        program that buffers what it writes elsewhere, as qemu-system does with the answers of
        `qemu-io` on the human monitor.  `core`: let the system write a core dump.  `limit`: bytes
        that are kept of each stream.
        """
        self.argv = tuple(argv)
        self.name = name or os.path.basename(self.argv[0])
        self.stdout = Capture(limit)
        self.stderr = Capture(limit)
        self.pid = 0
        self._exit: Exit | None = None
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        arguments = (dict(env or {}), cwd, tuple(pass_fds), tty_stdout, core)
        threading.Thread(target=self._live, args=arguments, name=self.name, daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self.pid or self._failure)
        if isinstance(self._failure, OSError):
            raise EnvironmentProblem(
                f"cannot start {self._failure.filename or self.argv[0]}: "
                f"{self._failure.strerror or self._failure}"
            ) from self._failure
        if self._failure:
            raise self._failure

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        with self._changed:
            return self._exit

    def wait(self, timeout: float | None = None) -> Exit | None:
        """How it ended; None if it still runs after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._exit is not None, timeout)
            return self._exit

    def send_signal(self, number: signal.Signals) -> None:
        """To the whole process group; nothing happens if it is gone."""
        with self._changed:
            if self._exit is None:
                os.killpg(self.pid, number)

    def stop(self, grace: float = GRACE) -> Exit:
        """Ask it to end, and make it after `grace` seconds."""
        self.send_signal(signal.SIGTERM)
        return self.wait(grace) or self.kill()

    def kill(self) -> Exit:
        """End it now (how it ended, if it has)."""
        self.send_signal(signal.SIGKILL)
        end = self.wait(KILL_TIMEOUT)
        if end is None:
            raise HarnessError(
                f"{self.name}, process {self.pid}, hangs in the kernel: it survives SIGKILL"
            )
        return end

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def _live(
        self,
        env: dict[str, str],
        cwd: Path | None,
        pass_fds: tuple[int, ...],
        tty_stdout: bool,
        core: bool,
    ) -> None:
        """The thread, from the start of the process to its end."""
        try:
            guard = keeper()
            terminal, child_stdout = _open_terminal() if tty_stdout else (None, subprocess.PIPE)
            try:
                process = subprocess.Popen(
                    self.argv,
                    env=os.environ | env | {MARK: str(guard.directory)},
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=child_stdout,
                    stderr=subprocess.PIPE,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )
            except BaseException:
                if terminal is not None:
                    os.close(terminal)
                raise
            finally:
                if terminal is not None:
                    os.close(child_stdout)
            try:
                guard.guard(process.pid)
                _limit_core(process.pid, core)
                death = os.pidfd_open(process.pid)
            except BaseException:
                process.kill()
                process.wait()
                raise
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            return
        with self._changed:
            self.pid = process.pid
            self._changed.notify_all()
        assert process.stderr is not None
        stdout = process.stdout.fileno() if process.stdout else terminal
        assert stdout is not None
        with process.stderr, process.stdout or open(stdout, "rb", buffering=0):
            self._read({stdout: self.stdout, process.stderr.fileno(): self.stderr}, death)
        os.close(death)
        with self._changed:
            # Until it is waited for, its number is nobody else's.
            guard.release(process.pid)
            self._exit = Exit.of(process.wait(), self.stderr.text())
            self._changed.notify_all()

    def _read(self, streams: dict[int, Capture], death: int) -> None:
        """Read both streams until the process is dead and nothing more comes."""
        deadline: float | None = None
        with selectors.DefaultSelector() as selector:
            for descriptor in (*streams, death):
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                for key, _ in selector.select(left):
                    if key.fd == death:
                        deadline = time.monotonic() + LINGER
                        os.killpg(self.pid, signal.SIGKILL)  # descendants
                    elif data := _read_some(key.fd):
                        streams[key.fd].append(data)
                        continue
                    selector.unregister(key.fd)
        for capture in streams.values():
            capture.end()


@dataclass(frozen=True)
class Finished:
    """A short-lived child that ended by itself."""

    exit: Exit
    stdout: bytes


def run(
    argv: Sequence[str],
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60.0,
) -> Finished:
    """Run a program to its end; HarnessError if it takes longer than `timeout` seconds."""
    with Child(argv, name=name, env=env, cwd=cwd, limit=RUN_LIMIT) as child:
        end = child.wait(timeout)
    if end is None:
        raise HarnessError(f"{child.name} did not end within {timeout:g} s")
    return Finished(end, child.stdout.since())


def _open_terminal() -> tuple[int, int]:
    """The reading end and the child's, which changes nothing on the way."""
    ours, childs = pty.openpty()
    tty.setraw(childs)
    return ours, childs


def _limit_core(pid: int, core: bool) -> None:
    # From outside, because code between fork and exec would make every start slow.
    with suppress(PermissionError, ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_CORE)
        resource.prlimit(pid, resource.RLIMIT_CORE, (hard if core else 0, hard))


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError as error:
        if error.errno != errno.EIO:  # a terminal that nobody has open any more
            raise
        return b""
