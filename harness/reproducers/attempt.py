# SPDX-License-Identifier: GPL-2.0-or-later
"""Trying a reproducer on a build before it is handed over."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.builds import ON_PATH, STORAGE_DAEMON, SYSTEM, Build
from harness.processes import Workspace, run

AS_EXPECTED, DIVERGES, CANNOT = 0, 1, 125
"""Exit statuses of a reproducer."""
PATIENCE: Final = 20
"""Seconds for which QEMU may live when a reproducer is tried, a thirtieth of it more for each
operation; the file itself grants more."""
_VARIABLES: Final = {STORAGE_DAEMON: "QSD", SYSTEM: "QEMU_SYSTEM", "qemu-img": "QEMU_IMG",
                     "qemu-io": "QEMU_IO"}


def by_hand(file: Path, build: Build) -> str:
    """The command that runs the shell form on the build, or, where the harness runs the build's
    programs through a loader, on one like it."""
    command = f"sh {shlex.quote(str(file))}"
    own = [tool for name in _VARIABLES
           if (tool := build.tools.get(name)) is not None and not tool.borrowed]
    if build.name == ON_PATH or not own:
        return command
    if any(tool.argv != (str(tool.path),) for tool in own):
        return (f"{command} FOLDER, of a QEMU that is installed: the programs of {build.name} "
                "need the harness to run")
    folders = {tool.path.parent for tool in own}
    folders = {folder.parent if folder.name == "storage-daemon" else folder for folder in folders}
    if len(folders) == 1 and all(tool.path.name == tool.name for tool in own):
        return f"{command} {shlex.quote(str(*folders))}"
    # Another name, or files from here and there.
    words = [f"{_VARIABLES[tool.name]}={shlex.quote(str(tool.path))}" for tool in own]
    return " ".join((*words, command))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the shell form of a reproducer said."""

    status: int | None
    """Its exit status; None: a signal ended it."""
    said: str
    """The last line it printed."""

    def shows(self, number: int) -> bool:
        """Whether it shows the divergence, and that at operation ``number``: all before it went
        as the model says, so what the file expects is right so far."""
        return self.status == DIVERGES and self.said.startswith(
            f"NOT AS EXPECTED at operation {number} ")


def attempt(text: str, build: Build, patience: int = PATIENCE) -> Attempt:
    """Run the shell form with the build's programs; raises HarnessError if the script hangs."""
    tools = [tool for name in _VARIABLES if (tool := build.tools.get(name)) is not None]
    env = {name: value for tool in tools for name, value in tool.env.items()}
    env |= {_VARIABLES[tool.name]: " ".join(tool.argv) for tool in tools}
    with Workspace() as workspace:
        file = workspace.file("reproducer.sh")
        file.write_text(text, encoding="utf-8")
        done = run(["sh", str(file)], name="reproducer", cwd=workspace.path,
                   timeout=10 * patience + PATIENCE, env=env | {
                       "PATIENCE": str(patience), "PYTHON": sys.executable,
                       "TMPDIR": str(workspace.path)})
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return Attempt(done.exit.code, lines[-1] if lines else "")
