# SPDX-License-Identifier: GPL-2.0-or-later
"""Client requests under way, each on a connection of its own.

A server that hangs up on one request loses all others of the same connection, and takes only so
many of one connection at a time; so they do not share.
"""

from __future__ import annotations

import select
from pathlib import Path

from harness import stamps
from harness.clients.errors import PeerGone
from harness.clients.nbd import NbdClient
from harness.clients.nbd_types import Completion
from harness.systems.base import Answer
from harness.systems.connections import Key
from model import operations as ops
from model.operations import Request, Via
from model.requests import stamp_of


class Flights:
    """Starts requests and collects their answers, without ever waiting."""

    def __init__(self, socket: Path, timeout: float) -> None:
        """``socket`` is where the server listens; ``timeout`` (seconds) bounds a negotiation."""
        self._socket = str(socket)
        self._timeout = timeout
        self._idle: dict[Key, list[NbdClient]] = {}
        self._flying: dict[int, tuple[Key, NbdClient]] = {}

    def start(self, number: int, request: Request) -> None:
        """Send a request, whose data, if it writes, is that of ``number``."""
        key = Key.of(request)
        idle = self._idle.get(key)
        client = idle.pop() if idle else NbdClient.connect(
            self._socket, key.export, structured=key.structured,
            contexts=() if key.context is None else (key.context,), timeout=self._timeout)
        self._flying[number] = key, client
        _submit(client, number, request)

    def under_way(self) -> int:
        """How many requests have no answer yet."""
        return len(self._flying)

    def numbers(self) -> list[int]:
        """The numbers of those, in order."""
        return sorted(self._flying)

    def watched(self) -> dict[int, int]:
        """The descriptors to wait for, each with its poll(2) events."""
        return dict(client.waits_for() for _, client in self._flying.values())

    def sending(self) -> bool:
        """Whether a part of a request is still to be sent."""
        return any(events & select.POLLOUT for events in self.watched().values())

    def collect(self) -> dict[int, Answer]:
        """The answers that have come, by number."""
        found: dict[int, Answer] = {}
        for number, (key, client) in list(self._flying.items()):
            try:
                landed = client.poll(0)
            except PeerGone:
                found[number] = Answer(disconnected=True)
                client.close()
                del self._flying[number]
                continue
            if landed:
                found[number] = _answer(landed[0])
                self._idle.setdefault(key, []).append(client)
                del self._flying[number]
        return found

    def drop(self, export: str) -> None:
        """Close all idle connections to an export."""
        for key in [key for key in self._idle if key.export == export]:
            for client in self._idle.pop(key):
                client.close()

    def close(self) -> None:
        """Close all connections."""
        for clients in self._idle.values():
            for client in clients:
                client.close()
        for _, client in self._flying.values():
            client.close()
        self._idle, self._flying = {}, {}


def _submit(client: NbdClient, number: int, request: Request) -> None:
    offset, length = request.offset, request.length
    match request:
        case ops.Read():
            client.submit_read(offset, length, df=request.via is Via.NBD_DF)
        case ops.Write(fua=fua):
            client.submit_write(offset, stamps.data(stamp_of(number, request), offset, length),
                                fua=fua)
        case ops.Zero(unmap=unmap, fast=fast, fua=fua):
            client.submit_zero(offset, length, no_hole=not unmap, fast=fast, fua=fua)
        case ops.Discard(fua=fua):
            client.submit_discard(offset, length, fua=fua)
        case ops.Flush():
            client.submit_flush()
        case ops.Status(one=one):
            client.submit_block_status(offset, length, req_one=one)


def _answer(completion: Completion) -> Answer:
    if completion.errno:
        return Answer(error=completion.errno)
    extents = None
    if completion.extents is not None:
        extents = tuple((each.length, each.flags)
                        for runs in completion.extents.values() for each in runs)
    return Answer(data=completion.data, extents=extents)
