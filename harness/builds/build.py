# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU build: which tools it has, and how each is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentProblem

STORAGE_DAEMON: Final = "qemu-storage-daemon"
SYSTEM: Final = "qemu-system-x86_64"

SUBJECTS: Final = (STORAGE_DAEMON, SYSTEM)
"""What is verified.  A build without one is not checked there: PATH never lends it."""

HELPERS: Final = ("qemu-img", "qemu-io", "qemu-nbd")
"""Clients and image makers, which PATH lends to a build that lacks them."""

TOOLS: Final = SUBJECTS + HELPERS

PACKAGES: Final[Mapping[str, str]] = {
    STORAGE_DAEMON: "qemu-utils (Debian 11 and 12: qemu-system-common)",
    SYSTEM: "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
}
"""The Debian package of each tool."""

INSTALL: Final = "apt-get install qemu-system-x86 qemu-utils"
"""Brings every tool, on every Debian since 11."""

ON_PATH: Final = "PATH"
"""The name of the build that is on PATH."""


@dataclass(frozen=True)
class Tool:
    """One program of a build, found to run."""

    name: str
    path: Path
    """The program itself, even where `argv` runs it through a loader."""
    argv: tuple[str, ...]
    """What an argument vector starts with."""
    version: str
    env: Mapping[str, str] = field(default_factory=dict)
    """Additions to the environment."""
    borrowed: bool = False
    """Not of this build: lent by PATH."""


@dataclass(frozen=True)
class Build:
    """What `--qemu-build` named."""

    name: str
    """As the user named it, or ON_PATH."""
    path: Path
    """The folder or the binary that was found."""
    version: str
    """Of what is verified: the storage daemon if there is one, else qemu-system."""
    tools: Mapping[str, Tool]

    def has(self, name: str) -> bool:
        """Whether the build has the tool called `name`, one of TOOLS."""
        return name in self.tools

    def tool(self, name: str) -> Tool:
        """The tool called `name`, one of TOOLS; EnvironmentProblem if this build lacks it."""
        try:
            return self.tools[name]
        except KeyError:
            raise EnvironmentProblem(
                f"no {name} in {self.path}{'' if name in SUBJECTS else ' nor on PATH'}; "
                f"Debian has it in {PACKAGES[name]}"
            ) from None

    def missing(self) -> dict[str, str]:
        """Absent tools, each with the Debian package that has it."""
        return {name: PACKAGES[name] for name in TOOLS if name not in self.tools}
