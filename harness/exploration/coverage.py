# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of QEMU's block layer have been executed, if the build counts them
(``configure --enable-gcov``).

A process adds its counts to the build tree's files when it ends by itself, as it does after most
traces; what those did that were killed is not counted.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from harness.errors import EnvironmentProblem, HarnessError
from harness.processes import run

SOURCES: Final = (
    "block/copy-before-write.c", "block/block-copy.c", "block/snapshot-access.c",
    "block/reqlist.c", "block/backup.c", "block/dirty-bitmap.c", "nbd/server.c")
GCOV: Final = "gcov"

Counts: TypeAlias = dict[str, dict[int, int]]
"""How often each line that has code was executed, by source file."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How many of a file's lines were executed by a run, and how many there are."""

    lines: int
    of: int


def read(tree: Path) -> Counts:
    """The counts so far; raises EnvironmentProblem if the tree is of no such build, or cannot be
    read."""
    counts: Counts = {}
    for source in SOURCES:
        name = source.replace("/", "_")
        for notes in sorted(tree.rglob(f"*{name}.gcno")):
            _add(counts.setdefault(source, {}), source, notes)
    if not counts:
        raise EnvironmentProblem(f"{tree} has no counts of lines: it is no tree of a build made "
                                 "with --enable-gcov")
    return counts


def _add(lines: dict[int, int], source: str, notes: Path) -> None:
    """Add the counts of one object file; without a .gcda they are zero."""
    try:
        done = run([GCOV, "--json-format", "--stdout", notes.name], cwd=notes.parent)
        files = json.loads(done.stdout)["files"]
        for line in itertools.chain.from_iterable(
                each["lines"] for each in files if each["file"].endswith(source)):
            number = line["line_number"]
            lines[number] = lines.get(number, 0) + line["count"]
    except (OSError, HarnessError, ValueError, LookupError, TypeError) as why:
        raise EnvironmentProblem(f"{GCOV} cannot read {notes}: {why}") from why


def reached(before: Counts, after: Counts) -> Mapping[str, Reached]:
    """What was executed between two readings."""
    return {source: Reached(sum(count > before.get(source, {}).get(line, 0)
                                for line, count in lines.items()), len(lines))
            for source, lines in after.items()}
