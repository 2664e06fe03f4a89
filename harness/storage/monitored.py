# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process that is spoken to over QMP."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.builds import STORAGE_DAEMON, Tool
from harness.clients.errors import ClientError
from harness.clients.qmp import DEFAULT_TIMEOUT, Qmp, QmpTimeout
from harness.errors import EnvironmentProblem
from harness.processes import Child

OUTPUT: Final = 256 * 1024  # bytes of each of a process's outputs that are kept
END_TIMEOUT: Final = 10.0  # seconds from the end of a process's monitor to its own


class Monitored:
    """The process and its monitor, which it inherits, connected, from its first moment."""

    def __init__(self, tool: Tool, arguments: Sequence[str] = (), *, cwd: Path | None = None,
                 timeout: float = DEFAULT_TIMEOUT, output: int | None = None,
                 core: bool = False) -> None:
        """Start ``tool``, a storage daemon or a qemu-system, and wait for its greeting.

        ``timeout`` (seconds) bounds the greeting and is every command's default.  ``output``:
        standard output is a terminal, of which so many bytes are kept.  Raises
        EnvironmentProblem if the process does not start.
        """
        self.tool = tool
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.child = Child(
                    [*tool.argv, *_monitor(tool, theirs.fileno()), *arguments], name=tool.name,
                    env=tool.env, cwd=cwd, pass_fds=[theirs.fileno()], core=core,
                    tty_stdout=output is not None, limit=output or OUTPUT)
            except BaseException:
                ours.close()
                raise
        try:
            self.qmp = Qmp.from_socket(ours, timeout)
        except BaseException as why:
            end = None if isinstance(why, QmpTimeout) else self.child.wait(END_TIMEOUT)
            self.child.kill()
            if isinstance(why, ClientError):
                raise EnvironmentProblem(
                    f"{tool.path} does not start: {end or why}") from why
            raise

    def stderr(self) -> list[str]:
        """The lines that the process wrote to stderr so far: warnings, for instance."""
        return self.child.stderr.text().splitlines()

    def close(self) -> None:
        """Kill the process, whatever it is doing."""
        self.child.kill()
        self.qmp.close()


def _monitor(tool: Tool, descriptor: int) -> Sequence[str]:
    if tool.name == STORAGE_DAEMON:
        return ("--chardev", f"socket,id=qmp,fd={descriptor}", "--monitor", "chardev=qmp")
    return ("-chardev", f"socket,id=qmp,fd={descriptor}", "-qmp", "chardev:qmp")
