# SPDX-License-Identifier: GPL-2.0-or-later
"""Two grains of the same rules.

An operation on a node is a *program*: a generator that yields what it needs from outside (a
storage request to be completed, a condition to become true, another program to run beside it) and
returns its result.

* The sequential grain runs a program to its end, completing each storage request at once:
  :func:`run_to_end`.
* The small-step grain keeps many programs under way and completes their storage requests in any
  order.  It needs nothing from the rules that is not already here.

A storage request takes effect, and a read takes its data, when it completes.  It fails by a
:class:`~model.errors.RequestFailed` thrown into the program.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

from .configuration import RequestKind
from .errors import Errno, RequestFailed, Undetermined

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """A request to the storage of an image's node, to be completed; offset and length in bytes.
    ``unmap``, of zeroes: the space may be freed."""

    node: str
    kind: RequestKind
    offset: int
    length: int
    unmap: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``condition()`` holds.  ``reason`` is for people.

    Of those that the same event wakes, the one that has waited longest goes first; one that
    waits for tasks of its own goes ``last``.
    """

    condition: Callable[[], bool]
    reason: str
    last: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """Something has ended for which others wait: they are woken before those whom what the program
    does next wakes."""


@dataclass(slots=True)
class Task:
    """A program that runs beside the one that spawned it."""

    program: Program[None]
    finished: bool = field(default=False)
    outlives_its_start: bool = field(default=False)
    """In the sequential grain: whether it asked storage for something, so that the program that
    spawned it goes on before it ends."""


Step: TypeAlias = StorageRequest | Wait | Ended | Task
Program: TypeAlias = Generator[Step, None, Result]


def ending(program: Program[Result], end: Callable[[], None]) -> Program[Result]:
    """The program and then, whatever comes of it, ``end()``, for which others may wait."""
    try:
        try:
            result = yield from program
        finally:
            end()
    except RequestFailed:
        yield Ended()
        raise
    yield Ended()
    return result


def collecting(program: Program[None], failures: list[Errno]) -> Program[None]:
    """The program, its failure put into ``failures`` instead of raised: for a task whose owner
    wants to know."""
    try:
        yield from program
    except RequestFailed as why:
        failures.append(why.error)


def beside(programs: Sequence[Program[Result]], *, at_once: bool) -> Program[list[Result]]:
    """The results of programs that run beside each other: one that storage fails stops none, and
    all fail as the first that does; one that is denied something fails before the next begins.
    ``at_once``: all of them begin before any storage has answered; else that is not known."""
    results: list[Result] = []
    failure: RequestFailed | None = None
    for index, program in enumerate(programs, 1):
        try:
            results.append((yield from program))
        except RequestFailed as why:
            failure = failure or why
            if why.error is Errno.EACCES:
                break
            if index < len(programs) and not at_once:
                raise Undetermined("how much is read beside what fails") from why
    if failure is not None:
        raise failure
    return results


class Deadlock(AssertionError):
    """In the sequential grain, a program waits for what can no longer happen."""


def run_to_end(program: Program[Result], complete: Callable[[StorageRequest], None]) -> Result:
    """The sequential grain: run the program, one request after the other, to its end.

    ``complete`` completes a storage request, or raises RequestFailed for it.  Spawned tasks run
    to their end when they are spawned.  Raises what the program raises.
    """
    failure: RequestFailed | None = None
    while True:
        try:
            step: Any = next(program) if failure is None else program.throw(failure)
        except StopIteration as end:
            result: Result = end.value
            return result
        failure = None
        if isinstance(step, StorageRequest):
            try:
                complete(step)
            except RequestFailed as why:
                failure = why
        elif isinstance(step, Task):
            run_to_end(step.program, partial(_complete_for, step, complete))
            step.finished = True
        elif isinstance(step, Wait) and not step.condition():
            raise Deadlock(step.reason)


def _complete_for(task: Task, complete: Callable[[StorageRequest], None],
                  request: StorageRequest) -> None:
    task.outlives_its_start = True
    complete(request)


class OnlyLooking(Exception):
    """Thrown at a program that waits, by who only looks: it need not wait."""


def look(program: Program[Result]) -> Result:
    """What a read finds, whatever is under way: nothing that it asks of storage fails, and for
    nothing does it wait."""
    waits = False
    while True:
        try:
            step = program.throw(OnlyLooking) if waits else next(program)
        except StopIteration as end:
            result: Result = end.value
            return result
        waits = isinstance(step, Wait) and not step.condition()
