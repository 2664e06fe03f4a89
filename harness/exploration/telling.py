# SPDX-License-Identifier: GPL-2.0-or-later
"""What tells two builds apart: kinds of systems of both, and traces that show a difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, fields
from typing import Final, Self

from harness.exploration.building import Plan
from harness.exploration.contrast import Words
from harness.exploration.grounds import Ground
from harness.lockstep import human
from harness.lockstep.replay import Stand
from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.systems.base import sent_as
from harness.systems.failure import SystemFailed
from harness.systems.probes import CLUSTER, PROBES, Probe
from model.capabilities import Capabilities
from model.configuration import Configuration, Image
from model.job_operations import Backup, JobChange, Sync
from model.operations import AddFilter, OnCbwError, Operation

_OPTIONS: Final[Mapping[str, Operation]] = {
    "on_cbw_error": AddFilter("cbw", "src", "tmp", on_cbw_error=OnCbwError.BREAK_SNAPSHOT),
    "min_cluster_size": AddFilter("cbw", "src", "tmp", min_cluster_size=2 * CLUSTER),
    "x_perf": Backup("job", "src", "tmp", Sync.FULL, max_workers=1),
    "block_job_change": JobChange("job"),
    "discard_source": Backup("job", "src", "tmp", Sync.FULL, discard_source=True),
    "job_on_cbw_error": Backup("job", "src", "tmp", Sync.FULL,
                               on_cbw_error=OnCbwError.BREAK_SNAPSHOT),
}
"""By capability that is read off the schema: what takes the option."""


@dataclass(frozen=True)
class Pair:
    """A kind of system of both builds.  As the ground for which traces are made, it is opened as
    that of the first one."""

    sides: tuple[Ground, Ground]
    plan: Plan

    def open(self) -> AbstractContextManager[Stand]:
        """The first build's."""
        return self.sides[0].open()

    def planned(self, plan: Plan) -> Self:
        """See :meth:`harness.exploration.grounds.Ground.planned`."""
        return dataclasses.replace(self, plan=plan)

    def hasty(self) -> Self:
        """See :meth:`harness.exploration.grounds.Ground.hasty`."""
        first, second = self.sides
        return dataclasses.replace(self, sides=(first.hasty(), second.hasty()))


def common_plan(first: Plan, second: Plan) -> Plan:
    """A plan for traces that kill neither build by a known defect; it has the features of the
    build that has more, as those are what is to be seen."""
    deviations = {each.name: True for each in fields(Capabilities) if each.metadata["deviation"]
                  and (getattr(first.capabilities, each.name)
                       or getattr(second.capabilities, each.name))}
    channels = tuple(via for via in first.channels if via in second.channels)
    most = max(first.capabilities, second.capabilities, key=_features)
    return Plan(first.system, dataclasses.replace(most, **deviations), channels)


def _features(capabilities: Capabilities) -> int:
    return sum(getattr(capabilities, each.name) for each in fields(Capabilities)
               if not each.metadata["deviation"])


_HUMAN: Final = "human_monitor"
_BY_SYSTEM: Final = {_HUMAN, *(probe.capability for probe in PROBES if probe.by_device)}
"""What only a qemu-system can be asked."""


def differing(first: Capabilities, second: Capabilities) -> list[str]:
    """The names of the capabilities that only one of them has; that a package is without a
    qemu-system is none, and what could be asked there is then not known."""
    asked = getattr(first, _HUMAN) and getattr(second, _HUMAN)
    return [each.name for each in fields(Capabilities)
            if getattr(first, each.name) != getattr(second, each.name)
            and (asked or each.name not in _BY_SYSTEM)]


def telling(pair: Pair) -> Iterator[Trace]:
    """What tells the two builds apart and kills neither: probes, and options of only one."""
    for probe in _probes(pair):
        if probe.kills is None and not probe.by_device:
            yield _as_trace(pair.plan, probe.configuration, probe.operations)
    images = Configuration((Image("src", 4 * CLUSTER, filled=((0, 4 * CLUSTER),)),
                            Image("tmp", 4 * CLUSTER)))
    for name in differing(*(side.plan.capabilities for side in pair.sides)):
        if name in _OPTIONS:
            yield _as_trace(pair.plan, images, [_OPTIONS[name]])


def _probes(pair: Pair) -> list[Probe]:
    names = differing(*(side.plan.capabilities for side in pair.sides))
    return [probe for probe in PROBES if probe.capability in names]


def _as_trace(plan: Plan, images: Configuration, operations: Sequence[Operation]) -> Trace:
    return Trace(Header(images, plan.system), tuple(
        Step(number, sent_as(each, plan.channels))
        for number, each in enumerate(operations, start=1)))


def deadly(pairs: Sequence[Pair]) -> Iterator[tuple[Probe, Words]]:
    """The known defects that only one of the builds does not survive, and how each build fares."""
    for probe in _probes(pairs[0]):
        pair = next((each for each in pairs
                     if not probe.by_device or each.plan.system is SystemKind.QEMU_SYSTEM), None)
        if probe.kills is None or pair is None:
            continue
        trace = _as_trace(pair.plan, probe.configuration, probe.operations)
        mine, theirs = (_unwatched(trace, side) for side in pair.sides)
        if mine != theirs:
            yield probe, (mine, theirs)


def _unwatched(trace: Trace, ground: Ground) -> str:
    """How a system, without a model beside it, answers the trace's last operation; or refuses
    what comes before it; or dies."""
    with ground.open() as stand:
        try:
            with closing(stand.start(trace.configuration)) as system:
                for step in trace.steps:
                    answer = system.apply(step.number, step.operation)
                    if answer.refused is not None:
                        return f"{step.operation.name} is {human.answer(answer)}"
                    system.observe(())
        except SystemFailed as why:
            return f"{why.verdict}: {why}"
        return human.answer(answer)
