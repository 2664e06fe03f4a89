# SPDX-License-Identifier: GPL-2.0-or-later
"""What a child wrote to one of its streams, bounded, to be read at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Capture:
    """Positions count bytes since the start of the stream; the last `limit` bytes are held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._dropped = 0
        self._ended = False
        self._changed = threading.Condition()

    @property
    def position(self) -> int:
        """How many bytes have come so far."""
        with self._changed:
            return self._dropped + len(self._data)

    def since(self, position: int = 0) -> bytes:
        """What has come from `position` on, as far as it is still held."""
        with self._changed:
            return self._since(position)

    def text(self) -> str:
        """All that is still held, as text."""
        return self.since().decode(errors="replace")

    def wait(
        self, enough: Callable[[bytes], bool], position: int = 0, timeout: float = 10.0
    ) -> bytes | None:
        """What has come from `position` on, as soon as `enough` is content with it; None if the
        stream ended or `timeout` seconds passed before."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not enough(data := self._since(position)):
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    return None
                self._changed.wait(left)
            return data

    def forget(self) -> None:
        """Hold nothing of what has come so far any longer."""
        with self._changed:
            self._dropped += len(self._data)
            self._data.clear()

    def append(self, data: bytes) -> None:
        """Take in what has come; whoever waits looks at it."""
        with self._changed:
            self._data += data
            if len(self._data) > 2 * self._limit:  # seldom, so that it costs little a byte
                surplus = len(self._data) - self._limit
                del self._data[:surplus]
                self._dropped += surplus
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _since(self, position: int) -> bytes:
        return bytes(self._data[max(0, position - self._dropped) :])
