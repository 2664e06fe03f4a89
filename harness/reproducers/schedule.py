# SPDX-License-Identifier: GPL-2.0-or-later
"""A schedule as a file that stands alone: storage that holds requests is in it, in Python."""

from __future__ import annotations

import errno
import json
import textwrap
from collections.abc import Callable
from typing import Any, Final

from harness.lockstep import human
from harness.lockstep.concurrent import StoredDiffers
from harness.lockstep.differences import BitmapsDiffer
from harness.lockstep.trace import Step, Trace
from harness.lockstep.verdict import Diverges, Failed, Failure
from harness.reproducers.compile import NoReproducer, Words, Writer, bitmap_line
from harness.reproducers.script import Act, AskNbd, Command, Piece
from harness.reproducers.shell import TEMPLATES, WIDTH, disk_lines, environment
from harness.systems.commands import temporary_export
from model import operations as ops
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, Protocol
from model.machine import Machine
from model.operations import Operation, Request
from model.outcome import Outcome
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start

FENCE: Final = "fence"
Plain = dict[str, Any]


def schedule(trace: Trace, failure: Failure, model: Callable[[Configuration], Machine],
             version: str, name: str) -> str:
    """The text of the file ``name``; raises :class:`NoReproducer`."""
    if isinstance(failure, Failed) and failure.ending:
        raise NoReproducer("how QEMU ends after a schedule: replay the trace")
    if trace.configuration.iothread:
        raise NoReproducer("an I/O thread in a schedule: replay the trace")
    machine = model(trace.configuration)
    assert isinstance(machine, ConcurrentMachine)
    writer = _Scheduler(trace, machine)
    steps = [writer.step(each) for each in (*trace.steps[:failure.index], failure.step)]
    steps[-1] |= writer.looks(failure)
    held = [disk for disk in writer.disks if disk.image.protocol is Protocol.HELD]
    attach: list[tuple[str, Plain]] = [(each.name, each.arguments) for each in writer.attach()]
    attach.append(("blockdev-add", {"driver": "null-co", "node-name": FENCE, "size": 512,
                                    "read-zeroes": True}))
    attach.append(tuple(temporary_export(FENCE, FENCE)))  # type: ignore[arg-type]
    attach += [tuple(temporary_export(f"{disk.image.node}-file", f"pace-{disk.image.node}"))  # type: ignore[misc]
               for disk in held]
    plan = {"disks": {disk.image.node: [disk.image.size, _pieces(disk.pieces),
                                        disk.image.tells_status] for disk in held},
            "attach": attach, "steps": steps}
    return environment().get_template("schedule.sh.j2").render(
        name=name, plan=_written(plan),
        story=textwrap.wrap(f"QEMU {version} {failure.summary}", WIDTH, break_long_words=False),
        images=[line for disk in writer.disks if disk not in held for line in disk_lines(disk)],
        driver=(TEMPLATES / "schedule.py.j2").read_text(encoding="utf-8").rstrip())


def _written(plan: Plain) -> str:
    """As JSON, a line for each disk, command and step."""
    parts = []
    for key, value in plan.items():
        lines = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in value.items()
                 ] if isinstance(value, dict) else [json.dumps(each) for each in value]
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        parts.append(f'"{key}": {opening}\n  ' + ",\n  ".join(lines) + f"\n{closing}")
    return "{" + ",\n".join(parts) + "}"


def _pieces(pieces: tuple[Piece, ...]) -> list[list[int]]:
    return [[each.start, each.end, each.pattern] for each in pieces]


class _Scheduler(Writer):
    """Follows the schedule with the model and writes down what must come."""

    machine: ConcurrentMachine

    def __init__(self, trace: Trace, machine: ConcurrentMachine) -> None:
        super().__init__(trace, machine, Words(qemu_io=False))
        self._timeouts: list[int] = []

    def step(self, step: Step) -> Plain:
        """The step, what must be pending after it, and what must have been answered."""
        outcome = self.machine.apply(step.number, step.operation)
        plain = {"n": step.number, "title": human.operation(step.operation),
                 **self._done(step.number, step.operation, outcome)}
        answers = {number: self._answer(number, each)
                   for number, each in self.machine.answers().items()}
        self.machine.observe()
        return plain | {
            "pending": [[each.node, str(each.kind), each.offset, each.length, each.unmap]
                        for each in self.machine.pending()],
            "answers": answers}

    def looks(self, failure: Failure) -> Plain:
        """What is looked at in the end, where the difference was."""
        differences = failure.differences if isinstance(failure, Diverges) else ()
        bitmaps = self.machine.observe().bitmaps
        stored = self.machine.stored() if not self.machine.busy else {}
        return {
            "bitmaps": {each.node: [bitmap_line(view) for view in bitmaps.get(each.node, ())]
                        for each in differences if isinstance(each, BitmapsDiffer)},
            "stored": {each.node: _pieces(self.patterns.pieces(stored[each.node], 0))
                       for each in differences if isinstance(each, StoredDiffers)}}

    def _done(self, number: int, operation: Operation, outcome: Outcome) -> Plain:
        match operation:
            case Start(request=Request() as request):
                return {"start": _sent(self.nbd(number, request, Outcome()))}
            case Complete(node, kind, offset, length, error, younger, unmap):
                return {"complete": [[node, kind, offset, length, unmap], younger, error]}
            case Cut(node):
                return {"cut": node}
            case Expire():
                return {"expire": max(self._timeouts)}
            case Start() | CompleteAll() | Gone() | Back():
                raise NoReproducer(f"{human.operation(operation)} in a schedule: replay the trace")
            case ops.AddFilter(cbw_timeout=timeout) if timeout:
                self._timeouts.append(timeout)
        return {"acts": [self._act(each) for each in self.acts(number, operation, outcome)]}

    def _act(self, act: Act) -> list[Any]:
        match act:
            case Command(name, arguments, refusal, gone):
                return [[name, arguments, refusal, gone], None]
            case AskNbd():
                return [None, [_sent(act), self._expected(act)]]
        raise NoReproducer("only commands and requests are reproduced in a schedule: replay the "
                           "trace")

    def _answer(self, number: int, outcome: Outcome) -> list[Any]:
        request = self.machine.request(number)
        if not isinstance(request, Request):
            raise NoReproducer("a job in a schedule: replay the trace")
        return self._expected(self.nbd(number, request, outcome))

    def _expected(self, act: AskNbd) -> list[Any]:
        word = "hang-up" if act.errno is None else (
            errno.errorcode[act.errno] if act.errno else "ok")
        read = act.verb == "read"
        return [word, _pieces(act.pieces) if read else [],
                [[run.length, list(run.allowed)] for run in act.runs], "REQ_ONE" in act.flags]


def _sent(act: AskNbd) -> list[Any]:
    if "," in act.context:
        raise NoReproducer("several contexts on a connection in a schedule: replay the trace")
    written = _pieces(act.pieces) if act.verb == "write" else []
    return [act.node, act.verb, act.offset, act.length, list(act.flags), act.context,
            act.structured, written]
