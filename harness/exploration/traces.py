# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole traces: drawn by hypothesis, steered by the model.

:class:`TraceSource` gives the trace of a seed and an index: always the same one, whatever system
it is run on later, in whatever order and process it is asked for.  It uses hypothesis as an
external fuzzer does (``fuzz_one_input``): random bytes in, choices out.  :func:`traces` is the
strategy itself, for property tests.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, given, settings, strategies

from harness.exploration import schedules
from harness.exploration.areas import Area, Scheme
from harness.exploration.building import Builder, Plan
from harness.exploration.choices import Choices, Draw
from harness.exploration.images import configuration as draw_configuration
from harness.exploration.job_actions import JobDrawer
from harness.exploration.openings import opening
from harness.exploration.sweep import sweep
from harness.lockstep.trace import Origin, SystemKind, Trace
from model.configuration import Configuration
from model.operations import Attach, Via

SHORTEST: Final = 10
LONGEST: Final = 90
"""How many operations are drawn, besides the opening and the sweep."""
ENTROPY: Final = 8 * 1024
"""Bytes that a trace is drawn from; one that needs more is not drawn."""
GROUP: Final = 4
"""So many traces, one after the other, are over the same images.  Making images takes longer
than starting a QEMU and as long as many steps."""

Drawn = TypeVar("Drawn")


@dataclass(frozen=True, slots=True)
class Start:
    """What a trace begins with."""

    scheme: Scheme
    configuration: Configuration


def _start(draw: Draw, area: Area) -> Start:
    choices = Choices(draw)
    scheme = choices.weighted(area.schemes)
    if area.manner is not None:
        return Start(scheme, schedules.configuration(choices, area.manner, scheme))
    return Start(scheme, draw_configuration(choices, area, scheme))


def _trace(draw: Draw, plan: Plan, area: Area, start: Start) -> Trace:
    choices = Choices(draw)
    if area.manner is not None:
        return schedules.schedule(choices, plan, area, start.scheme, start.configuration)
    builder = Builder(plan, start.configuration)
    builder.add_all(opening(choices, area, start.scheme, start.configuration))
    channels = _channels(choices, plan.channels)
    drawer = JobDrawer(choices, area, builder.scene, channels,
                       has_drives=plan.system is not SystemKind.QSD)
    if Via.DEVICE in channels and builder.scene.exports:
        builder.add(Attach(next(iter(builder.scene.exports))))
    for _ in range(choices.integer(SHORTEST, LONGEST)):
        operation = drawer.operation()
        if operation is not None:
            builder.add(operation)
    builder.add_all(sweep(builder, touch=choices.chance(13)))
    return builder.trace()


def _channels(choices: Choices, known: Sequence[Via]) -> list[Via]:
    """The channels of one trace: few, as each costs a connection or a process to begin with."""
    return choices.some(known, at_least=1)


@strategies.composite
def traces(draw: Draw, plan: Plan, area: Area) -> Trace:
    """The strategy: traces of an area that a build with these capabilities can be given."""
    return _trace(draw, plan, area, _start(draw, area))


class TraceSource:
    """The traces of an area, by seed and index."""

    def __init__(self, plan: Plan, area: Area) -> None:
        self.plan = plan
        self.area = area
        self._start: tuple[str, Start | None] = ("", None)

        @strategies.composite
        def starts(draw: Draw) -> Start:
            return _start(draw, area)

        @strategies.composite
        def continuations(draw: Draw) -> Trace:
            start = self._start[1]
            assert start is not None
            return _trace(draw, plan, area, start)

        self._draw_start = _decoder(starts())
        self._draw_trace = _decoder(continuations())

    def trace(self, seed: int, index: int, candidate: int = 0) -> Trace | None:
        """Trace number ``index`` of the seed, or another candidate for it, over the same images;
        None in the rare case that its bytes are too few, or if the area is not for the plan's
        system."""
        if self.area.manner is not None and not schedules.possible(self.plan):
            return None
        group = f"{seed}/{self.area.name}/{index // GROUP}"
        if self._start[0] != group:
            self._start = (group, self._draw_start(_bytes(group)))
        if self._start[1] is None:
            return None
        name = f"{group}/{index % GROUP}" + (f"/{candidate}" if candidate else "")
        trace = self._draw_trace(_bytes(name))
        if trace is None:
            return None
        return dataclasses.replace(trace, header=dataclasses.replace(
            trace.header, seed=seed, drawn=Origin(self.area.name, index, candidate)))


def _bytes(name: str) -> bytes:
    return random.Random(name).randbytes(ENTROPY)


def _decoder(strategy: strategies.SearchStrategy[Drawn]) -> Callable[[bytes], Drawn | None]:
    """What hypothesis draws with these bytes for its choices; None if they are too few."""
    drawn: list[Drawn] = []

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def keep(value: Drawn) -> None:
        drawn.append(value)

    fuzz: Callable[[bytes], Any] = keep.hypothesis.fuzz_one_input  # type: ignore[attr-defined]

    def decode(choices: bytes) -> Drawn | None:
        drawn.clear()
        fuzz(choices)
        return drawn[0] if drawn else None

    return decode
