# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of lockstep share: a fleecing graph, simulated systems, strategies."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from harness.lockstep.replay import Stand
from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.systems.base import Answer
from harness.systems.failure import SystemFailed
from harness.systems.lies import Lie
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.configuration import Configuration, Format, Image
from model.job_operations import Backup, Sync, Transaction
from model.machine import Machine
from model.operations import (
    AddFilter,
    AddSnapshot,
    Attach,
    BitmapAdd,
    Context,
    Discard,
    Export,
    Inspect,
    Operation,
    Read,
    Reopen,
    Resize,
    Restart,
    Status,
    Unexport,
    Via,
    Write,
    Zero,
    vocabulary,
)

K = 1024
MIB = 1024 * K
SIZE = MIB

FLEECING = Configuration((
    Image("src", SIZE, filled=((0, SIZE),)),
    Image("tmp", SIZE),
))
SET_UP: tuple[Operation, ...] = (
    AddFilter("cbw", "src", "tmp"),
    AddSnapshot("snap", "cbw"),
    Export("cbw", allocation_depth=True),
    Export("snap"),
)


def steps_of(*operations: Operation) -> tuple[Step, ...]:
    """The operations, numbered from 1."""
    return tuple(Step(number, each) for number, each in enumerate(operations, start=1))


def trace_of(*operations: Operation, configuration: Configuration = FLEECING) -> Trace:
    """A trace of the operations on a simulated system."""
    return Trace(Header(configuration, SystemKind.SIMULATED), steps_of(*operations))


def fleecing(*operations: Operation) -> Trace:
    """The fleecing graph is set up, then the operations."""
    return trace_of(*SET_UP, *operations)


THOROUGH = trace_of(
    *SET_UP,
    BitmapAdd("src", "b"),
    BitmapAdd("src", "off", disabled=True),
    Write("cbw", 64 * K, 64 * K),
    Zero("cbw", 256 * K, 4 * K, unmap=True),
    Discard("cbw", 512 * K, 64 * K),
    Read("snap", 0, 192 * K),
    Read("snap", 0, 192 * K, Via.NBD_DF),
    Read("cbw", 64 * K, 128 * K),
    Status("snap", 0, SIZE),
    Status("cbw", 0, SIZE, context=Context.DEPTH, others=(Context.ALLOCATION,)),
    Discard("snap", 128 * K, 128 * K),
    Read("snap", 128 * K, 4 * K),
    Read("snap", 128 * K, 4 * K, Via.MONITOR),
    Write("snap", 0, 512),
    Read("cbw", SIZE, 512),
    BitmapAdd("src", "b"),
    BitmapAdd("nowhere", "b"),
    Write("cbw", 768 * K + 100, 1000),
    Inspect("snap"),
    Inspect("src"),
    Inspect("tmp"),
    Attach("cbw"),
    Transaction((Backup("job", "src", "copy", Sync.FULL, auto_dismiss=False),
                 Backup("job2", "other", "copy2", Sync.FULL, auto_dismiss=False))),
    Restart(),
    configuration=Configuration((
        Image("src", SIZE, Format.QCOW2, filled=((0, 768 * K),)),
        Image("tmp", SIZE),
        *(Image(name, SIZE) for name in ("copy", "other", "copy2")),
    )),
)
"""Something for every oracle to look at."""

PLAIN = trace_of(
    Export("src"),
    Write("src", 64 * K, 64 * K),
    Discard("src", 512 * K, 64 * K),
    Unexport("src"),
    Resize("src", 768 * K),
    Inspect("src"),
    Reopen("src", read_only=True),
    Export("src"),
)
"""Nothing but an image: no bitmap tells what was done to it."""


def stand(lie: Lie | None = None, capabilities: Capabilities | None = None,
          lying: Capabilities | None = None) -> Stand:
    """Simulated systems that lie, or that have other capabilities than the model believes."""
    def start(configuration: Configuration) -> Simulated:
        return Simulated(Machine(configuration, lying or capabilities), lie)

    def model(configuration: Configuration) -> Machine:
        return Machine(configuration, capabilities)

    return Stand(start, model)


class Broken(SystemFailed):
    """An end of which nothing more is known."""


class OtherwiseBroken(SystemFailed):
    """Another such end."""


class Fragile(Simulated):
    """A truthful system that breaks when ``deadly`` holds for what was done, the last included."""

    def __init__(self, images: Configuration,
                 deadly: Callable[[list[Operation]], bool]) -> None:
        super().__init__(Machine(images))
        self._deadly = deadly
        self._history: list[Operation] = []

    def apply(self, number: int, operation: Operation) -> Answer:
        """Do the operation, or break."""
        self._history.append(operation)
        if self._deadly(self._history):
            raise Broken("broken")
        return super().apply(number, operation)


def fragile(deadly: Callable[[list[Operation]], bool]) -> Stand:
    """Systems that break when ``deadly`` holds."""
    return Stand(lambda images: Fragile(images, deadly), Machine)


def kept(steps: Iterable[Step], where: list[Step]) -> Iterator[Step]:
    """The steps, each kept in ``where`` as well."""
    for step in steps:
        where.append(step)
        yield step


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a dataclass field's type."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(of_type, typing.get_args(hint)))
    if origin is tuple:
        hints = typing.get_args(hint)
        if hints[-1] is Ellipsis:
            return st.lists(of_type(hints[0]), max_size=3).map(tuple)
        return st.tuples(*map(of_type, hints))
    if hint is Operation:
        return st.sampled_from(sorted(vocabulary())).flatmap(
            lambda name: record(vocabulary()[name]))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return record(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    simple: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
        int: lambda: st.integers(0, 1 << 40), str: lambda: st.text(max_size=6),
        bool: st.booleans, type(None): st.none}
    return simple[hint]()


def record(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any instance of a dataclass."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: of_type(hints[field.name])
                              for field in dataclasses.fields(kind)})
