# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks with requests that QEMU's own ``blkdebug`` holds and fails: a second way to do it.

The model says who must have been answered meanwhile, and with what: it is the concurrent machine,
whose storage completes everything at once but the one request that is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeAlias

from harness.clients.errors import PeerGone, PeerNonsense, PeerSilent
from harness.lockstep import trace
from harness.lockstep.concurrent import answers
from harness.lockstep.trace import Header, Trace
from harness.systems.breakpoints import SOURCE, TARGET, Breakpoints
from harness.systems.failure import SystemFailed
from harness.systems.qemu_system import QemuSystem
from model import operations as ops
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import KIB, Configuration, Image, Protocol, RequestKind
from model.errors import Errno
from model.operations import Operation, Request, Via
from model.outcome import Outcome
from model.program import StorageRequest
from model.schedule import Complete, Start

CLUSTER: Final = 64 * KIB
SIZE: Final = 4 * CLUSTER


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold the next request of that kind to the image; one at a time for each image."""

    node: str
    kind: RequestKind


@dataclass(frozen=True, slots=True)
class Resume:
    """Let the request that is held go on; with ``error`` it fails, as its image was told to."""

    node: str
    error: Errno | None = None


Step: TypeAlias = Hold | Resume | Request


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, step by step; after each, the answers are compared."""

    name: str
    steps: tuple[Step, ...]
    on_cbw_error: str | None = None
    failing: Errno | None = None
    """The first write of the temporary image fails with it."""


def _write(cluster: int, length: int = CLUSTER) -> ops.Write:
    return ops.Write("cbw", cluster * CLUSTER, length)


def _read(cluster: int, count: int = 1, node: str = "snap") -> ops.Read:
    return ops.Read(node, cluster * CLUSTER, count * CLUSTER, Via.NBD_DF)


_READS: Final = Hold(SOURCE, RequestKind.READ)
_WRITES: Final = Hold(TARGET, RequestKind.WRITE)

SCENARIOS: Final = (
    Scenario("a copy waits for its read of the source: so does the guest's write", (
        _READS, _write(0), _write(1), _read(1), _read(2, node="cbw"), Resume(SOURCE), _read(0),
        _read(0, node="cbw"))),
    Scenario("a copy waits for its write of the target: so does the guest's write", (
        _WRITES, _write(0, 512), _write(1), _read(2), _write(0), Resume(TARGET), _read(0, 2))),
    Scenario("a fleecing read of the source is in flight: the guest's write of its clusters waits",
             (_READS, _read(0), _write(0), _write(1), _read(0), Resume(SOURCE), _read(0, 2),
              _read(0, 2, node="cbw"))),
    Scenario("a fleecing read of the temporary image is in flight: the guest need not wait", (
        _write(0), Hold(TARGET, RequestKind.READ), _read(0), _write(0), _write(1),
        Resume(TARGET), _read(0, 4))),
    Scenario("the guest's own write is in flight: the snapshot has its copy", (
        Hold(SOURCE, RequestKind.WRITE), _write(0), _read(0), _write(1), _read(0, 2),
        Resume(SOURCE), _read(0, 2, node="cbw"))),
    Scenario("a held copy fails: the guest's write fails", (
        _WRITES, _write(0), _read(0, node="cbw"), Resume(TARGET, Errno.ENOSPC), _read(0),
        _write(0), _read(0)), failing=Errno.ENOSPC),
    Scenario("a held copy fails: the snapshot breaks", (
        _WRITES, _write(0), _read(1), Resume(TARGET, Errno.EIO), _read(1), _write(1),
        _read(0, 2, node="cbw")), on_cbw_error="break-snapshot", failing=Errno.EIO),
)


_IMAGES: Final = Configuration((
    Image(SOURCE, SIZE, protocol=Protocol.HELD, filled=((0, SIZE),)),
    Image(TARGET, SIZE, protocol=Protocol.HELD)))


