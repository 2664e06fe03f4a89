# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of ``verify`` that needs no trace: free-running load."""

from __future__ import annotations

from collections.abc import Sequence

from harness.builds import STORAGE_DAEMON
from harness.cli.results import Divergence, Result
from harness.clients.libnbd import libnbd_available
from harness.exploration.grounds import Ground, RealGround
from harness.exploration.load import put_load
from harness.lockstep.trace import SystemKind
from harness.systems.starting import starter

AREA = "concurrency"
_SHARE = 0.08
_LEAST, _MOST = 3.0, 120.0  # seconds


def load_seconds(result: Result, grounds: Sequence[Ground], seconds: float | None) -> float:
    """How much of a budget of ``seconds`` (None: one of steps) goes to load; 0: none."""
    daemon = any(isinstance(ground, RealGround) and ground.plan.system is SystemKind.QSD
                 for ground in grounds)
    if seconds is None or seconds < 2 * _LEAST or AREA not in result.areas or (
            not daemon or not libnbd_available()):
        return 0.0
    return min(max(seconds * _SHARE, _LEAST), _MOST)


def verify_load(result: Result, seconds: float) -> None:
    """Put load on the build for so many seconds, and add to the result what came of it."""
    with starter(result.build, STORAGE_DAEMON) as start:
        load = put_load(start, result.profile.capabilities, seconds, result.seed)
    result.tally.operations["request under load"] += load.requests
    result.divergences += [Divergence(AREA, f"under load: {violation}",
                                      system=SystemKind.QSD.value)
                           for violation in load.violations]
