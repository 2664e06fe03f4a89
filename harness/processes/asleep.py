# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a process waits for something to come, or still has something to do."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TypeAlias

_SLEEPS = "S"
_LINE = re.compile(r"^(?:State:\s+(\S)|(?:non)?voluntary_ctxt_switches:\s+(\d+))", re.MULTILINE)
_Threads: TypeAlias = dict[str, tuple[str, ...]]


def is_asleep(pid: int) -> bool:
    """Whether there was a moment in which each of its threads waited for something that is not the
    kernel's to bring, as an answer of a disk is; also if the process is gone.

    All of them slept when they were looked at first, and none ran until all had been looked at.
    """
    first = _threads(pid)
    return all(state == _SLEEPS for state, *_ in first.values()) and first == _threads(pid)


def wait_until_asleep(pid: int, timeout: float) -> bool:
    """Whether it is within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not is_asleep(pid):
        if time.monotonic() >= deadline:
            return False
        os.sched_yield()
    return True


def _threads(pid: int) -> _Threads:
    """The state of each thread, and how often it has left its processor."""
    found: _Threads = {}
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            text = (thread / "status").read_text()
            found[thread.name] = tuple(one or other for one, other in _LINE.findall(text))
    except OSError:  # ended meanwhile
        pass
    return found
