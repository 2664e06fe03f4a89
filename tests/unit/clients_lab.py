# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the clients need: real daemons in a few lines, and peers that lie.

It knows nothing of the harness's higher layers, so that these tests show the clients alone.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

    def __init__(self, program: str, monitor_option: Sequence[str],
                 options: Sequence[str]) -> None:
        self.monitor, inherited = socket.socketpair()
        filled = [word.replace("%FD%", str(inherited.fileno()))
                  for word in (*monitor_option, *options)]
        with inherited:
            self.popen = subprocess.Popen(
                [program, *filled], pass_fds=[inherited.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @classmethod
    def daemon(cls, *options: str) -> Self:
        """A qemu-storage-daemon."""
        return cls(binary("qemu-storage-daemon"),
                   ["--chardev", "socket,id=mon,fd=%FD%", "--monitor", "chardev=mon"], options)

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

    def __init__(self, play: Callable[[socket.socket], object]) -> None:
        self.end, far = socket.socketpair()
        far.settimeout(10)

        def run() -> None:
            with far, contextlib.suppress(OSError):  # The client may hang up before the end.
                play(far)

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


@dataclass(frozen=True)
class NbdRequest:
    """A request as an NBD server receives it."""

    flags: int
    kind: int
    cookie: int
    offset: int
    length: int

    def simple(self, error: int = 0, data: bytes = b"") -> bytes:
        """A simple reply to it."""
        return struct.pack(">IIQ", 0x67446698, error, self.cookie) + data

    def chunk(self, kind: int, data: bytes, done: bool = True) -> bytes:
        """A chunk of a structured reply to it."""
        return struct.pack(">IHHQI", 0x668E33EF, done, kind, self.cookie, len(data)) + data


def export_of(size: int, *answers: Callable[[NbdRequest], bytes | None],
              structured: bool = False) -> Liar:
    """An NBD server with one export, which gives these answers to the requests as they come.

    An answer of None keeps the client waiting; after the last answer the server hangs up.
    """

    def play(far: socket.socket) -> None:
        stream = far.makefile("rb")
        far.sendall(b"NBDMAGICIHAVEOPT\0\3")
        stream.read(4)
        while True:
            _, option, length = struct.unpack(">QII", stream.read(16))
            stream.read(length)
            answer = struct.pack(">QI", 0x3E889045565A9, option)
            if option == 7:
                far.sendall(answer + struct.pack(">IIHQH", 3, 12, 0, size, 0x7D))
            refused = option not in (7, 8) or (option == 8 and not structured)
            far.sendall(answer + struct.pack(">II", 0x80000001 if refused else 1, 0))
            if option == 7:
                break
        for answer_to in answers:
            head = stream.read(28)
            if len(head) < 28:
                return
            _, flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", head)
            if kind == 1:
                stream.read(length)
            reply = answer_to(NbdRequest(flags, kind, cookie, offset, length))
            if reply is None:
                far.recv(1)  # Until the client gives up.
                return
            far.sendall(reply)

    return Liar(play)
