# SPDX-License-Identifier: GPL-2.0-or-later
"""A storage daemon whose images the harness holds: requests to it overlap as a schedule says.

Nothing here waits for a time to pass.  What the model expects is waited for; that nothing else
comes is known from *fences*: a request through the daemon's own event loop is answered only when
the loop has gone round, and with it all that was ready to run before.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.builds import Build
from harness.clients.nbd import NbdClient
from harness.clients.qmp import DEFAULT_TIMEOUT
from harness.storage.held import HeldRequest, HeldStorage
from harness.storage.images import ImageStore
from harness.storage.place import Place
from harness.systems.base import Answer, sent_as
from harness.systems.commands import Command
from harness.systems.concurrent import Awaited, Standing
from harness.systems.daemon import QsdSystem
from harness.systems.flights import Flights
from model import operations as ops
from model.configuration import Configuration, Protocol, RequestKind
from model.content import initial_stamp
from model.errors import Errno
from model.operations import Operation, Request
from model.program import StorageRequest
from model.schedule import Complete, Expire, Start

FENCES: Final = 8
"""Rounds of the event loop in which nothing comes, until it counts as quiet."""
PATIENCE: Final = 1.0
"""Seconds without any progress after which what has not come counts as missing."""
_FENCE: Final = "lockstep-fence"


class HeldDaemon(QsdSystem):
    """A storage daemon; its images of protocol ``held`` complete requests as they are told."""

    def __init__(self, build: Build, configuration: Configuration, store: ImageStore, *,
                 timeout: float = DEFAULT_TIMEOUT, core: bool = False) -> None:
        """Start it with the configuration's images attached."""
        self._timeouts = [0]
        self._patience = PATIENCE
        super().__init__(build, configuration, store, timeout=timeout, core=core)
        try:
            self._fence = self._open_fence()
        except BaseException:
            self.close()
            raise

    # The interface

    def apply(self, number: int, operation: Operation) -> Answer:
        """Do operation ``number``, or start it; a start has no answer of its own."""
        self._patience = PATIENCE
        match operation:
            case Start():
                self.storage.hold()
                request = sent_as(operation.sent, self.channels)
                assert isinstance(request, Request)
                with self._verdicts("start"):
                    self._under_way.start(number, request)
                return Answer()
            case Complete(error=error):
                request_held = self._find(operation)
                if request_held is not None:
                    self.storage.complete(request_held, None if error is None else Errno[error])
                return Answer()
            case Expire():
                self._patience = PATIENCE + max(self._timeouts)
                return Answer()
            case ops.AddFilter(cbw_timeout=timeout) if timeout:
                self._timeouts.append(timeout)
        self.storage.let_go()
        return super().apply(number, operation)

    def settle(self, awaited: Awaited) -> Standing:
        """See :meth:`harness.systems.concurrent.ConcurrentSystem.settle`."""
        wanted = Counter(awaited.pending)
        answers: dict[int, Answer] = {}
        with self._verdicts("quiet"):
            self._await(wanted, set(awaited.answers), answers)
            self._quieten(answers)
        return Standing(tuple(each.asked for each in self.storage.pending()), answers)

    # Start

    def _places(self, configuration: Configuration, files: Mapping[str, Path],
                ) -> dict[str, Place]:
        others = tuple(image for image in configuration.images
                       if image.protocol is not Protocol.HELD)
        places = super()._places(Configuration(others), {
            image.node: files[image.node] for image in others})
        self.storage = HeldStorage(self.workspace.socket("held"))
        self._cleanup.callback(self.storage.close)
        for index, image in enumerate(configuration.images):
            if image.protocol is Protocol.HELD:
                disk = self.storage.add(image.node, image.size)
                for offset, length in image.filled:
                    disk.fill(initial_stamp(index), offset, min(length, image.size - offset))
                places[image.node] = self.storage.place(image.node)
        return places

    def _attach(self, configuration: Configuration, places: Mapping[str, Place],
                socket: str) -> None:
        super()._attach(configuration, places, socket)
        self._under_way = Flights(Path(socket), self.timeout)
        self._cleanup.callback(self._under_way.close)

    def _open_fence(self) -> NbdClient:
        for command in (
                Command("blockdev-add", {"driver": "null-co", "node-name": _FENCE, "size": 512,
                                         "read-zeroes": True}),
                Command("block-export-add", {"type": "nbd", "id": _FENCE, "node-name": _FENCE,
                                             "name": _FENCE})):
            self.process.qmp.execute(*command)
        client = NbdClient.connect(str(self.workspace.socket("nbd")), _FENCE, df=True,
                                   timeout=self.timeout)
        self._cleanup.callback(client.close)
        return client

    def _disconnect(self, export: str) -> None:
        super()._disconnect(export)
        self._under_way.drop(export)

    # Completing

    def _find(self, wanted: Complete) -> HeldRequest | None:
        asked = StorageRequest(wanted.node, RequestKind(wanted.kind), wanted.offset,
                               wanted.length)
        return next((each for each in self.storage.pending() if each.asked == asked), None)

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
            if numbers <= answers.keys() and wanted <= Counter(
                    each.asked for each in self.storage.pending()):
                return
            now = time.monotonic()
            if progress != self.storage.activity:
                progress = self.storage.activity
                deadline = now + self._patience
            if now >= deadline:
                return
            poll = select.poll()
            poll.register(self.storage.news, select.POLLIN)
            for descriptor, events in self._under_way.watched().items():
                poll.register(descriptor, events)
            poll.poll(max(1, int((deadline - now) * 1000)))

    def _quieten(self, answers: dict[int, Answer]) -> None:
        """Go round the event loop until nothing more comes."""
        rounds = 0
        seen = self.storage.activity
        while rounds < FENCES:
            self._fence.read(0, 1)
            self.storage.catch_up()
            rounds += 1
            more = self._under_way.collect()
            answers |= more
            if more or seen != self.storage.activity or self._under_way.sending():
                rounds = 0
                seen = self.storage.activity
