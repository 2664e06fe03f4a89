# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that lack a rule of the model, for tests that directed checks catch them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from harness.exploration.building import Plan
from harness.exploration.directed import devices
from harness.exploration.directed.catalogue import checks
from harness.lockstep.trace import SystemKind
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration
from model.machine import Machine
from model.operations import Operation, Via
from model.outcome import Outcome

CHECKS = {check.name: check for check in (*checks(SystemKind.QSD), *devices.checks())}
PLAN = Plan(SystemKind.QEMU_SYSTEM, channels=tuple(Via))
"""Also what only a device can be asked is asked."""


@dataclass
class Lacking:
    """A part of the model, and what stands in its place in a system that lacks a rule."""

    owner: Any
    name: str
    instead: Callable[..., Any]

    def __call__(self) -> AbstractContextManager[Any]:
        """The system's own time, in which the rule does not hold."""
        return mock.patch.object(self.owner, self.name, self.instead)


class Forgetful(Machine):
    """The model without a rule."""

    lacking: Lacking

    def apply(self, number: int, operation: Operation) -> Outcome:
        with self.lacking():
            return super().apply(number, operation)


class ForgetfulHeld(Forgetful, ConcurrentMachine):
    """The same, whose storage is held."""


def forgetful(kind: type[Forgetful], lacking: Lacking, images: Configuration,
              capabilities: Capabilities | None = None) -> Any:
    """One of them, over these images."""
    machine = kind(images, capabilities)
    machine.lacking = lacking
    return machine
