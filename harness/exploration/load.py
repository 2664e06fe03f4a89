# SPDX-License-Identifier: GPL-2.0-or-later
"""Free-running load: many clients at once, nothing held, and rules that need no schedule.

Every fleecing read must give the point in time, or EACCES if the client gave up the place; every
guest read, and the active disk in the end, must be as some order of the guest's changes allows.
Every write's data is its own, so each block tells who wrote it.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from harness import stamps
from harness.clients.errors import PeerGone
from harness.clients.nbd import NbdClient, poll_any
from harness.clients.nbd_types import Completion, Token
from harness.clients.qmp import QmpRefused
from harness.exploration.load_oracle import BLOCK, Change, Disk, PointInTime, Wrong
from harness.exploration.memory import Sample, growth, resident
from harness.lockstep import human
from harness.lockstep.origin import origins
from harness.systems.commands import command_of
from harness.systems.failure import SystemFailed
from harness.systems.held_daemon import HeldDaemon
from harness.systems.probes import GRAPH
from harness.systems.qmp_system import QmpSystem
from model import operations as ops
from model.bitmap import divide_up
from model.capabilities import Capabilities
from model.channels import seen_through
from model.configuration import KIB, MIB, Configuration, Format, Image, Protocol
from model.content import ZERO, Stamp, initial_stamp
from model.errors import Errno
from model.operations import Operation, Via

SIZE: Final = 8 * MIB
CLUSTER: Final = 64 * KIB
GUESTS: Final = 3
READERS: Final = 3
DEPTH: Final = 8
"""Requests that each client has under way."""
ROUND: Final = 1500
"""Requests from one point in time to the next."""
ROUNDS: Final = 4
"""Rounds on one system."""
LONG: Final = 100.0
"""A load of so many seconds has time to see whether QEMU goes on growing."""
MORE_ROUNDS: Final = 32
_DENIED: Final = int(seen_through(Via.NBD, Errno.EACCES))
_PATIENCE: Final = 30.0
_SLOWNESS: Final = (0, 0, 0, 1, 1, 2, 4, 8, 16)
"""For how many turns storage holds a request."""
_THREAD: Final = "load-thread"
_TURN: Final = 0.001
"""Seconds until storage completes more, if there is no answer."""

_TAKE_DOWN: Final[tuple[Operation, ...]] = (
    ops.Unexport("cbw"), ops.Unexport("snap"), ops.RemoveNode("snap"), ops.RemoveNode("cbw"))

IMAGES: Final = (
    Configuration((Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),)),
                   Image("tmp", SIZE, protocol=Protocol.HELD))),
    *(Configuration((Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE, target)))
      for target in (Format.RAW, Format.QCOW2)))
"""What the load is put on, in turn: storage that completes requests in any order, and files.

Every second time the exports, and so all nodes, are in an I/O thread: storage, clients and QMP
then race, and what comes is any of a set of outcomes."""


@dataclass
class Load:
    """What a load came to."""

    requests: int = 0
    fleecing: int = 0
    """Fleecing reads that gave data."""
    denied: int = 0
    rounds: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    place: tuple[str, ...] = ()
    """Where the violations were, in lines: the images, the round, what its requests are drawn
    from."""

    @property
    def summary(self) -> str:
        """In one line."""
        rate = self.requests / self.seconds if self.seconds else 0
        return (f"{self.requests} requests in {human.counted(self.rounds, 'round')}, "
                f"{rate:.0f} a second; {self.fleecing} fleecing reads gave the point in time, "
                f"{self.denied} were denied; {human.counted(len(self.violations), 'violation')}")


def put_load(start: Callable[[Configuration], QmpSystem], capabilities: Capabilities,
             seconds: float, seed: int) -> Load:
    """Put load on systems until the time is up or a rule is broken; may raise HarnessError."""
    load = Load()
    begun = time.monotonic()
    number = 0
    while not load.violations and (not number or time.monotonic() - begun < seconds):
        images = IMAGES[number % len(IMAGES)]
        threaded = bool(number & 1) and not capabilities.threaded_client_aborts
        system = start(images)
        try:
            run = _Run(system, capabilities, load, random.Random(f"{seed}/{number}"),
                       threaded=threaded)
            samples: list[Sample] = []
            for number_of_round in range(ROUNDS if seconds < LONG else MORE_ROUNDS):
                load.place = (
                    *human.configuration(images),
                    f"round {number_of_round + 1} of system {number + 1}, whose requests are "
                    f"drawn from seed {seed}/{number}" + (
                        "; exports in an I/O thread" if threaded else ""))
                run.round(gives_up=bool(number_of_round & 1))
                load.rounds += 1
                samples.append(Sample(load.requests, resident(system.process.child.pid) or 0))
                if load.violations or time.monotonic() - begun >= seconds:
                    break
            more = growth(samples)
            if more is not None:
                load.violations.append(f"memory: QEMU grows by {more:.0f} bytes a request, to "
                                       f"{samples[-1].resident // MIB} MiB")
        except SystemFailed as why:
            load.violations.append(f"{why.verdict}: {why}")
        finally:
            system.close()
        number += 1
    load.seconds = time.monotonic() - begun
    return load


@dataclass(slots=True)
class _Flight:
    """A request under way."""

    token: Token
    client: NbdClient
    what: str
    begun: int
    change: Change | None = None
    """Of a guest's change."""


