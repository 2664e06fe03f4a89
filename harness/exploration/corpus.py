# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus: what earlier runs have found, a trace for each kind of find, done first by later
runs.

Finds are of a kind if they are alike in area, in the first observation that differs, in the text
of the failed assertion, and in the functions of a sanitizer's backtrace.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness import user_cache
from harness.errors import EnvironmentProblem
from harness.exploration.grounds import Ground
from harness.exploration.tally import Find
from harness.lockstep.trace import Trace, TraceError, load, save, step_line

MOST: Final = 200
"""At most so many traces are done first, those that were kept last."""
FRAMES: Final = 5
_FRAME: Final = re.compile(r"#\d+ 0x[0-9a-f]+ in (\w+)")


@dataclass(frozen=True, slots=True)
class Kept:
    """A trace of the corpus, the area it was found in, and the index of the ground it is for."""

    ground: int
    area: str
    trace: Trace


def default_folder() -> Path:
    """In the user's cache."""
    return user_cache.place("corpus")


def name_of(find: Find) -> str:
    """The name of the file that finds of this kind are kept in."""
    last = find.trace.steps[-1].operation.name if find.trace.steps else ""
    key = [find.area, find.verdict, *find.signature, last, *_FRAME.findall(find.summary)[:FRAMES]]
    return f"{find.area}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}.jsonl"


def keep(find: Find, trace: Trace, folder: Path) -> Path:
    """Keep the trace, the smallest that shows the find, unless a smaller one is there."""
    path = folder / name_of(find)
    known = _load(path)
    if known is None or _size(trace) < _size(known):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as why:
            raise EnvironmentProblem(f"cannot keep finds in {folder}: {why.strerror}") from why
        # Others may read and write here at the same time, from other machines too.
        whole = path.with_suffix(f".{secrets.token_hex(8)}")
        save(whole, trace)
        whole.replace(path)
    return path


def kept(folder: Path, grounds: Sequence[Ground]) -> tuple[Kept, ...]:
    """The corpus, the latest first; each trace for the ground whose system it was found on."""
    found: list[Kept] = []
    try:
        paths = sorted(folder.glob("*.jsonl"), key=lambda path: -path.stat().st_mtime_ns)
    except OSError:
        return ()
    for path in paths[:MOST]:
        trace = _load(path)
        if trace is not None:
            ground = next((index for index, each in enumerate(grounds)
                           if each.plan.system is trace.header.system), 0)
            found.append(Kept(ground, path.stem.rpartition("-")[0], trace))
    return tuple(found)


def _size(trace: Trace) -> tuple[int, int]:
    """By operations, and of as many by how much there is to say of them."""
    return len(trace.steps), sum(len(step_line(step)) for step in trace.steps)


def _load(path: Path) -> Trace | None:
    """The trace; None if there is none, or it is of another format."""
    try:
        return load(path)
    except TraceError:
        return None
