# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD protocol, server side: bytes in, requests and bytes out.  No socket is touched here.

Fixed newstyle negotiation, simple replies.  Structured replies, and with them block status, are
not offered: QEMU then takes all of a disk for data.

Source: the NBD protocol, https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag, auto
from typing import Final

from model.configuration import RequestKind

GREETING: Final = struct.pack(">8sQH", b"NBDMAGIC", 0x49484156454F5054, 1 | 2)
"""Fixed newstyle, and no zeroes after the old-fashioned answer about an export."""
_CLIENT_FLAGS: Final = struct.Struct(">I")
_NO_ZEROES: Final = 2
_OPTION: Final = struct.Struct(">QII")
_OPTION_MAGIC: Final = 0x49484156454F5054
_OPTION_REPLY: Final = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
_REQUEST: Final = struct.Struct(">IHHQQI")
_REQUEST_MAGIC: Final = 0x25609513
_REPLY: Final = struct.Struct(">IIQ")
_REPLY_MAGIC: Final = 0x67446698
LARGEST: Final = 32 << 20
"""Bytes of data in one request, at most: what every NBD server must take."""


class BadWire(Exception):
    """The client broke the protocol."""


class _Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    INFO = 6
    GO = 7


class _Answer(IntEnum):
    ACK = 1
    INFO = 3
    UNSUPPORTED = (1 << 31) + 1
    INVALID = (1 << 31) + 3
    UNKNOWN = (1 << 31) + 6


class _Information(IntEnum):
    EXPORT = 0
    BLOCK_SIZE = 3


class Command(IntEnum):
    """The requests that are understood."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6


KINDS: Final[Mapping[Command, RequestKind]] = {
    Command.READ: RequestKind.READ,
    Command.WRITE: RequestKind.WRITE,
    Command.FLUSH: RequestKind.FLUSH,
    Command.TRIM: RequestKind.DISCARD,
    Command.WRITE_ZEROES: RequestKind.ZERO,
}


class Flag(IntFlag):
    """Flags of a request."""

    NONE = 0
    FUA = 1
    NO_HOLE = 2
    FAST_ZERO = 16


_HAS_FLAGS, _FLUSH, _FUA, _TRIM, _ZEROES, _FAST = 1, 4, 8, 32, 64, 2048  # NBD_FLAG_*


@dataclass(frozen=True, slots=True)
class ExportOffer:
    """What is said of an export: its size in bytes, and what it takes.

    Without ``fua`` QEMU sends a flush after a write that must be durable.  ``alignment``: the
    smallest request that it may make.
    """

    size: int
    fua: bool = False
    fast_zero: bool = True
    alignment: int = 1

    @property
    def flags(self) -> int:
        """The transmission flags."""
        return (_HAS_FLAGS | _FLUSH | _TRIM | _ZEROES | (_FUA if self.fua else 0)
                | (_FAST if self.fast_zero else 0))


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it came: ``data`` of a write only."""

    kind: RequestKind
    offset: int
    length: int
    cookie: int
    flags: Flag
    data: bytes = b""


class _State(Enum):
    GREETED = auto()
    OPTIONS = auto()
    REQUESTS = auto()
    ENDED = auto()


