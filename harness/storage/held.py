# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage that the harness serves: every request is seen, and held until it is told how to end.

An NBD server in a thread of its own, for any number of exports and connections.  A request takes
effect, and a read takes its data, when it is completed, not when it comes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

from harness.storage.held_disk import HeldDisk
from harness.storage.held_wire import (
    BadWire,
    ExportOffer,
    Extents,
    Flag,
    Wire,
    WireRequest,
)
from harness.storage.place import NbdPlace
from model.configuration import RequestKind
from model.errors import Errno
from model.program import StorageRequest

FAILURES: Final = (Errno.EIO, Errno.ENOSPC, Errno.EPERM, Errno.ENOMEM, Errno.EINVAL,
                   Errno.EOVERFLOW, Errno.ENOTSUP, Errno.ESHUTDOWN)
"""What a request can be failed with: the errors that the NBD protocol knows."""
LOG: Final = 100_000
"""So many requests are remembered."""
RECONNECT_DELAY: Final = 300
"""Seconds; QEMU gets a connection back at once, so this is only what no run must ever take."""
_RECEIVE: Final = 1 << 20
_EXTENTS: Final = 1 << 16
"""So many runs of block status in an answer are enough."""


class Fate(Enum):
    """Where a request stands."""

    PENDING = auto()
    COMPLETED = auto()
    FAILED = auto()
    LOST = auto()
    """The connection was cut off before the answer."""


@dataclass(slots=True, eq=False)
class HeldRequest:
    """A request that QEMU made; ``number`` counts all of them from 1 in the order they came."""

    number: int
    asked: StorageRequest
    flags: Flag
    data: bytes = field(repr=False)
    fate: Fate = Fate.PENDING
    error: Errno | None = None
    connection: _Connection | None = field(default=None, repr=False)
    cookie: int = 0


