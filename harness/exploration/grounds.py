# SPDX-License-Identifier: GPL-2.0-or-later
"""Grounds: what traces are drawn for and done on, as plain data that can go to a worker process.

A worker opens a ground once, for all the traces it does there.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from harness.builds import ON_PATH, STORAGE_DAEMON, SYSTEM, Build
from harness.exploration.building import Plan
from harness.exploration.coverage import Gauge
from harness.invocation import command
from harness.lockstep.replay import Stand
from harness.lockstep.trace import SystemKind
from harness.systems.base import System
from harness.systems.held_simulated import SimulatedHeld
from harness.systems.known_defects import mended
from harness.systems.lies import (
    FORGOTTEN,
    FORGOTTEN_WHEN_STEERED,
    MISDEEDS,
    MISREPORTS,
    catalogue,
    texts,
)
from harness.systems.lies.forgotten import Forgotten
from harness.systems.lies.held import Misdeed, Misreport
from harness.systems.simulated import Simulated
from harness.systems.starting import TIMEOUT, starter
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import Configuration
from model.machine import Machine
from model.operations import Via

TOOLS: Final = {SystemKind.QSD: STORAGE_DAEMON, SystemKind.QEMU_SYSTEM: SYSTEM}
"""What runs a system of each real kind."""
HASTE: Final = 2.0
"""Seconds that tries to make a hang smaller may take before they count as hung.

The limit says only how long the shrinker waits for each try; whatever it comes to is done once
more with the full limit, so on a busy machine a hang may stay longer than it need be, and none is
reported that is not one."""

_Lie = TypeVar("_Lie", Forgotten, Misreport, Misdeed)


class Ground(Protocol):
    """A kind of system of one build; must survive pickling."""

    @property
    def plan(self) -> Plan:
        """What the ground's traces are drawn for."""

    def open(self) -> AbstractContextManager[Stand]:
        """The ground, ready for traces; what it needs is cleaned away at the end."""

    def planned(self, plan: Plan) -> Self:
        """The same with another plan."""

    def hasty(self) -> Self:
        """The same, which does not wait long until it takes a system for hung: only for tries
        whose outcome is confirmed on this one."""


@dataclass(frozen=True)
class RealGround:
    """The storage daemon or the qemu-system of a build, as the plan says."""

    build: Build
    plan: Plan
    timeout: float = TIMEOUT
    stacks: bool = False
    """Whether the stacks of a system that crashes or hangs are wanted."""

    @contextmanager
    def open(self) -> Iterator[Stand]:
        """A stand that starts a process for each trace."""
        with starter(self.build, TOOLS[self.plan.system], self.timeout,
                     stacks=self.stacks) as start:
            yield Stand(start, model_of(self.plan.capabilities))

    def planned(self, plan: Plan) -> Self:
        """See :meth:`Ground.planned`."""
        return replace(self, plan=plan)

    def hasty(self) -> Self:
        """See :meth:`Ground.hasty`."""
        return replace(self, timeout=min(self.timeout, HASTE))


def model_of(capabilities: Capabilities) -> Callable[[Configuration], Machine]:
    """What makes the model of a build with these capabilities."""
    return lambda configuration: machine_for(configuration, capabilities)


@dataclass(frozen=True)
class SimulatedGround:
    """The model as the system, lying if so told: for tests of what stands on top, and to see
    what a divergence looks like without a QEMU that has one."""

    plan: Plan
    lie: str | None = None
    """A name of :func:`harness.systems.lies.texts`."""
    truthful_for: int = 0

    @contextmanager
    def open(self) -> Iterator[Stand]:
        """A stand with a simulated system."""
        assert self.lie is None or self.lie in texts()
        capabilities = self.plan.capabilities

        def start(configuration: Configuration) -> System:
            machine = machine_for(configuration, capabilities)
            channels = self.plan.channels
            if isinstance(machine, ConcurrentMachine):
                return SimulatedHeld(machine, forgotten=self._told_to(FORGOTTEN),
                                     forgotten_by_jobs=self._told_to(FORGOTTEN_WHEN_STEERED),
                                     misreport=self._told_to(MISREPORTS),
                                     misdeed=self._told_to(MISDEEDS), channels=channels)
            return Simulated(machine, catalogue().get(self.lie or ""),
                             truthful_for=self.truthful_for, channels=channels)

        yield Stand(start, model_of(capabilities))

    def _told_to(self, lies: Iterable[_Lie]) -> _Lie | None:
        """That of these lies which it is to tell."""
        return next((each for each in lies if each.name == self.lie), None)

    def planned(self, plan: Plan) -> Self:
        """See :meth:`Ground.planned`."""
        return replace(self, plan=plan)

    def hasty(self) -> Self:
        """A simulation hangs at once."""
        return self


def counting(ground: Ground, gauge: Gauge) -> Ground:
    """The ground with processes whose lines the gauge counts, if it is of a build."""
    return replace(ground, build=gauge.on(ground.build)) if isinstance(
        ground, RealGround) else ground


def unexcusing(ground: Ground, names: Sequence[str]) -> Ground:
    """The ground with a model that has these known defects mended: there they are divergences."""
    capabilities = mended(ground.plan.capabilities, names)
    return ground.planned(replace(ground.plan, capabilities=capabilities))


def simulated(capabilities: Capabilities, lie: str = "") -> SimulatedGround:
    """A simulation of all channels; without a lie it tells the truth."""
    return SimulatedGround(Plan(SystemKind.SIMULATED, capabilities, tuple(Via)), lie or None)


def kind(ground: Ground) -> str:
    """The kind of system, and of a simulation its lie: ``qsd``, ``simulated lost-write``."""
    lie = getattr(ground, "lie", None)
    system = ground.plan.system
    return f"{system.value} {lie}" if lie and system is SystemKind.SIMULATED else system.value


def where(ground: Ground) -> str:
    """The ground in words: ``qsd 10.0.2 (Debian …)``."""
    build = getattr(ground, "build", None)
    return kind(ground) + (f" {build.version}" if build is not None else "")


def replay_command(path: Path | str, system: str, build: str = ON_PATH) -> str:
    """What does a trace again that was done on a system, as :func:`where` or :func:`kind` has
    it, of a build, by its name."""
    simulated = system.partition(" ")[0] == SystemKind.SIMULATED.value
    on = f" --{system}" if simulated else build_option(build)
    return command(f"replay {shlex.quote(str(path))}{on}")


def build_option(name: str) -> str:
    """How a command says, with a space before it, which build it is for: not at all for that of
    PATH."""
    return "" if name == ON_PATH else f" --qemu-build {shlex.quote(name)}"
