# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of QEMU's block layer a run executes, if the build counts them
(``configure --enable-gcov``).

A process adds its counts to files when it ends by itself, as it does after most traces; what those
did that were killed is not counted.  The files are the run's own, not those of the build tree:
others may use it at the same time, and it need not be writable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from harness.builds import SUBJECTS, Build
from harness.errors import EnvironmentProblem, HarnessError
from harness.processes import run

SOURCES: Final = (
    "block/copy-before-write.c", "block/block-copy.c", "block/snapshot-access.c",
    "block/reqlist.c", "block/backup.c", "block/dirty-bitmap.c", "block/monitor/bitmap-qmp-cmds.c",
    "nbd/server.c")
GCOV: Final = "gcov"
_COMPLAINT: Final = "profiling:"
"""What a program says begins with this, if it cannot add to its counts."""

Counts: TypeAlias = dict[str, dict[int, int]]
"""How often each line that has code was executed, by source file."""
Line: TypeAlias = tuple[str, int]
"""A source file and a line of it."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How many of a file's lines were executed by a run, and how many there are."""

    lines: int
    of: int


class Gauge:
    """The counts of one run's processes."""

    def __init__(self, tree: Path, folder: Path) -> None:
        """``tree``: where the build was made; ``folder``: where to keep counts, empty."""
        self.tree = tree.absolute()
        wanted = {source.replace("/", "_") for source in SOURCES}
        # Once: a tree has thousands of files.
        self._notes = {_name(path.with_suffix(".gcda")): path
                       for path in sorted(self.tree.rglob("*.gcno")) if path.stem in wanted}
        self._counts, self._others, self._pairs = (
            folder / name for name in ("counts", "others", "pairs"))
        self._pairs.mkdir()

    def on(self, build: Build) -> Build:
        """The build, with processes that count; raises EnvironmentProblem if they do not, or if
        what they leave cannot be read with what the tree has."""
        tools = {name: replace(tool, env={
            **tool.env, "GCOV_PREFIX_STRIP": "0",
            # A client executes QEMU's block layer as well, and is not what is verified.
            "GCOV_PREFIX": str(self._counts if name in SUBJECTS else self._others)})
            for name, tool in build.tools.items()}
        counting = replace(build, tools=tools)
        for name in SUBJECTS:
            if counting.has(name):
                tool = counting.tool(name)
                said = run([*tool.argv, "--version"], env=tool.env).exit.stderr
                if complaint := next((line for line in said.splitlines()
                                      if line.startswith(_COMPLAINT)), None):
                    raise EnvironmentProblem(f"{tool.path} cannot keep its counts: {complaint}")
        self.read()
        return counting

    def read(self) -> Counts:
        """The counts so far, without those of processes that still run."""
        data = self._data()
        if not data:
            raise EnvironmentProblem(
                f"no program of the build counts lines of which {self.tree} has notes: give the "
                "build tree of a QEMU configured with --enable-gcov, and the same to --qemu-build")
        return self._told(data)

    def taken(self) -> frozenset[Line]:
        """The lines executed since this was last asked, by processes that have ended by
        themselves; the counts begin anew."""
        data = self._data()
        if not data:
            return frozenset()
        counts = self._told(data)
        for path, _ in data:
            path.unlink()
        return frozenset((source, number) for source, lines in counts.items()
                         for number, times in lines.items() if times)

    def _told(self, data: list[tuple[Path, Path]]) -> Counts:
        for counts, notes in data:
            # gcov wants the two side by side, and of the same name.
            for path in (counts, notes):
                link = self._pairs / _name(path)
                if not os.path.lexists(link):
                    link.symlink_to(path)
        names = [_name(notes) for _, notes in data]
        try:
            done = run([GCOV, "--json-format", "--stdout", *names], cwd=self._pairs)
            # Notes of another compilation, or of another GCC, it takes for lines never executed.
            if complaints := done.exit.stderr.splitlines():
                raise ValueError(complaints[0])
            return _counts(done.stdout)
        except (HarnessError, ValueError, LookupError, TypeError) as why:
            raise EnvironmentProblem(
                f"{GCOV} cannot tell what was executed of {self.tree}, which takes a tree that is "
                f"just as it was built, and the gcov of the GCC that built it: {why}") from why

    def _data(self) -> list[tuple[Path, Path]]:
        """The counts of each object file that is of interest, and the notes of its compilation.
        An object is in the folder that its program or library has in the tree."""
        counts = {_name(path): path for path in self._counts.rglob("*.gcda")}
        return [(counts[name], notes) for name, notes in self._notes.items() if name in counts]


def _name(file: Path) -> str:
    return f"{file.parent.name}-{file.name}"


def _counts(printed: bytes) -> Counts:
    """What gcov has printed, a line for each object file."""
    found: Counts = {}
    for line in printed.splitlines():
        for file in json.loads(line)["files"]:
            for source in SOURCES:
                if file["file"].endswith(source):
                    lines = found.setdefault(source, {})
                    for each in file["lines"]:
                        number = each["line_number"]
                        lines[number] = lines.get(number, 0) + each["count"]
    return {source: found[source] for source in SOURCES if source in found}


def reached(counts: Counts, lines: Set[Line] = frozenset()) -> Mapping[str, Reached]:
    """How much of each source file was executed, by the counts or elsewhere."""
    return {source: Reached(sum(times > 0 or (source, number) in lines
                                for number, times in counted.items()), len(counted))
            for source, counted in counts.items()}
