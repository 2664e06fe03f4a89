# SPDX-License-Identifier: GPL-2.0-or-later
"""A failure told as a story: what was done, what is wrong, whose data it is, what the state was.

Plain text; headings stand at the margin, all else is indented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from harness.ranges import Ranges, touches, widened
from harness.systems.failure import SystemCrashed, SystemHungUp
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration
from model.content import ZERO, Stamp, initial_stamp
from model.machine import Machine
from model.operations import Discard, Inspect, Operation, Write, Zero
from model.program import StorageRequest
from model.rules import RULES
from model.schedule import place_of, request_of

from . import human
from .concurrent import AnswerDiffers, StoredDiffers
from .differences import DataDiffers
from .origin import Piece, origins
from .state import Retold, retell, state_lines
from .trace import Step, Trace
from .verdict import Diverges, Failed, Failure

MANY: Final = 40
"""In a trace of more steps, requests that touch nothing wrong are only counted."""
_SHOWN: Final = 8
_WIDTH: Final = 96
_LOOKED_AT: Final = 1 << 20
"""Of a wrong range, at most so many bytes are traced to their origin."""
_REACH: Final = 16 << 20
"""Shifted data is recognised if it was written for so low a place; further up takes too long."""
_BEYOND: Final = 1 << 20


def explain(
    trace: Trace, failure: Failure, model: Callable[[Configuration], Machine],
) -> str:
    """The story of ``failure``, which is how ``trace`` ends; ``model`` makes a fresh machine."""
    retold = retell(trace, failure, model)
    sections = [
        _headline(failure),
        _what_was_done(trace, failure, retold),
        _whose_bytes(trace, failure),
        _who_waits(retold),
        state_lines(failure, retold),
        _rules(failure, retold),
        _last_words(failure),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _headline(failure: Failure) -> list[str]:
    what = f"operation {failure.step.number}: {human.operation(failure.step.operation)}"
    if isinstance(failure, Failed):
        when = "after" if failure.observing else "at"
        return [f"{failure.failure.verdict.capitalize()} {when} {what}", f"  {failure.failure}"]
    words = [f"  {line}" for each in failure.differences for line in each.words()]
    return [f"Divergence at {what}", *words]


# What was done


def _what_was_done(trace: Trace, failure: Failure, retold: Retold) -> list[str]:
    legend = "> the last"
    if failure.places:
        wrong = isinstance(failure, Diverges) and any(each.places for each in failure.differences)
        legend += f"; * touches the {'wrong' if wrong else 'same'} bytes; + the same clusters"
    near = widened(failure.places, retold.cluster_size)
    steps = trace.steps[:failure.index + 1]
    width = max(len(str(step.number)) for step in steps)
    lines = [f"What was done ({legend})"]
    lines += [f"     {'':{width}}  {line}" for line in human.configuration(trace.configuration)]
    left_out = 0
    for step in steps:
        last = step is steps[-1]
        place = _mark(step.operation, failure.places, near)
        elsewhere = place == " " and not last and place_of(step.operation) is not None
        if len(steps) > MANY and elsewhere:
            left_out += 1
            continue
        if left_out:
            lines.append(f"     {'':{width}}  ({human.counted(left_out, 'request')} elsewhere)")
            left_out = 0
        operation = failure.step.operation if last else step.operation
        lines.append(f"  {'>' if last else ' '}{place} {step.number:{width}}  "
                     f"{human.operation(operation)}")
    return lines


def _mark(operation: Operation, places: Ranges, near: Ranges) -> str:
    if isinstance(operation, Inspect) and places:
        return "*"
    about = place_of(operation)
    if about is None:
        return " "
    end = about.offset + about.length
    if touches(about.offset, end, places):
        return "*"
    return "+" if touches(about.offset, end, near) else " "


# Whose bytes


def _whose_bytes(trace: Trace, failure: Failure) -> list[str]:
    if not isinstance(failure, Diverges):
        return []
    lines: list[str] = []
    for each in failure.differences:
        what = each.what if isinstance(each, (AnswerDiffers, StoredDiffers)) else each
        if isinstance(what, DataDiffers):
            told = _Attribution(trace.configuration, trace.steps[:failure.index + 1], what)
            lines += told.lines()
    return ["Whose data", *lines] if lines else []


class _Attribution:
    """Wrong bytes, range by range: whose they should be and whose they are."""

    def __init__(self, configuration: Configuration, steps: tuple[Step, ...],
                 data: DataDiffers) -> None:
        self._configuration = configuration
        self._operations = {step.number: request_of(step.operation) or step.operation
                            for step in steps}
        self._data = data
        self._reach = min(_REACH, max(image.size for image in configuration.images) + _BEYOND)
        self._stamps = [
            *(number for number, each in self._operations.items() if isinstance(each, Write)),
            *(initial_stamp(index) for index in range(len(configuration.images)))]

    def lines(self) -> list[str]:
        """A line for each range of one expected and one found writer."""
        told: list[tuple[int, int, str]] = []
        for start, end in self._data.wrong[:_SHOWN]:
            for low, high, text in self._range(start, min(end, start + _LOOKED_AT)):
                if told and told[-1][1:] == (low, text):
                    low = told.pop()[0]
                told.append((low, high, text))
        lines = [f"  {human.span(low, high)}: {text}" for low, high, text in told[:2 * _SHOWN]]
        if len(told) > 2 * _SHOWN or len(self._data.wrong) > _SHOWN:
            lines.append("  and more")
        return lines

    def _range(self, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        data = self._data
        found = origins(data.found.at(start, end), start, self._stamps, self._reach)
        for piece in found:
            for run in data.expected.runs(piece.start - data.offset, piece.end - data.offset):
                low, high = run.start + data.offset, run.end + data.offset
                yield low, high, (f"expected {self._of(run.value, low, high)}, "
                                  f"found {self._found(piece, low, high)}")

    def _found(self, piece: Piece, start: int, end: int) -> str:
        if piece.origin is None:
            return "what nobody wrote"
        text = self._of(piece.origin.stamp, start, end)
        if piece.origin.stamp == ZERO or not piece.shift:
            return text
        sign = "+" if piece.shift > 0 else ""
        return (f"{text}, shifted by {sign}{human.size(piece.shift)}: "
                f"it belongs at {human.size(start - piece.shift)}")

    def _of(self, stamp: Stamp, start: int, end: int) -> str:
        if stamp < ZERO:
            return f"the first data of {self._configuration.images[-1 - stamp].node}"
        if stamp != ZERO:
            return f"the data of operation {stamp} ({human.operation(self._operations[stamp])})"
        for number, each in reversed(self._operations.items()):
            if isinstance(each, (Zero, Discard)) and touches(
                    each.offset, each.offset + each.length, ((start, end),)):
                return f"zeroes (perhaps of operation {number}, {human.operation(each)})"
        return "zeroes"


# Requests under way


def _who_waits(retold: Retold) -> list[str]:
    """Where each request of a schedule stands in the model, and what it made of storage."""
    machine = retold.machine
    if not isinstance(machine, ConcurrentMachine):
        return []
    lines: list[str] = []
    for number, waits in machine.standing().items():
        late = "" if number in machine.unanswered() else ", answered, its copy still going on"
        lines.append(f"  request {number} ({human.operation(machine.request(number))}){late}")
        lines += [f"    waits for {human.storage_request(what)}" if isinstance(
            what, StorageRequest) else f"    waits for {what}" for what in waits]
    return ["Requests under way in the model", *lines] if lines else []


# The rest


def _rules(failure: Failure, retold: Retold) -> list[str]:
    if not retold.rules or isinstance(failure, Failed):
        return []
    lines = ["What the model holds about the last operation"]
    for name in sorted(retold.rules):
        lines += human.rule(f"{name}: {RULES[name].text if name in RULES else ''}", _WIDTH,
                            first="  ", rest="    ")
    return lines


def _last_words(failure: Failure) -> list[str]:
    if not isinstance(failure, Failed):
        return []
    lines: list[str] = []
    if isinstance(failure.failure, (SystemCrashed, SystemHungUp)) and failure.failure.stderr:
        lines += ["QEMU's last words", *(f"  {line}" for line in failure.failure.stderr)]
    if failure.failure.details:
        lines += ["How QEMU stands", *(f"  {line}" for line in failure.failure.details)]
    return lines
