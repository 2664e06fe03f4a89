# SPDX-License-Identifier: GPL-2.0-or-later
"""A point in time up to which a client waits."""

import time


class Deadline:
    """Counts down from `seconds`; made once, it bounds a wait that takes several steps."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that remain, never negative."""
        return max(0.0, self._end - time.monotonic())

    def left_ms(self) -> int:
        """Milliseconds that remain, rounded up, never negative."""
        return int(self.left() * 1000 + 0.999)
