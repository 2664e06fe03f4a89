# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's side of the NBD protocol, byte by byte."""

from __future__ import annotations

import struct

import pytest

from harness.storage.held_wire import (
    GREETING,
    LARGEST,
    BadWire,
    ExportOffer,
    Flag,
    State,
    Wire,
)
from model.configuration import RequestKind

SIZE = 1 << 20
CLIENT_FLAGS = struct.pack(">I", 3)
MAGIC = 0x49484156454F5054
GO, NAME, ABORT, STRUCTURED = 7, 1, 2, 8


def option(number: int, data: bytes = b"") -> bytes:
    return struct.pack(">QII", MAGIC, number, len(data)) + data


def go(name: bytes) -> bytes:
    return option(GO, struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, 3))


def request(command: int, offset: int = 0, length: int = 0, *, flags: int = 0, cookie: int = 7,
            data: bytes = b"") -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, length) + data


def connected(offer: ExportOffer | None = None) -> Wire:
    wire = Wire({"disk": offer or ExportOffer(SIZE)})
    assert wire.feed(CLIENT_FLAGS + go(b"disk")) == []
    wire.out.clear()
    return wire


def test_negotiation_tells_size_flags_and_block_sizes() -> None:
    wire = Wire({"disk": ExportOffer(SIZE)})
    assert bytes(wire.out) == GREETING
    wire.out.clear()
    wire.feed(CLIENT_FLAGS + go(b"disk"))
    replies = bytes(wire.out)
    size, flags = struct.unpack_from(">QH", replies, 20 + 2)
    assert size == SIZE
    assert not flags & 8, "no FUA unless it is asked for"
    smallest, _, largest = struct.unpack_from(">III", replies, 20 + 12 + 20 + 2)
    assert (smallest, largest) == (1, LARGEST)
    assert wire.export == "disk"


def answers(wire: Wire) -> list[tuple[int, bytes]]:
    """The answers to options that wait to be sent: what they are, and their data."""
    found, place = [], 0
    while place < len(wire.out):
        _, _, kind, length = struct.unpack_from(">QIII", wire.out, place)
        found.append((kind, bytes(wire.out[place + 20:place + 20 + length])))
        place += 20 + length
    wire.out.clear()
    return found


def contexts(number: int, *asked: bytes, export: bytes = b"disk") -> bytes:
    return option(number, struct.pack(">I", len(export)) + export + struct.pack(">I", len(asked))
                  + b"".join(struct.pack(">I", len(each)) + each for each in asked))


def test_structured_replies_are_there_for_who_asks() -> None:
    wire = Wire({"disk": ExportOffer(SIZE)})
    wire.out.clear()
    wire.feed(CLIENT_FLAGS + option(STRUCTURED, b"x"))
    assert answers(wire)[0][0] == (1 << 31) + 3, "it takes no data"
    assert not wire.structured
    wire.feed(option(STRUCTURED))
    assert answers(wire) == [(1, b"")]
    wire.feed(go(b"disk"))
    (_, flags), = [struct.unpack(">QH", data[2:]) for kind, data in answers(wire)
                   if kind == 3 and data[:2] == b"\0\0"]
    assert flags & 128, "DF is understood"
    wire.reply(5, 0, b"data", 4096)
    assert bytes(wire.out) == struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, 5, 12, 4096) + b"data"
    wire.out.clear()
    wire.reply(6, 28)
    assert bytes(wire.out) == struct.pack(">IHHQIIH", 0x668E33EF, 1, 0x8001, 6, 6, 28, 0)
    wire.out.clear()
    wire.reply(7, 0)
    assert bytes(wire.out) == struct.pack(">IHHQI", 0x668E33EF, 1, 0, 7, 0)


