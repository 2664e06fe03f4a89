# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing outlives this process: neither its children nor its temporary files.

A process has one *run directory*, `<tmp>/cbw-lockstep-XXXXXXXX`.  Its workspaces are in there, and
for each living process group that it started a file `groups/<number>`.  Who cleans up:

- at a normal end, an interrupt included: this process, at exit;
- at any other death (SIGTERM, SIGKILL, a crash of Python): the *guardian*, a shell that reads
  from a pipe whose only writer is this process.  A parent-death signal (PR_SET_PDEATHSIG) does
  less: it reaches neither grandchildren nor files;
- if the guardian died as well: the next run, which removes run directories that nobody has
  locked, and kills what belongs to them.  systemd-tmpfiles respects the same lock.

One thing is worth more than its place: the trace that a process was in the middle of when it was
killed, :data:`CURRENT` of a workspace.  Whoever cleans up after a death puts it into
:func:`cut_off`, unless the process was ended on purpose (:meth:`Keeper.dismiss`).  One that is
told to end by a machine, which may have lost patience, does so itself (:func:`keep_traces`).

A child that was started a moment before its parent died may be in no file yet.  It is known by
its environment, where :data:`MARK` names the run directory.  None is missed: a forked process
holds the guardian's pipe open until it is the program that it was forked to be.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness import user_cache
from harness.errors import EnvironmentProblem

PREFIX = "cbw-lockstep-"
MARK = "CBW_LOCKSTEP_RUN"
"""Environment variable of every child: the run directory of its parent."""
CURRENT = "current.trace"
"""How a workspace calls the trace that is being done."""
_DISMISSED = "dismissed"
"""A file in the run directory of a process that is ended on purpose."""
_ROUNDS = 10
"""While processes are looked for, those that were not found yet may start others."""

_GUARDIAN = """
trap '' HUP INT TERM
read -r _
cd "$1" 2>/dev/null || exit 0
for group in groups/*; do kill -s KILL -- "-${group#groups/}" 2>/dev/null; done
for round in 1 2 3 4 5 6 7 8 9 10; do
    marked=$(grep -lszxF -e "$2=$1" /proc/[0-9]*/environ)
    [ -n "$marked" ] || break
    for process in $marked; do
        process=${process#/proc/}
        kill -s KILL "${process%/environ}" 2>/dev/null
    done
done
for trace in w-*/"$4"; do
    [ -e "$5" ] || [ ! -s "$trace" ] || { mkdir -p "$3" && mv -- "$trace" "$3/${trace%/*}.jsonl"; }
done 2>/dev/null
cd / && rm -rf -- "$1"
"""


def cut_off() -> Path:
    """Where the traces are that killed processes were in the middle of: in the user's cache."""
    return user_cache.place("cut-off")


class Keeper:
    """Of this process; see `keeper()`."""

    def __init__(self) -> None:
        self.directory, self._lock = _claim_directory()
        (self.directory / "groups").mkdir()
        self._groups: set[int] = set()
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "cbw-lockstep-guardian", str(self.directory),
             MARK, str(cut_off()), CURRENT, _DISMISSED],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def guard(self, group: int) -> None:
        """The process group must not outlive this process."""
        self._groups.add(group)
        os.close(os.open(self._file(group), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))

    def release(self, group: int) -> None:
        """The group is gone; from now on its number may be another's."""
        self._groups.discard(group)
        with suppress(FileNotFoundError):
            os.unlink(self._file(group))

    def dismiss(self) -> None:
        """This process is about to be ended on purpose: nobody misses the trace it is at."""
        with suppress(FileNotFoundError):  # it ends by itself just now, and all is gone
            (self.directory / _DISMISSED).touch()

    def close(self) -> None:
        """Kill all process groups that are left, and remove the folder."""
        for group in tuple(self._groups):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
        with self._guardian:  # closes its pipe: it removes what a dying process still wrote
            pass
        os.close(self._lock)

    def forget(self) -> None:
        """In a forked child: all is still the parent's, whose death must close the pipe."""
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.returncode = 0  # keeps subprocess from waiting for another's child
        os.close(self._lock)

    def _file(self, group: int) -> str:
        return f"{self.directory}/groups/{group}"


_keeper: Keeper | None = None
_creation = threading.Lock()
_keeps_traces = False


def keeper() -> Keeper:
    """This process's keeper, started at first use."""
    global _keeper
    with _creation:
        if _keeper is None:
            _keeper = Keeper()
        return _keeper


def keep_traces() -> None:
    """This process is told to end: keep the trace that it is at, and have its workers keep theirs.
    May be called in a handler of signals."""
    global _keeps_traces
    _keeps_traces = True
    if _keeper is not None:
        _salvage(_keeper.directory)


def keeps_traces() -> bool:
    """Whether traces of workers that are ended are to be kept."""
    return _keeps_traces


@atexit.register
def close() -> None:
    """Clean up now; what is started later gets a new keeper."""
    global _keeper
    with _creation:
        if _keeper is not None:
            _keeper.close()
            _keeper = None


def _after_fork() -> None:
    global _keeper, _creation
    _creation = threading.Lock()
    if _keeper is not None:
        _keeper.forget()
        _keeper = None


os.register_at_fork(after_in_child=_after_fork)


def insist_on_temporary_folder() -> None:
    """Raise EnvironmentProblem where tempfile would take another folder than the one that was
    asked for, without a word."""
    wanted = os.environ.get("TMPDIR")
    if wanted and not os.path.isdir(wanted):
        raise EnvironmentProblem(f"TMPDIR is {wanted}, which is not a folder")


def _claim_directory() -> tuple[Path, int]:
    """A new run directory, and the descriptor that holds its lock until this process is dead."""
    insist_on_temporary_folder()
    try:
        _sweep(Path(tempfile.gettempdir()))
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
            # Another process may sweep it before it is opened, or before it is locked.
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.is_dir():
                return path, descriptor
            os.close(descriptor)
    except OSError as error:
        raise EnvironmentProblem(
            f"no temporary directory can be made: {error.strerror}; TMPDIR chooses another place"
        ) from error


def _sweep(base: Path) -> None:
    """Remove what dead processes of this user left in `base`."""
    for path in base.glob(PREFIX + "*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # just removed, or another user's
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _kill_marked(path)
                _salvage(path)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # its owner lives
        finally:
            os.close(descriptor)


def _salvage(directory: Path) -> None:
    """Keep the traces that the owner of a run directory, dead or dying, was in the middle of."""
    if (directory / _DISMISSED).exists():
        return
    for trace in directory.glob(f"w-*/{CURRENT}"):
        with suppress(OSError):
            if trace.stat().st_size:
                cut_off().mkdir(parents=True, exist_ok=True)
                shutil.copyfile(trace, cut_off() / f"{trace.parent.name}.jsonl")


def _kill_marked(directory: Path) -> None:
    """End what the dead owner of a run directory has left running."""
    for _ in range(_ROUNDS):
        marked = list(_marked(f"{MARK}={directory}".encode()))
        for process in marked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not marked:
            break


def _marked(mark: bytes) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)
