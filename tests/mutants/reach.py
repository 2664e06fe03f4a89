# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of the model each record has executed, by the unchanged model.

Whoever does not execute what was changed cannot tell the change.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TypeAlias

Trace: TypeAlias = Callable[[FrameType, str, object], object]


@dataclass(frozen=True)
class Reach:
    """What a record, or anything else that is done, executes."""

    foretold: bool
    seconds: float
    """Of the processor, while it is watched: to compare with others."""
    lines: dict[str, frozenset[int]] = field(default_factory=dict)
    """By file: those in functions that were called, and where these begin."""

    def touches(self, file: str, lines: Iterable[int]) -> bool:
        """Whether one of the lines was executed."""
        return not self.lines.get(file, frozenset()).isdisjoint(lines)


def reach(files: Collection[str], action: Callable[[], bool]) -> Reach:
    """What an action executes of the files, and whether it goes well."""
    seen: dict[CodeType, set[int]] = {}
    wanted: dict[CodeType, int] = {}
    """So many lines of each are still to be seen."""

    def entered(frame: FrameType, event: str, argument: object) -> Trace | None:
        code = frame.f_code
        if code not in wanted:
            lines = {line for _, _, line in code.co_lines()} - {None, code.co_firstlineno}
            wanted[code] = len(lines) if code.co_filename in files else 0
            seen[code] = {code.co_firstlineno}
        return executed if wanted[code] else None

    def executed(frame: FrameType, event: str, argument: object) -> Trace:
        lines = seen[frame.f_code]
        if event == "line" and frame.f_lineno not in lines:
            lines.add(frame.f_lineno)
            wanted[frame.f_code] -= 1
        return executed

    start = time.process_time()
    sys.settrace(entered)
    try:
        well = action()
    finally:
        sys.settrace(None)
    lines: dict[str, set[int]] = {}
    for code, found in seen.items():
        if code.co_filename in files and code.co_flags & inspect.CO_OPTIMIZED:
            lines.setdefault(code.co_filename, set()).update(found)
    return Reach(well, time.process_time() - start,
                 {name: frozenset(each) for name, each in lines.items()})
