# SPDX-License-Identifier: GPL-2.0-or-later
"""Two builds, the same operations: what differs, and what the model says to it.

Each build runs in lockstep with a model of its own capabilities.  Where both conform and the two
models foretell different answers, the builds differ by a capability, which is named.  Where a
build deviates from its model, the model sides with the other one.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from harness.errors import EnvironmentProblem
from harness.exploration.areas import EVERYTHING
from harness.exploration.batches import Queue
from harness.exploration.contrast import Aspect, Words, contrast, foretold
from harness.exploration.corpus import Kept
from harness.exploration.explorer import Explorer, Made, Mission, find_of
from harness.exploration.grounds import Ground
from harness.exploration.subjects import SHARES
from harness.exploration.tally import Find
from harness.exploration.telling import Pair, common_plan, deadly, differing, telling
from harness.lockstep import human
from harness.lockstep.replay import Stand, check_possible, replay
from harness.lockstep.run import Done
from harness.lockstep.trace import Trace, TraceError
from harness.lockstep.verdict import Conforms, Verdict
from harness.systems.failure import SystemFailed
from harness.systems.known_defects import KNOWN
from model.capabilities import Capabilities
from model.operations import Operation

ATTRIBUTED: Final = 8
"""So many differences of a kind are looked into; that takes as long as some steps do."""
_WHOLE: Final = 7
"""An example of more operations is told by its last one."""


@dataclass(frozen=True)
class Explained:
    """A difference that follows from capabilities that only one of the builds has: one, or several
    of which none makes a difference alone."""

    capabilities: tuple[str, ...]
    example: str
    """What was done, in words."""
    answers: Words
    """To the last operation of it."""
    plainness: tuple[int, ...] = ()
    """The example that comes first in this order is the plainest."""
    operations: frozenset[str] = frozenset()
    """Names of the operations whose answers, or what they leave behind, differ."""

    def joined(self, other: Explained) -> Explained:
        """The same, with what another trace or process has seen of it."""
        return dataclasses.replace(min(self, other, key=lambda each: each.plainness),
                                   operations=self.operations | other.operations)


def _example(operations: Sequence[Operation]) -> str:
    """A few operations, or the last of many."""
    if len(operations) > _WHOLE:
        return f"{human.operation(operations[-1])} (after {len(operations) - 1} operations)"
    return "; ".join(map(human.operation, operations))


@dataclass(frozen=True)
class Unexplained:
    """A build deviates from its model, on a trace that was given to both."""

    side: int
    """0 or 1: which build."""
    find: Find
    """Its ground is the index of the pair."""
    other: str
    """How the other build fared."""
    alike: bool = False
    """Both deviate, and in the same way: there is no difference between them."""


@dataclass
class Comparison:
    """What comparing has found."""

    traces: int = 0
    directed: int = 0
    """How many of the traces were directed checks."""
    steps: int = 0
    explained: dict[tuple[str, ...], Explained] = field(default_factory=dict)
    """By capabilities."""
    unexplained: dict[object, Unexplained] = field(default_factory=dict)

    def explain(self, each: Explained) -> None:
        """Take note of a difference."""
        known = self.explained.get(each.capabilities)
        self.explained[each.capabilities] = each if known is None else known.joined(each)

    def add(self, other: Comparison) -> None:
        """Take on what another process has found."""
        self.traces += other.traces
        self.directed += other.directed
        self.steps += other.steps
        for each in other.explained.values():
            self.explain(each)
        self.unexplained = {**other.unexplained, **self.unexplained}


@dataclass(frozen=True)
class Contest:
    """What is to be compared."""

    pairs: tuple[Pair, ...]
    mission: Mission
    """Which traces there are, on the pairs as their grounds."""

    def queue(self, deadline: float | None) -> Queue:
        """All traces, in batches until the deadline."""
        return self.mission.queue(deadline)

    def deadly(self) -> Iterator[Explained]:
        """What no trace may have: the known defects that only one of the builds does not survive,
        shown on both."""
        for probe, words in deadly(self.pairs):
            yield Explained((probe.capability,), _example(probe.operations), words,
                            operations=frozenset({probe.operations[-1].name}))

    def begin(self) -> Comparer:
        """The means of this process."""
        return Comparer(self)


def contest(first: Sequence[Ground], second: Sequence[Ground], area_names: Sequence[str],
            seed: int) -> Contest:
    """Compare on the kinds of systems that both builds have: first what told them apart when they
    were probed, then directed checks and drawn traces.  Raises EnvironmentProblem."""
    pairs = tuple(Pair((mine, theirs), common_plan(mine.plan, theirs.plan))
                  for mine in first for theirs in second
                  if mine.plan.system is theirs.plan.system)
    if not pairs:
        raise EnvironmentProblem("nothing can be compared: one build has only a storage daemon, "
                                 "the other only a qemu-system")
    kept = tuple(Kept(0, EVERYTHING.name, trace) for trace in telling(pairs[0]))
    shares = tuple(SHARES.get(pair.plan.system, 1) for pair in pairs)
    return Contest(pairs, Mission(pairs, shares, tuple(area_names), seed, directed=True,
                                  corpus=kept))


class Comparer:
    """One process's means to compare."""

    def __init__(self, contest: Contest) -> None:
        self._pairs = contest.pairs
        self._stack = ExitStack()
        self._explorer = self._stack.enter_context(closing(Explorer(contest.mission)))
        self._stands: dict[int, list[Stand]] = {}
        self._looked_into: Counter[tuple[str, Aspect]] = Counter()
        """How many differences were attributed, by operation and what differs."""

    def explore(self, numbers: Sequence[int], deadline: float | None = None,
                course: object = None) -> Comparison:
        """Compare on these traces; none is begun after the deadline.  Nothing steers them."""
        found = Comparison()
        for number in numbers:
            if deadline is not None and time.monotonic() >= deadline:
                break
            made = self._explorer.made(number)
            if made.trace is not None:
                self._compare(made, made.trace, found)
        return found

    def close(self) -> None:
        """Clean up."""
        self._stack.close()

    def _compare(self, made: Made, trace: Trace, found: Comparison) -> None:
        sides = self._pairs[made.ground].sides
        mine, theirs = (list(foretold(trace, side.plan.capabilities)) for side in sides)
        looks = list(zip(mine, theirs, strict=False))
        if not looks:
            return
        # Further on, one of the two cannot be given it.
        trace = Trace(trace.header, trace.steps[:len(looks)])
        dones: list[list[Done]] = [[], []]
        verdicts = [_done(trace, stand, seen)
                    for stand, seen in zip(self._opened(made.ground), dones, strict=True)]
        found.traces += 1
        found.directed += made.directed
        found.steps += max(map(len, dones))
        self._deviations(made, trace, verdicts, found)
        before: Mapping[Aspect, Words] = {}
        for look, mine_done, their_done in zip(looks, *dones, strict=False):
            words = contrast(trace, (mine_done, their_done), look) if look[0] != look[1] else {}
            for aspect in words:
                # What differs for long, such as a list of bitmaps, is a difference once.
                if words[aspect] != before.get(aspect):
                    self._explain(mine_done, trace, sides, aspect, words[aspect], found)
            before = words

    def _deviations(self, made: Made, trace: Trace, verdicts: Sequence[Verdict | SystemFailed],
                    found: Comparison) -> None:
        ends = [None if isinstance(verdict, Conforms) else _end(verdict) for verdict in verdicts]
        alike = ends[0] is not None and ends[0] == ends[1]
        for side, verdict in enumerate(verdicts):
            if isinstance(verdict, Conforms) or (alike and side):
                continue
            index = -1 if isinstance(verdict, SystemFailed) else verdict.index
            header = dataclasses.replace(
                trace.header,
                capabilities=self._pairs[made.ground].sides[side].plan.capabilities)
            cut = Trace(header, trace.steps[:index + 1])
            find = find_of(verdict, cut, made.area, made.ground)
            other = "deviates alike" if alike else _fared(verdicts[1 - side], index)
            found.unexplained.setdefault((side, find.key), Unexplained(side, find, other, alike))

    def _explain(self, done: Done, trace: Trace, sides: Sequence[Ground], aspect: Aspect,
                 words: Words, found: Comparison) -> None:
        """Attribute a difference to capabilities, unless enough like it have been."""
        name = done.step.operation.name
        self._looked_into[name, aspect] += 1
        if self._looked_into[name, aspect] > ATTRIBUTED:
            return
        cut = Trace(trace.header, trace.steps[:done.index + 1])
        mine, theirs = (side.plan.capabilities for side in sides)
        reasons = why(cut, mine, theirs, aspect)
        for capabilities in reasons:
            found.explain(Explained(
                capabilities, _example([step.operation for step in cut.steps]), words,
                (len(reasons), aspect.value, done.index), frozenset({name})))

    def _opened(self, number: int) -> list[Stand]:
        if number not in self._stands:
            self._stands[number] = [self._stack.enter_context(side.open())
                                    for side in self._pairs[number].sides]
        return self._stands[number]


