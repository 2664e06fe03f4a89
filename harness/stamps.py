# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes behind the model's stamps.

Every 4 KiB of every write is cut from one long tape of noise, at a place that depends on the
writing operation and on the offset on disk.  So data is unique per operation and place, costs a
slice to make, and found on a disk it can be looked up again: which operation wrote it, and where.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from model.bitmap import divide_up
from model.content import ZERO, Content, Stamp

CHUNK: Final = 4096
_TAPE_PLACES: Final = 1 << 22
# No byte of it is zero: a write of few bytes would be taken for one of zeroes.
_TAPE: Final = random.Random("cbw-lockstep").randbytes(_TAPE_PLACES + CHUNK).replace(b"\0", b"\1")
# Odd factors make both maps one-to-one modulo the power of two: two writes share a place only if
# 4 M chunks of writes are told apart.
_STAMP_STEP: Final = 2_654_435_761
_CHUNK_STEP: Final = 40_503


def _place(stamp: Stamp, chunk: int) -> int:
    return (stamp * _STAMP_STEP + chunk * _CHUNK_STEP) % _TAPE_PLACES


def data(stamp: Stamp, offset: int, length: int) -> bytes:
    """The bytes that ``stamp`` writes to ``[offset, offset + length)`` of a disk."""
    if stamp == ZERO:
        return bytes(length)
    pieces: list[bytes] = []
    end = offset + length
    while offset < end:
        chunk, inside = divmod(offset, CHUNK)
        size = min(CHUNK - inside, end - offset)
        start = _place(stamp, chunk) + inside
        pieces.append(_TAPE[start:start + size])
        offset += size
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def render(content: Content, offset: int) -> bytes:
    """The bytes of ``content``, a piece of a disk that starts at ``offset``."""
    pieces = [data(run.value, offset + run.start, run.length) for run in content.runs()]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes come from: the stamp that wrote them and the offset they were written for."""

    stamp: Stamp
    offset: int


def trace_origin(sample: bytes, offset: int, stamps: range, disk_size: int) -> Origin | None:
    """Who wrote ``sample``, found at ``offset``, and for which offset; None: nobody we know.

    ``stamps`` are the candidates.  The sample should have 16 bytes or more; with fewer, only data
    in its right place is recognised.
    """
    if not sample.strip(b"\0"):
        return Origin(ZERO, offset)
    for stamp in stamps:
        if data(stamp, offset, len(sample)) == sample:
            return Origin(stamp, offset)
    sample = sample[:CHUNK - offset % CHUNK]
    found = _TAPE.find(sample)
    if len(sample) < 16 or found < 0:
        return None
    for stamp in stamps:
        for chunk in range(divide_up(disk_size, CHUNK)):
            inside = found - _place(stamp, chunk)
            if 0 <= inside <= CHUNK - len(sample):
                return Origin(stamp, chunk * CHUNK + inside)
    return None
