# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests on a real QEMU share: the one that is found, or no test."""

from __future__ import annotations

import pytest

from harness.builds import Build, find
from harness.clients.libnbd import require_libnbd
from harness.errors import EnvironmentProblem


def real_build(*tools: str) -> Build:
    """The QEMU that is found; the test is skipped if it lacks one of these tools, or libnbd."""
    try:
        require_libnbd()
        found = find()
        for tool in tools:
            found.tool(tool)
    except EnvironmentProblem as why:
        pytest.skip(str(why))
    return found
