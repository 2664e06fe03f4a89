# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes and temporary files, neither of which outlives this process."""

from harness.processes.capture import Capture
from harness.processes.exit import Exit
from harness.processes.keeper import Keeper, keeper
from harness.processes.supervise import Child, Finished, run
from harness.processes.workspace import Workspace, insist_on_room

__all__ = ["Capture", "Child", "Exit", "Finished", "Keeper", "Workspace", "insist_on_room",
           "keeper", "run"]
