# SPDX-License-Identifier: GPL-2.0-or-later
"""What two builds do differently, in words for a release note."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from harness.exploration.differential import Comparison, Explained, Unexplained
from harness.exploration.investigate import lines
from harness.systems.capabilities import describe
from harness.systems.known_defects import spelled
from model.capabilities import Capabilities

SHOWN = 12
"""Lines of a trace that are printed, the last ones."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the builds."""

    version: str
    capabilities: Capabilities


def release_note(found: Comparison, sides: Sequence[Side], seed: int) -> Iterator[str]:
    """The lines: what was seen to differ; then what differs and was not met."""
    old, new = sides
    count = len(found.explained) + len(found.unexplained)
    yield (f"{old.version} → {new.version}: {count or 'no'} observable "
           f"difference{'s' if count != 1 else ''}")
    numbers = itertools.count(1)
    for each in found.explained.values():
        yield from _explained(next(numbers), each, sides)
    for other in found.unexplained.values():
        yield from _unexplained(next(numbers), other, sides)
    seen = {name for each in found.explained.values() for name in each.capability.split(" and ")}
    unseen = [each.name for each in fields(Capabilities) if each.name not in seen
              and getattr(old.capabilities, each.name) != getattr(new.capabilities, each.name)]
    if unseen:
        yield ("Capabilities that differ and made no difference here, or were avoided as they "
               "kill QEMU:")
        yield from (f"  {_capability(name, sides)}" for name in unseen)
    yield (f"{found.steps} steps in {found.traces} traces, seed {seed}: the same operations on "
           "both, each in lockstep with the model")


def _explained(number: int, each: Explained, sides: Sequence[Side]) -> Iterator[str]:
    for name in each.capability.split(" and "):
        yield f"{number:3}. {_capability(name, sides)}"
    yield "     explained by this capability: the model foretells both"
    yield f"     seen in {', '.join(sorted(each.operations))}; {each.example}"


def _unexplained(number: int, each: Unexplained, sides: Sequence[Side]) -> Iterator[str]:
    """A build that deviates from its own model: the model takes the other one's side."""
    deviates, other = sides[each.side], sides[1 - each.side]
    if each.other == "conforms":
        sided = f"the model sides with {other.version}"
    else:
        sided = f"the model sides with neither: {other.version} {each.other}"
    yield f"{number:3}. {deviates.version} deviates, {sided}"
    yield f"     {each.summary}"
    yield from (f"       {line}" for line in lines(each.trace)[-SHOWN:])


def _capability(name: str, sides: Sequence[Side]) -> str:
    has = next((side.version for side in sides if getattr(side.capabilities, name)), "neither")
    deviation = next(each.metadata["deviation"] for each in fields(Capabilities)
                     if each.name == name)
    kind = "known defect of" if deviation else "only"
    return f"{spelled(name)}, {kind} {has}: {describe(name)}"
