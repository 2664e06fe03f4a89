# SPDX-License-Identifier: GPL-2.0-or-later
"""The two who can tell how a scenario goes: the model, and a system under test.

Each writes a log of its own, entry by entry, through the same renderer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.lockstep.compare import compare, compare_observations
from harness.lockstep.concurrent import Due, awaited, overlapping
from harness.lockstep.differences import Difference
from harness.lockstep.trace import Step
from harness.lockstep.verdict import Diverges, Failed, Failure
from harness.processes import insist_on_room
from harness.systems.base import System
from harness.systems.failure import SystemFailed
from harness.systems.known_defects import spelled
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.content import Stamp, initial_stamp
from model.machine import Machine
from model.operations import BitmapRef, Write
from model.outcome import Observation, Outcome
from model.schedule import Complete, Start, request_of

from .differences import SECTION
from .normalise import Names
from .render import Renderer
from .script import (
    Do,
    Entry,
    Images,
    Remark,
    Section,
    ShowBitmaps,
    ShowDigest,
    ShowJobs,
    suited,
)
from .seen import of_answer, of_outcome

_NOTHING = Observation({}, {})
_SCHEDULED = (Start, Complete)


@dataclass(slots=True)
class Log:
    """The lines of one witness."""

    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The log as it stands in a golden file."""
        return "\n".join(self.lines).strip("\n") + "\n"


def told(entry: Entry) -> list[str]:
    """The lines of what is no deed: remarks and headings."""
    match entry:
        case Remark(text):
            # A remark of several lines is a text of its own; one of a single line goes with what
            # follows it.
            lines = [f"# {line}".rstrip() for line in text.splitlines()]
            return [*lines, ""] if len(lines) > 1 else lines
        case Section(title):
            return ["", f"{SECTION}{title} ===", ""]
        case _:
            return []


