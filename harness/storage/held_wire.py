# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD protocol, server side: bytes in, requests and bytes out.  No socket is touched here.

Fixed newstyle negotiation; simple replies, or structured ones to a client that asks for them.
Block status, of one context, is there only if the export's offer says so: without it QEMU takes
all of a disk for data.

Source: the NBD protocol, https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
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
_CHUNK: Final = struct.Struct(">IHHQI")
_CHUNK_MAGIC: Final = 0x668E33EF
_CHUNK_DONE: Final = 1
_META: Final = struct.Struct(">I")
CONTEXT: Final = "base:allocation"
"""The only metadata context there is."""
_CONTEXT_ID: Final = 1
LARGEST: Final = 32 << 20
"""Bytes of data in one request, at most: what every NBD server must take."""


class BadWire(Exception):
    """The client broke the protocol."""


class _Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class _Answer(IntEnum):
    ACK = 1
    INFO = 3
    META_CONTEXT = 4
    UNSUPPORTED = (1 << 31) + 1
    INVALID = (1 << 31) + 3
    UNKNOWN = (1 << 31) + 6


class _Information(IntEnum):
    EXPORT = 0
    BLOCK_SIZE = 3


class _Chunk(IntEnum):
    """Kinds of structured reply."""

    NONE = 0
    DATA = 1
    STATUS = 5
    ERROR = (1 << 15) + 1


class Command(IntEnum):
    """The requests that are understood."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


KINDS: Final[Mapping[Command, RequestKind]] = {
    Command.READ: RequestKind.READ,
    Command.WRITE: RequestKind.WRITE,
    Command.FLUSH: RequestKind.FLUSH,
    Command.TRIM: RequestKind.DISCARD,
    Command.WRITE_ZEROES: RequestKind.ZERO,
    Command.BLOCK_STATUS: RequestKind.STATUS,
}


class Flag(IntFlag):
    """Flags of a request."""

    NONE = 0
    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8
    FAST_ZERO = 16


class State(IntFlag):
    """What block status says of a run."""

    DATA = 0
    HOLE = 1
    ZERO = 2


Extents = Sequence[tuple[int, State]]
"""Runs of block status: bytes, and what they are."""

_HAS_FLAGS, _FLUSH, _FUA, _TRIM, _ZEROES, _FAST = 1, 4, 8, 32, 64, 2048  # NBD_FLAG_*
_DF = 128


@dataclass(frozen=True, slots=True)
class ExportOffer:
    """What is said of an export: its size in bytes, and what it takes.

    Without ``fua`` QEMU sends a flush after a write that must be durable.  ``slow_zeroes``: zeroes
    that must be fast are refused (ENOTSUP).  ``alignment``: the smallest request that it may make.
    ``status``: whether it tells block status.
    """

    size: int
    fua: bool = False
    fast_zero: bool = True
    slow_zeroes: bool = False
    alignment: int = 1
    status: bool = False

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
        self.structured = False
        """Whether the client has asked for structured replies."""
        self._context_of: str | None = None
        """The export whose block status the client wants."""

    @property
    def tells_status(self) -> bool:
        """Whether the client may ask block status."""
        return self.export is not None and self._context_of == self.export

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

    def reply(self, cookie: int, error: int, data: bytes = b"", offset: int = 0) -> None:
        """Answer a request; ``error`` is an errno as the protocol numbers them, 0: success.

        ``data`` is of a read at ``offset``.
        """
        if not self.structured:
            self.out += _REPLY.pack(_REPLY_MAGIC, error, cookie)
            self.out += b"" if error else data
        elif error:
            self._chunk(_Chunk.ERROR, cookie, struct.pack(">IH", error, 0))
        elif data:
            self._chunk(_Chunk.DATA, cookie, struct.pack(">Q", offset), data)
        else:
            self._chunk(_Chunk.NONE, cookie)

    def reply_status(self, cookie: int, extents: Extents) -> None:
        """Answer a request of block status."""
        self._chunk(_Chunk.STATUS, cookie, struct.pack(">I", _CONTEXT_ID), b"".join(
            struct.pack(">II", length, state) for length, state in extents))

    def _chunk(self, kind: _Chunk, cookie: int, *parts: bytes) -> None:
        self.out += _CHUNK.pack(_CHUNK_MAGIC, _CHUNK_DONE, kind, cookie, sum(map(len, parts)))
        for part in parts:
            self.out += part

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
        elif option == _Option.STRUCTURED_REPLY:
            self.structured = not data
            self._answer(option, _Answer.INVALID if data else _Answer.ACK)
        elif option in (_Option.LIST_META_CONTEXT, _Option.SET_META_CONTEXT):
            self._contexts(option, data)
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
        self.out += struct.pack(">QH", offer.size, self._flags_of(offer))
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
            ">HQH", _Information.EXPORT, offer.size, self._flags_of(offer)))
        self._answer(option, _Answer.INFO, struct.pack(
            ">HIII", _Information.BLOCK_SIZE, offer.alignment, 4096, LARGEST))
        self._answer(option, _Answer.ACK)
        if option == _Option.GO:
            self._chosen(name)

    def _contexts(self, option: int, data: bytes) -> None:
        """Which contexts of an export there are, or which are chosen of those asked for."""
        try:
            name, place = _text(data, 0)
            (count,) = _META.unpack_from(data, place)
            place += _META.size
            asked = []
            for _ in range(count):
                query, place = _text(data, place)
                asked.append(query)
        except (struct.error, ValueError):
            self._answer(option, _Answer.INVALID)
            return
        offer = self._offers.get(name)
        if offer is None:
            self._answer(option, _Answer.UNKNOWN)
            return
        setting = option == _Option.SET_META_CONTEXT
        if setting and not self.structured:
            self._answer(option, _Answer.INVALID)
            return
        wanted = CONTEXT in asked or (not setting and (not asked or "base:" in asked))
        if setting:
            self._context_of = name if wanted and offer.status else None
        if wanted and offer.status:
            self._answer(option, _Answer.META_CONTEXT, _META.pack(
                _CONTEXT_ID if setting else 0) + CONTEXT.encode())
        self._answer(option, _Answer.ACK)

    def _flags_of(self, offer: ExportOffer) -> int:
        return offer.flags | (_DF if self.structured else 0)

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
            if command == Command.BLOCK_STATUS and not (self.tells_status and length):
                raise BadWire("a request of block status without its context, or of nothing")
            data = bytes(self._in[end - payload:end]) if payload else b""
            found.append(WireRequest(KINDS[Command(command)], offset, length, cookie, Flag(flags),
                                     data))
            place = end
        del self._in[:place]
        return found


def _text(data: bytes, place: int) -> tuple[str, int]:
    """A text that stands behind its length, and where it ends."""
    (length,) = _META.unpack_from(data, place)
    place += _META.size
    if len(data) < place + length:
        raise ValueError("cut short")
    return data[place:place + length].decode(errors="replace"), place + length
