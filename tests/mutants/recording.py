# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping what a real QEMU answers."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

from harness.errors import EnvironmentProblem
from harness.exploration.areas import AREAS, Area
from harness.exploration.building import Check, Plan
from harness.exploration.directed.catalogue import checks
from harness.exploration.grounds import Ground, where
from harness.exploration.traces import TraceSource
from harness.lockstep.run import run
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms
from harness.stamps import CHUNK
from harness.systems.base import Answer, System
from harness.systems.concurrent import Awaited, ConcurrentSystem, Standing
from model.concurrent_machine import machine_for
from model.content import Content
from model.operations import BitmapRef, Operation
from model.outcome import Observation
from tests.mutants.records import Pieces, Record, dump

MOST: Final = 64 << 20
"""Bytes of what a trace answers, about: each mutant foretells every byte that was inspected."""
_LATER_INTERLEAVINGS: Final = re.compile(r"every interleaving of .*, (?![12] of)\d+ of")
"""Those of a configuration are alike, and many."""


class _Recorder:
    """A system whose answers are kept."""

    def __init__(self, system: System, record: Record) -> None:
        self._system = system
        self._said = record.said
        self._pieces: dict[bytes, bytes] = {}
        self.channels = record.channels

    def apply(self, number: int, operation: Operation) -> Answer:
        """Pass it on."""
        answer = self._system.apply(number, operation)
        self._said.append(answer if answer.data is None else self._in_pieces(answer, answer.data))
        return answer

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """Pass it on."""
        seen = self._system.observe(named)
        self._said.append(seen)
        return seen

    def _in_pieces(self, answer: Answer, data: bytes) -> Pieces:
        cut = (data[place:place + CHUNK] for place in range(0, len(data), CHUNK))
        return Pieces(replace(answer, data=None),
                      tuple(self._pieces.setdefault(each, each) for each in cut))

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


def record(ground: Ground, seconds: float,
           traces: Iterable[tuple[str, Trace]]) -> Iterator[bytes]:
    """Do the traces, with their names, for so long; what came of those that conform, unless that
    is very much."""
    end = time.monotonic() + seconds
    with ground.open() as stand:
        for name, trace in traces:
            if time.monotonic() >= end:
                return
            model = machine_for(trace.configuration, ground.plan.capabilities)
            try:
                opened = stand.start(trace.configuration)
            except EnvironmentProblem:  # of formats that an older qemu-img does not make
                continue
            with closing(opened) as system:
                held = isinstance(system, ConcurrentSystem)
                kept = Record(trace, tuple(system.channels), held,
                              name=f"{where(ground)}: {name}")
                kind = _HeldRecorder if held else _Recorder
                verdict = run(trace.steps, kind(system, kept), model)
            if isinstance(verdict, Conforms) and verdict.steps == len(trace.steps):
                text = dump(kept)
                if len(text) <= MOST:
                    yield text


def traces_of(ground: Ground, seed: int) -> Iterator[tuple[str, Trace]]:
    """The directed checks, and then drawn traces without end; with their names."""
    for check in checks(ground.plan.system):
        if is_wanted(check):
            yield check.name, check.make(ground.plan)
    yield from drawn(ground.plan, seed, AREAS.values())


def drawn(plan: Plan, seed: int, areas: Iterable[Area]) -> Iterator[tuple[str, Trace]]:
    """Traces of the areas in turn, without end; with their names."""
    sources = [TraceSource(plan, area) for area in areas]
    for index in itertools.count():
        for source in sources:
            trace = source.trace(seed, index)
            if trace is not None:
                yield f"{source.area.name} {index} of seed {seed}", trace


def is_wanted(check: Check) -> bool:
    """Whether the check is done; of interleavings only some are."""
    return _LATER_INTERLEAVINGS.match(check.name) is None
