# SPDX-License-Identifier: GPL-2.0-or-later
"""Two builds, the same operations: what differs, and what the model says to it.

Each build runs in lockstep with a model of its own capabilities.  Where both conform and the two
models foretell different answers, the builds differ by a capability, which is named.  Where a
build deviates from its model, the model sides with the other one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from typing import Final

from harness.exploration.areas import Area
from harness.exploration.building import Plan
from harness.exploration.grounds import Ground
from harness.exploration.traces import TraceSource
from harness.lockstep import human
from harness.lockstep.replay import Stand, replay
from harness.lockstep.run import Done
from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.lockstep.verdict import Conforms, Verdict
from harness.systems.probes import PROBES
from model.capabilities import Capabilities
from model.machine import Impossible, Machine

ATTRIBUTED: Final = 8
"""So many differences of a kind are looked into; that takes as long as some steps do."""


@dataclass(frozen=True)
class Explained:
    """A difference that follows from a capability that only one of the builds has."""

    capability: str
    operations: set[str]
    """Names of the operations whose answers, or what they leave behind, differ."""
    example: str


@dataclass(frozen=True)
class Unexplained:
    """A build deviates from its model, on a trace that was given to both."""

    side: int
    """0 or 1: which build."""
    trace: Trace
    summary: str
    other: str
    """How the other build fared."""


@dataclass
class Comparison:
    """What comparing has found."""

    traces: int = 0
    steps: int = 0
    explained: dict[str, Explained] = field(default_factory=dict)
    """By capability."""
    looked_into: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """How many differences were attributed, by operation and whether the answer differs."""
    unexplained: dict[object, Unexplained] = field(default_factory=dict)


def common_plan(first: Plan, second: Plan) -> Plan:
    """A plan for traces that kill neither build by a known defect."""
    deadly = {each.name: True for each in fields(Capabilities) if each.metadata["deviation"]
              and (getattr(first.capabilities, each.name)
                   or getattr(second.capabilities, each.name))}
    channels = tuple(via for via in first.channels if via in second.channels)
    return Plan(first.system, dataclasses.replace(first.capabilities, **deadly), channels)


def telling(first: Capabilities, second: Capabilities, system: SystemKind) -> Iterator[Trace]:
    """The probes that told the two builds apart and kill neither, as traces."""
    for probe in PROBES:
        name = probe.capability
        if probe.kills is None and not probe.by_device and getattr(first, name) != getattr(
                second, name):
            yield Trace(Header(probe.configuration, system), tuple(
                Step(number, each) for number, each in enumerate(probe.operations, start=1)))


def compare(grounds: tuple[Ground, Ground], areas: Sequence[Area], seed: int,
            first: Iterable[Trace] = ()) -> Iterator[Comparison]:
    """Compare on trace after trace, those of ``first`` and then others for ever; what has been
    found so far, after each."""
    plan = common_plan(grounds[0].plan, grounds[1].plan)
    sources = [TraceSource(plan, area) for area in areas]
    found = Comparison()
    with ExitStack() as stack:
        stands = [stack.enter_context(ground.open()) for ground in grounds]
        for trace in first:
            _compare(_common(trace, stands), stands, grounds, found)
            yield found
        index = 0
        while True:
            for source in sources:
                drawn = source.trace(seed, index)
                if drawn is not None:
                    trace = _common(drawn, stands)
                    _compare(trace, stands, grounds, found)
                    yield found
            index += 1


def _compare(trace: Trace, stands: Sequence[Stand], grounds: tuple[Ground, Ground],
             found: Comparison) -> None:
    looks: list[list[Done]] = [[], []]
    verdicts: list[Verdict] = [
        replay(trace, stand, watch=seen.append) for stand, seen in zip(stands, looks, strict=True)]
    found.traces += 1
    found.steps += max(map(len, looks))
    for side, verdict in enumerate(verdicts):
        if not isinstance(verdict, Conforms):
            key = (side, verdict.signature)
            cut = Trace(trace.header, trace.steps[:verdict.index + 1])
            found.unexplained.setdefault(key, Unexplained(
                side, cut, verdict.summary, _fared(looks[1 - side], verdict.index)))
    for one, other in zip(*looks, strict=False):
        answer = one.outcome != other.outcome
        if answer or one.expected != other.expected:
            _explain(one, trace, grounds, found, answer=answer)


def _explain(done: Done, trace: Trace, grounds: tuple[Ground, Ground], found: Comparison, *,
             answer: bool) -> None:
    """Attribute a difference to a capability, unless enough like it have been."""
    name = done.step.operation.name
    found.looked_into[name, answer] += 1
    if found.looked_into[name, answer] > ATTRIBUTED:
        return
    what = "answered otherwise" if answer else "other bitmaps after it"
    example = f"{human.operation(done.step.operation)}: {what}"
    for capability in _why(trace, done.index, grounds):
        known = found.explained.setdefault(capability, Explained(capability, set(), example))
        known.operations.add(name)


def _common(trace: Trace, stands: Sequence[Stand]) -> Trace:
    """The trace up to where one of the builds cannot be given it: the other one has refused
    what it builds upon, or the step would kill it."""
    models = [stand.model(trace.configuration) for stand in stands]
    for index, step in enumerate(trace.steps):
        for model in models:
            if model.deadly(step.operation) is not None:
                return Trace(trace.header, trace.steps[:index])
            try:
                model.apply(step.number, step.operation)
            except Impossible:
                return Trace(trace.header, trace.steps[:index])
    return trace


def _fared(looks: Sequence[Done], index: int) -> str:
    if index >= len(looks):
        return "did not get so far"
    return "deviates as well" if looks[index].differences else "conforms"


def _why(trace: Trace, index: int, grounds: tuple[Ground, Ground]) -> list[str]:
    """The capabilities that make a difference, by the model; all if only they together do."""
    mine, theirs = (ground.plan.capabilities for ground in grounds)
    differing = [each.name for each in fields(Capabilities)
                 if getattr(mine, each.name) != getattr(theirs, each.name)]
    at_home = _foretold(trace, index, mine)
    names = [name for name in differing if _foretold(trace, index, dataclasses.replace(
        mine, **{name: getattr(theirs, name)})) != at_home]
    return names or [" and ".join(differing)]


def _foretold(trace: Trace, index: int, capabilities: Capabilities) -> object:
    machine = Machine(trace.configuration, capabilities)
    outcome: object = None
    for step in trace.steps[:index + 1]:
        outcome = machine.apply(step.number, step.operation)
    return outcome, machine.observe()


