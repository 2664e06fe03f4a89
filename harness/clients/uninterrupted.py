# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that a Ctrl-C must not cut in two.

Python raises KeyboardInterrupt between any two instructions of the main thread.  In a callback of
libnbd it would be lost, and look like an answer against the protocol; in the middle of asyncio or
qemu.qmp it leaves them in a state that nothing ends in good order.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_depth = 0
"""Blocks that the main thread is in."""
_late: tuple[int, FrameType | None] | None = None
_wake: Callable[[], object] | None = None
_handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
"""Who else wants the signals: what raises KeyboardInterrupt, as a rule."""


class Uninterrupted:
    """A block in which SIGINT and SIGTERM, if Python handles them, wait for the end of the block.

    `wake` is called when one comes, to bring the end of the block near.  Within another block, it
    is for that one to say.
    """

    def __init__(self, wake: Callable[[], object] | None = None) -> None:
        self._wake = wake

    def __enter__(self) -> None:
        global _depth, _wake
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not _handle and callable(handler):
                _handlers[number] = handler
                signal.signal(number, _handle)
        if not _depth:
            _wake = self._wake
        _depth += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        global _depth, _late
        if threading.current_thread() is not threading.main_thread():
            return
        _depth -= 1
        if _late is not None and not _depth:
            late, _late = _late, None
            _handlers[late[0]](*late)


def _handle(number: int, frame: FrameType | None) -> None:
    global _late
    if not _depth:
        _handlers[number](number, frame)
        return
    _late = (number, frame)
    if _wake is not None:
        _wake()
