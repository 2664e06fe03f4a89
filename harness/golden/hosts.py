# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the systems under test of a pytest run come from: the QEMU builds that were named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from harness.builds import STORAGE_DAEMON, SYSTEM, Build, find
from harness.builds.build import INSTALL
from harness.errors import EnvironmentProblem
from harness.lockstep.trace import SystemKind
from harness.systems.base import System
from harness.systems.capabilities import NothingToVerify, find_profile
from harness.systems.qmp_system import QmpSystem
from harness.systems.starting import starter
from model.capabilities import Capabilities
from model.configuration import Configuration

from .render import TEST_DIR
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

    def folders(self, system: System) -> Mapping[str, str]:
        """None."""
        return {}


class BuildHost:
    """One QEMU build."""

    def __init__(self, build: Build) -> None:
        """Looks at once at what the build can do; raises EnvironmentProblem."""
        self.label = f"QEMU {build.version}"
        self._cleanup = ExitStack()
        self._starts = {kind: self._cleanup.enter_context(starter(build, tool))
                        for kind, tool in _TOOLS.items() if build.has(tool)}
        try:
            start = self._starts.get(SystemKind.QSD) or self._starts[SystemKind.QEMU_SYSTEM]
            self._capabilities = find_profile(build, start, jobs_only=True).capabilities
        except BaseException:
            self.close()
            raise

    def capabilities(self) -> Capabilities:
        """What the build can do."""
        return self._capabilities

    def start(self, kind: SystemKind, configuration: Configuration) -> System:
        """A system of this build; raises :class:`Absent` if it has none of the kind."""
        if kind not in self._starts:
            raise Absent(f"{self.label} has no {_TOOLS[kind]}; {INSTALL}")
        return self._starts[kind](configuration)

    def folders(self, system: System) -> Mapping[str, str]:
        """Where the system's images and sockets are."""
        assert isinstance(system, QmpSystem)
        return {str(system.workspace.path): TEST_DIR}

    def close(self) -> None:
        """Leave nothing behind."""
        self._cleanup.close()


class Hosts:
    """The builds of a run, each looked at when a test first wants it."""

    def __init__(self, specs: Sequence[str]) -> None:
        """``specs`` as given with ``--qemu-build``; none: QEMU_BUILD, else what is on PATH."""
        self._specs = specs
        self._known: dict[str | None, BuildHost | NoQemu] = {}

    def host(self, spec: str | None) -> Host:
        """The build that ``spec`` names; None: the only one.

        A build that was asked for by name must be there, and one that is there must start:
        raises EnvironmentProblem.  If nothing was named and PATH has nothing to test, the model
        speaks alone.
        """
        spec = spec or next(iter(self._specs), None)
        if spec not in self._known:
            self._known[spec] = self._look_for(spec)
        return self._known[spec]

    @staticmethod
    def _look_for(spec: str | None) -> BuildHost | NoQemu:
        named = spec is not None or bool(os.environ.get("QEMU_BUILD"))
        try:
            build = find(spec)
        except EnvironmentProblem as why:
            if named:
                raise
            return NoQemu(str(why))
        try:
            return BuildHost(build)
        except NothingToVerify as why:
            if named:
                raise
            return NoQemu(str(why))

    def close(self) -> None:
        """Leave nothing behind."""
        for host in self._known.values():
            if isinstance(host, BuildHost):
                host.close()


_TOOLS: Final = {SystemKind.QSD: STORAGE_DAEMON, SystemKind.QEMU_SYSTEM: SYSTEM}
