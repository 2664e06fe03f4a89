# SPDX-License-Identifier: GPL-2.0-or-later
"""How two builds differ over one operation: what their models foretell, and how they answered, in
words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

from harness.lockstep import human
from harness.lockstep.compare import compare_observations, expected_errno
from harness.lockstep.differences import (
    BitmapsDiffer,
    DigestDiffers,
    EventsDiffer,
    JobsDiffer,
    bitmap,
    event,
    job,
)
from harness.lockstep.run import Done
from harness.lockstep.trace import Trace
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.content import ZERO, Content, Stamp
from model.machine import Impossible
from model.operations import Operation, Request
from model.outcome import Observation, Outcome
from model.program import StorageRequest

_LONG: Final = 160
"""Characters of an answer that are shown; block status may have more."""
_BEFORE: Final = 40
"""So many of those that are the same come before what differs."""

Words: TypeAlias = tuple[str, str]
"""How the first build answered, and how the second one did."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the model says after a step."""

    outcome: Outcome
    observation: Observation
    pending: tuple[StorageRequest, ...] = ()
    """Of requests that overlap: what must be pending, or has been completed as it came."""
    answers: Mapping[int, tuple[Operation, Outcome]] = field(default_factory=dict)
    """And who must have been answered since the step before, by number."""


def foretold(trace: Trace, capabilities: Capabilities) -> Iterator[Look]:
    """What the model of a build with these capabilities says after each step, up to one that the
    build cannot be given: it has refused what that builds upon, or would not survive it."""
    machine = machine_for(trace.configuration, capabilities)
    for step in trace.steps:
        try:
            outcome = machine.apply(step.number, step.operation)
        except Impossible:
            return
        if isinstance(machine, ConcurrentMachine):
            answers = {number: (machine.request(number), answer)
                       for number, answer in machine.answers().items()}
            asked = (*machine.passed(), *machine.pending())
            yield Look(outcome, machine.observe(), asked, answers)
        else:
            yield Look(outcome, machine.observe())


class Aspect(Enum):
    """What builds can differ in after a step; the first is the plainest."""

    ANSWER = 0
    REQUESTS = 1
    """Of requests that overlap: who is answered how, and what is asked of storage."""
    OBSERVATION = 2

    def of(self, look: Look | None) -> object:
        """What the model says in this respect; None for None."""
        if look is None:
            return None
        match self:
            case Aspect.ANSWER:
                return look.outcome
            case Aspect.REQUESTS:
                return look.answers, look.pending
            case Aspect.OBSERVATION:
                return look.observation


def contrast(trace: Trace, dones: tuple[Done, Done],
             looks: tuple[Look, Look]) -> dict[Aspect, Words]:
    """How each build did a step, in each aspect in which they were seen to differ."""
    one, other = dones
    found = {
        Aspect.ANSWER: _answers(trace, one.step.operation,
                                (human.answer(one.answer), human.answer(other.answer)),
                                (looks[0].outcome, looks[1].outcome)),
        Aspect.REQUESTS: _requests(trace, looks),
        Aspect.OBSERVATION: _observations(one.found, other.found),
    }
    return {aspect: words for aspect, words in found.items() if words is not None
            and aspect.of(looks[0]) != aspect.of(looks[1])}


def _answers(trace: Trace, operation: Operation, words: Words,
             outcomes: tuple[Outcome, Outcome]) -> Words | None:
    """The words; if they are alike, and the data that was read is not, with whose that is."""
    if words[0] != words[1]:
        return _short(words)
    mine, theirs = (outcome.content for outcome in outcomes)
    if mine is None or theirs is None or mine == theirs:
        return None
    data = _data(trace, operation, mine, theirs)
    return f"{words[0]}: {data[0]}", f"{words[1]}: {data[1]}"


def _data(trace: Trace, operation: Operation, mine: Content, theirs: Content) -> Words:
    """Whose data is in the first place that differs."""
    run, place = next(
        (run, place) for run in mine.runs()
        for place in (max(run.start, other.start) for other in theirs.runs(run.start, run.end)
                      if other.value != run.value))
    offset = operation.offset if isinstance(operation, Request) else 0
    where = f"at {human.size(offset + place)} "
    return (where + _whose(run.value, trace), where + _whose(theirs.at(place), trace))


def _whose(stamp: Stamp, trace: Trace) -> str:
    if stamp == ZERO:
        return "zeroes"
    if stamp < ZERO:
        return f"the first data of {trace.configuration.images[-1 - stamp].node}"
    wrote = next(each.operation for each in trace.steps if each.number == stamp)
    return f"the data of {human.operation(wrote)}"


def _requests(trace: Trace, looks: tuple[Look, Look]) -> Words | None:
    mine, theirs = looks
    for number in sorted({*mine.answers, *theirs.answers}):
        words = _request(number, mine), _request(number, theirs)
        request, outcome = mine.answers.get(number) or theirs.answers[number]
        other = theirs.answers.get(number, (request, outcome))[1]
        found = _answers(trace, request, words, (outcome, other))
        if found is not None:
            return found
    if mine.pending != theirs.pending:
        return _short((_pending(mine), _pending(theirs)))
    return None


def _request(number: int, look: Look) -> str:
    if number not in look.answers:
        return f"request {number}: no answer yet"
    request, outcome = look.answers[number]
    return f"request {number}: {human.outcome(outcome, expected_errno(request, outcome))}"


def _pending(look: Look) -> str:
    asked = ", ".join(map(human.storage_request, look.pending))
    return f"asks of storage: {asked or 'nothing'}"


def _observations(mine: Observation, theirs: Observation) -> Words | None:
    """What QMP shows after the step, and differs first."""
    for each in compare_observations(mine, theirs):
        match each:
            case BitmapsDiffer():
                return _listed(f"bitmaps of {each.node}", bitmap, each.expected, each.found)
            case DigestDiffers():
                what = f"digest of {each.node}/{each.name}"
                return f"{what}: {each.expected}", f"{what}: {each.found}"
            case JobsDiffer():
                return _listed("jobs", job, each.expected, each.found)
            case EventsDiffer():
                return _listed("events", event, each.expected, each.found)
    return None


def _listed(what: str, words: Callable[[Any], str], *both: Iterable[Any]) -> Words:
    mine, theirs = (f"{what}: {'; '.join(map(words, each)) or 'none'}" for each in both)
    return _short((mine, theirs))


def _short(words: Words) -> Words:
    """The words, or, of long ones, where they begin to differ."""
    same = next((index for index, (one, other) in enumerate(zip(*words, strict=False))
                 if one != other), 0)
    start = max(0, same - _BEFORE)
    return _cut(words[0], start), _cut(words[1], start)


def _cut(text: str, start: int) -> str:
    if len(text) <= _LONG:
        return text
    end = start + _LONG
    return f"{'…' if start else ''}{text[start:end]}{'…' if text[end:] else ''}"