class HeldStorage:
    """The disks, by node name, and the server through which QEMU reaches them.

    While :attr:`holding` is off, requests complete as they come.  All methods may be called from
    any thread.
    """

    def __init__(self, path: Path) -> None:
        """``path``: the UNIX socket to listen on."""
        self.path = path
        self.disks: dict[str, HeldDisk] = {}
        self.log: deque[HeldRequest] = deque(maxlen=LOG)
        """The requests in the order they came."""
        self.count = 0
        """How many requests came in all."""
        self.activity = 0
        """Grows with every byte that comes or goes."""
        self._offers: dict[str, ExportOffer] = {}
        self._pending: dict[int, HeldRequest] = {}
        self._connections: dict[int, _Connection] = {}
        self._holding = False
        self.to_pass: list[StorageRequest] = []
        """What is to be completed as it comes, even while others are held, and has not come."""
        self._stalled: set[str] = set()
        self._closing = False
        self._lock = threading.RLock()
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen()
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._kick, select.EPOLLIN)
        self._thread = threading.Thread(target=self._serve, name="held-storage", daemon=True)
        self._thread.start()

    # What is there

    def add(self, node: str, size: int, offer: ExportOffer | None = None) -> HeldDisk:
        """Serve an empty disk of ``size`` bytes as the export ``node``."""
        with self._lock:
            disk = self.disks[node] = HeldDisk(size)
            self._offers[node] = offer or ExportOffer(size)
            return disk

    def place(self, node: str) -> NbdPlace:
        """Where QEMU finds the disk."""
        return NbdPlace(str(self.path), node, RECONNECT_DELAY)

    # The gate

    @property
    def holding(self) -> bool:
        """Whether requests are held."""
        return self._holding

    def hold(self) -> None:
        """Hold what comes from now on."""
        with self._lock:
            self._holding = True

    def exempt(self, asked: StorageRequest) -> None:
        """Complete the next such request as it comes, and leave it out of the log."""
        with self._lock:
            self.to_pass.append(asked)

    def let_pass(self, asked: StorageRequest) -> None:
        """Complete the oldest such request that is pending, or else the next as it comes."""
        with self._lock:
            alike = [each for each in self._pending.values() if each.asked == asked]
            if alike:
                self._end(alike[0], None)
            else:
                self.to_pass.append(asked)

    def let_go(self) -> None:
        """Complete all that is pending, and what comes from now on as it comes."""
        with self._lock:
            self._holding = False
            for request in list(self._pending.values()):
                self._end(request, None)

    def pending(self) -> list[HeldRequest]:
        """The requests that are held, in the order they came."""
        with self._lock:
            return list(self._pending.values())

    def complete(self, request: HeldRequest, error: Errno | None = None) -> None:
        """Let the request take effect, or fail it; raises KeyError if it is not pending."""
        with self._lock:
            if request.number not in self._pending:
                raise KeyError(request.number)
            self._end(request, error)

    def land(self) -> None:
        """All that is pending takes effect, the oldest first, but nobody hears of it."""
        with self._lock:
            for request in self._pending.values():
                self._do(request)

    def begin_anew(self) -> None:
        """Whoever was connected is no more: forget what they asked for, and hold nothing."""
        with self._lock:
            self._holding = False
            self.to_pass.clear()
            self._stalled.clear()
            for connection in list(self._connections.values()):
                self._drop(connection)

    def complete_all(self, node: str, error: Errno | None = None) -> None:
        """Complete all that is pending to a disk, or fail it; a client hears of it all at once."""
        with self._lock:
            pending = [each for each in self._pending.values() if each.asked.node == node]
            connections = dict.fromkeys(each.connection for each in pending if each.connection)
            for request in pending:
                self._answer(request, error)
            for connection in connections:
                self._send(connection)

    def cut(self, node: str, *, for_good: bool = False) -> None:
        """Cut all connections to the disk; ``for_good``: and have no new ones."""
        with self._lock:
            if for_good:
                self._offers.pop(node, None)
            for connection in list(self._connections.values()):
                if connection.wire.export == node:
                    self._drop(connection)

    def stall(self, node: str) -> None:
        """From now on no answers about the disk leave, nor to those who want to connect to it."""
        with self._lock:
            self._stalled.add(node)

    def resume(self, node: str) -> None:
        """Send what was kept back, and go on."""
        with self._lock:
            self._stalled.discard(node)
            for connection in list(self._connections.values()):
                self._send(connection)

    def waiting(self, node: str) -> int:
        """How many connections wait for an answer about the disk, which is stalled."""
        with self._lock:
            return sum(connection.wire.export == node and bool(connection.wire.out)
                       for connection in self._connections.values())

    # Waiting

    @property
    def news(self) -> int:
        """A file descriptor that is readable once a request was held or lost; see
        :meth:`heard`."""
        return self._news

    def heard(self) -> None:
        """Take note of the news so far."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news)

    def catch_up(self) -> None:
        """Take in what was sent before this call."""
        with self._lock:
            self._handle(self._epoll.poll(0))

    def close(self) -> None:
        """Stop serving; may be called again."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            os.eventfd_write(self._kick, 1)
        self._thread.join()
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for descriptor in (self._news, self._kick):
            os.close(descriptor)
        for disk in self.disks.values():
            disk.close()

    # The thread

    def _serve(self) -> None:
        while True:
            ready = self._epoll.poll()
            with self._lock:
                if self._closing:
                    return
                self._handle(ready)

    def _handle(self, ready: list[tuple[int, int]]) -> None:
        for descriptor, events in ready:
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor in self._connections:
                self._use(self._connections[descriptor], events)

    def _accept(self) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:  # who wanted to connect is gone
            return
        connection = _Connection(end, Wire(self._offers))
        self._connections[end.fileno()] = connection
        self._epoll.register(end, select.EPOLLIN)
        self._send(connection)

    def _use(self, connection: _Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send(connection)
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = connection.end.recv(_RECEIVE)
            self.activity += 1
            requests = connection.wire.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, BadWire):
            self._drop(connection)
            return
        for request in requests:
            self._take(connection, request)
        if not data or connection.wire.ended:
            self._drop(connection)
        else:
            self._send(connection)

    def _take(self, connection: _Connection, wire: WireRequest) -> None:
        node = connection.wire.export
        assert node is not None
        self.count += 1
        unmap = wire.kind is RequestKind.ZERO and not wire.flags & Flag.NO_HOLE
        asked = StorageRequest(node, wire.kind, wire.offset, wire.length, unmap)
        request = HeldRequest(self.count, asked, wire.flags, wire.data, connection=connection,
                              cookie=wire.cookie)
        self._pending[request.number] = request
        exempt = asked in self.to_pass
        if exempt:
            self.to_pass.remove(asked)
        else:
            self.log.append(request)
        if wire.offset + wire.length > self.disks[node].size:
            self._answer(request, Errno.EINVAL)
        elif self._refuses(request):
            self._answer(request, Errno.ENOTSUP)
        elif self._holding and not exempt:
            os.eventfd_write(self._news, 1)
        else:
            self._answer(request, None)

    def _refuses(self, request: HeldRequest) -> bool:
        offer = self._offers.get(request.asked.node)
        return bool(request.flags & Flag.FAST_ZERO) and offer is not None and offer.slow_zeroes

    # Ends

    def _end(self, request: HeldRequest, error: Errno | None) -> None:
        connection = request.connection
        self._answer(request, error)
        if connection is not None:
            self._send(connection)

    def _answer(self, request: HeldRequest, error: Errno | None) -> None:
        """Let the request take effect, and put its answer in the queue."""
        data = b"" if error is not None else self._do(request)
        request.fate = Fate.COMPLETED if error is None else Fate.FAILED
        request.error = error
        if request.connection is not None:
            wire, asked = request.connection.wire, request.asked
            if asked.kind is RequestKind.STATUS and error is None:
                wire.reply_status(request.cookie, self._status(request))
            else:
                wire.reply(request.cookie, int(error or 0), data, asked.offset)
        self._forget(request)

    def _status(self, request: HeldRequest) -> Extents:
        asked = request.asked
        extents = self.disks[asked.node].extents(asked.offset, asked.length)
        return extents[:1] if request.flags & Flag.REQ_ONE else extents[:_EXTENTS]

    def _forget(self, request: HeldRequest) -> None:
        del self._pending[request.number]
        request.data = b""
        request.connection = None

    def _do(self, request: HeldRequest) -> bytes:
        asked = request.asked
        disk = self.disks[asked.node]
        match asked.kind:
            case RequestKind.READ:
                return disk.read(asked.offset, asked.length)
            case RequestKind.WRITE:
                disk.write(asked.offset, request.data)
            case RequestKind.ZERO:
                disk.zero(asked.offset, asked.length, hole=asked.unmap)
            case RequestKind.DISCARD:
                disk.zero(asked.offset, asked.length)
        return b""

    def _send(self, connection: _Connection) -> None:
        out = connection.wire.out
        if connection.wire.export in self._stalled:
            connection.want(self._epoll, False)
            return
        if out and connection.open:
            try:
                sent = connection.end.send(out)
                del out[:sent]
                self.activity += 1
            except BlockingIOError:
                pass
            except OSError:
                self._drop(connection)
                return
        connection.want(self._epoll, bool(out))

    def _drop(self, connection: _Connection) -> None:
        if not connection.open:
            return
        connection.open = False
        del self._connections[connection.end.fileno()]
        self._epoll.unregister(connection.end)
        connection.end.close()
        for request in [each for each in self._pending.values()
                        if each.connection is connection]:
            request.fate = Fate.LOST
            self._forget(request)
        os.eventfd_write(self._news, 1)


class _Connection:
    """A client's connection."""

    def __init__(self, end: socket.socket, wire: Wire) -> None:
        end.setblocking(False)
        self.end = end
        self.wire = wire
        self.open = True
        self._wants_to_write = False

    def want(self, epoll: select.epoll, to_write: bool) -> None:
        """Be told when the socket takes more bytes, or no longer."""
        if to_write != self._wants_to_write and self.open:
            self._wants_to_write = to_write
            epoll.modify(self.end, select.EPOLLIN | (select.EPOLLOUT if to_write else 0))
