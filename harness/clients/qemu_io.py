# SPDX-License-Identifier: GPL-2.0-or-later
"""A qemu-io process that is given one command after the other, under pexpect.

Its standard streams are one socket.  On a terminal qemu-io would redraw its input line after
every character (TERM=dumb does not stop it), which is slow and has to be told from its output;
away from a terminal it prints the same prompt, and nothing is echoed.  The end of the socket
is its end of input, so qemu-io ends when its owner does.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect
from pexpect import fdpexpect

from harness.clients.errors import ClientError, PeerGone, PeerSilent
from harness.clients.qemu_io_requests import QemuIoRequests
from harness.clients.transcript import Transfer
from harness.errors import EnvironmentProblem
from harness.processes.keeper import keeper

CHANNEL = "qemu-io"

DEFAULT_TIMEOUT = 30.0
"""Seconds that a command may take when the caller gives no bound."""

_PROMPT = b"qemu-io> "


def image_of(server: str | Path, export: str) -> str:
    """An export of an NBD server on a socket, for ``--image-opts``.  No URI: what is quoted in one
    is unquoted twice by QEMU 10.0.2 and 11.1.3, and once by 7.2.22."""
    path, name = (str(each).replace(",", ",,") for each in (server, export))
    return (f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={path},"
            f"file.export={name}")


class QemuIoNotOpened(ClientError):
    """qemu-io could not open the image; the message is its own."""


class QemuIo(QemuIoRequests):
    """An interactive qemu-io on a file, or on an NBD export by its URI."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None,
                 timeout: float = DEFAULT_TIMEOUT) -> None:
        """Start `command` (program, options, image) and wait until it has opened the image.

        `env` is added to the environment; `timeout` (seconds) bounds the start and, unless
        changed, every command.
        """
        super().__init__(CHANNEL)
        self.timeout = timeout
        self._dead: ClientError | None = None
        self._socket, far = socket.socketpair()
        environment = {**os.environ, "LC_ALL": "C", "TERM": "dumb", **(env or {})}
        with far:
            try:
                self._process = subprocess.Popen(
                    [*command], stdin=far.fileno(), stdout=far.fileno(), stderr=far.fileno(),
                    env=environment, start_new_session=True)
            except OSError as error:
                self._socket.close()
                super().close()
                raise EnvironmentProblem(f"cannot start {error.filename or command[0]}: "
                                         f"{error.strerror}") from None
        keeper().guard(self._process.pid)
        self._pexpect = fdpexpect.fdspawn(self._socket, maxread=1 << 18)
        self._pexpect.delaybeforesend = None
        try:
            self._await_prompt("(start)")
        except PeerGone as error:
            self.close()
            raise QemuIoNotOpened(f"{CHANNEL}: {error.detail or 'ended at once'}") from None
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, program: str, image: str, options: Sequence[str] = ("-f", "raw", "-d", "unmap"),
             env: Mapping[str, str] | None = None, timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Start `program` on an image: a file's path or an `nbd+unix:///EXPORT?socket=PATH`."""
        return cls([program, *options, image], env, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def command(self, text: str) -> list[str]:
        """Run any command and return the lines that it prints.

        After `PeerSilent` the answer may still come, and nobody could tell it from the next
        one's: the client is then of no more use.
        """
        if "\n" in text:
            raise ValueError(f"more than one line: {text!r}")
        if self._dead is not None:
            raise self._dead
        try:
            self._pexpect.send(text + "\n")
        except OSError as error:
            self._dead = PeerGone(CHANNEL, text, error.strerror or "")
            raise self._dead from None
        return self._await_prompt(text).splitlines()

    def flush(self) -> None:
        """Flush.  Interactive qemu-io does not say whether that succeeded."""
        self.command("flush")

    def close(self) -> None:
        """End qemu-io; never fails, may be called again.

        It is killed: one that ends by itself flushes first, which nobody has asked for.  What is
        not flushed by then is lost if the image's format keeps it in memory, as qcow2 does.
        """
        super().close()
        if self._socket.fileno() < 0:
            return
        # Before its input ends, which would have it end by itself.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()
        self._dead = PeerGone(CHANNEL, None, "this client was closed")
        keeper().release(self._process.pid)

    def _transfer(self, text: str, transfer: Transfer) -> list[str]:
        return self.command(text)

    def _await_prompt(self, asked: str) -> str:
        try:
            found = self._pexpect.expect_exact([_PROMPT, pexpect.EOF, pexpect.TIMEOUT],
                                               timeout=self.timeout)
        except OSError:
            found = 1
        if found == 0:
            return _text(self._pexpect.before)
        if found == 2:
            self._dead = PeerSilent(CHANNEL, asked, self.timeout)
        else:
            said = " / ".join(_text(self._pexpect.before).split("\n"))
            self._dead = PeerGone(CHANNEL, asked, said.strip(" /"))
        raise self._dead


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else ""
