# SPDX-License-Identifier: GPL-2.0-or-later
"""An NBD client on libnbd: one request at a time, or many in flight.

libnbd's checks of its own are switched off, so that a request that is against the rules
reaches the server and the server's answer is what is seen.  Its synchronous calls are not
used: they wait without bound, and older versions (1.14) keep Python's global lock meanwhile.
Every wait here is for a file descriptor, in Python, with a deadline.
"""

import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from harness.clients.deadline import Deadline
from harness.clients.errors import ClientError
from harness.clients.nbd_types import (
    CHANNEL,
    Completion,
    ExportInfo,
    Extent,
    NbdDisconnected,
    NbdError,
    NbdTimeout,
    Token,
)
from harness.clients.nbd_wire import Wire

DEFAULT_TIMEOUT = 30.0
"""Seconds that a synchronous request may take when the caller gives no bound."""

_GOODBYE_TIMEOUT = 2.0

_FUA, _NO_HOLE, _DF, _REQ_ONE, _FAST_ZERO = 1, 2, 4, 8, 16  # NBD_CMD_FLAG_*

_Runs = dict[str, tuple[Extent, ...]]


@dataclass(slots=True, eq=False)
class _Flight:
    token: Token
    buffer: bytearray | None = None
    runs: _Runs | None = None


