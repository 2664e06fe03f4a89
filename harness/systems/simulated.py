# SPDX-License-Identifier: GPL-2.0-or-later
"""The model behind the interface of a real system, truthful or lying.

Truthful, it shows that lockstep agrees with itself and measures what the harness costs.  Lying,
it shows that each oracle can fail: see :mod:`harness.systems.lies`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Protocol

from harness import stamps
from harness.systems.base import ALL_CHANNELS, WHOLE, Answer, sent_as
from harness.systems.lies import Chance, Lie
from model.channels import seen_through
from model.content import ZERO, Content
from model.operations import BitmapRef, Inspect, Operation, Request, Status, Via
from model.outcome import Extent, Observation, Outcome


class Machine(Protocol):
    """What is needed of :class:`model.machine.Machine`."""

    def apply(self, number: int, operation: Operation) -> Outcome:
        """Do operation ``number``."""

    def observe(self) -> Observation:
        """All bitmaps, and the digests of all named ones."""


class Simulated:
    """A system under test that is a machine of the model."""

    def __init__(self, machine: Machine, lie: Lie | None = None, *, truthful_for: int = 0,
                 channels: Collection[Via] = ALL_CHANNELS) -> None:
        """``lie``: what to pretend from operation number ``truthful_for`` + 1 on, each time
        that there is a chance to."""
        self._machine = machine
        self._lie = lie
        self._truthful_for = truthful_for
        self._number = 0
        self._channels = frozenset(channels)
        self.told = 0
        """How often the lie has been told: 0 means that there was no chance yet."""

    @property
    def channels(self) -> Collection[Via]:
        """The channels that requests can take here."""
        return self._channels

    def apply(self, number: int, operation: Operation) -> Answer:
        """Have the machine do the operation; the answer is what a client would have been told."""
        self._number = number
        operation = sent_as(operation, self._channels)
        lie = self._lie if number > self._truthful_for else None
        deeds: tuple[Operation, ...] | None = None
        if lie is not None:
            if lie.failure is not None:
                self.told += 1
                raise lie.failure(operation)
            if lie.deed is not None:
                deeds = lie.deed(operation)
        if deeds is not None:
            self.told += 1
            for deed in deeds:
                self._machine.apply(number, deed)
            return Answer()
        outcome = self._machine.apply(number, operation)
        answer = rendered(operation, outcome)
        if lie is not None and lie.answer is not None:
            forged = lie.answer(Chance(operation, outcome, answer))
            if forged is not None:
                self.told += 1
                return forged
        return answer

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """The machine's bitmaps; digests of the ``named`` ones only."""
        seen = self._machine.observe()
        keys = {(bitmap.node, bitmap.name) for bitmap in named}
        seen = dataclasses.replace(seen, digests={
            key: digest for key, digest in seen.digests.items() if key in keys})
        lie = self._lie if self._number > self._truthful_for else None
        if lie is not None and lie.observation is not None:
            forged = lie.observation(seen)
            if forged is not None:
                self.told += 1
                return forged
        return seen

    def close(self) -> None:
        """Nothing to leave behind."""


def _decided(extents: Sequence[Extent]) -> tuple[tuple[int, int], ...]:
    """One status for each extent, neighbours with the same being one."""
    runs = groupby(extents, key=lambda extent: max(extent.allowed))
    return tuple((sum(extent.length for extent in run), status) for status, run in runs)


def rendered(operation: Operation, outcome: Outcome) -> Answer:
    """What a client sees of an outcome: bytes for stamps, the errno of its channel."""
    via = operation.via if isinstance(operation, Request) else Via.NBD
    error = None if outcome.error is None else int(seen_through(via, outcome.error))
    extents = None if outcome.extents is None else _decided(outcome.extents)
    if extents is not None and isinstance(operation, Status) and operation.one:
        extents = extents[:1]
    data: bytes | None = None
    parts: tuple[tuple[int, bytes], ...] | None = None
    if outcome.content is not None:
        offset = operation.offset if isinstance(operation, Request) else 0
        content = _without(outcome.content, outcome.denied)
        if isinstance(operation, Inspect) and content.size > WHOLE:
            parts = tuple((run.start, stamps.data(run.value, run.start, run.length))
                          for run in content.runs() if run.value != ZERO)
        else:
            data = stamps.render(content, offset) if content.size else b""
    return Answer(error, outcome.refused, data, extents, outcome.denied, parts=parts,
                  disconnected=outcome.disconnected, compressed=_least(outcome.compressed))


def _least(compressed: Mapping[str, range] | None) -> dict[str, int] | None:
    """The least of the numbers that may be."""
    return None if compressed is None else {
        node: numbers[0] for node, numbers in compressed.items()}


def _without(content: Content, denied: tuple[tuple[int, int], ...]) -> Content:
    """The content with zeroes where it could not be read."""
    if not denied:
        return content
    content = content.copy()
    for start, end in denied:
        content.set(start, end, ZERO)
    return content
