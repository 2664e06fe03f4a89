# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that overlap, for the sequence diagram: who waits for which storage request, when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.lockstep import human
from harness.lockstep.compare import expected_errno
from model.concurrent_machine import ConcurrentMachine
from model.operations import Operation, Request
from model.program import StorageRequest
from model.schedule import Complete, Start
from model.snapshot_access import SnapshotAccess


@dataclass
class Bar:
    """A request under way, from the row in which it came to the row in which it was done with."""

    text: str
    lane: str
    first: int
    last: int | None = None
    owner: int | None = None
    """The number of the client's request that a storage request is for."""
    number: int | None = None
    result: str = ""
    waits: list[tuple[int, str]] = field(default_factory=list)
    """(row, what for), where a client's request waits for something else than storage."""

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return dict(vars(self))


def _lane(started: Operation, machine: ConcurrentMachine) -> str:
    """Who has started it."""
    if not isinstance(started, Request):
        return "job"
    return "client" if isinstance(machine.nodes.get(started.node), SnapshotAccess) else "guest"


class Sequences:
    """Follows the requests of a schedule."""

    def __init__(self) -> None:
        self.clients: dict[int, Bar] = {}
        self.storage: list[Bar] = []
        self._open: dict[tuple[int, StorageRequest], list[Bar]] = {}

    def take(self, row: int, number: int, operation: Operation,
             machine: ConcurrentMachine) -> None:
        """Take down how things stand after a step."""
        if isinstance(operation, Start):
            self.clients[number] = Bar(human.operation(operation.request),
                                       _lane(operation.request, machine), row, number=number)
        self._storage(row, operation, machine)
        for answered, outcome in machine.answers().items():
            bar = self.clients[answered]
            request = machine.request(answered)
            bar.last, bar.result = row, human.outcome(outcome, expected_errno(request, outcome))

    def _storage(self, row: int, operation: Operation, machine: ConcurrentMachine) -> None:
        standing: Counter[tuple[int, StorageRequest]] = Counter()
        for owner, waits in machine.standing().items():
            for what in waits:
                if isinstance(what, StorageRequest):
                    standing[owner, what] += 1
                else:
                    self._wait(row, owner, what)
        done = "done"
        if isinstance(operation, Complete) and operation.error is not None:
            done = operation.error
        for key, bars in self._open.items():
            while len(bars) > standing[key]:
                bar = bars.pop(0)
                bar.last, bar.result = row, done
        for key, count in standing.items():
            bars = self._open.setdefault(key, [])
            while len(bars) < count:
                owner, request = key
                bar = Bar(human.storage_request(request), request.node, row, owner=owner)
                bars.append(bar)
                self.storage.append(bar)

    def _wait(self, row: int, owner: int, what: str) -> None:
        waits = self.clients[owner].waits
        if not waits or waits[-1][1] != what:
            waits.append((row, what))

    def to_json(self) -> dict[str, Any] | None:
        """For the page; None: nothing overlaps."""
        if not self.clients:
            return None
        return {"clients": [each.to_json() for each in self.clients.values()],
                "storage": [each.to_json() for each in self.storage]}
