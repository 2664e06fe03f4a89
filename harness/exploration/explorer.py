# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be explored, and one process's means to do it."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.exploration import exhaustive
from harness.exploration.alignment import alignments
from harness.exploration.areas import EVERYTHING, Area, named
from harness.exploration.batches import BATCH, Course, Part, Queue, batched
from harness.exploration.building import Check
from harness.exploration.corpus import Kept
from harness.exploration.coverage import Gauge
from harness.exploration.directed.catalogue import checks
from harness.exploration.grounds import Ground, counting
from harness.exploration.line_steering import LineTurns, Turn
from harness.exploration.steering import Journal, chosen, pairs_of
from harness.exploration.sweep import with_looks
from harness.exploration.tally import Find, Tally
from harness.exploration.traces import GROUP, TraceSource
from harness.lockstep.replay import Stand, check_possible
from harness.lockstep.run import Model, run
from harness.lockstep.trace import Trace, TraceError, TraceWriter
from harness.lockstep.verdict import Conforms, Failed, Failure
from harness.processes import Workspace
from harness.processes.keeper import CURRENT
from harness.systems.failure import SystemFailed
from model.machine import Impossible, Machine

DRAWN: Final = 20
"""While a family of directed checks does so many steps, one trace is drawn and done: seven times
as many steps, so that exploration has as much as seven families."""


@dataclass(frozen=True)
class Mission:
    """What is to be explored."""

    grounds: tuple[Ground, ...]
    shares: tuple[int, ...]
    """How many of the traces each ground gets, relative to the others."""
    area_names: tuple[str, ...]
    seed: int
    directed: bool = False
    """Whether the directed checks of each ground are done too, those of the chosen areas."""
    looks: bool = False
    """Whether everything there is to see is looked at after each step of a trace that is drawn,
    not only at its end."""
    exhaustive: int = 0
    """0: traces are drawn, without end; else they are all sequences of up to so many operations,
    on the first ground, and there are no directed checks."""
    corpus: tuple[Kept, ...] = ()
    """Traces that come before all others, whatever the part; their numbers are below 0."""
    candidates: int = 1
    """So many are drawn for each trace; see :mod:`.steering`."""
    tree: Path | None = None
    """The build tree of a QEMU that counts its lines, if these steer; see
    :mod:`.line_steering`."""
    part: Part = field(default_factory=Part)

    def batches(self) -> Iterator[Sequence[int]]:
        """The numbers of the traces, without the corpus."""
        numbers = (range(exhaustive.traces(self.exhaustive)) if self.exhaustive
                   else itertools.count())
        return self.part.batches(numbers)

    @property
    def sequences(self) -> int:
        """How many sequences an exhaustive run has in this part."""
        total, part = exhaustive.traces(self.exhaustive), self.part
        firsts = range((part.number - 1) * BATCH, part.number * BATCH)
        full = exhaustive.TOGETHER * sum(
            len(range(first, total, part.of * BATCH)) for first in firsts)
        last = range(total - len(exhaustive.Graph), total)
        return full - sum(exhaustive.TOGETHER - exhaustive.within(number, self.exhaustive)
                          for number in last if part.has(number))

    def directed_here(self) -> int:
        """How many directed checks there are in this part."""
        return sum(directed and self.part.has(number)
                   for number, (directed, _) in enumerate(self._order()))

    def queue(self, deadline: float | None) -> Queue:
        """All batches, the corpus first, until the deadline."""
        turns = None if self.tree is None else LineTurns(self._area_turns, self._groups())
        return Queue(batched(range(-len(self.corpus), 0)), self.batches(), deadline, turns)

    def _order(self) -> list[tuple[bool, int]]:
        return turns([check.due for _, check in self.checks()])

    def _groups(self) -> Callable[[int], int | None]:
        """What tells of each trace's number which group of drawn ones it is of."""
        order = self._order()

        def group_of(number: int) -> int | None:
            directed, drawn = of_its_sort(order, number)
            return None if directed else drawn // GROUP

        return group_of

    @property
    def areas(self) -> tuple[Area, ...]:
        """The areas, which take turns."""
        return tuple(named(name) for name in self.area_names)

    def begin(self) -> Explorer:
        """The means of this process."""
        return Explorer(self)

    def checks(self) -> list[tuple[int, Check]]:
        """The directed checks, each with the index of its ground."""
        if not self.directed:
            return []
        chosen = [(ground, check) for ground, each in enumerate(self.grounds)
                  for check in checks(each.plan.system)
                  if EVERYTHING.name in self.area_names or check.area in self.area_names]
        return sorted(chosen, key=lambda each: each[1].due)

    @property
    def _area_turns(self) -> tuple[int, ...]:
        return _area_turns(tuple(area.weight for area in self.areas))

    def assignment(self, number: int, turn: Turn | None = None) -> tuple[int, int, int]:
        """Drawn trace ``number``: index of its ground, index of its area, its index in the area.
        ``turn``: whose it is, if not that of the area whose ordinary turn it would be."""
        if turn is not None:
            # Areas have other turns in each part, but no two parts have a trace in common.
            return self._ground(turn.before), turn.area, number
        group, inside = divmod(number, GROUP)
        turns = self._area_turns
        around, place = divmod(group, len(turns))
        area = turns[place]
        before = around * turns.count(area) + turns[:place].count(area)
        return self._ground(before), area, before * GROUP + inside

    def _ground(self, before: int) -> int:
        """The ground of an area's turn, by how many it had before: each area goes round the
        grounds by itself."""
        place = before % sum(self.shares)
        for ground, share in enumerate(self.shares):
            place -= share
            if place < 0:
                return ground
        raise AssertionError("shares changed")


