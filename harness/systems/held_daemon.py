# SPDX-License-Identifier: GPL-2.0-or-later
"""A storage daemon whose images the harness holds: requests to it overlap as a schedule says.

Nothing here waits for a time to pass.  What the model expects is waited for; that nothing else
comes is known from *fences*: a request through the daemon's own event loop is answered only when
the loop has gone round, and with it all that was ready to run before.  Where exports run in an I/O
thread that has another loop, and a fence for it.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from harness.builds import Build
from harness.clients.nbd import NbdClient
from harness.clients.qmp import DEFAULT_TIMEOUT, QmpPending, QmpRefused, QmpTimeout
from harness.processes.asleep import is_asleep, wait_until_asleep
from harness.storage.held import HeldRequest, HeldStorage
from harness.storage.held_wire import ExportOffer
from harness.storage.images import ImageStore
from harness.storage.place import Place
from harness.systems import commands
from harness.systems.base import Answer, sent_as
from harness.systems.command import Command
from harness.systems.concurrent import Awaited, Standing
from harness.systems.daemon import QsdSystem
from harness.systems.failure import SystemFailed, SystemHung
from harness.systems.flights import Flights
from model import operations as ops
from model.configuration import Configuration, Protocol, RequestKind
from model.content import Content, initial_stamp
from model.errors import Errno, QmpError
from model.job_operations import Backup, JobOperation
from model.operations import BitmapRef, Operation, Request
from model.outcome import Observation
from model.program import StorageRequest
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start
from model.turns import MOST_IN_FLIGHT

FENCES: Final = 8
"""Rounds of the event loop in which nothing comes, until it counts as quiet."""
PATIENCE: Final = 1.0
"""Seconds without any progress after which what has not come counts as missing, if QEMU sleeps."""
HASTE: Final = 0.8
"""The part of a time-out that may pass before a schedule that wants it still running is late."""
MOMENT: Final = 0.05
"""Seconds for an answer that QEMU has given to come; after fences all that it gave is there."""
_FENCE: Final = "lockstep-fence"
_THREAD: Final = "lockstep-thread"
_PACE: Final = "lockstep-pace-"
_PACE_LENGTH: Final = 3


def _in_thread(export: Command) -> Command:
    """The export, running in the I/O thread with all that it is over."""
    return Command(export.name, {**export.arguments, "iothread": _THREAD, "fixed-iothread": True})


class HeldDaemon(QsdSystem):
    """A storage daemon; its images of protocol ``held`` complete requests as they are told."""

    _asks_status = False  # QEMU would remember what storage says to that
    _silence: QmpPending | None
    """A command that QEMU must not answer for now."""
    _timed: Collection[int]
    """The operations in which the time-outs began that were running last."""

    def __init__(self, build: Build, configuration: Configuration, store: ImageStore, *,
                 timeout: float = DEFAULT_TIMEOUT, core: bool = False) -> None:
        """Start it with the configuration's images attached."""
        self._own = ExitStack()
        """What is connected to the daemon that runs now."""
        self._quiet = 0.0
        """When it was quiet last; whatever was started before had begun by then."""
        self._not_before = 0.0
        super().__init__(build, configuration, store, timeout=timeout, core=core)

    # The interface

    def apply(self, number: int, operation: Operation) -> Answer:
        """Do operation ``number``, or start it; a start has no answer of its own."""
        self._not_before = 0.0
        self._begun[number] = time.monotonic()
        match operation:
            case Start(request=Backup() as command):
                return self._start_job(number, command)
            case Start(request=JobOperation() as command):
                self.storage.hold()
                with self._verdicts("start"):
                    self._commands[number] = command, self.process.qmp.submit(
                        *commands.command_of(command))
                return Answer()
            case Start():
                self.storage.hold()
                request = sent_as(operation.sent, self.channels)
                assert isinstance(request, Request)
                with self._verdicts("start"):
                    self._under_way.start(number, request)
                return Answer()
            case Complete(node=node, error=error):
                with self._verdicts("pace"):
                    self._pace(node)
                held = self._find(operation)
                if held is not None:
                    self.storage.complete(held, None if error is None else Errno[error])
                return Answer()
            case CompleteAll(node, error):
                self.storage.complete_all(node, None if error is None else Errno[error])
                return Answer()
            case Cut(node):
                self.storage.cut(node)
                return Answer()
            case Gone(node):
                self.storage.stall(node)
                self.storage.cut(node)
                return Answer()
            case Back(node):
                self.storage.resume(node)
                return Answer()
            case Expire():
                self._not_before = self._quiet + max(self._timeouts, default=0)
                # What begins now does so when the first of these has run out.
                self._begun[number] = min(self._timeouts, default=0) + min(
                    (self._begun[each] for each in self._timed), default=self._quiet)
                self._timed = ()
                return Answer()
            case ops.AddFilter(cbw_timeout=timeout) if timeout:
                self._timeouts.append(timeout)
            case ops.Kill(landed):
                if landed:
                    self.storage.land()
                return super().apply(number, operation)
        self.storage.let_go()
        return super().apply(number, operation)

    def settle(self, awaited: Awaited, *, fences: bool = True) -> Standing:
        """See :meth:`harness.systems.concurrent.ConcurrentSystem.settle`.

        Without ``fences``, as a QEMU that is on its way out answers none, only what is awaited is
        waited for.
        """
        wanted = Counter(awaited.pending)
        answers: dict[int, Answer] = {}
        for asked in awaited.passing:
            self.storage.let_pass(asked)
        with self._verdicts("quiet"):
            self._silent = awaited.silent
            self._await(wanted, set(awaited.answers), answers)
            silent = awaited.silent and self._is_silent()
            if fences and not awaited.silent:
                self._quieten(answers)
        self._quiet = time.monotonic()
        passed = Counter(awaited.passing) - Counter(self.storage.to_pass)
        return Standing(tuple(each.asked for each in self.storage.pending()), answers,
                        self._late(awaited.timed), silent, tuple(passed.elements()))

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """See :meth:`QmpSystem.observe`; nothing while QEMU answers no command."""
        return Observation({}, {}) if self._silent else super().observe(named)

    def _is_silent(self) -> bool:
        """Whether QEMU does not answer; what lets it fall silent may be some rounds away."""
        for _ in range(FENCES):
            if self._silence is None:
                self._silence = self.process.qmp.submit("query-version")
            try:
                self.process.qmp.result(self._silence, MOMENT)
            except QmpTimeout:
                return True
            self._silence = None
        return False

    def wrongly_stored(self, node: str, expected: Content) -> tuple[int, bytes] | None:
        """See :meth:`harness.systems.concurrent.ConcurrentSystem.wrongly_stored`."""
        disk = self.storage.disks[node]
        wrong = disk.wrong(expected)
        return None if wrong is None else (wrong[0], disk.read(wrong[0], wrong[1] - wrong[0]))

    def _quit(self) -> None:
        self.storage.let_go()
        # While a job ends, QEMU waits for clients to take their answers.
        self._await(Counter(), set(self._under_way.numbers()), {})
        super()._quit()

    def _standing(self, why: SystemFailed) -> tuple[str, ...]:
        if not isinstance(why, SystemHung) or not hasattr(self, "_under_way"):
            return ()
        return (*(f"request {number}: sent, not answered"
                  for number in self._under_way.numbers()),
                *(f"storage: {each.asked.kind} of {each.asked.node} "
                  f"{each.asked.length} at {each.asked.offset} is held"
                  for each in self.storage.pending()))

    # Start

    def _places(self, configuration: Configuration, files: Mapping[str, Path],
                ) -> dict[str, Place]:
        others = tuple(image for image in configuration.images
                       if image.protocol is not Protocol.HELD)
        self._has_files = bool(others)
        places = super()._places(Configuration(others), {
            image.node: files[image.node] for image in others})
        self.storage = HeldStorage(self.workspace.socket("held"))
        self._cleanup.callback(self.storage.close)
        self._cleanup.callback(self._own.close)
        for index, image in enumerate(configuration.images):
            if image.protocol is Protocol.HELD:
                disk = self.storage.add(image.node, image.size, ExportOffer(
                    image.size, status=image.tells_status))
                for offset, length in image.filled:
                    disk.fill(initial_stamp(index), offset, min(length, image.size - offset))
                places[image.node] = self.storage.place(image.node)
        return places

    def _attach(self, configuration: Configuration, places: Mapping[str, Place],
                socket: str) -> None:
        self._own.close()
        self.storage.begin_anew()
        self._timeouts: list[int] = []
        self._begun: dict[int, float] = {}
        """When each operation began."""
        self._timed = ()
        self._commands: dict[int, tuple[JobOperation, QmpPending]] = {}
        """The commands that were started and have perhaps no answer yet, by number."""
        self._resting: list[int] = []
        """The numbers of what is answered when the job rests."""
        self._silence = None
        self._silent = False
        super()._attach(configuration, places, socket)
        self._under_way = Flights(Path(socket), self.timeout)
        self._own.callback(self._under_way.close)
        with self._verdicts("start"):
            self._fences = [self._open_fence(_FENCE)]
            if self.configuration.iothread:
                self.process.qmp.execute("object-add", {
                    "qom-type": "iothread", "id": _THREAD, "poll-max-ns": 0})
                self._fences.append(self._open_fence(_FENCE + _THREAD, threaded=True))
            self._paces = {node: self._open_pace(node) for node in self.storage.disks}

    def _open_fence(self, name: str, *, threaded: bool = False) -> NbdClient:
        self.process.qmp.execute("blockdev-add", {
            "driver": "null-co", "node-name": name, "size": 512, "read-zeroes": True})
        return self._own_export(name, name, threaded=threaded)

    def _open_pace(self, node: str) -> NbdClient:
        return self._own_export(f"{node}-file", _PACE + node,
                                threaded=self.configuration.iothread)

    def _own_export(self, node: str, name: str, *, threaded: bool = False) -> NbdClient:
        export = commands.temporary_export(node, name)
        self.process.qmp.execute(*(_in_thread(export) if threaded else export))
        client = NbdClient.connect(str(self.workspace.socket("nbd")), name, structured=False,
                                   timeout=self.timeout)
        self._own.callback(client.close)
        return client

    def _spelled(self, operation: Operation) -> Command:
        command = super()._spelled(operation)
        threaded = isinstance(operation, ops.Export) and self.configuration.iothread
        return _in_thread(command) if threaded else command

    def hang_up(self, export: str) -> None:
        """Close all connections to an export that have nothing under way."""
        self._disconnect(export)

    def _disconnect(self, export: str) -> None:
        super()._disconnect(export)
        self._under_way.drop(export)

    def _late(self, timed: Collection[int]) -> bool:
        """Whether a time-out that began in one of these operations has perhaps run out by now,
        or one that has just been stopped ran out before that."""
        running, self._timed = {*self._timed, *timed}, timed
        if not self._timeouts:
            return False
        bound = time.monotonic() - HASTE * min(self._timeouts)
        return any(self._begun[number] < bound for number in running)

    # Jobs

    def _start_job(self, number: int, command: Backup) -> Answer:
        """Start a job and do not wait until it rests: that is its answer."""
        self.storage.hold()
        with self._verdicts("start"):
            try:
                self.process.qmp.execute(*commands.command_of(command))
            except QmpRefused as why:
                return Answer(refused=QmpError(
                    self._names.in_text(why.desc, command), why.error_class))
        self._jobs.accepted(command)
        self._resting.append(number)
        return Answer()

    @property
    def _asks_for_jobs(self) -> bool:
        """Whether a job is waited for, or a command about one, and QEMU can be asked."""
        return bool(self._resting or self._commands) and not self._silent

    def _rested(self) -> dict[int, Answer]:
        """The answers of what waits for the job to rest, if it does now, or was refused."""
        if not self._asks_for_jobs:
            return {}
        # Answers and events come in order: now all that were sent before are here.
        self.process.qmp.execute("query-version")
        self._silence = None
        answers = dict(self._refused())
        self._hear_of_jobs()
        if not list(self._jobs.moving()):
            answers |= {number: Answer() for number in self._resting}
            self._resting.clear()
        return answers

    def _refused(self) -> Iterator[tuple[int, Answer]]:
        """Look at the answers of commands: refusals; what is accepted makes the job move."""
        for number, (command, pending) in self._commands.items():
            try:
                self.process.qmp.result(pending)
            except QmpRefused as why:
                yield number, Answer(refused=QmpError(why.desc, why.error_class))
            else:
                self._jobs.accepted(command)
                self._resting.append(number)
        self._commands.clear()

    # Completing

    def _pace(self, node: str) -> None:
        """Have a read of our own go through the node's connection to its storage.

        In QEMU up to 10.0 an answer from NBD storage is not noticed before the next one if other
        requests have begun to wait for theirs meanwhile (nbd-answer-waits-for-next).  An answer
        to one that came after all of them brings them into line.  When as many requests are in
        flight as may be there is no room for that: then only the youngest may be completed.
        """
        pending = sum(each.asked.node == node for each in self.storage.pending())
        if pending < MOST_IN_FLIGHT:
            self.storage.exempt(StorageRequest(node, RequestKind.READ, 0, _PACE_LENGTH))
            self._paces[node].read(0, _PACE_LENGTH)

    def _find(self, wanted: Complete) -> HeldRequest | None:
        alike = [each for each in self.storage.pending() if each.asked == wanted.asked]
        return alike[wanted.younger] if wanted.younger < len(alike) else None

    # Quiet

    def _await(self, wanted: Counter[StorageRequest], numbers: set[int],
               answers: dict[int, Answer]) -> None:
        """Wait until all of this is there, as long as there is hope."""
        progress = -1
        deadline = 0.0
        while True:
            self.storage.heard()
            self.storage.catch_up()
            answers |= self._under_way.collect()
            if numbers - answers.keys() <= {*self._commands, *self._resting}:
                # Not before: while a job ends, QEMU waits for clients to take their answers.
                answers |= self._rested()
            now = time.monotonic()
            if (now >= self._not_before and numbers <= answers.keys()
                    and not self.storage.to_pass
                    and wanted <= Counter(each.asked for each in self.storage.pending())):
                return
            if progress != self.storage.activity:
                progress = self.storage.activity
                deadline = max(now, self._not_before) + PATIENCE
            if now >= deadline and (is_asleep(self.process.child.pid)
                                    or now >= deadline + self.timeout):
                return
            until = self._not_before if now < self._not_before else max(now, deadline)
            poll = select.poll()
            poll.register(self.storage.news, select.POLLIN)
            for descriptor, events in self._under_way.watched().items():
                poll.register(descriptor, events)
            # Nothing here can be waited for that tells of the end of a job.
            poll.poll(1 if self._asks_for_jobs else int((until - now) * 1000) + 1)

    def _quieten(self, answers: dict[int, Answer]) -> None:
        """Go round the event loop until nothing more comes.  What QEMU writes to files is not seen
        to end, so before the last round it is to have nothing to do."""
        rounds = 0
        seen = self.storage.activity
        while rounds < FENCES:
            if rounds == FENCES - 1 and self._has_files:
                wait_until_asleep(self.process.child.pid, self.timeout)
            for fence in self._fences:
                fence.read(0, 1)
            self.storage.catch_up()
            rounds += 1
            more = self._under_way.collect()
            if rounds == FENCES:
                more |= self._rested()
            answers |= more
            if more or seen != self.storage.activity or self._under_way.sending():
                rounds = 0
                seen = self.storage.activity
