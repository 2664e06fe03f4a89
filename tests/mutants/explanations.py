# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants that no recording can catch, with the reason: ``explained/FILE.toml`` for each file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.mutants.operators import Mutant


class Reason(Enum):
    """Why a mutant cannot be caught."""

    EQUIVALENT = "equivalent"
    """It foretells the same, whatever is done."""
    SILENT = "silent"
    """What it changes foretells nothing: it decides which traces there may be, serves the harness
    or guards the model against itself."""
    GAP = "gap"
    """It could be caught, and is not: it counts as a survivor."""


@dataclass(frozen=True)
class Explanation:
    """Why some mutants of a function survive."""

    function: str
    """``Class.function``; what is in it, functions inside included."""
    why: str
    reason: Reason
    changes: frozenset[str] = field(default_factory=frozenset)
    """``Mutant.what`` of each; none: all of the function."""
    at: str = ""
    """Part of the line that they are on, if the function has the same change more than once."""

    def explains(self, mutant: Mutant, line: str) -> bool:
        """Whether it is about a mutant, which is on this line of the source."""
        return (f"{mutant.function}.".startswith(f"{self.function}.") and self.at in line
                and (not self.changes or mutant.what in self.changes))


def explanations_of(file: Path) -> list[Explanation]:
    """Those of a file of the model."""
    named = Path(__file__).parent / "explained" / file.with_suffix(".toml").name
    if not named.exists():
        return []
    return [Explanation(each["in"], each["why"], Reason(each["reason"]),
                        frozenset(each.get("changes", ())), each.get("at", ""))
            for each in tomllib.loads(named.read_text())["mutants"]]


def explained(mutant: Mutant, source: Sequence[str],
              every: Iterable[Explanation]) -> Explanation | None:
    """What explains a mutant of a source, by its lines."""
    line = source[mutant.line - 1]
    return next((each for each in every if each.explains(mutant, line)), None)


def stale(every: Iterable[Explanation], mutants: Sequence[Mutant],
          source: Sequence[str]) -> list[str]:
    """What explanations name that there is not, or not any more."""
    found: list[str] = []
    for each in every:
        there = {mutant.what for mutant in mutants
                 if each.explains(mutant, source[mutant.line - 1])}
        found += [f"{each.function}: {what}" for what in sorted(each.changes - there)]
        if not there and not each.changes:
            found.append(each.function)
    return found