class ModelSide:
    """The model's log; also what lockstep compares with."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.log = Log()
        self.capabilities = capabilities
        self._machine: Machine | None = None
        self._renderer: Renderer | None = None
        self.observed = _NOTHING
        """What there was to be seen after the last operation."""
        self.due = Due()
        """What requests that overlap had come to by then."""

    @property
    def machine(self) -> Machine:
        """The machine of the images at hand."""
        assert self._machine is not None, "a scenario begins with its images"
        return self._machine

    @property
    def renderer(self) -> Renderer:
        """What writes this run down."""
        assert self._renderer is not None, "a scenario begins with its images"
        return self._renderer

    def play(self, entry: Entry) -> Outcome | None:
        """Do the entry and write it down; the outcome, if it was an operation that was done."""
        outcome = None
        entry = suited(entry, self.capabilities)
        lines = told(entry)
        match entry:
            case Images(configuration):
                self._machine = machine_for(configuration, self.capabilities)
                self._renderer = Renderer(configuration, Names())
                lines = self._renderer.images()
                self.observed = self._machine.observe()
            case Do():
                lines = self.renderer.operation(entry.number, entry.operation)
                deadly = self.machine.deadly(entry.operation)
                if deadly is not None:
                    lines += [spared(deadly)]
                else:
                    outcome = self.machine.apply(entry.number, entry.operation)
                    self.observed = self.machine.observe()
                    lines += self.renderer.answer(
                        entry.operation, of_outcome(entry.operation, outcome))
                    lines += self._standing(entry)
                    lines += self.renderer.events(self.observed.events)
            case ShowBitmaps() | ShowDigest() | ShowJobs():
                lines += _shown(self.renderer, entry, self.observed)
        self.log.lines += lines
        return outcome

    def _standing(self, entry: Do) -> list[str]:
        machine = self.machine
        if not isinstance(machine, ConcurrentMachine):
            return []
        self.due = Due.of(machine)
        return self.shown() if isinstance(entry.operation, _SCHEDULED) else []

    def shown(self) -> list[str]:
        """What is due, written down."""
        machine = self.machine
        assert isinstance(machine, ConcurrentMachine)
        return self.renderer.standing(self.due.pending, {
            number: (machine.request(number), of_outcome(machine.request(number), outcome))
            for number, outcome in self.due.answers.items()})


class SystemSide:
    """The log of a system under test.

    What lockstep finds to differ, and the log by itself would not show, is written down too; so
    the two logs are equal exactly if the system conforms.
    """

    def __init__(self) -> None:
        self.log = Log()
        self._system: System | None = None
        self._renderer: Renderer | None = None
        self._writers: list[Stamp] = []
        self._observed = _NOTHING
        self._known: tuple[Difference, ...] = ()
        self.steps: list[Step] = []
        """What was done since the last images, up to the first failure."""
        self.failure: Failure | None = None
        """The first difference, or how the system failed."""

    def begin(self, entry: Images, system: System, names: Names) -> None:
        """Another system, its images attached; ``names``: what is peculiar to this run of it."""
        self.close()
        if self.failure is None:
            self.steps = []
        self._system = system
        self._renderer = Renderer(entry.configuration, names)
        self._writers = [initial_stamp(each) for each in range(len(entry.configuration.images))]
        self._observed, self._known = _NOTHING, ()
        self.log.lines += self._renderer.images()

    def play(self, entry: Entry, outcome: Outcome | None, model: ModelSide) -> None:
        """Do the entry and write down what came; ``outcome`` and ``model`` are what lockstep
        compares with.  A system that has failed says no more."""
        entry = suited(entry, model.capabilities)
        lines = told(entry)
        if isinstance(entry, (Remark, Section)):
            self.log.lines += lines
            return
        if self._system is None or self._renderer is None:
            return
        match entry:
            case Do():
                self._do(self._system, self._renderer, entry, outcome, model)
            case ShowBitmaps() | ShowDigest() | ShowJobs():
                self.log.lines += _shown(self._renderer, entry, self._observed)

    def _do(self, system: System, renderer: Renderer, entry: Do, outcome: Outcome | None,
            model: ModelSide) -> None:
        lines = self.log.lines
        lines += renderer.operation(entry.number, entry.operation)
        if outcome is None:
            lines.append(spared(model.machine.deadly(entry.operation) or ""))
            return
        if isinstance(request_of(entry.operation), Write):
            self._writers.append(entry.number)
        step = Step(entry.number, entry.operation)
        if self.failure is None:
            self.steps.append(step)
        expected = model.observed
        try:
            answer = system.apply(entry.number, entry.operation)
            shown = renderer.answer(
                entry.operation, of_answer(entry.operation, answer, outcome, self._writers))
            lines += shown
            met = self._meet(system, renderer, entry, model)
            self._observed = system.observe([BitmapRef(*each) for each in expected.digests])
            lines += renderer.events(self._observed.events)
        except SystemFailed as failure:
            insist_on_room()
            lines.append(f"*** {failure.verdict}: {failure}")
            self.failure = self.failure or Failed(len(self.steps) - 1, step, failure)
            self.close()
            return
        differences = compare(entry.operation, outcome, answer)
        if differences:
            insist_on_room()
        if differences and shown == renderer.answer(
                entry.operation, of_outcome(entry.operation, outcome)):
            lines += _words(differences)
        differences += met
        observed = compare_observations(expected, self._observed)
        if observed != self._known:
            insist_on_room()
            lines += _words(observed)
        self._known = observed
        if self.failure is None and differences + observed:
            self.failure = Diverges(len(self.steps) - 1, step, differences + observed)

    def _meet(self, system: System, renderer: Renderer, entry: Do,
              model: ModelSide) -> tuple[Difference, ...]:
        """How requests that overlap have come to stand; written down after what begins or ends
        one."""
        machine = model.machine
        if not isinstance(machine, ConcurrentMachine):
            return ()
        standing = awaited(machine, system, model.due)
        differences = overlapping(machine, system, entry.operation, model.due, standing)
        if isinstance(entry.operation, _SCHEDULED):
            shown = renderer.standing(standing.pending, {
                number: (request, of_answer(request, answer, model.due.answers.get(
                    number, Outcome()), self._writers))
                for number, answer in standing.answers.items()
                for request in (machine.request(number),)})
            self.log.lines += shown
            if shown != model.shown():
                return differences
        self.log.lines += _words(differences)
        return differences

    def close(self) -> None:
        """Stop the system, if there is one."""
        system, self._system = self._system, None
        if system is not None:
            system.close()


def spared(defect: str) -> str:
    """What is written down instead of an answer where a known defect would end the process."""
    return f"not sent: known defect {spelled(defect)}"


def _words(differences: Iterable[Difference]) -> list[str]:
    return [f"*** {line}" for each in differences for line in each.words()]


def _shown(renderer: Renderer, entry: Entry, observation: Observation) -> list[str]:
    """What the entry asks to be written down of what is to be seen."""
    match entry:
        case ShowBitmaps(nodes):
            return renderer.bitmaps(observation.bitmaps, nodes)
        case ShowDigest(BitmapRef(node, name)):
            return renderer.digest(node, name, observation.digests.get((node, name)))
        case ShowJobs():
            return renderer.jobs(observation.jobs)
        case _:
            return []


def model_text(script: Iterable[Entry], capabilities: Capabilities) -> str:
    """The log that the model gives of a scenario on a build of these capabilities."""
    side = ModelSide(capabilities)
    for entry in script:
        side.play(entry)
    return side.log.text()
