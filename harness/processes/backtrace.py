# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a process hangs or crashed, by gdb if it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.errors import HarnessError
from harness.processes.supervise import run

TIMEOUT = 30.0  # seconds

_OPTIONS = (
    "-nx",
    "-batch",
    # It would download symbols for minutes.
    "-iex", "set debuginfod enabled off",
    "-ex", "set width 0",
    "-ex", "thread apply all backtrace 40",
)  # fmt: skip


def of_process(pid: int, timeout: float = TIMEOUT) -> str | None:
    """The stacks of a live process, which goes on afterwards; None without gdb, or if gdb does not
    manage within `timeout` seconds."""
    return _gdb(("-p", str(pid)), timeout)


def of_core(program: Path, core: Path, timeout: float = TIMEOUT) -> str | None:
    """The stacks in a core dump of `program`; None as with `of_process`."""
    return _gdb((str(program), str(core)), timeout)


def _gdb(subject: tuple[str, ...], timeout: float) -> str | None:
    gdb = shutil.which("gdb")
    if gdb is None:
        return None
    try:
        output = run((gdb, *_OPTIONS, *subject), timeout=timeout).stdout.decode(errors="replace")
    except HarnessError:
        return None
    start = output.find("\nThread ")
    return output[start + 1 :] if start >= 0 else None
