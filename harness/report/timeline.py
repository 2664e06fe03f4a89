# SPDX-License-Identifier: GPL-2.0-or-later
"""A trace over time, for the cluster map: the model's states, and what was seen of the system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from harness.lockstep import human
from harness.lockstep.compare import expected_errno
from harness.lockstep.differences import bitmap as bitmap_words
from harness.lockstep.recording import Recording, observations
from harness.lockstep.state import granules
from harness.lockstep.trace import Step, Trace
from harness.report.grids import FilterGrid, Grid, ImageGrid
from harness.report.sequence import Sequences
from harness.systems.base import sent_as
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import KIB
from model.copy_before_write import CopyBeforeWrite
from model.errors import RequestFailed
from model.machine import FilterView, Impossible, Machine
from model.operations import Discard, Inspect, Operation, Read, Request, Status
from model.outcome import Observation
from model.rules import RULES
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start, request_of
from model.snapshot_access import SnapshotAccess

CLUSTER: Final = 64 * KIB
"""Where no filter says how big a cluster is."""


class Pool:
    """Texts, each of them once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def put(self, text: str) -> int:
        """The number of the text."""
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]


class Timeline:
    """The walk through a trace, on the model, up to where it ended on the system."""

    def __init__(self, trace: Trace, recording: Recording | None = None) -> None:
        self._trace = trace
        self._recording = recording
        self._pool = Pool()
        self._rules = Pool()
        self._machine = machine_for(trace.configuration, trace.header.capabilities)
        self._images = self._follow_images()
        self._filters: dict[tuple[str, int, int], FilterGrid] = {}
        self._rows: list[list[Any]] = []
        self._bitmaps: list[list[Any]] = []
        self._shown: dict[str, tuple[list[str], list[str] | None]] = {}
        self.sequences = Sequences()
        self._seen = [] if recording is None else observations(recording.steps)
        self._walk()

    def _follow_images(self) -> dict[str, ImageGrid]:
        unit = CLUSTER
        scout = machine_for(self._trace.configuration, self._trace.header.capabilities)
        for step in self._trace.steps:
            try:
                scout.apply(step.number, step.operation)
            except Impossible:
                break
            views = scout.filters()
            if views:
                unit = max(view.cluster_size for view in views)
                break
        made = {}
        for image in self._trace.configuration.images:
            try:
                content = self._machine.content_of(image.node)
            except RequestFailed:
                continue
            made[image.node] = ImageGrid(image.node, content, unit, human.image(image))
        return made

    def _walk(self) -> None:
        channels = frozenset(self._recording.channels) if self._recording else None
        end = self._recording.number if self._recording else None
        for row, step in enumerate(self._trace.steps):
            operation = step.operation if channels is None else sent_as(step.operation, channels)
            used = self._machine.rules.copy()
            try:
                outcome = self._machine.apply(step.number, operation)
            except Impossible as why:
                self._row(row, Step(step.number, operation), f"nothing: {why}", ())
                break
            expected = self._machine.observe()
            fired = sorted(self._machine.rules - used)
            said = human.outcome(outcome, expected_errno(operation, outcome))
            self._row(row, Step(step.number, operation), said, fired)
            seen = self._seen[row] if row < len(self._seen) else None
            if isinstance(self._machine, ConcurrentMachine):
                self.sequences.take(row, step.number, operation, self._machine)
            self._take_filters(row, seen)
            if self._rows[row][2] != "look" or self.sequences.clients:
                self._take_images(row)
            self._take_bitmaps(row, expected, seen)
            if step.number == end:
                break

    # Rows

    def _row(self, row: int, step: Step, said: str, fired: Sequence[str]) -> None:
        operation = step.operation
        about = operation if isinstance(operation, Complete) else request_of(operation)
        place = [about.offset, about.offset + about.length] if about is not None else None
        steps = self._recording.steps if self._recording else ()
        answer = steps[row].answer if row < len(steps) else None
        self._rows.append([
            step.number, who(operation, self._machine), _manner(operation), about.node if about
            else None, place, self._pool.put(human.operation(operation)), self._pool.put(said),
            None if answer is None else self._pool.put(answer),
            [self._rules.put(name) for name in fired]])

    # State

    def _take_filters(self, row: int, seen: Observation | None) -> None:
        here = set()
        for view in self._machine.filters():
            node = self._machine.nodes[view.node]
            assert isinstance(node, CopyBeforeWrite)
            key = view.node, view.cluster_size, node.age
            here.add(key)
            if key not in self._filters:
                words = f"copies from {node.source.name} to {node.target.name}"
                self._filters[key] = FilterGrid(view, node.size, row, words)
            grid = self._filters[key].grid
            grid.size = max(grid.size, node.size)
            self._filters[key].take(
                row, view, self._counts(view, seen),
                [(each.start, each.end) for each in node.frozen],
                [(each.start, each.end) for each in node.block_copy.in_flight])
        for key, follower in self._filters.items():
            if key not in here and follower.grid.gone is None:
                follower.grid.gone = row

    def _take_images(self, row: int) -> None:
        for name, follower in self._images.items():
            if name in self._machine.nodes:
                follower.take(row, self._machine.content_of(name))

    def _counts(self, view: FilterView, seen: Observation | None) -> list[int | None] | None:
        if seen is None:
            return None
        return [granules(self._machine, bitmap, seen)
                for bitmap in (view.access, view.done, view.copy)]

    def _take_bitmaps(self, row: int, expected: Observation, seen: Observation | None) -> None:
        """The bitmaps of each node, where they change; QEMU's only where they are others."""
        nodes = dict.fromkeys((*expected.bitmaps, *(seen.bitmaps if seen else ()), *self._shown))
        for node in nodes:
            mine = [bitmap_words(each) for each in expected.bitmaps.get(node, ())]
            theirs = None if seen is None else [
                bitmap_words(each) for each in seen.bitmaps.get(node, ())]
            if theirs == mine:
                theirs = None
            if self._shown.get(node, ([], None)) != (mine, theirs):
                self._shown[node] = (mine, theirs)
                self._bitmaps.append([row, node, [self._pool.put(each) for each in mine],
                                      theirs and [self._pool.put(each) for each in theirs]])

    # The page's data

    def to_json(self) -> dict[str, Any]:
        """Everything that the map draws."""
        grids: list[Grid] = [*(each.grid for each in self._filters.values()),
                             *(each.grid for each in self._images.values())]
        footprints = [row[4] for row in self._rows if row[4] is not None]
        wrong = [place for told in (self._recording.differences if self._recording else ())
                 for place in told.places]
        return {
            "rows": self._rows, "texts": self._pool.texts, "bitmaps": self._bitmaps,
            "rules": [[name, _plain(RULES[name].text), RULES[name].source]
                      for name in self._rules.texts],
            "grids": [each.to_json([*footprints, *wrong]) for each in grids],
            "writers": {step.number: human.operation(step.operation)
                        for step in self._trace.steps},
            "images": [image.node for image in self._trace.configuration.images],
            "sequence": self.sequences.to_json(),
            "recorded": bool(self._seen),
        }


def _plain(text: str) -> str:
    """The text of a rule on one line, without marks."""
    return re.sub(r"``(.+?)``|\*(\w.*?)\*", r"\1\2", " ".join(text.split()))


def who(operation: Operation, machine: Machine) -> str:
    """Who does the operation: guest, client (of a snapshot), storage, command or look."""
    request = request_of(operation)
    if request is not None:
        node = machine.nodes.get(request.node)
        return "client" if isinstance(node, SnapshotAccess) else "guest"
    if isinstance(operation, Complete | CompleteAll | Expire | Cut | Gone | Back):
        return "storage"
    return "look" if isinstance(operation, Inspect) else "command"


def _manner(operation: Operation) -> str:
    """How the operation shows on the map: it looks, it changes, or it takes away."""
    if isinstance(operation, Start):
        operation = operation.request
    if isinstance(operation, Read | Status | Inspect):
        return "look"
    if isinstance(operation, Complete):
        return "look" if operation.kind in ("read", "flush") else "change"
    if isinstance(operation, Discard):
        return "take"
    return "change" if isinstance(operation, Request) else ""
