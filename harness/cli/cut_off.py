# SPDX-License-Identifier: GPL-2.0-or-later
"""The traces that killed runs were in the middle of."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

from harness.processes.keeper import cut_off


def bring_back(folder: Path) -> None:
    """Move them to where traces are looked for, and say so."""
    for trace in sorted(cut_off().glob("*.jsonl")):
        with suppress(OSError):  # another run was faster
            folder.mkdir(parents=True, exist_ok=True)
            found = Path(shutil.move(trace, folder / f"cut-off-{trace.name}"))
            print(f"harness: a run was killed in the middle of a trace, which is now {found}",
                  file=sys.stderr)
