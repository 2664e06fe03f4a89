# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said while a command runs: a live line on a terminal; elsewhere a line a phase, and one
a minute in a long phase."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.status import Status

from harness.exploration.tally import Tally
from harness.lockstep.human import counted
from model import concurrent_machine  # noqa: F401  every rule is declared by importing its module
from model.rules import RULES

REFRESH: Final = 0.2
"""Seconds between two updates of the live line."""
HEARTBEAT: Final = 60.0
"""Seconds between two lines where there is no terminal."""


def output(*, stderr: bool = False) -> Console:
    """Standard output, or error; colours on a terminal only, and never with NO_COLOR."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Progress:
    """Progress on stderr."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = output(stderr=True)
        self._live: Status | None = None
        self._clock = clock
        self._begun = clock()
        self._phase = ""
        self._said = 0.0
        """When the line was last shown."""
        self._areas: Collection[str] = ()
        self._seconds: float | None = None
        self._steps: int | None = None
        self._before: Counter[str] = Counter()

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
        self._phase, self._begun = text, self._clock()
        if self._live is not None:
            self._live.update(text)
            self._said = 0.0
        else:
            self._print(text)

    def expect(self, areas: Collection[str], seconds: float | None, steps: int | None) -> None:
        """What the tallies of this phase are to come to: areas, and what ends it, if anything."""
        self._areas, self._seconds, self._steps = areas, seconds, steps

    def tally(self, tally: Tally) -> None:
        """How far exploration is."""
        self._show(lambda: self._told(tally))

    def note(self, text: str) -> None:
        """Something that changes often."""
        self._show(lambda: text)

    def line(self, text: str) -> None:
        """A line that stays, for those who want to see each."""
        if self._live is not None:
            self._console.print(text)
        else:
            self._print(text)

    def _show(self, words: Callable[[], str]) -> None:
        """Bring the live line up to date; without one, say a line now and then."""
        now = self._clock()
        if now - self._said < (HEARTBEAT if self._live is None else REFRESH):
            return
        self._said = now
        text = f"{self._phase}: {words()}"
        if self._live is not None:
            self._live.update(text)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        self._said = self._clock()
        print(f"harness: {text}", file=sys.stderr, flush=True)

    def _told(self, tally: Tally) -> str:
        """All there is to say of a tally, in a line."""
        elapsed = max(self._clock() - self._begun, 0.001)
        parts = [f"{tally.steps:,} steps, {tally.steps / elapsed:.0f}/s",
                 f"rules {sum(bool(tally.rules[name]) for name in RULES)}/{len(RULES)}"]
        if len(self._areas) > 1:
            grown = tally.areas - self._before
            self._before = tally.areas.copy()
            now = "".join(f" ({name})" for name, _ in grown.most_common(1))
            parts.append(f"areas {sum(bool(tally.areas[name]) for name in self._areas)}"
                         f"/{len(self._areas)}{now}")
        if tally.finds:
            parts.append(counted(len(tally.finds), "finding"))
        left = None if self._seconds is None else self._seconds - elapsed
        if self._steps is not None and tally.steps:
            left = (self._steps - tally.steps) * elapsed / tally.steps
        if left is not None:
            parts.append(f"{max(left, 0.0):.0f} s left")
        return ", ".join(parts)