def turns(due: Sequence[int]) -> list[tuple[bool, int]]:
    """The order in which directed checks and drawn traces take turns, until no checks are left:
    whether it is a check, and which of its sort.  A run of any length has both."""
    order: list[tuple[bool, int]] = []
    drawn = 0
    for number, steps in enumerate(due):
        while (drawn + 1) * DRAWN <= steps:
            order.append((False, drawn))
            drawn += 1
        order.append((True, number))
    return order


def of_its_sort(order: Sequence[tuple[bool, int]], number: int) -> tuple[bool, int]:
    """Whether trace ``number`` is a directed check, and which of its sort it is, by the order in
    which they take turns."""
    if number < len(order):
        return order[number]
    return False, number - sum(directed for directed, _ in order)


@functools.cache
def _area_turns(weights: tuple[int, ...]) -> tuple[int, ...]:
    """The indices of areas in the order of their turns, each as often as its weight, spread."""
    return tuple(index for _, index in sorted(
        ((turn + 1) / (weight + 1), index)
        for index, weight in enumerate(weights) for turn in range(weight)))


@dataclass(frozen=True)
class Made:
    """A trace of a mission, and where it belongs."""

    ground: int
    area: str
    trace: Trace | None
    """None: there is none of that number."""
    directed: bool = False
    check: str = ""
    """The name of the directed check."""


