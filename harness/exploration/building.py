# SPDX-License-Identifier: GPL-2.0-or-later
"""Putting a trace together, operation by operation, with the model following it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from harness.exploration.scene import Scene
from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.systems.base import sent_as
from model.capabilities import Capabilities
from model.configuration import Configuration
from model.errors import Undetermined
from model.job_operations import Backup, JobOperation, Transaction
from model.machine import Impossible, Machine
from model.operations import (
    Flush,
    Kill,
    Operation,
    Read,
    Request,
    Resize,
    Restart,
    Status,
    Via,
)

_SWEEPING: Final = (Backup, JobOperation, Transaction, Resize, Restart, Kill)
"""Operations of which a scene cannot tell by itself what they have changed."""
_NBD: Final = (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What traces are drawn for; part of what decides them, with seed and index."""

    system: SystemKind = SystemKind.QSD
    capabilities: Capabilities = dataclasses.field(default_factory=Capabilities)
    channels: tuple[Via, ...] = _NBD

    @classmethod
    def of(cls, system: SystemKind, capabilities: Capabilities,
           channels: Collection[Via]) -> Plan:
        """A plan with the channels in the order of their definition."""
        return cls(system, capabilities, tuple(via for via in Via if via in channels))


class Builder:
    """A trace being drawn, and the model that follows it."""

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        self.plan = plan
        self.configuration = configuration
        self.machine = self._fresh_machine()
        self.scene = Scene.of(configuration)
        self.steps: list[Step] = []

    def add(self, operation: Operation, number: int | None = None) -> bool:
        """Append the operation, unless the model says that a trace may not have it, or that it
        would kill this build by a known defect.  If no number is given, it has the next one."""
        operation = sent_as(operation, self.plan.channels)
        if not self._can_send(operation):
            return False
        number = number or len(self.steps) + 1
        try:
            outcome = self.machine.apply(number, operation)
        except Impossible as why:
            if isinstance(why.__cause__, Undetermined):
                self._follow_anew()
            return False
        self.steps.append(Step(number, operation))
        if outcome.refused is None and outcome.error is None:
            self.scene.after(operation)
            if isinstance(operation, _SWEEPING):
                self.scene.follow(self.machine)
        return True

    def _fresh_machine(self) -> Machine:
        return Machine(self.configuration, self.plan.capabilities)

    def _follow_anew(self) -> None:
        """What turns out in the middle of an operation not to be foretold may have changed the
        model: it is done anew up to there, as it is when the trace is run."""
        self.machine = self._fresh_machine()
        for step in self.steps:
            self.machine.apply(step.number, step.operation)

    def _can_send(self, operation: Operation) -> bool:
        """Whether some client here can: without libnbd there is only qemu-io, which tells nothing
        of block status and does not even try to write to a read-only export."""
        if Via.NBD in self.plan.channels or not isinstance(operation, Request):
            return True
        export = self.machine.exports.get(operation.node)
        return isinstance(operation, (Read, Flush)) or (
            not isinstance(operation, Status) and (export is None or export.writable))

    def add_all(self, operations: Iterable[Operation]) -> None:
        """Append those of the operations that may be."""
        for operation in operations:
            self.add(operation)

    def trace(self) -> Trace:
        """What has come together."""
        header = Header(self.configuration, self.plan.system, capabilities=self.plan.capabilities)
        return Trace(header, tuple(self.steps))


Make: TypeAlias = Callable[[Plan], Trace]
"""What makes a trace for a plan."""


@dataclass(frozen=True)
class Check:
    """A directed check: a trace made for a purpose, and the area that it belongs to."""

    area: str
    name: str
    make: Make
    due: int = 0
    """When it has its turn: when its family has had so many steps, about."""