class _Foretold:
    """What the model says: a machine, and the requests that are held."""

    def __init__(self, scenario: Scenario, capabilities: Capabilities) -> None:
        self._machine = ConcurrentMachine(_IMAGES, capabilities)
        self.done: list[Operation] = []
        """By which held storage would do the same."""
        self._holds: list[Hold] = []
        self._requests: dict[int, Request] = {}
        self.held: dict[str, StorageRequest] = {}
        graph: tuple[Operation, ...] = (
            ops.AddFilter("cbw", SOURCE, TARGET, on_cbw_error=scenario.on_cbw_error),
            ops.AddSnapshot("snap", "cbw"), ops.Export("cbw"), ops.Export("snap"))
        for number, operation in enumerate(graph, start=1):
            self._apply(number, operation)

    def do(self, number: int, step: Step) -> dict[int, Outcome]:
        """The answers that must come."""
        match step:
            case Hold():
                self._holds.append(step)
            case Resume(node, error):
                self._complete(self.held.pop(node), 0, error)
            case _:
                self._requests[number] = step
                self._apply(number, Start(step))
        while (found := self._next()) is not None:
            request, older = found
            hold = Hold(request.node, request.kind)
            if hold in self._holds:
                self._holds.remove(hold)
                self.held[request.node] = request
            else:
                self._complete(request, older, None)
        return self._machine.answers()

    def request(self, number: int) -> Request:
        """The request of that number."""
        return self._requests[number]

    def _next(self) -> tuple[StorageRequest, int] | None:
        """The oldest pending request that is not held, and how many of its like are older."""
        pending = self._machine.pending()
        for index, request in enumerate(pending):
            older = pending[:index].count(request)
            if older or self.held.get(request.node) != request:
                return request, older
        return None

    def _complete(self, request: StorageRequest, older: int, error: Errno | None) -> None:
        self._apply(0, Complete.of(request, None if error is None else error.name, older))

    def _apply(self, number: int, operation: Operation) -> None:
        self._machine.apply(number, operation)
        self.done.append(operation)


def schedule_of(scenario: Scenario, capabilities: Capabilities) -> Trace:
    """The same over storage that the harness holds."""
    foretold = _Foretold(scenario, capabilities)
    for number, step in enumerate(scenario.steps, start=100):
        foretold.do(number, step)
    return Trace(Header(_IMAGES, capabilities=capabilities), tuple(
        trace.Step(number, each) for number, each in enumerate(foretold.done, start=1)))


def check(scenario: Scenario, start: Callable[[Configuration], QemuSystem],
          capabilities: Capabilities) -> list[str]:
    """Do a scenario; what is not as foretold, in words."""
    foretold = _Foretold(scenario, capabilities)
    try:
        with closing(start(Configuration())) as system:
            try:
                with closing(Breakpoints(system, SIZE, on_cbw_error=scenario.on_cbw_error,
                                         failing_write=scenario.failing)) as real:
                    found = list(_differences(scenario, foretold, real))
            except (PeerGone, PeerSilent, PeerNonsense) as why:
                system.observe(())  # If QEMU has died, or hangs, this tells.
                found = [str(why)]
    except SystemFailed as why:
        found = [f"{why.verdict}: {why}"]
    return [f"{scenario.name}: {each}" for each in found]


def _differences(scenario: Scenario, foretold: _Foretold, real: Breakpoints) -> Iterator[str]:
    for number, step in enumerate(scenario.steps, start=100):
        before = set(foretold.held)
        match step:
            case Hold(node, kind):
                real.hold(node, kind, f"at-{node}")
            case Resume(node):
                real.resume(node, f"at-{node}")
            case _:
                real.start(number, step)
        expected = foretold.do(number, step)
        for node in set(foretold.held) - before:
            try:
                real.await_held(f"at-{node}")
            except PeerSilent:
                yield f"step {number}: no request of {node} is held, one must be"
                return
        wrong = list(answers(foretold.request, expected, real.settle(expected.keys())))
        yield from (f"step {number}: {' '.join(each.words())}" for each in wrong)
        if wrong:
            return
