# SPDX-License-Identifier: GPL-2.0-or-later
"""Grounds: what traces are drawn for and done on, as plain data that can go to a worker process.

A worker opens a ground once, for all the traces it does there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from harness.exploration.traces import Plan
from harness.lockstep.replay import Stand
from harness.systems.base import System
from harness.systems.lies import catalogue
from harness.systems.simulated import Simulated
from model.configuration import Configuration
from model.machine import Machine


class Ground(Protocol):
    """A kind of system of one build; must survive pickling."""

    @property
    def plan(self) -> Plan:
        """What the ground's traces are drawn for."""

    def open(self) -> AbstractContextManager[Stand]:
        """The ground, ready for traces; what it needs is cleaned away at the end."""


@dataclass(frozen=True)
class SimulatedGround:
    """The model as the system, lying if so told: for tests of what stands on top."""

    plan: Plan
    lie: str | None = None
    truthful_for: int = 0

    @contextmanager
    def open(self) -> Iterator[Stand]:
        """A stand with a simulated system."""
        capabilities = self.plan.capabilities

        def start(configuration: Configuration) -> System:
            lie = catalogue()[self.lie] if self.lie else None
            return Simulated(Machine(configuration, capabilities), lie,
                             truthful_for=self.truthful_for, channels=self.plan.channels)

        yield Stand(start, lambda configuration: Machine(configuration, capabilities))
