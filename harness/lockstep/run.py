# SPDX-License-Identifier: GPL-2.0-or-later
"""Lockstep: each operation goes to the model and to the system, and what came is compared.

The first difference ends the run, since after it the two are in different states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, runtime_checkable

from harness.processes import insist_on_room
from harness.systems.base import Answer, System, sent_as
from harness.systems.failure import SystemFailed
from model.machine import Machine
from model.operations import BitmapRef, Operation, Restart
from model.outcome import Observation, Outcome

from .compare import compare, compare_observations
from .concurrent import OutOfTime, settled
from .differences import Difference
from .trace import Step
from .verdict import Conforms, Diverges, Failed, Verdict


class Model(Protocol):
    """What lockstep needs of :class:`model.machine.Machine`."""

    def apply(self, number: int, operation: Operation, /) -> Outcome:
        """Do the operation; raises Impossible, nothing done, for one that no run may contain."""

    def observe(self) -> Observation:
        """All bitmaps, digests of the named ones, jobs, and what they told since the last time.

        Called once after each operation.
        """


class Recorder(Protocol):
    """What puts a step on disk before it is sent, such as a ``TraceWriter``."""

    def record(self, step: Step, /) -> None:
        """Put the step on disk."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done and compared; ``index`` counts from 0.

    ``step`` has the operation as it was sent: the channel may be another than the trace's.
    """

    index: int
    step: Step
    outcome: Outcome
    answer: Answer
    expected: Observation
    found: Observation
    differences: tuple[Difference, ...]


Watch = Callable[[Done], None]
"""Called after every step that was answered, with what came."""


def run(
    steps: Iterable[Step],
    system: System,
    model: Model,
    *,
    recorder: Recorder | None = None,
    watch: Watch | None = None,
    ends: bool = False,
) -> Verdict:
    """Do the steps on both, until the first difference or failure.

    ``steps`` may be made while they are done: the next one is asked for only when the one before
    is compared, so that the model's state can decide it.  A schedule that comes too late for a
    time-out ends there, as what follows cannot be judged.  ``ends``: when all is done the system
    is told to end by itself.  One that does not, as a request has leaked inside of it, hangs.
    Raises EnvironmentProblem if what went wrong may be the fault of a full disk.
    """
    channels = frozenset(system.channels)
    index = -1
    for index, recorded in enumerate(steps):
        if recorder is not None:
            recorder.record(recorded)
        step = Step(recorded.number, sent_as(recorded.operation, channels))
        outcome = model.apply(step.number, step.operation)
        try:
            answer = system.apply(step.number, step.operation)
            overlapping = settled(model, system, step.operation)
        except SystemFailed as failure:
            insist_on_room()
            return Failed(index, step, failure, channels=channels)
        except OutOfTime:
            return Conforms(index)
        expected = model.observe()
        try:
            found = system.observe([BitmapRef(node, name) for node, name in expected.digests])
        except SystemFailed as failure:
            insist_on_room()
            return Failed(index, step, failure, observing=True, channels=channels)
        differences = (compare(step.operation, outcome, answer) + overlapping
                       + compare_observations(expected, found))
        if watch is not None:
            watch(Done(index, step, outcome, answer, expected, found, differences))
        if differences:
            insist_on_room()
            return Diverges(index, step, differences, found, channels)
    if ends and index >= 0 and isinstance(system, EndsByItself) and _may_end(model):
        try:
            system.shut_down()
        except SystemFailed as failure:
            return Failed(index, step, failure, channels=channels, ending=True)
    return Conforms(index + 1)


@runtime_checkable
class EndsByItself(Protocol):
    """A system that can be told to end."""

    def shut_down(self) -> None:
        """Have it end by itself; raises SystemFailed if it does not, or not well."""


def _may_end(model: Model) -> bool:
    """Whether no known defect makes a bad end; QEMU 10.0, with exports in an I/O thread, now and
    then comes to one."""
    return not isinstance(model, Machine) or not (
        model.configuration.iothread or model.deadly(Restart()))


Looks = Callable[[], Iterable[Operation]]
"""Operations that only look, chosen by the state that the run is in when it is called."""


def look_after_each(steps: Sequence[Step], looks: Looks) -> Iterator[Step]:
    """The steps, each followed by what is to be looked at after it.

    The looks are steps too, numbered after all others.
    """
    numbers = count(max((step.number for step in steps), default=0) + 1)
    for step in steps:
        yield step
        for look in looks():
            yield Step(next(numbers), look)


def look_at_end(steps: Iterable[Step], looks: Looks) -> Iterator[Step]:
    """The steps, which may be made while they are done, and then what is to be looked at."""
    highest = 0
    for step in steps:
        yield step
        highest = max(highest, step.number)
    for number, look in enumerate(looks(), start=highest + 1):
        yield Step(number, look)
