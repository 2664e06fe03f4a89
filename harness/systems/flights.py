# SPDX-License-Identifier: GPL-2.0-or-later
"""Client requests under way, on as few connections as real clients would use.

Requests share a connection, up to as many as a server takes of one at a time.  Only a read in
structured replies has one to itself: if it fails, the server may hang up, which would lose all
others of the same connection.
"""

from __future__ import annotations

import select
from pathlib import Path
from typing import Final, NamedTuple

from harness import stamps
from harness.clients.errors import PeerGone
from harness.clients.nbd import NbdClient
from harness.clients.nbd_types import Completion, Token
from harness.systems.base import Answer
from harness.systems.connections import Key
from model import operations as ops
from model.operations import Request, Via
from model.requests import stamp_of

TOGETHER: Final = 16
"""How many requests QEMU's server takes of one connection before it answers any."""


class _Use(NamedTuple):
    """What a connection is for."""

    key: Key
    together: int
    """How many requests it carries at a time."""

    @classmethod
    def of(cls, request: Request) -> _Use:
        alone = isinstance(request, ops.Read) and request.via is Via.NBD
        return cls(Key.of(request), 1 if alone else TOGETHER)


class _Flight(NamedTuple):
    client: NbdClient
    token: Token
    request: Request


class Flights:
    """Starts requests and collects their answers, without ever waiting."""

    def __init__(self, socket: Path, timeout: float) -> None:
        """``socket`` is where the server listens; ``timeout`` (seconds) bounds a negotiation."""
        self._socket = str(socket)
        self._timeout = timeout
        self._clients: dict[_Use, list[NbdClient]] = {}
        self._flying: dict[int, _Flight] = {}

    def start(self, number: int, request: Request) -> None:
        """Send a request, whose data, if it writes, is that of ``number``."""
        client = self._client(_Use.of(request))
        self._flying[number] = _Flight(client, _submit(client, number, request), request)

    def _client(self, use: _Use) -> NbdClient:
        clients = self._clients.setdefault(use, [])
        for client in clients:
            if len(client.in_flight()) < use.together:
                return client
        export, structured, contexts = use.key
        client = NbdClient.connect(self._socket, export, structured=structured,
                                   contexts=contexts, timeout=self._timeout)
        clients.append(client)
        return client

    def under_way(self) -> int:
        """How many requests have no answer yet."""
        return len(self._flying)

    def numbers(self) -> list[int]:
        """The numbers of those, in order."""
        return sorted(self._flying)

    def watched(self) -> dict[int, int]:
        """The descriptors to wait for, each with its poll(2) events."""
        return dict(client.waits_for() for client in self._busy())

    def sending(self) -> bool:
        """Whether a part of a request is still to be sent."""
        return any(events & select.POLLOUT for events in self.watched().values())

    def collect(self) -> dict[int, Answer]:
        """The answers that have come, by number."""
        found: dict[int, Answer] = {}
        for client in self._busy():
            flights = {flight.token: (number, flight.request)
                       for number, flight in self._flying.items() if flight.client is client}
            try:
                for completion in client.poll(0):
                    number, request = flights[completion.token]
                    found[number] = _answer(request, completion)
            except PeerGone:
                found |= {number: Answer(disconnected=True) for number, _ in flights.values()}
                self._close(client)
        for number in found:
            del self._flying[number]
        return found

    def _busy(self) -> list[NbdClient]:
        """Those with something under way, oldest request first."""
        return list(dict.fromkeys(flight.client for flight in self._flying.values()))

    def _close(self, client: NbdClient) -> None:
        for clients in self._clients.values():
            if client in clients:
                clients.remove(client)
        client.close()

    def drop(self, export: str) -> None:
        """Close all idle connections to an export."""
        for use, clients in self._clients.items():
            if use.key.export == export:
                for client in [each for each in clients if not each.in_flight()]:
                    self._close(client)

    def close(self) -> None:
        """Close all connections."""
        for clients in self._clients.values():
            for client in clients:
                client.close()
        self._clients, self._flying = {}, {}


def _submit(client: NbdClient, number: int, request: Request) -> Token:
    offset, length = request.offset, request.length
    match request:
        case ops.Read():
            return client.submit_read(offset, length, df=request.via is Via.NBD_DF)
        case ops.Write(fua=fua):
            data = stamps.data(stamp_of(number, request), offset, length)
            return client.submit_write(offset, data, fua=fua)
        case ops.Zero(unmap=unmap, fast=fast, fua=fua):
            return client.submit_zero(offset, length, no_hole=not unmap, fast=fast, fua=fua)
        case ops.Discard(fua=fua):
            return client.submit_discard(offset, length, fua=fua)
        case ops.Flush():
            return client.submit_flush()
        case ops.Status(one=one):
            return client.submit_block_status(offset, length, req_one=one)
    raise TypeError(f"not a request over NBD: {request}")


def _answer(request: Request, completion: Completion) -> Answer:
    if completion.errno:
        return Answer(error=completion.errno)
    extents = None
    if isinstance(request, ops.Status) and completion.extents is not None:
        extents = tuple((each.length, each.flags)
                        for each in completion.extents.get(request.context, ()))
    return Answer(data=completion.data, extents=extents)