def _done(trace: Trace, stand: Stand, seen: list[Done]) -> Verdict | SystemFailed:
    try:
        return replay(trace, stand, watch=seen.append)
    except SystemFailed as why:
        return why


def _end(verdict: Verdict | SystemFailed) -> object:
    """How and where a run failed."""
    if isinstance(verdict, SystemFailed):
        return type(verdict)
    assert not isinstance(verdict, Conforms)
    return verdict.index, verdict.signature


def fares(trace: Trace, ground: Ground) -> str:
    """How a build fares on a trace on which the other one deviates at the end."""
    with ground.open() as stand:
        try:
            check_possible(trace, stand.model(trace.configuration), channels=ground.plan.channels)
        except TraceError as why:
            return f"cannot be given it: {why}"
        return _fared(_done(trace, stand, []), len(trace.steps) - 1)


def _fared(verdict: Verdict | SystemFailed, index: int) -> str:
    """How the other build fared where one has failed, at step ``index``."""
    if isinstance(verdict, SystemFailed):
        return f"fails to start: {verdict}"
    if isinstance(verdict, Conforms):
        return "conforms"
    if verdict.index < index:
        return "did not get so far"
    return "conforms" if verdict.index > index else f"deviates as well: {verdict.summary}"


def why(trace: Trace, mine: Capabilities, theirs: Capabilities,
        aspect: Aspect) -> list[tuple[str, ...]]:
    """The capabilities that make the difference at the end of the trace, by the model: each that
    does so alone; or, if none does, the fewest that do together."""
    # No trace for two builds does what only one survives, and what would become of a build that is
    # a bit of both, the model does not know.
    deadly = [name for name in differing(mine, theirs) if name in KNOWN and KNOWN[name].deadly]
    mine = dataclasses.replace(mine, **dict.fromkeys(deadly, True))
    names = [name for name in differing(mine, theirs) if name not in deadly]

    def after(*changed: str) -> object:
        """What is said in the end; None: a build of that kind cannot be given the trace."""
        of = dataclasses.replace(mine, **{name: getattr(theirs, name) for name in changed})
        looks = list(foretold(trace, of))
        return aspect.of(looks[-1]) if len(looks) == len(trace.steps) else None

    here, there = after(), after(*names)
    alone = {name: after(name) for name in names}
    found = ([name for name in names if there is not None and alone[name] == there]
             or [name for name in names if alone[name] not in (None, here)])
    if found:
        return [(name,) for name in found]
    for name in names.copy():
        fewer = [each for each in names if each != name]
        if after(*fewer) == there:
            names = fewer
    return [tuple(names)]