def test_block_status_is_of_one_context_and_only_if_offered() -> None:
    base = b"base:allocation"
    wire = Wire({"disk": ExportOffer(SIZE, status=True), "other": ExportOffer(SIZE)})
    wire.out.clear()
    wire.feed(CLIENT_FLAGS + contexts(10, base))
    assert answers(wire)[0][0] == (1 << 31) + 3, "structured replies must come first"
    wire.feed(option(STRUCTURED) + contexts(9) + contexts(9, b"base:") + contexts(9, b"qemu:"))
    assert answers(wire) == [(1, b""), (4, bytes(4) + base), (1, b""), (4, bytes(4) + base),
                             (1, b""), (1, b"")]
    wire.feed(contexts(10, base, export=b"other") + contexts(10, base, export=b"nobody"))
    assert [kind for kind, _ in answers(wire)] == [1, (1 << 31) + 6]
    wire.feed(contexts(10, b"qemu:x", base))
    assert answers(wire) == [(4, b"\0\0\0\1" + base), (1, b"")]
    wire.feed(option(10, b"\0\0\0\x09disk"))
    assert answers(wire)[0][0] == (1 << 31) + 3
    wire.feed(go(b"disk"))
    wire.out.clear()
    (asked,) = wire.feed(request(7, 512, 1024, flags=8))
    assert asked.kind is RequestKind.STATUS
    wire.reply_status(7, [(512, State.DATA), (512, State.HOLE | State.ZERO)])
    assert bytes(wire.out) == struct.pack(
        ">IHHQI5I", 0x668E33EF, 1, 5, 7, 20, 1, 512, 0, 512, 3)


@pytest.mark.parametrize("status", [True, False])
def test_block_status_without_its_context_is_refused(status: bool) -> None:
    with pytest.raises(BadWire, match="without its context"):
        connected(ExportOffer(SIZE, status=status)).feed(request(7, 0, 512))


def test_an_unknown_export_can_be_followed_by_a_known_one() -> None:
    wire = Wire({"disk": ExportOffer(SIZE)})
    wire.out.clear()
    wire.feed(CLIENT_FLAGS + go(b"nope"))
    assert struct.unpack_from(">QII", bytes(wire.out))[2] == (1 << 31) + 6
    wire.feed(go(b"disk"))
    assert wire.export == "disk"


def test_the_old_way_to_name_an_export() -> None:
    wire = Wire({"disk": ExportOffer(SIZE, fua=True)})
    wire.out.clear()
    wire.feed(CLIENT_FLAGS + option(NAME, b"disk"))
    size, flags = struct.unpack(">QH", bytes(wire.out))
    assert (size, flags & 8) == (SIZE, 8)


def test_bytes_may_come_one_by_one() -> None:
    wire = Wire({"disk": ExportOffer(SIZE)})
    found = []
    for byte in CLIENT_FLAGS + go(b"disk") + request(1, 512, 3, data=b"abc") + request(0, 0, 9):
        found += wire.feed(bytes([byte]))
    assert [(each.kind, each.offset, each.length, each.data) for each in found] == [
        (RequestKind.WRITE, 512, 3, b"abc"), (RequestKind.READ, 0, 9, b"")]


@pytest.mark.parametrize(("command", "kind"), [
    (0, RequestKind.READ), (3, RequestKind.FLUSH), (4, RequestKind.DISCARD),
    (6, RequestKind.ZERO)])
def test_requests_without_data(command: int, kind: RequestKind) -> None:
    wire = connected()
    (found,) = wire.feed(request(command, 4096, 8192, flags=2 | 16))
    assert (found.kind, found.offset, found.length, found.cookie) == (kind, 4096, 8192, 7)
    assert found.flags == Flag.NO_HOLE | Flag.FAST_ZERO


def test_replies() -> None:
    wire = connected()
    wire.reply(7, 0, b"data")
    wire.reply(8, 5, b"not sent")
    assert bytes(wire.out) == struct.pack(">IIQ", 0x67446698, 0, 7) + b"data" + struct.pack(
        ">IIQ", 0x67446698, 5, 8)


def test_taking_leave() -> None:
    wire = connected()
    (found,) = wire.feed(request(3) + request(2))
    assert found.kind is RequestKind.FLUSH
    assert wire.ended
    wire = Wire({})
    wire.feed(CLIENT_FLAGS + option(ABORT))
    assert wire.ended


@pytest.mark.parametrize("nonsense", [
    b"\0" * 28, request(5), request(1, 0, LARGEST + 1), request(0, 0, LARGEST + 1)])
def test_nonsense_is_refused(nonsense: bytes) -> None:
    with pytest.raises(BadWire):
        connected().feed(nonsense)


@pytest.mark.parametrize("nonsense", [
    struct.pack(">QII", 1, GO, 0), struct.pack(">QII", MAGIC, GO, 1 << 20), option(NAME, b"x")])
def test_nonsense_in_the_negotiation_is_refused(nonsense: bytes) -> None:
    with pytest.raises(BadWire):
        Wire({}).feed(CLIENT_FLAGS + nonsense)
