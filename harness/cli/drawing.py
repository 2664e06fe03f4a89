# SPDX-License-Identifier: GPL-2.0-or-later
"""A model that runs, drawn cluster by cluster: a column for each bitmap and image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.lockstep import human
from model.bitmap import DirtyBitmap
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import KIB, Configuration
from model.content import ZERO, Content, Stamp, initial_stamp
from model.image import Image
from model.job_operations import Backup
from model.operations import Operation, Write
from model.outcome import Outcome
from model.program import run_to_end
from model.qcow2 import Qcow2
from model.schedule import request_of

CLUSTER: Final = 64 * KIB
LEGEND: Final = """\
A character is a cluster of 64k, or as many bytes as the upper left corner says.  Of a bitmap,
`#` is set; of an image, a letter says whose data it holds (a capital: a write, in their order;
a small one: the image had it from the start), `-` is zeroes, `*` data of several, and `.` what
a qcow2 image has not allocated.  A bitmap may be `busy` (in use) or `off` (not recording).
Block status is a length and a number for each run: `0` data, `2` reads as zero, `3` a hole that
does, `0|3` either, as the storage below sees fit; with `qemu:allocation-depth`, how many images
down it is allocated, `0` being nowhere; with `qemu:dirty-bitmap`, `1` is dirty."""

_FEW: Final = 8
"""Storage requests that are named one by one."""

State = Mapping[str, str]
"""What is drawn of a moment: by column, a character for each cluster and perhaps a word."""


class Drawing:
    """A machine, the letters of those who wrote, and what can be seen of it all."""

    def __init__(self, configuration: Configuration, cluster: int = CLUSTER,
                 capabilities: Capabilities | None = None) -> None:
        self.machine = machine_for(configuration, capabilities)
        self._cluster = cluster
        self._writers: dict[Stamp, str] = {ZERO: "-"}
        for index, image in enumerate(configuration.images):
            self._writers[initial_stamp(index)] = image.node[0]
        self._number = 0

    def apply(self, operation: Operation) -> str:
        """Do the operation; it and what came of it, in words."""
        self._number += 1
        words = human.operation(operation).replace(" file=src target=tmp", "")
        request = request_of(operation)
        if isinstance(request, Write) and not request.zeroes:
            letter = chr(ord("A") + sum(each.isupper() for each in self._writers.values()))
            self._writers[self._number] = letter
            words += f" of {letter}"
        outcome = self.machine.apply(self._number, operation)
        result = self._result(outcome)
        return f"{words}: {result}" if result else words

    def _result(self, outcome: Outcome) -> str:
        if outcome.content is not None and outcome.error is None:
            return "".join(self._letters(outcome.content))
        error = None if outcome.error is None else outcome.error.value
        told = human.outcome(outcome, error)
        return "" if told == "ok" else told.split(" (")[0]

    def state(self) -> State:
        """The bitmaps of the filter, if there is one, and those that have names; images; jobs."""
        found: dict[str, str] = {}
        filters = self.machine.filters()
        if len(filters) == 1:
            view, = filters
            found["access"] = self._marks(view.access) + " broken" * (view.broken is not None)
            found |= {"done": self._marks(view.done), "copy": self._marks(view.copy)}
        for node in self.machine.nodes.values():
            for bitmap in node.bitmaps:
                if bitmap.name is not None:
                    words = ["busy"] * bitmap.busy + ["off"] * (not bitmap.recording)
                    found[f"{node.name}/{bitmap.name}"] = " ".join((self._marks(bitmap), *words))
        for node in self.machine.nodes.values():
            if isinstance(node, Image):
                found[node.name] = self._picture(node)
        for job in self.machine.graph.jobs.values():
            found[job.name] = job.status.value
        return found

    def answers(self) -> Iterator[str]:
        """Of a schedule: the answers that came since the last call."""
        if isinstance(self.machine, ConcurrentMachine):
            for number, outcome in self.machine.answers().items():
                request = _short(self.machine.request(number))
                yield f"{request}: {self._result(outcome) or 'done'}"

    def waits(self) -> Iterator[str]:
        """Of a schedule: what each request that is under way waits for."""
        if not isinstance(self.machine, ConcurrentMachine):
            return
        machine = self.machine
        sent = machine.pending()
        for number, waits in machine.standing().items():
            told = [human.storage_request(each) for each in waits
                    if not isinstance(each, str) and each in sent]
            if len(told) > _FEW:
                told = [told[0], f"{len(told) - 1} more storage requests"]
            told += [each for each in waits if isinstance(each, str)]
            yield (f"{_short(machine.request(number))} waits for "
                   f"{', '.join(told) or 'storage that is gone'}")

    def _picture(self, node: Image) -> str:
        letters = list(self._letters(self.machine.content_of(node.name)))
        if isinstance(node, Qcow2):
            for index, start in enumerate(range(0, node.size, self._cluster)):
                stop = min(start + self._cluster, node.size)
                _, status = run_to_end(node.own_status(start, stop), lambda request: None)
                if status.is_allocated is False:
                    letters[index] = "."
        return "".join(letters)

    def _marks(self, bitmap: DirtyBitmap) -> str:
        return "".join(
            ".#"[bitmap.next_dirty(start, min(start + self._cluster, bitmap.size),
                                   bitmap.granularity) is not None]
            for start in range(0, bitmap.size, self._cluster))

    def _letters(self, content: Content) -> Iterator[str]:
        """A letter for each cluster: who wrote it."""
        for start in range(0, content.size, self._cluster):
            stamps = {run.value
                      for run in content.runs(start, min(start + self._cluster, content.size))}
            yield "*" if len(stamps) > 1 else self._writers[stamps.pop()]


def _short(operation: Operation) -> str:
    return operation.job if isinstance(operation, Backup) else human.operation(operation)


def table(rows: Sequence[tuple[str, State]]) -> list[str]:
    """Rows of states under their columns, the first of which is for their labels."""
    fullest_first = sorted((state for _, state in rows), key=len, reverse=True)
    columns = list(dict.fromkeys(column for state in fullest_first for column in state))
    cells = [["", *columns], *([label, *(state.get(column, "none") for column in columns)]
                               for label, state in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells]
