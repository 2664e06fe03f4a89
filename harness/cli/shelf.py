# SPDX-License-Identifier: GPL-2.0-or-later
"""Where finds are put for later runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.exploration import corpus
from harness.exploration.tally import Find
from harness.lockstep.trace import Trace


@dataclass
class Shelf:
    """A corpus that is written to as well as can be: a verdict is not lost with it."""

    folder: Path | None
    """None: nothing is kept."""

    def keep(self, find: Find, trace: Trace) -> None:
        """Keep a trace of the find, unless a smaller one is kept; the first time that it cannot
        be, say so."""
        if self.folder is None:
            return
        try:
            corpus.keep(find, trace, self.folder)
        except (HarnessError, OSError) as why:
            self.folder = None
            print(f"harness: {why}; --corpus chooses another place", file=sys.stderr)
