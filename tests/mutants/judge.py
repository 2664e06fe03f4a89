# SPDX-License-Identifier: GPL-2.0-or-later
"""One mutant in a process of its own: ``python -m tests.mutants.judge FILE MODULE < SOURCE``.

Ends with 0 if the mutant foretells the whole recording, so survives, and with 1 if not.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports one module from a changed source."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """This module only."""
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def get_source(self, fullname: str) -> str:
        """The changed source."""
        return self._source


def main() -> int:
    """Judge it."""
    file, name = sys.argv[1:]
    sys.meta_path.insert(0, _Changed(name, sys.stdin.read()))
    try:
        recording = importlib.import_module("tests.mutants.recording")
        verdict = importlib.import_module("harness.lockstep.verdict")
        caught = any(not isinstance(each.judge(), verdict.Conforms)
                     for each in recording.load(Path(file)))
    except Exception:
        # A model that raises, or goes another way, foretells nothing.
        return 1
    return int(caught)


if __name__ == "__main__":
    sys.exit(main())
