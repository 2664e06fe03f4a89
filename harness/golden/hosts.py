# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the systems under test of a pytest run come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.lockstep.trace import SystemKind
from harness.systems.base import System
from model.capabilities import Capabilities
from model.configuration import Configuration

from .scenario import Absent, Host


@dataclass(frozen=True, slots=True)
class NoQemu:
    """There is no QEMU: the model speaks for today's."""

    why: str
    label: str = "no QEMU"

    def capabilities(self) -> Capabilities:
        """Today's QEMU."""
        return Capabilities()

    def start(self, kind: SystemKind, configuration: Configuration) -> System:
        """Nothing can be started."""
        raise Absent(self.why)


class Hosts:
    """The builds of a run."""

    def __init__(self, specs: Sequence[str]) -> None:
        """``specs`` as given with ``--qemu-build``; none: QEMU_BUILD, else what is on PATH."""
        self._specs = specs

    def host(self, spec: str | None) -> Host:
        """The build that ``spec`` names; None: the only one."""
        return NoQemu("not yet")

    def close(self) -> None:
        """Leave nothing behind."""