@dataclass
class Explorer:
    """One process's means to do traces: open grounds, trace sources, a place for the trace."""

    mission: Mission
    stack: ExitStack = field(default_factory=ExitStack)
    _stands: dict[int, Stand] = field(default_factory=dict)
    _sources: dict[tuple[int, int], TraceSource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._workspace = self.stack.enter_context(Workspace())
        self._checks = self.mission.checks()
        self._turns = turns([check.due for _, check in self._checks])
        self._course = Course()
        self._grounds = self.mission.grounds
        self._gauge = None
        if self.mission.tree is not None:
            self._gauge = Gauge(self.mission.tree, self._workspace.path)
            self._grounds = tuple(counting(each, self._gauge) for each in self._grounds)

    def explore(self, numbers: Sequence[int], deadline: float | None = None,
                course: Course | None = None) -> Tally:
        """Do these traces; none is begun after the deadline, by ``time.monotonic``, which is the
        same clock in all processes.  ``course`` steers what is drawn, and takes on what that
        does."""
        self._course = Course() if course is None else course
        tally = Tally()
        for number in numbers:
            if deadline is not None and time.monotonic() >= deadline:
                break
            self._one(number, tally)
            tally.kept += number < 0
        return tally

    def close(self) -> None:
        """Clean up."""
        self.stack.close()

    def made(self, number: int) -> Made:
        """Trace ``number`` of the mission; what was seen before steers what is drawn."""
        if number < 0:
            return Made(*self._kept(self.mission.corpus[number]))
        directed, place = of_its_sort(self._turns, number)
        if directed:
            return Made(*self._directed(place), directed, self._checks[place][1].name)
        return Made(*self._other(place, self._course.turns.get(number)))

    def _one(self, number: int, tally: Tally) -> None:
        began = time.perf_counter()
        made = self.made(number)
        ground, area, trace, directed = made.ground, made.area, made.trace, made.directed
        drawn = time.perf_counter()
        tally.drawing += drawn - began
        if trace is None:
            return
        if self.mission.looks and not directed:
            trace = with_looks(trace, self.mission.grounds[ground].plan)
        failure, done = self._do(trace, self._stand(ground), tally)
        if self._gauge is not None:
            self._course.lines[number] = lines = self._gauge.taken()
            tally.lines |= lines
        tally.running += time.perf_counter() - drawn
        tally.traces += 1
        tally.directed += directed
        tally.steps += done
        tally.operations.update(step.operation.name for step in trace.steps[:done])
        tally.areas[area] += done
        if self.mission.exhaustive and number >= 0 and failure is None:
            within = exhaustive.within(number, self.mission.exhaustive)
            killing = exhaustive.deadly(self.mission.grounds[0].plan, number,
                                        self.mission.exhaustive)
            tally.sequences += within - killing
            tally.killing += killing
        tally.done.append(
            f"{area} on {self.mission.grounds[ground].plan.system.value}, "
            f"{made.check or f'trace {number}'}: {done} steps"
            f"{'' if failure is None else ', diverges'}")
        if failure is not None:
            cut = Trace(trace.header, trace.steps[:done])
            tally.found(find_of(failure, cut, area, ground))

    def _kept(self, kept: Kept) -> tuple[int, str, Trace | None]:
        """A trace of the corpus, unless it is impossible here, or would kill by a known defect."""
        stand = self._stand(kept.ground)
        plan = self.mission.grounds[kept.ground].plan
        try:
            check_possible(kept.trace, stand.model(kept.trace.configuration),
                           channels=plan.channels)
        except TraceError:
            return kept.ground, kept.area, None
        return kept.ground, kept.area, kept.trace

    def _directed(self, number: int) -> tuple[int, str, Trace]:
        ground, check = self._checks[number]
        plan = self.mission.grounds[ground].plan
        trace = check.make(plan)
        if self.mission.candidates > 1:
            self._course.seen |= pairs_of(trace, plan)
        return ground, check.area, trace

    def _other(self, number: int, turn: Turn | None) -> tuple[int, str, Trace | None]:
        longest = self.mission.exhaustive
        if not longest:
            return self._drawn(number, turn)
        plan = self.mission.grounds[0].plan
        return 0, exhaustive.AREA, exhaustive.trace(plan, number, longest)

    def _drawn(self, number: int, turn: Turn | None) -> tuple[int, str, Trace | None]:
        ground, area, index = self.mission.assignment(number, turn)
        source = self._source(ground, area)
        drawn = [trace for candidate in range(self.mission.candidates)
                 if (trace := source.trace(self.mission.seed, index, candidate)) is not None]
        return (ground, self.mission.area_names[area],
                chosen(drawn, source.plan, self._course.seen))

    def _do(self, trace: Trace, stand: Stand,
            tally: Tally) -> tuple[Failure | SystemFailed | None, int]:
        """Do the trace; its failure, if any, and the number of steps done."""
        model = stand.model(trace.configuration)
        journal = Journal(model)
        try:
            system = stand.start(trace.configuration)
        except SystemFailed as why:
            return why, 0
        current = self._workspace.file(CURRENT)
        with TraceWriter(current, trace.header) as recorder, \
                closing(system):
            try:
                verdict = run(trace.steps, system, model, recorder=recorder, ends=True,
                              watch=lambda done: journal.step())
            except Impossible as why:
                # A defect of the model, which let it be drawn; hours of others must not end by it.
                tally.astray[str(why)] += 1
                return None, journal.steps
        tally.rules.update(rules_of(model))
        tally.pairs |= journal.pairs
        if isinstance(model, Machine):
            done = verdict.steps if isinstance(verdict, Conforms) else verdict.index + 1
            tally.alignments.update(alignments(trace.steps[:done], model))
        if isinstance(verdict, Conforms):
            current.unlink()  # nobody need look at it, should we be killed before the next one
            return None, verdict.steps
        return verdict, verdict.index + 1

    def _stand(self, ground: int) -> Stand:
        if ground not in self._stands:
            self._stands[ground] = self.stack.enter_context(self._grounds[ground].open())
        return self._stands[ground]

    def _source(self, ground: int, area: int) -> TraceSource:
        key = ground, area
        if key not in self._sources:
            self._sources[key] = TraceSource(self.mission.grounds[ground].plan,
                                             self.mission.areas[area])
        return self._sources[key]


def rules_of(model: Model) -> dict[str, int]:
    """How often each rule fired, if the model counts."""
    return dict(model.rules) if isinstance(model, Machine) else {}


def find_of(failure: Failure | SystemFailed, trace: Trace, area: str, ground: int) -> Find:
    """The failure as a find; a system that failed to start has done no step."""
    if isinstance(failure, SystemFailed):
        signature = ("fails to start", type(failure).__name__)
        summary = f"{failure.verdict} at the start: {failure}"
        return Find(area, ground, trace, signature, summary, failure.verdict)
    verdict = failure.failure.verdict if isinstance(failure, Failed) else "divergence"
    return Find(area, ground, trace, failure.signature, failure.summary, verdict)
