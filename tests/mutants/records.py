# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real QEMU answered, to be asked again without it.

This module imports no more of the harness than asking takes: a mutant may need it all anew.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from harness.lockstep.run import run
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms
from harness.systems.base import Answer
from harness.systems.concurrent import Awaited, Standing
from model.concurrent_machine import machine_for
from model.content import Content
from model.operations import BitmapRef, Operation, Via
from model.outcome import Observation

_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Pieces:
    """An answer with its data in pieces: inspections of one node have most of them in common, and
    a record has each only once."""

    answer: Answer
    data: tuple[bytes, ...]

    def whole(self) -> Answer:
        """The answer as it was."""
        return replace(self.answer, data=b"".join(self.data))


@dataclass
class Record:
    """A trace that conformed, and everything that was answered, in order."""

    trace: Trace
    channels: tuple[Via, ...]
    overlapping: bool
    said: list[object] = field(default_factory=list)
    name: str = ""
    """What trace it is and where it was done, for people."""

    def __str__(self) -> str:
        nodes = ", ".join(each.node for each in self.trace.configuration.images)
        return self.name or f"{len(self.trace.steps)} steps over {nodes}"

    def foretold(self) -> bool:
        """Whether the model foretells it; one that raises, or goes another way, does not."""
        kind = ReplayedHeld if self.overlapping else Replayed
        try:
            model = machine_for(self.trace.configuration, self.trace.header.capabilities)
            return isinstance(run(self.trace.steps, kind(self), model), Conforms)
        except Exception:
            return False


class Different(Exception):
    """The model asks for something else than was recorded: it has gone another way."""


class Replayed:
    """The recorded answers, in their order."""

    def __init__(self, record: Record) -> None:
        self._said = iter(record.said)
        self.channels = record.channels

    def _next(self, kind: type[object] | tuple[type[object], ...]) -> object:
        said = next(self._said, None)
        if not isinstance(said, kind):
            raise Different
        return said

    def apply(self, number: int, operation: Operation) -> Answer:
        """As it was answered."""
        answer = self._next((Answer, Pieces))
        assert isinstance(answer, (Answer, Pieces))
        return answer.whole() if isinstance(answer, Pieces) else answer

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """As it was seen."""
        seen = self._next(Observation)
        assert isinstance(seen, Observation)
        return seen

    def close(self) -> None:
        """Nothing to leave behind."""


class ReplayedHeld(Replayed):
    """The same of a system in which requests overlap."""

    def settle(self, awaited: Awaited) -> Standing:
        """As things stood."""
        standing = self._next(Standing)
        assert isinstance(standing, Standing)
        return standing

    def wrongly_stored(self, node: str, expected: Content) -> tuple[int, bytes] | None:
        """Whether it is what was found to be right then."""
        stored = self._next(tuple)
        return None if stored == (node, expected) else (0, b"")


def dump(record: Record) -> bytes:
    """A record as it stands in a file, behind its length.  Files of records can be joined."""
    return framed(pickle.dumps(record))


def framed(text: bytes | memoryview) -> bytes:
    """A record that is pickled already."""
    return _LENGTH.pack(len(text)) + text


def load(file: Path) -> list[memoryview]:
    """The records of a file, which is one's own: each to be given to ``pickle.loads`` when it is
    needed.  All processes share them."""
    with file.open("rb") as recording:
        whole = memoryview(mmap.mmap(recording.fileno(), 0, access=mmap.ACCESS_READ))
    texts: list[memoryview] = []
    place = 0
    while place < len(whole):
        (length,) = _LENGTH.unpack_from(whole, place)
        place += _LENGTH.size + length
        texts.append(whole[place - length:place])
    return texts
