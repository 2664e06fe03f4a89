# SPDX-License-Identifier: GPL-2.0-or-later
"""As much of the module of this name in QEMU's tree as the tests for it need that we write.

Written anew, from how QEMU's own tests use that module; so that they can be run, and looked at by
linters, without a QEMU tree.  Programs come from the environment, as words of a command.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import unittest
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

test_dir = os.environ.get('TEST_DIR', '.')
sock_dir = os.environ.get('SOCK_DIR', test_dir)
NOT_RUN = 77


def _program(name: str) -> list[str]:
    return shlex.split(os.environ[name])


def qemu_io(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run qemu-io; what it says on either stream is in stdout."""
    return subprocess.run([*_program('QEMU_IO_PROG'), *args], check=check, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def qemu_img_create(*args: str) -> subprocess.CompletedProcess[str]:
    """Make an image."""
    return subprocess.run([*_program('QEMU_IMG_PROG'), 'create', *args], check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def try_remove(path: str) -> None:
    """Remove a file that may not be there."""
    with suppress(FileNotFoundError):
        os.remove(path)


def notrun(reason: str) -> NoReturn:
    """End, as what is needed is not here."""
    print(reason)
    sys.exit(NOT_RUN)


class Timeout:
    """A block that may take so many seconds."""

    def __init__(self, seconds: float, errmsg: str = 'Timeout') -> None:
        self.seconds = seconds
        self.errmsg = errmsg

    def __enter__(self) -> Timeout:
        signal.signal(signal.SIGALRM, self._rings)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(self, *why: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _rings(self, _number: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError(self.errmsg)


class _Process:
    """A program of QEMU's, and QMP with it."""

    def __init__(self, command: Sequence[str], *, qmp: bool) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                [word.replace('QMP', str(theirs.fileno())) for word in command],
                pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True)
        with ours:
            self._qmp = ours.makefile('rw', encoding='utf-8') if qmp else None
        if qmp:
            self.qmp('qmp_capabilities')

    def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """What QEMU answers; raises if it does not any more."""
        assert self._qmp is not None
        self._qmp.write(json.dumps({'execute': command, 'arguments': arguments or {}}) + '\n')
        self._qmp.flush()
        for line in self._qmp:
            answer: dict[str, Any] = json.loads(line)
            if 'return' in answer or 'error' in answer:
                return answer
        raise ConnectionError(f'{command}: QEMU has come to its end')

    def end(self, kill_signal: int) -> str:
        """End it; what it has said."""
        self._popen.send_signal(kill_signal)
        said, _ = self._popen.communicate()
        if self._qmp is not None:
            with suppress(OSError):
                self._qmp.close()
        return said


class QemuStorageDaemon(_Process):
    """The storage daemon."""

    def __init__(self, *args: str, instance_id: str = 'a', qmp: bool = False) -> None:
        asked = ['--chardev', 'socket,id=qmp,fd=QMP', '--monitor', 'qmp'] if qmp else []
        pid = os.path.join(test_dir, f'{instance_id}.pid')
        super().__init__([*_program('QSD_PROG'), '--pidfile', pid, *args, *asked], qmp=qmp)
        # Until it is written, QEMU looks at it again, and ends if it is not there.
        while not qmp and not (os.path.exists(pid) and os.path.getsize(pid)):
            assert self._popen.poll() is None, self._popen.communicate()
        try_remove(pid)

    def stop(self, kill_signal: int = 15) -> None:
        """End it."""
        self.end(kill_signal)


class VM:
    """A machine that is not started."""

    def __init__(self) -> None:
        self._devices: list[str] = []
        self._process: _Process | None = None
        self._log: str | None = None

    def add_device(self, opts: str) -> None:
        """Give it a device."""
        self._devices += ['-device', opts]

    def launch(self) -> None:
        """Start it."""
        bios = os.path.join(test_dir, 'bios')
        with open(bios, 'wb') as file:
            file.truncate(65536)
        self._process = _Process([
            *_program('QEMU_PROG'), '-S', '-nodefaults', '-display', 'none', '-bios', bios,
            '-machine', 'pc', '-m', '2', '-accel', 'tcg',
            '-chardev', 'socket,id=qmp,fd=QMP', '-qmp', 'chardev:qmp', *self._devices], qmp=True)

    def qmp(self, cmd: str, args_dict: dict[str, Any] | None = None) -> dict[str, Any]:
        """What QEMU answers."""
        assert self._process is not None
        return self._process.qmp(cmd, args_dict)

    def shutdown(self, hard: bool = False) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._log = self._process.end(signal.SIGKILL if hard else signal.SIGTERM)
            self._process = None

    def get_log(self) -> str | None:
        """What it has said."""
        return self._log


class QMPTestCase(unittest.TestCase):
    """A test."""


def main(supported_fmts: Sequence[str] = (), supported_protocols: Sequence[str] = (),
         required_fmts: Sequence[str] = ()) -> None:
    """Run the tests of the file; what has to do with times is left out of what is printed."""
    assert supported_fmts
    assert supported_protocols == ['file']
    assert all(isinstance(each, str) for each in required_fmts)
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__'])
    result = unittest.TextTestRunner(stream=sys.stderr).run(suite)
    if not result.wasSuccessful():
        sys.exit(1)
    print('.' * result.testsRun)
    print('-' * 70)
    print(f'Ran {result.testsRun} tests\n\nOK')