class Wire:
    """One connection: :meth:`feed` it what came, send what is :attr:`out`."""

    def __init__(self, offers: Mapping[str, ExportOffer]) -> None:
        self.out = bytearray(GREETING)
        self.export: str | None = None
        """The export that the client chose, once it has."""
        self._offers = offers
        self._in = bytearray()
        self._state = _State.GREETED
        self._no_zeroes = False

    @property
    def ended(self) -> bool:
        """Whether the client has taken its leave."""
        return self._state is _State.ENDED

    def feed(self, data: bytes) -> list[WireRequest]:
        """Take bytes in; the requests that are complete now.  Raises BadWire."""
        self._in += data
        while self._state in (_State.GREETED, _State.OPTIONS):
            step = self._flags if self._state is _State.GREETED else self._option
            if not step():
                return []
        return self._requests()

    def reply(self, cookie: int, error: int, data: bytes = b"") -> None:
        """Answer a request; ``error`` is an errno as the protocol numbers them, 0: success."""
        self.out += _REPLY.pack(_REPLY_MAGIC, error, cookie)
        if not error:
            self.out += data

    # Negotiation

    def _take(self, length: int) -> bytes:
        taken = bytes(self._in[:length])
        del self._in[:length]
        return taken

    def _flags(self) -> bool:
        if len(self._in) < _CLIENT_FLAGS.size:
            return False
        (flags,) = _CLIENT_FLAGS.unpack(self._take(_CLIENT_FLAGS.size))
        self._no_zeroes = bool(flags & _NO_ZEROES)
        self._state = _State.OPTIONS
        return True

    def _option(self) -> bool:
        if len(self._in) < _OPTION.size:
            return False
        magic, option, length = _OPTION.unpack_from(self._in)
        if magic != _OPTION_MAGIC:
            raise BadWire("an option without its magic number")
        if length > 4096:
            raise BadWire(f"an option of {length} bytes")
        if len(self._in) < _OPTION.size + length:
            return False
        data = self._take(_OPTION.size + length)[_OPTION.size:]
        if option == _Option.EXPORT_NAME:
            self._by_name(data.decode(errors="replace"))
        elif option in (_Option.INFO, _Option.GO):
            self._inform(option, data)
        elif option == _Option.ABORT:
            self._answer(option, _Answer.ACK)
            self._state = _State.ENDED
        else:
            self._answer(option, _Answer.UNSUPPORTED)
        return True

    def _by_name(self, name: str) -> None:
        offer = self._offers.get(name)
        if offer is None:
            raise BadWire(f"no export is called {name!r}")  # the protocol knows no other answer
        self.out += struct.pack(">QH", offer.size, offer.flags)
        if not self._no_zeroes:
            self.out += bytes(124)
        self._chosen(name)

    def _inform(self, option: int, data: bytes) -> None:
        length = struct.unpack_from(">I", data)[0] if len(data) >= 6 else len(data)
        if len(data) < 6 + length:
            self._answer(option, _Answer.INVALID)
            return
        name = data[4:4 + length].decode(errors="replace")
        offer = self._offers.get(name)
        if offer is None:
            self._answer(option, _Answer.UNKNOWN)
            return
        self._answer(option, _Answer.INFO, struct.pack(
            ">HQH", _Information.EXPORT, offer.size, offer.flags))
        self._answer(option, _Answer.INFO, struct.pack(
            ">HIII", _Information.BLOCK_SIZE, offer.alignment, 4096, LARGEST))
        self._answer(option, _Answer.ACK)
        if option == _Option.GO:
            self._chosen(name)

    def _answer(self, option: int, answer: _Answer, data: bytes = b"") -> None:
        self.out += _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, answer, len(data)) + data

    def _chosen(self, name: str) -> None:
        self.export = name
        self._state = _State.REQUESTS

    # Requests

    def _requests(self) -> list[WireRequest]:
        place = 0
        found: list[WireRequest] = []
        while self._state is _State.REQUESTS and len(self._in) - place >= _REQUEST.size:
            magic, flags, command, cookie, offset, length = _REQUEST.unpack_from(self._in, place)
            if magic != _REQUEST_MAGIC:
                raise BadWire("a request without its magic number")
            if command == Command.DISCONNECT:
                self._state = _State.ENDED
                break
            if command not in KINDS or (length > LARGEST and command in (
                    Command.READ, Command.WRITE)):
                raise BadWire(f"request {command} of {length} bytes")
            payload = length if command == Command.WRITE else 0
            end = place + _REQUEST.size + payload
            if len(self._in) < end:
                break
            data = bytes(self._in[end - payload:end]) if payload else b""
            found.append(WireRequest(KINDS[Command(command)], offset, length, cookie, Flag(flags),
                                     data))
            place = end
        del self._in[:place]
        return found
