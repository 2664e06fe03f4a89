# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said while a command runs: a live line on a terminal, a line a phase elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

from harness.exploration.tally import Tally

REFRESH = 0.2
"""Seconds between two updates of the live line."""


def output(*, stderr: bool = False) -> Console:
    """Standard output, or error; colours on a terminal only, and never with NO_COLOR."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Progress:
    """Progress on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False,
                                emoji=False)
        self._live: Status | None = None
        self._begun = time.monotonic()
        self._phase = ""
        self._shown = 0.0

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = self._console.status("")
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def phase(self, text: str) -> None:
        """A new phase begins."""
        self._phase, self._begun, self._shown = text, time.monotonic(), 0.0
        if self._live is not None:
            self._live.update(text)
        else:
            print(f"harness: {text}", file=sys.stderr, flush=True)

    def tally(self, tally: Tally) -> None:
        """How far exploration is."""
        now = time.monotonic()
        if self._live is None or now - self._shown < REFRESH:
            return
        self._shown = now
        elapsed = max(now - self._begun, 0.001)
        found = f", {len(tally.finds)} divergences" if tally.finds else ""
        self._live.update(f"{self._phase}: {tally.steps:,} steps in {tally.traces:,} traces, "
                          f"{elapsed:.0f} s, {tally.steps / elapsed:.0f} steps/s{found}")

    def note(self, text: str) -> None:
        """Something that changes often: only shown on a terminal."""
        if self._live is not None:
            self._live.update(f"{self._phase}: {text}")