class _Run:
    """Load on one system."""

    def __init__(self, system: QmpSystem, capabilities: Capabilities, load: Load,
                 dice: random.Random, *, threaded: bool) -> None:
        """``threaded``: what is exported runs in a thread of its own."""
        self._system = system
        self._threaded = threaded
        if threaded:
            system.process.qmp.execute("object-add", {"qom-type": "iothread", "id": _THREAD})
        self._storage = system.storage if isinstance(system, HeldDaemon) else None
        self._socket = system.workspace.socket("nbd")
        self._capabilities = capabilities
        self._load = load
        self._dice = dice
        self._due: dict[int, int] = {}
        self._now = 0
        self._operations = 0
        self._content: list[Stamp] = [initial_stamp(0)] * (SIZE // BLOCK)

    def round(self, *, gives_up: bool) -> None:
        """From one point in time until the load on it is over, and what is left then.

        ``gives_up``: clients discard parts of the snapshot.
        """
        self._gives_up = gives_up
        self._do_all(GRAPH)
        self._disk = Disk(self._content)
        self._point = PointInTime(self._content, CLUSTER)
        self._flights: dict[tuple[int, Token], _Flight] = {}
        with ExitStack() as stack:
            guests = [self._client(stack, "cbw") for _ in range(GUESTS)]
            readers = [self._client(stack, "snap", structured=index != 0)
                       for index in range(READERS)]
            try:
                self._put(guests, readers)
            except PeerGone as why:
                self._gone(why)
        if not self._load.violations:
            self._look()
            self._do_all(_TAKE_DOWN)

    def _do_all(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self._operations += 1
            if self._threaded and isinstance(operation, ops.Export):
                self._export(operation)
                continue
            answer = self._system.apply(self._operations, operation)
            if answer.refused is not None:
                self._violated(f"{human.operation(operation)}: {answer.refused}")

    def _export(self, operation: ops.Export) -> None:
        name, arguments = command_of(operation)
        try:
            self._system.process.qmp.execute(name, {
                **arguments, "iothread": _THREAD, "fixed-iothread": True})
        except QmpRefused as why:
            self._violated(f"{human.operation(operation)} in a thread of its own: {why.desc}")

    def _client(self, stack: ExitStack, export: str, *, structured: bool = True) -> NbdClient:
        return stack.enter_context(NbdClient.connect(
            str(self._socket), export, structured=structured, timeout=_PATIENCE))

    def _gone(self, why: PeerGone) -> None:
        """A connection was lost: perhaps QEMU ended."""
        try:
            self._system.observe(())
        except SystemFailed as failure:
            self._violated(f"{failure.verdict}: {failure}")
        else:
            self._violated(str(why))

    def _violated(self, what: str) -> None:
        self._load.violations.append(what)

    # Load

    def _put(self, guests: list[NbdClient], readers: list[NbdClient]) -> None:
        clients = [*guests, *readers]
        left = ROUND
        quiet_since = time.monotonic()
        if self._storage is not None:
            self._storage.hold()
        while left or self._flights:
            for index, client in enumerate(clients):
                while left and len(client.in_flight()) < DEPTH:
                    left -= 1
                    (self._guest if index < len(guests) else self._reader)(client)
            landed = poll_any(clients, _PATIENCE if self._storage is None else _TURN)
            if self._complete_some() or landed:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _PATIENCE:
                waiting = Counter(flight.what for flight in self._flights.values())
                self._violated(f"no answer in {_PATIENCE:g} s to: " + ", ".join(
                    f"{count} {what}s" for what, count in waiting.items()))
                return
            for client, completion in landed:
                self._landed(client, completion)
            if self._load.violations:
                return

    def _complete_some(self) -> bool:
        """Complete what storage has held for long enough; whether it holds anything.

        How long is drawn for each request anew: some are overtaken by many others.
        """
        if self._storage is None:
            return False
        pending = self._storage.pending()
        for request in pending:
            due = self._due.setdefault(request.number, self._dice.choice(_SLOWNESS))
            if due <= 0:
                del self._due[request.number]
                self._storage.complete(request)
            else:
                self._due[request.number] = due - 1
        return bool(pending)

    def _range(self, unit: int, most: int) -> tuple[int, int]:
        # Few places, so that requests meet, moving through the disk as the round goes on.
        count = SIZE // unit
        focus = self._dice.randrange(count) if self._dice.random() < 0.2 else (
            self._now // 12 * (CLUSTER // unit) // 16 + self._dice.randrange(24)) % count
        length = self._dice.randint(1, most)
        return focus * unit, min(length, count - focus) * unit

    def _guest(self, client: NbdClient) -> None:
        offset, length = self._range(BLOCK, 40)
        what = self._dice.randrange(16)  # 4 reads, 8 writes, 2 zeroes, 2 discards
        self._now += 1
        self._operations += 1
        if what < 4:
            self._fly(client, client.submit_read(offset, length, df=True), "guest read")
            return
        stamp = ZERO if what >= 12 else self._operations
        change = self._disk.begin(offset, length, stamp, self._now)
        if what < 12:
            token = client.submit_write(offset, stamps.data(stamp, offset, length))
        elif what < 14:
            token = client.submit_zero(offset, length, no_hole=bool(what & 1))
        else:
            token = client.submit_discard(offset, length)
        self._fly(client, token, "guest change", change)

    def _reader(self, client: NbdClient) -> None:
        self._now += 1
        if self._gives_up and self._dice.randrange(40) == 0:
            offset, length = self._range(CLUSTER, 2)
            self._point.give_up(offset, length, self._now, ended=False)
            self._fly(client, client.submit_discard(offset, length), "give up")
            return
        offset, length = self._range(BLOCK, 48)
        if self._capabilities.snapshot_reads_source_before_done_run_ends:
            length = min(length, CLUSTER - offset % CLUSTER)
        # Between the status that the server asks first and the read access may be lost; then the
        # server hangs up, as it cannot say so any more.
        plain = client.info.structured and (self._gives_up or self._dice.random() < 0.5)
        self._fly(client, client.submit_read(offset, length, df=plain), "fleecing read")

    def _fly(self, client: NbdClient, token: Token, what: str,
             change: Change | None = None) -> None:
        self._flights[id(client), token] = _Flight(token, client, what, self._now, change)

    # Answers

    def _landed(self, client: NbdClient, completion: Completion) -> None:
        flight = self._flights.pop((id(client), completion.token))
        token, error, data = flight.token, completion.errno, completion.data
        self._now += 1
        self._load.requests += 1
        where = f"{flight.what} {human.span(token.offset, token.offset + token.length)}"
        wrong: Wrong | None = None
        if flight.what == "fleecing read":
            wrong = self._fleeced(where, flight, error, data)
        elif error:
            self._violated(f"{where}: {human.error_name(error)}")
        elif flight.what == "guest read" and data is not None:
            wrong = self._disk.check(token.offset, data, flight.begun)
        elif flight.what == "give up":
            self._point.give_up(token.offset, token.length, self._now, ended=True)
        elif flight.change is not None:
            oldest = min((each.begun for each in self._flights.values()
                          if each.what == "guest read"), default=self._now + 1)
            self._disk.end(token.offset, token.length, flight.change, self._now, oldest)
        if wrong is not None:
            self._violated(f"{where}: {_told(wrong, self._operations)}")

    def _fleeced(self, where: str, flight: _Flight, error: int, data: bytes | None,
                 ) -> Wrong | None:
        offset, length = flight.token.offset, flight.token.length
        if error:
            self._load.denied += 1
            if error != _DENIED or not self._point.may_be_denied(offset, length):
                self._violated(f"{where}: {human.error_name(error)}, the place being accessible")
            return None
        self._load.fleecing += 1
        if self._point.must_be_denied(offset, length, flight.begun):
            self._violated(f"{where}: success, the place having been given up before")
            return None
        return None if data is None else self._point.check(offset, data)

    # What is left

    def _look(self) -> None:
        disk = self._disk.settle(self._inspected("cbw"))
        if isinstance(disk, Wrong):
            self._violated(f"the active disk in the end: {_told(disk, self._operations)}")
            return
        self._content = disk
        self._operations += 1
        answer = self._system.apply(self._operations, ops.Inspect("snap"))
        denied = {start // CLUSTER + index for start, end in answer.denied
                  for index in range(divide_up(end - start, CLUSTER))}
        if denied != set(self._point.ended):
            self._violated("the snapshot in the end: other clusters can be read than those that "
                           "were not given up")
        for cluster in set(range(SIZE // CLUSTER)) - denied:
            here = (answer.data or b"")[cluster * CLUSTER:(cluster + 1) * CLUSTER]
            wrong = self._point.check(cluster * CLUSTER, here)
            if wrong is not None:
                self._violated(f"the snapshot in the end: {_told(wrong, self._operations)}")
                return

    def _inspected(self, node: str) -> bytes:
        self._operations += 1
        answer = self._system.apply(self._operations, ops.Inspect(node))
        return answer.data or b""


def _told(wrong: Wrong, last: int) -> str:
    allowed = " or ".join(_writer(stamp) for stamp in dict.fromkeys(wrong.allowed))
    pieces = origins(wrong.found, wrong.offset, [*range(last, 0, -1), initial_stamp(0)], SIZE)
    holds = " and ".join("what nobody wrote" if each.origin is None else _writer(each.origin.stamp)
                         for each in pieces[:4])
    return (f"{human.span(wrong.offset, wrong.offset + BLOCK)} must hold {allowed}, "
            f"and holds {holds}")


def _writer(stamp: Stamp) -> str:
    if stamp == ZERO:
        return "zeroes"
    return f"the data of request {stamp}" if stamp > 0 else "its first data"
