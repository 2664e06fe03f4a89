# SPDX-License-Identifier: GPL-2.0-or-later
"""Being told to end: Ctrl-C and SIGTERM are the same, but for traces, and neither is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import Final

from harness.processes.keeper import keep_traces

_SOON: Final = 0.01  # seconds; by then the main thread has left what lost the interrupt
_told: Final = threading.Event()


def told_to_end() -> bool:
    """Whether an interrupt has come.  What fails after that may well fail of it: Python's own
    compiler makes a SystemError of one that comes while it is at work."""
    return _told.is_set()


def heed_interrupts() -> None:
    """Have SIGTERM raise KeyboardInterrupt as SIGINT does, so that everything is cleaned away.

    Who sends SIGTERM is a machine that has lost patience: a trace that takes so long is worth
    keeping.  Whoever presses Ctrl-C knows that we were at something.

    Python throws away what is raised in a finalizer, a callback of the garbage collector (of which
    hypothesis has one) or of a weak reference.  A KeyboardInterrupt that came to be raised there
    is raised again a moment later.
    """
    _told.clear()
    signal.signal(signal.SIGTERM, _ended)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not one that is ignored
        signal.signal(signal.SIGINT, _interrupted)
    others = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            if not told_to_end():  # else asyncio's: what it was about to do has no loop any more
                others(lost)
            return
        # SIGTERM and not SIGINT, which is ignored in the background of a shell script.
        again = threading.Timer(_SOON, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook


def _ended(number: int, frame: FrameType | None) -> None:
    keep_traces()
    _interrupted(number, frame)


def _interrupted(number: int, frame: FrameType | None) -> None:
    _told.set()
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    raise KeyboardInterrupt
