# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be learnt of a QEMU that crashed or hangs: the stacks of its threads, by gdb."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness.processes import Workspace, backtrace
from harness.storage.monitored import Monitored
from harness.systems.failure import SystemCrashed, SystemFailed, SystemHung

LINES: Final = 120
"""So many lines of stacks are told."""


def stacks(why: SystemFailed, process: Monitored, workspace: Workspace) -> tuple[str, ...]:
    """The stacks of a system that hangs or has crashed; nothing of one that failed otherwise."""
    if isinstance(why, SystemHung):
        return of_hang(process.child.pid)
    if isinstance(why, SystemCrashed) and why.signal:
        return of_crash(process.tool.path, workspace.path)
    return ()


def of_hang(pid: int) -> tuple[str, ...]:
    """Where the threads of a live process are; nothing without gdb."""
    return _told(backtrace.of_process(pid))


def of_crash(program: Path, folder: Path) -> tuple[str, ...]:
    """Where a process was that dumped its core into the folder, where it ran; nothing without gdb,
    or if the system puts cores elsewhere."""
    core = next(iter(sorted(folder.glob("core*"))), None)
    return () if core is None else _told(backtrace.of_core(program, core))


def _told(stacks: str | None) -> tuple[str, ...]:
    if stacks is None:
        return ()
    lines = ["stacks:", *(line for line in stacks.splitlines() if line.strip())]
    return tuple(lines[:LINES])
