# SPDX-License-Identifier: GPL-2.0-or-later
"""What two builds do differently, in words for a release note."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from harness.builds import Build
from harness.cli.results import Divergence, divergence_json
from harness.cli.summary import divergence_lines
from harness.exploration.contrast import Words
from harness.exploration.differential import Comparison, Explained
from harness.exploration.telling import differing
from harness.invocation import command
from harness.lockstep.human import counted
from harness.systems.capabilities import describe
from harness.systems.known_defects import KNOWN, spelled
from model.capabilities import Capabilities

_NAMED: Final = 4
"""So many operations that show a difference are named."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the builds."""

    version: str
    capabilities: Capabilities
    build: Build


class Kind(StrEnum):
    """What has become of something from the first build to the second, in the order of a note."""

    MENDED = "mended"
    DEFECT = "new defects"
    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"


_TITLES: Final = {
    Kind.MENDED: "mended: known defects of {0} that {1} has not",
    Kind.DEFECT: "new defects: known defects of {1} that {0} has not",
    Kind.NEW: "new: what only {1} has",
    Kind.GONE: "gone: what only {0} has",
    Kind.CHANGED: "changed: what both do, each in its own way",
}


@dataclass(frozen=True)
class Difference:
    """A capability that only one of the builds has."""

    kind: Kind
    name: str
    has: int
    """0 or 1: which build has it."""
    seen: Explained | None
    """None: no operation met it."""

    @property
    def text(self) -> str:
        """What it is, in words."""
        return describe(self.name)

    @property
    def example(self) -> str:
        """The operation by which it is shown, or how else it is known."""
        if self.seen is not None:
            return self.seen.example
        if self.name in KNOWN:
            return "asked when the builds were probed"
        return "told by the QMP schema, or by how each build answered its probe"

    @property
    def answers(self) -> Words | None:
        """How each build answered, in words; None: that is all there is to say."""
        if self.seen is not None:
            return self.seen.answers
        defect = KNOWN.get(self.name)
        if defect is None:
            return None
        words = f"{defect.effect} ({defect.shows})" if defect.shows else defect.effect
        without = "survives it" if defect.deadly else defect.effect.replace("wrong", "right")
        return (words, without) if self.has == 0 else (without, words)

    @property
    def operations(self) -> list[str]:
        """The names of the operations that show it."""
        return sorted(self.seen.operations) if self.seen else []

    def to_json(self) -> dict[str, Any]:
        """For readers of JSON."""
        return {"kind": self.kind.value, "capability": spelled(self.name), "text": self.text,
                "has": self.has, "seen": self.seen is not None, "example": self.example,
                "answers": self.answers, "operations": self.operations}


@dataclass(frozen=True)
class Deviation:
    """A build that deviates from its own model."""

    side: int
    other: str
    """How the other build fares."""
    alike: bool
    """Both deviate, in the same way."""
    divergence: Divergence

    def to_json(self) -> dict[str, Any]:
        """For readers of JSON."""
        return {"build": self.side, "other": self.other, "alike": self.alike,
                **divergence_json(self.divergence)}


def differences(found: Comparison, first: Capabilities, second: Capabilities) -> list[Difference]:
    """What differs by capability, in the order of a note."""
    found_for: dict[str, Explained] = {}
    for each in sorted(found.explained.values(), key=lambda each: len(each.capabilities)):
        for name in each.capabilities:
            found_for.setdefault(name, each)
    made = [Difference(_kind(name, getattr(second, name)), name, int(getattr(second, name)),
                       found_for.get(name))
            for name in differing(first, second)]
    order = list(Kind)
    return sorted(made, key=lambda each: (order.index(each.kind), each.seen is None))


def _kind(name: str, in_second: bool) -> Kind:
    metadata = next(each.metadata for each in fields(Capabilities) if each.name == name)
    if metadata["deviation"]:
        return Kind.DEFECT if in_second else Kind.MENDED
    if metadata["behaviour"]:
        return Kind.CHANGED
    return Kind.NEW if in_second else Kind.GONE


def release_note(by_capability: Sequence[Difference], deviations: Sequence[Deviation],
                 sides: Sequence[Side]) -> Iterator[str]:
    """The lines."""
    versions = [side.version for side in sides]
    count = len(by_capability) + sum(not each.alike for each in deviations)
    differences = counted(count, "observable difference") if count else "no observable differences"
    yield f"{versions[0]} → {versions[1]}: {differences}"
    numbers = itertools.count(1)
    if deviations:
        yield "not explained: a build deviates from the model of its own capabilities"
    for deviation in deviations:
        yield from _deviation(next(numbers), deviation, sides)
    for kind, group in itertools.groupby(by_capability, key=lambda each: each.kind):
        yield _TITLES[kind].format(*versions)
        for each in group:
            yield from _difference(next(numbers), each, versions)
    shared = sum(getattr(sides[0].capabilities, name) and getattr(sides[1].capabilities, name)
                 for name in KNOWN)
    if shared:
        yield f"known defects of both: {shared}; see {command('builds show')}"


def _difference(number: int, each: Difference, versions: Sequence[str]) -> Iterator[str]:
    only = f" (only {versions[each.has]})" if each.kind is Kind.CHANGED else ""
    yield f"{number:3}. {spelled(each.name)}{only}: {each.text}"
    yield f"     {each.example}"
    if each.answers is not None:
        yield from (f"       {version}: {answer}"
                    for version, answer in zip(versions, each.answers, strict=True))
    if each.seen is not None and len(each.seen.capabilities) > 1:
        together = ", ".join(map(spelled, each.seen.capabilities))
        yield f"     only together: {together}"
    if len(each.operations) > 1:
        more = len(each.operations) - _NAMED
        yield (f"     seen in {', '.join(each.operations[:_NAMED])}"
               f"{f' and {more} more' if more > 0 else ''}")


def _deviation(number: int, each: Deviation, sides: Sequence[Side]) -> Iterator[str]:
    """The model takes the other one's side, if it can."""
    deviates, other = sides[each.side].version, sides[1 - each.side].version
    if each.alike:
        yield f"{number:3}. both deviate, in the same way, so here they do not differ"
    elif each.other == "conforms":
        yield f"{number:3}. {deviates} deviates, the model sides with {other}"
    else:
        yield (f"{number:3}. {deviates} deviates, the model sides with neither: {other} "
               f"{each.other}")
    yield from (f"     {line}" for line in divergence_lines(
        each.divergence, sides[each.side].build))
