# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the clients need: real daemons in a few lines, and peers that lie.

It knows nothing of the harness's higher layers, so that these tests show the clients alone.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

KIB = 1024
MIB = 1024 * KIB

GREETING = (b'{"QMP": {"version": {"qemu": {"micro": 3, "minor": 2, "major": 1},'
            b' "package": "lie"}, "capabilities": []}}\r\n')
DONE = b'{"return": {}, "id": "%ID%"}\r\n'


def binary(name: str) -> str:
    """A QEMU program from `QEMU_BUILD` or `PATH`; the test is skipped if there is none."""
    folder = os.environ.get("QEMU_BUILD", "")
    found = shutil.which(name, path=folder) if Path(folder).is_dir() and folder else None
    found = found or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def image(path: Path, size: int, fill: int | None = None) -> Path:
    """A raw image of `size` bytes, sparse or filled with one byte value."""
    with path.open("wb") as file:
        if fill is None:
            file.truncate(size)
        else:
            file.write(bytes([fill]) * size)
    return path


class Process:
    """A QEMU process whose monitor is `monitor`, one end of a socket pair."""

    def __init__(self, program: str, monitor_option: Sequence[str], options: Sequence[str],
                 stdout: int | None = None) -> None:
        self.monitor, inherited = socket.socketpair()
        filled = [word.replace("%FD%", str(inherited.fileno()))
                  for word in (*monitor_option, *options)]
        with inherited:
            self.popen = subprocess.Popen(
                [program, *filled], pass_fds=[inherited.fileno()], stdin=subprocess.DEVNULL,
                stdout=stdout if stdout is not None else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})

    @classmethod
    def daemon(cls, *options: str) -> Self:
        """A qemu-storage-daemon."""
        return cls(binary("qemu-storage-daemon"),
                   ["--chardev", "socket,id=mon,fd=%FD%", "--monitor", "chardev=mon"], options)

    @classmethod
    def system(cls, *options: str, stdout: int | None = None) -> Self:
        """A paused qemu-system without firmware."""
        return cls(binary("qemu-system-x86_64"),
                   ["-nodefaults", "-display", "none", "-S", "-chardev",
                    "socket,id=mon,fd=%FD%", "-mon", "chardev=mon,mode=control"],
                   options, stdout)

    def freeze(self) -> None:
        """Stop the process, so that it answers nobody and yet is not gone."""
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.kill()
        self.monitor.close()


class Liar:
    """The far end of a socket pair, played by a function in a thread; `end` is for the client."""

    def __init__(self, play: Callable[[socket.socket], None]) -> None:
        self.end, far = socket.socketpair()
        far.settimeout(10)

        def run() -> None:
            with far:
                try:
                    play(far)
                except OSError:
                    pass  # The client hung up before the play was over, as it may.

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.end.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


def monitor_of(*answers: bytes) -> Liar:
    """A monitor that greets, agrees to `qmp_capabilities`, and then gives these answers.

    It sends one answer for each command, with `%ID%` replaced by the identifier in that
    command, and hangs up when it has no answers left; an empty answer keeps the client waiting.
    """

    def play(far: socket.socket) -> None:
        far.sendall(GREETING)
        commands = messages(far)
        next(commands)
        far.sendall(b'{"return": {}}\r\n')
        for answer in answers:
            command = next(commands, None)
            if command is None:
                return
            name = str(json.loads(command).get("id", ""))
            if answer:
                far.sendall(answer.replace(b"%ID%", name.encode()))
            else:
                far.recv(1)  # Until the client gives up.

    return Liar(play)


def messages(far: socket.socket) -> Iterator[str]:
    """The commands received; qemu.qmp ends them with nothing, so they are told by their JSON."""
    decoder, text = json.JSONDecoder(), ""
    while True:
        data = far.recv(65536)
        if not data:
            return
        text += data.decode()
        while text := text.lstrip():
            try:
                _, end = decoder.raw_decode(text)
            except ValueError:
                break
            yield text[:end]
            text = text[end:]
