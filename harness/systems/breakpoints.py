# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage requests held by QEMU itself: ``blkdebug`` breakpoints in a qemu-system.

Independent of the storage that the harness serves: the images are files, and QEMU's own means stop
a request on its way to them.  Two devices are there for the human monitor: on the filter, below
which is the source, and on the temporary image.  A command on a *node* would wait for the requests
that are held (see :class:`harness.clients.monitor.MonitorIo`).
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Sequence
from typing import Final

from harness import stamps
from harness.clients.errors import PeerSilent
from harness.clients.monitor import MonitorIo
from harness.clients.nbd import NbdClient
from harness.systems import commands
from harness.systems.base import Answer
from harness.systems.flights import Flights
from harness.systems.qemu_system import QemuSystem
from model import operations as ops
from model.configuration import RequestKind
from model.content import initial_stamp
from model.errors import Errno
from model.operations import Request

SOURCE: Final = "src"
TARGET: Final = "tmp"
EVENTS: Final = {RequestKind.READ: "read_aio", RequestKind.WRITE: "write_aio"}
"""The events of the format driver ``raw``, by kind of request."""
FENCES: Final = 8
PATIENCE: Final = 10.0
"""Seconds in which what must come has come."""
_FENCE: Final = "lockstep-fence"
_ON_TARGET: Final = "onlooker"


class Breakpoints:
    """A filter ``cbw`` over ``src`` with target ``tmp``, and its snapshot ``snap``, both exported,
    in a qemu-system that was started without images."""

    def __init__(self, system: QemuSystem, size: int, *, on_cbw_error: str | None = None,
                 failing_write: Errno | None = None) -> None:
        """Set it up; ``failing_write``: the first write of the target fails, once it goes on."""
        self._system = system
        self._graph(size, on_cbw_error, failing_write)
        socket = system.workspace.socket("nbd")
        self._flights = Flights(socket, system.timeout)
        system.process.qmp.execute(*commands.temporary_export(_FENCE, _FENCE))
        self._fence = NbdClient.connect(str(socket), _FENCE, structured=False,
                                        timeout=system.timeout)
        output = system.process.child.stdout
        self._monitors = {
            SOURCE: MonitorIo(system.process.qmp, output, device=commands.DEVICE),
            TARGET: MonitorIo(system.process.qmp, output, device=_ON_TARGET)}

    def hold(self, node: str, kind: RequestKind, tag: str) -> None:
        """The next such request of the image stops where it is."""
        self._monitors[node].command(f"break {EVENTS[kind]} {tag}")

    def resume(self, node: str, tag: str) -> None:
        """Let the request that is held go on."""
        self._monitors[node].command(f"resume {tag}")

    def await_held(self, tag: str) -> None:
        """Wait until a request is held at the breakpoint; raises PeerSilent if none comes."""
        word = f"Suspended request '{tag}'".encode()
        if self._system.process.child.stdout.wait(
                lambda data: word in data, timeout=PATIENCE) is None:
            raise PeerSilent("human monitor", f"a request held at {tag}", PATIENCE)

    def start(self, number: int, request: Request) -> None:
        """Send a request and do not wait for its answer."""
        self._flights.start(number, request)

    def settle(self, awaited: Collection[int]) -> dict[int, Answer]:
        """The answers that have come once those awaited have, or time is up, and QEMU has gone
        round its event loop a few times more; by number."""
        answers: dict[int, Answer] = {}
        deadline = time.monotonic() + PATIENCE
        while not set(awaited) <= answers.keys():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            poll = select.poll()
            for descriptor, events in self._flights.watched().items():
                poll.register(descriptor, events)
            poll.poll(left * 1000)
            answers |= self._flights.collect()
        for _ in range(FENCES):
            self._fence.read(0, 1)
            answers |= self._flights.collect()
        return answers

    def close(self) -> None:
        """Close what is connected; the system is the caller's."""
        self._fence.close()
        self._flights.close()

    def _graph(self, size: int, on_cbw_error: str | None, failing_write: Errno | None) -> None:
        qmp = self._system.process.qmp
        for index, node in enumerate((SOURCE, TARGET)):
            path = self._system.workspace.file(node)
            path.write_bytes(stamps.data(initial_stamp(index), 0, size) if not index
                             else bytes(size))
            debug: dict[str, object] = {"driver": "blkdebug", "node-name": f"{node}-debug",
                                        "image": f"{node}-file"}
            if index and failing_write is not None:
                debug["inject-error"] = [{"event": EVENTS[RequestKind.WRITE], "once": True,
                                          "errno": failing_write.value}]
            for options in ({"driver": "file", "node-name": f"{node}-file",
                             "filename": str(path)}, debug,
                            {"driver": "raw", "node-name": node, "file": f"{node}-debug"}):
                qmp.execute("blockdev-add", options)
        qmp.execute("blockdev-add", {"driver": "null-co", "node-name": _FENCE, "size": 512,
                                     "read-zeroes": True})
        qmp.execute("device_add", {"driver": "scsi-cd", "id": _ON_TARGET, "drive": TARGET,
                                   "bus": commands.DEVICE_BUS, "share-rw": True})
        self._do_all((ops.AddFilter("cbw", SOURCE, TARGET, on_cbw_error=on_cbw_error),
                      ops.AddSnapshot("snap", "cbw"), ops.Export("cbw"), ops.Export("snap"),
                      ops.Attach("cbw")))

    def _do_all(self, operations: Sequence[ops.Operation]) -> None:
        for number, operation in enumerate(operations, start=1):
            answer = self._system.apply(number, operation)
            assert answer.refused is None, answer.refused
