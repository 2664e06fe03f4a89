# SPDX-License-Identifier: GPL-2.0-or-later
"""Steering: of a few candidates for a trace, the one is done that fires rules in the most orders
that have not been seen, for the time that it takes.

The model alone says what a candidate fires, in a small part of the time that a QEMU needs for the
trace.  What counts as seen is decided by the queue: see :mod:`.batches`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from harness.exploration.building import Plan
from harness.lockstep.run import Model
from harness.lockstep.trace import Trace
from model.concurrent_machine import machine_for
from model.machine import Impossible, Machine

CANDIDATES: Final = 4
"""For each trace; docs/exploration.md says what more of them cost and bring."""

START: Final = 30
"""Starting a QEMU over its images takes as long as so many steps, about."""

Pair: TypeAlias = tuple[str, str]
"""Two rules: the second fired in the operation in which the first did, or in the next."""


class Journal:
    """Notes the pairs of rules that fire on a model."""

    def __init__(self, model: Model) -> None:
        self.pairs: set[Pair] = set()
        self._rules = model.rules if isinstance(model, Machine) else Counter[str]()
        self._before: dict[str, int] = {}
        self._last: set[str] = set()
        self.steps = 0

    def step(self) -> None:
        """To be called after each operation."""
        now = dict(self._rules)
        fired = {name for name, count in now.items() if count != self._before.get(name)}
        self.pairs.update((first, second) for first in fired | self._last for second in fired)
        self._before, self._last = now, fired
        self.steps += 1


def pairs_of(trace: Trace, plan: Plan) -> set[Pair]:
    """What a trace fires, by the model alone, as far as that lets it be done."""
    machine = machine_for(trace.configuration, plan.capabilities)
    journal = Journal(machine)
    with suppress(Impossible):
        for step in trace.steps:
            machine.apply(step.number, step.operation)
            journal.step()
    return journal.pairs


def chosen(candidates: Sequence[Trace], plan: Plan, seen: set[Pair]) -> Trace | None:
    """The candidate with the most pairs that have not been seen for what it takes, the first of
    equals; ``seen`` takes them on.  None: there is no candidate."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    fired = [(pairs_of(each, plan), each) for each in candidates]
    pairs, best = max(fired, key=lambda each: len(each[0] - seen) / (
        START + len(each[1].steps)))
    seen |= pairs
    return best