class NbdClient:
    """One connection to one export; made by `connect` or `from_socket`.

    Offsets and lengths are in bytes, of any value that fits the protocol's fields.  Requests
    raise `NbdError` (the server's errno), `NbdDisconnected`, `NbdTimeout` (the request stays in
    flight, its late answer is dropped), `NbdNonsense` or `RequestNotSent`.
    """

    def __init__(self, wire: Wire, contexts: Sequence[str], df: bool, timeout: float) -> None:
        self.timeout = timeout
        self.info: ExportInfo = wire.info()
        self.contexts = tuple(name for name in contexts if wire.handle.can_meta_context(name))
        """The metadata contexts that the server granted, of those asked for."""
        self._wire = wire
        self._handle = wire.handle
        self._df = df
        self._flights: dict[int, _Flight] = {}
        self._landed: list[Completion] = []
        self._lost: ClientError | None = None

    @classmethod
    def connect(cls, path: str, export: str = "", *, structured: bool = True,
                contexts: Sequence[str] = (), df: bool = False,
                timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Connect to a UNIX socket and negotiate for an export.

        `structured`: ask for structured replies, without which the server reads plainly and has
        no block status.  `df`: reads forbid fragments unless told otherwise, so that with
        structured replies too the server reads plainly.  `timeout` (seconds) bounds this, and
        every synchronous request.  Raises `NbdRefused` if there is no such export.
        """
        deadline = Deadline(timeout)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.settimeout(timeout)
        try:
            end.connect(path)
        except TimeoutError:
            end.close()
            raise NbdTimeout(CHANNEL, f"connect to {path}", timeout) from None
        except OSError as error:
            end.close()
            reason = error.strerror or str(error)
            raise NbdDisconnected(CHANNEL, f"connect to {path}", reason) from None
        end.settimeout(deadline.left())
        return cls.from_socket(end, export, structured=structured, contexts=contexts, df=df,
                               timeout=timeout)

    @classmethod
    def from_socket(cls, end: socket.socket, export: str = "", *, structured: bool = True,
                    contexts: Sequence[str] = (), df: bool = False,
                    timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Negotiate over a connected socket, which this object owns from now on."""
        wire = Wire(end, export, structured, contexts, Deadline(timeout))
        return cls(wire, contexts, df, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    # One request at a time.

    def read(self, offset: int, length: int, *, df: bool | None = None) -> bytes:
        """Read; `df` (do not fragment) overrides the default given to `connect`."""
        buffer = bytearray(length)
        self._do("read", offset, length, self._handle.aio_pread, buffer, offset, None,
                 _DF if (self._df if df is None else df) else 0)
        return bytes(buffer)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Write."""
        self._do("write", offset, len(data), self._handle.aio_pwrite, data, offset, None,
                 _FUA if fua else 0)

    def zero(self, offset: int, length: int, *, no_hole: bool = False, fast: bool = False,
             fua: bool = False) -> None:
        """Write zeroes; `no_hole` forbids deallocation, `fast` wants an error rather than slow."""
        self._do("zero", offset, length, self._handle.aio_zero, length, offset, None,
                 _zero_flags(no_hole, fast, fua))

    def discard(self, offset: int, length: int, *, fua: bool = False) -> None:
        """Discard (the protocol's trim)."""
        self._do("discard", offset, length, self._handle.aio_trim, length, offset, None,
                 _FUA if fua else 0)

    def cache(self, offset: int, length: int) -> None:
        """Ask the server to bring a range into its cache."""
        self._do("cache", offset, length, self._handle.aio_cache, length, offset, None, 0)

    def flush(self) -> None:
        """Flush."""
        self._do("flush", 0, 0, self._handle.aio_flush, None, 0)

    def block_status(self, offset: int, length: int, context: str = "base:allocation", *,
                     req_one: bool = False) -> tuple[Extent, ...]:
        """The extents of one context, in order; empty if the server said nothing of it."""
        return self.block_statuses(offset, length, req_one=req_one).get(context, ())

    def block_statuses(self, offset: int, length: int, *,
                       req_one: bool = False) -> dict[str, tuple[Extent, ...]]:
        """The extents of every context that was granted, from one request."""
        runs: _Runs = {}
        self._do("block status", offset, length, self._handle.aio_block_status, length, offset,
                 _into(runs), None, _REQ_ONE if req_one else 0)
        return runs

    # Many in flight.

    def submit_read(self, offset: int, length: int, *, df: bool | None = None) -> Token:
        """Start a read."""
        buffer = bytearray(length)
        return self._take_off(
            _Flight(Token(0, "read", offset, length), buffer=buffer), self._handle.aio_pread,
            buffer, offset, None, _DF if (self._df if df is None else df) else 0)

    def submit_write(self, offset: int, data: bytes, *, fua: bool = False) -> Token:
        """Start a write."""
        return self._take_off(_Flight(Token(0, "write", offset, len(data))),
                              self._handle.aio_pwrite, data, offset, None, _FUA if fua else 0)

    def submit_zero(self, offset: int, length: int, *, no_hole: bool = False, fast: bool = False,
                    fua: bool = False) -> Token:
        """Start a write of zeroes."""
        return self._take_off(_Flight(Token(0, "zero", offset, length)), self._handle.aio_zero,
                              length, offset, None, _zero_flags(no_hole, fast, fua))

    def submit_discard(self, offset: int, length: int, *, fua: bool = False) -> Token:
        """Start a discard."""
        return self._take_off(_Flight(Token(0, "discard", offset, length)), self._handle.aio_trim,
                              length, offset, None, _FUA if fua else 0)

    def submit_cache(self, offset: int, length: int) -> Token:
        """Start a caching request."""
        return self._take_off(_Flight(Token(0, "cache", offset, length)), self._handle.aio_cache,
                              length, offset, None, 0)

    def submit_flush(self) -> Token:
        """Start a flush."""
        return self._take_off(_Flight(Token(0, "flush", 0, 0)), self._handle.aio_flush, None, 0)

    def submit_block_status(self, offset: int, length: int, *, req_one: bool = False) -> Token:
        """Start a block status request."""
        runs: _Runs = {}
        return self._take_off(_Flight(Token(0, "block status", offset, length), runs=runs),
                              self._handle.aio_block_status, length, offset, _into(runs), None,
                              _REQ_ONE if req_one else 0)

    def in_flight(self) -> tuple[Token, ...]:
        """The submitted requests without an answer yet, oldest first."""
        return tuple(flight.token for flight in self._flights.values())

    def poll(self, timeout: float) -> list[Completion]:
        """Wait up to `timeout` seconds for answers; return those that came, first come first.

        Returns at the first answers, an empty list if there were none in time or if nothing is
        in flight.  Once the connection is lost and all answers that came before were returned,
        raises `NbdDisconnected` or `NbdNonsense`; `in_flight` then says what was lost.
        """
        deadline = Deadline(timeout)
        while not self._land():
            if not self._flights or not self._wire.turn(deadline.left_ms()):
                break
        return self._report()

    def wait(self, token: Token, timeout: float | None = None) -> Completion:
        """Wait for the answer to one request; answers to others are kept for `poll`."""
        bound = self.timeout if timeout is None else timeout
        deadline = Deadline(bound)
        while True:
            self._land()
            for index, completion in enumerate(self._landed):
                if completion.token == token:
                    return self._landed.pop(index)
            if self._lost is not None:
                raise self._lost
            if token.number not in self._flights:
                raise ValueError(f"not in flight: {token}")
            if not self._wire.turn(deadline.left_ms()):
                raise NbdTimeout(CHANNEL, str(token), bound)

    def waits_for(self) -> tuple[int, int]:
        """What has to happen before `poll` can get on: a descriptor and its poll(2) events.

        POLLOUT among them: a part of what was submitted is still to be sent.
        """
        return self._wire.wanted()

    def close(self) -> None:
        """Close the connection; never fails, may be called again.

        With nothing in flight the server is told, and has hung up on return.
        """
        if not self._flights:
            self._wire.goodbye(_GOODBYE_TIMEOUT)
        self._wire.close()
        self._handle = self._wire.handle

    # How it works.

    def _do(self, verb: str, offset: int, length: int, call: Callable[..., int],
            *arguments: object) -> None:
        wire = self._wire
        cookie = wire.send(verb, offset, length, call, *arguments)
        wire.finish(cookie, verb, offset, length, self.timeout)

    def _take_off(self, flight: _Flight, call: Callable[..., int], *arguments: object) -> Token:
        token = flight.token
        cookie = self._wire.send(token.verb, token.offset, token.length, call, *arguments)
        flight.token = replace(token, number=cookie)
        self._flights[cookie] = flight
        return flight.token

    def _land(self) -> bool:
        """Take from libnbd what is complete; whether there is now something to report."""
        handle, wire = self._handle, self._wire
        while self._flights and self._lost is None:
            cookie = handle.aio_peek_command_completed()
            if cookie <= 0:
                break
            flight = self._flights.get(cookie)
            number = 0
            try:
                handle.aio_command_completed(cookie)
            except wire.error as error:
                if flight is None:
                    continue  # A synchronous request that was given up before.
                failure = wire.failure(error, str(flight.token))
                if not isinstance(failure, NbdError):
                    self._lost = failure
                    break
                number = failure.errno
            if flight is not None:
                del self._flights[cookie]
                self._landed.append(_completion(flight, number))
        return bool(self._landed) or self._lost is not None

    def _report(self) -> list[Completion]:
        landed, self._landed = self._landed, []
        if not landed and self._lost is not None:
            raise self._lost
        return landed


def poll_any(clients: Sequence[NbdClient], timeout: float) -> list[tuple[NbdClient, Completion]]:
    """`NbdClient.poll` for several connections at once, in the order in which answers came.

    The order between two connections is that of looking, not a fact about the server.
    """
    deadline = Deadline(timeout)
    while True:
        landed = [(client, completion) for client in clients if client._land()
                  for completion in client._report()]
        waiting = [client for client in clients if client._flights]
        if landed or not waiting:
            return landed
        poll, owners = select.poll(), {}
        for client in waiting:
            descriptor, events = client._wire.wanted()
            poll.register(descriptor, events)
            owners[descriptor] = client
        ready = poll.poll(deadline.left_ms())
        if not ready:
            return []
        for descriptor, events in ready:
            owners[descriptor]._wire.use(events)


def _zero_flags(no_hole: bool, fast: bool, fua: bool) -> int:
    return (_NO_HOLE if no_hole else 0) | (_FAST_ZERO if fast else 0) | (_FUA if fua else 0)


def _into(runs: _Runs) -> Callable[[str, int, list[int], object], int]:
    """A callback for libnbd, whose entries are a length and its flags in turn."""

    def extend(context: str, _offset: int, entries: list[int], _error: object) -> int:
        found = tuple(map(Extent, entries[::2], entries[1::2]))
        runs[context] = runs.get(context, ()) + found
        return 0

    return extend


def _completion(flight: _Flight, number: int) -> Completion:
    if number or (flight.buffer is None and flight.runs is None):
        return Completion(flight.token, number)
    data = bytes(flight.buffer) if flight.buffer is not None else None
    return Completion(flight.token, 0, data, flight.runs)
