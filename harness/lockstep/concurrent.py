# SPDX-License-Identifier: GPL-2.0-or-later
"""Lockstep of requests that overlap: what must be pending, and who must have been answered.

After each step the two are compared once all is quiet: the storage requests that are pending, as
a multiset; the answers that have come since the step before; and that nobody else was answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from harness.ranges import Ranges, merged
from harness.systems.base import Answer, System
from harness.systems.concurrent import Awaited, ConcurrentSystem, Standing
from model.concurrent_machine import ConcurrentMachine
from model.machine import Impossible
from model.operations import Kill, Operation, Request
from model.outcome import Outcome
from model.program import StorageRequest
from model.schedule import Complete, CompleteAll

from . import human
from .compare import compare, wrong_ranges
from .differences import DataDiffers, Difference, Signature
from .found import Found
from .trace import Step, Trace


@dataclass(frozen=True, slots=True)
class PendingDiffers(Difference):
    """Other storage requests are pending than must be."""

    kind: ClassVar[str] = "pending"
    missing: tuple[StorageRequest, ...]
    extra: tuple[StorageRequest, ...]

    @property
    def signature(self) -> Signature:
        return (self.kind, *_kinds("missing", self.missing), *_kinds("extra", self.extra))

    @property
    def places(self) -> Ranges:
        return merged((each.offset, each.offset + each.length)
                      for each in (*self.missing, *self.extra) if each.length)

    def words(self) -> list[str]:
        return [*(f"storage: expected {human.storage_request(each)}, which did not come"
                  for each in self.missing),
                *(f"storage: found {human.storage_request(each)}, which must not be"
                  for each in self.extra)]


@dataclass(frozen=True, slots=True)
class AnswerMissing(Difference):
    """A request that must have been answered was not."""

    kind: ClassVar[str] = "unanswered"
    number: int
    request: Operation

    @property
    def signature(self) -> Signature:
        return (self.kind, self.request.name)

    @property
    def places(self) -> Ranges:
        return _places(self.request)

    def words(self) -> list[str]:
        return [f"request {self.number} ({human.operation(self.request)}): expected an answer, "
                "none came"]


@dataclass(frozen=True, slots=True)
class AnsweredEarly(Difference):
    """A request was answered that must still wait."""

    kind: ClassVar[str] = "answered-early"
    number: int
    request: Operation
    answer: Answer

    @property
    def signature(self) -> Signature:
        return (self.kind, self.request.name, str(self.answer.error))

    @property
    def places(self) -> Ranges:
        return _places(self.request)

    def words(self) -> list[str]:
        how = ("a closed connection" if self.answer.disconnected
               else human.error_name(self.answer.error))
        return [f"request {self.number} ({human.operation(self.request)}): expected no answer "
                f"yet, found {how}"]


@dataclass(frozen=True, slots=True)
class AnswerDiffers(Difference):
    """A request was answered otherwise than it must be."""

    kind: ClassVar[str] = "answer"
    number: int
    request: Operation
    what: Difference

    @property
    def signature(self) -> Signature:
        return (self.kind, self.request.name, *self.what.signature)

    @property
    def places(self) -> Ranges:
        return self.what.places or _places(self.request)

    def words(self) -> list[str]:
        first, *rest = self.what.words()
        return [f"request {self.number} ({human.operation(self.request)}): {first}", *rest]


@dataclass(frozen=True, slots=True)
class StoredDiffers(Difference):
    """What an image's storage holds, nothing being under way, is other than it must be."""

    kind: ClassVar[str] = "stored"
    node: str
    what: DataDiffers

    @property
    def signature(self) -> Signature:
        return (self.kind, self.node)

    @property
    def places(self) -> Ranges:
        return self.what.places

    def words(self) -> list[str]:
        first, *rest = self.what.words()
        return [f"storage of {self.node}: {first}", *rest]


@dataclass(frozen=True, slots=True)
class NotSilent(Difference):
    """QEMU answers a command while it must wait for requests to end."""

    kind: ClassVar[str] = "not-silent"

    def words(self) -> list[str]:
        return ["commands: expected no answer while a job waits for requests to end, one came"]


class OutOfTime(Exception):
    """A time-out may have run out while the schedule was still busy with what comes before: what
    follows cannot be judged."""


@dataclass(frozen=True, slots=True)
class Due:
    """What there must be once all is quiet, by the model."""

    pending: tuple[StorageRequest, ...] = ()
    answers: Mapping[int, Outcome] = field(default_factory=dict)
    """Those that have come since the last time, by number."""
    silent: bool = False
    """Whether no command may be answered."""
    passing: tuple[StorageRequest, ...] = ()
    """The storage requests that come and are completed at once."""

    @classmethod
    def of(cls, model: ConcurrentMachine) -> Due:
        """Once after each operation."""
        return cls(tuple(model.pending()), model.answers(), model.silent, tuple(model.passed()))


