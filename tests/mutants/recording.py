# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real QEMU answered, to be asked again without it."""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.exploration.areas import AREAS
from harness.exploration.directed.catalogue import checks
from harness.exploration.grounds import Ground
from harness.exploration.traces import TraceSource
from harness.lockstep.run import run
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms, Verdict
from harness.systems.base import Answer, System
from harness.systems.concurrent import Awaited, ConcurrentSystem, Standing
from model.concurrent_machine import machine_for
from model.content import Content
from model.operations import BitmapRef, Operation, Via
from model.outcome import Observation

MOST: Final = 2 << 20
"""Bytes of all images of a trace: each mutant foretells every byte that was inspected."""


@dataclass
class Record:
    """A trace that conformed, and everything that was answered, in order."""

    trace: Trace
    channels: tuple[Via, ...]
    overlapping: bool
    said: list[object] = field(default_factory=list)

    def judge(self) -> Verdict:
        """Have the model foretell it."""
        model = machine_for(self.trace.configuration, self.trace.header.capabilities)
        kind = ReplayedHeld if self.overlapping else Replayed
        return run(self.trace.steps, kind(self), model)


class _Recorder:
    """A system whose answers are kept."""

    def __init__(self, system: System, record: Record) -> None:
        self._system = system
        self._said = record.said
        self.channels = record.channels

    def apply(self, number: int, operation: Operation) -> Answer:
        """Pass it on."""
        answer = self._system.apply(number, operation)
        self._said.append(answer)
        return answer

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """Pass it on."""
        seen = self._system.observe(named)
        self._said.append(seen)
        return seen

    def close(self) -> None:
        """The system is closed by whoever made it."""


class _HeldRecorder(_Recorder):
    _system: ConcurrentSystem

    def settle(self, awaited: Awaited) -> Standing:
        """Pass it on."""
        standing = self._system.settle(awaited)
        self._said.append(standing)
        return standing

    def wrongly_stored(self, node: str, expected: Content) -> tuple[int, bytes] | None:
        """Pass it on; content that is right is kept, to be compared with."""
        wrong = self._system.wrongly_stored(node, expected)
        self._said.append((node, expected.copy()))
        return wrong


class Different(Exception):
    """The model asks for something else than was recorded: it has gone another way."""


class Replayed:
    """The recorded answers, in their order."""

    def __init__(self, record: Record) -> None:
        self._said = iter(record.said)
        self.channels = record.channels

    def _next(self, kind: type[object]) -> object:
        said = next(self._said, None)
        if not isinstance(said, kind):
            raise Different
        return said

    def apply(self, number: int, operation: Operation) -> Answer:
        """As it was answered."""
        answer = self._next(Answer)
        assert isinstance(answer, Answer)
        return answer

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


def record(ground: Ground, seconds: float, traces: Iterable[Trace]) -> list[Record]:
    """Do the traces, those over small images, for so long; what came of those that conform."""
    end = time.monotonic() + seconds
    found: list[Record] = []
    with ground.open() as stand:
        for trace in traces:
            if time.monotonic() >= end:
                return found
            if sum(image.size for image in trace.configuration.images) > MOST:
                continue
            model = machine_for(trace.configuration, ground.plan.capabilities)
            with closing(stand.start(trace.configuration)) as system:
                held = isinstance(system, ConcurrentSystem)
                record_ = Record(trace, tuple(system.channels), held)
                kind = _HeldRecorder if held else _Recorder
                verdict = run(trace.steps, kind(system, record_), model)
            if isinstance(verdict, Conforms) and verdict.steps == len(trace.steps):
                found.append(record_)
        return found


def traces_of(ground: Ground, seed: int) -> Iterator[Trace]:
    """Directed checks spread over their families, each three followed by a drawn trace."""
    known = checks(ground.plan.system)
    stride = next(each for each in (101, 103, 107) if len(known) % each)
    sources = itertools.cycle([TraceSource(ground.plan, area) for area in AREAS.values()])
    for index in itertools.count():
        for each in range(3 * index, min(3 * index + 3, len(known))):
            yield known[each * stride % len(known)].make(ground.plan)
        drawn = next(sources).trace(seed, index // len(AREAS))
        if drawn is not None:
            yield drawn


def save(records: list[Record], file: Path) -> None:
    """Write them, small ones first: most mutants are caught by any of them."""
    with file.open("wb") as out:
        for text in sorted((pickle.dumps(each) for each in records), key=len):
            out.write(text)


def load(file: Path) -> Iterator[Record]:
    """Read one after the other; the file is one's own, written by :func:`save`."""
    with file.open("rb") as records:
        while records.peek(1):
            record_ = pickle.load(records)
            assert isinstance(record_, Record)
            yield record_