def settled(model: object, system: System, operation: Operation) -> tuple[Difference, ...]:
    """Wait until the effects of ``operation`` have come, and compare; nothing if requests do not
    overlap.

    Raises SystemFailed, and OutOfTime.
    """
    if not isinstance(model, ConcurrentMachine):
        return ()
    due = Due.of(model)
    return overlapping(model, system, operation, due, awaited(model, system, due))


def awaited(model: ConcurrentMachine, system: System, due: Due) -> Standing:
    """Wait until what is due has come, and nothing else can come; raises SystemFailed, and
    OutOfTime."""
    if not isinstance(system, ConcurrentSystem):
        raise TypeError("a schedule needs a system over held storage")
    standing = system.settle(Awaited(due.pending, due.answers.keys(), model.expirable(),
                                     due.silent, due.passing))
    if standing.late:
        raise OutOfTime
    return standing


def overlapping(model: ConcurrentMachine, system: System, operation: Operation, due: Due,
                standing: Standing) -> tuple[Difference, ...]:
    """How what came differs from what was due."""
    found: tuple[Difference, ...] = (*_pending((*due.pending, *due.passing),
                                               (*standing.pending, *standing.passed)),
                                     *answers(model.request, due.answers, standing.answers))
    if due.silent and not standing.silent:
        found += (NotSilent(),)
    if isinstance(operation, (Complete, CompleteAll, Kill)) and not found and not model.busy:
        assert isinstance(system, ConcurrentSystem)
        return tuple(_stored(model, system))
    return found


def _stored(model: ConcurrentMachine, system: ConcurrentSystem) -> Iterator[Difference]:
    for node, content in model.stored().items():
        wrong = system.wrongly_stored(node, content)
        if wrong is not None:
            start, data = wrong
            found = Found(((start, data),))
            expected = content.slice(start, start + len(data))
            yield StoredDiffers(node, DataDiffers(start, expected, found,
                                                  wrong_ranges(start, expected, found)))


def mended(trace: Trace, model: object) -> Trace:
    """A schedule in which a request was changed: where a storage request is to be completed that
    is not made any more, the one that has come in its place is.  ``model`` is a fresh machine."""
    if not isinstance(model, ConcurrentMachine):
        return trace
    steps: list[Step] = []
    for step in trace.steps:
        operation = step.operation
        if isinstance(operation, Complete):
            operation = _in_place_of(operation, model.pending())
        try:
            model.apply(step.number, operation)
        except Impossible:
            continue
        model.observe()
        steps.append(Step(step.number, operation))
    return replace(trace, steps=tuple(steps))


def _in_place_of(complete: Complete, pending: list[StorageRequest]) -> Complete:
    """The nearest of the pending requests of the same kind to the same node."""
    alike = [each for each in pending
             if (each.node, each.kind) == (complete.node, complete.kind)]
    if not alike:
        return complete
    nearest = min(alike, key=lambda each: (
        abs(each.offset - complete.offset) + abs(each.length - complete.length)))
    younger = min(complete.younger, alike.count(nearest) - 1)
    return Complete.of(nearest, complete.error, younger)


def _pending(expected: tuple[StorageRequest, ...], found: tuple[StorageRequest, ...],
             ) -> Iterator[Difference]:
    missing = tuple((Counter(expected) - Counter(found)).elements())
    extra = tuple((Counter(found) - Counter(expected)).elements())
    if missing or extra:
        yield PendingDiffers(missing, extra)


def answers(request_of: Callable[[int], Operation], expected: Mapping[int, Outcome],
            found: Mapping[int, Answer]) -> Iterator[Difference]:
    """How the answers that came differ from those that were due, by the requests' numbers."""
    for number in sorted({*expected, *found}):
        request = request_of(number)
        if number not in found:
            yield AnswerMissing(number, request)
        elif number not in expected:
            yield AnsweredEarly(number, request, found[number])
        else:
            for each in compare(request, expected[number], found[number]):
                yield AnswerDiffers(number, request, each)


def _kinds(word: str, requests: tuple[StorageRequest, ...]) -> list[str]:
    return sorted({f"{word} {each.node} {each.kind}" for each in requests})


def _places(request: Operation) -> Ranges:
    if not isinstance(request, Request) or not request.length:
        return ()
    return merged([(request.offset, request.offset + request.length)])
