# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of ``verify`` that need no trace: load, kills, ends, and QEMU's own breakpoints."""

from __future__ import annotations

from collections.abc import Sequence

from harness.builds import STORAGE_DAEMON, SYSTEM
from harness.cli.results import Divergence, Result
from harness.clients.libnbd import libnbd_available
from harness.exploration.breakpoints import SCENARIOS, check
from harness.exploration.directed.ends import ENDS
from harness.exploration.directed.ends import check as check_end
from harness.exploration.grounds import Ground, RealGround
from harness.exploration.kills import kill_rounds
from harness.exploration.load import put_load
from harness.lockstep.trace import SystemKind
from harness.systems.held_daemon import HeldDaemon
from harness.systems.qemu_system import QemuSystem
from harness.systems.starting import starter
from model.configuration import Configuration

AREA = "concurrency"
PERSISTENCE = "persistence"
_SHARE = 0.08
_KILLS = 0.03
"""The part of a budget in which QEMU is killed again and again."""
_LEAST, _MOST = 3.0, 120.0  # seconds
_ENOUGH = 20.0
"""A budget of so many seconds has room for breakpoints and for ends, which take two or three
each."""


def load_seconds(result: Result, grounds: Sequence[Ground], seconds: float | None,
                 asked: float | None) -> float:
    """How much of a budget of ``seconds`` (None: one of steps) goes to load, unless the user
    ``asked`` for so many; 0: none."""
    daemon = _has(grounds, SystemKind.QSD)
    if asked is not None and daemon and libnbd_available():
        return asked
    if seconds is None or seconds < 2 * _LEAST or AREA not in result.areas or (
            not daemon or not libnbd_available()):
        return 0.0
    return min(max(seconds * _SHARE, _LEAST), _MOST)


def verify_load(result: Result, seconds: float) -> None:
    """Put load on the build for so many seconds, and add to the result what came of it."""
    with starter(result.build, STORAGE_DAEMON) as start:
        load = put_load(start, result.profile.capabilities, seconds, result.seed)
    result.load = load
    result.tally.operations["request under load"] += load.requests
    result.divergences += [Divergence(AREA, f"under load: {violation}",
                                      system=SystemKind.QSD.value)
                           for violation in load.violations]


def kill_seconds(result: Result, grounds: Sequence[Ground], seconds: float | None) -> float:
    """How much of a budget of ``seconds`` goes to kills; 0: none."""
    if seconds is None or seconds < _ENOUGH or PERSISTENCE not in result.areas or (
            not _has(grounds, SystemKind.QSD) or not libnbd_available()
            or not result.build.has("qemu-img")):
        return 0.0
    return min(seconds * _KILLS, _MOST)


def verify_kills(result: Result, seconds: float, rounds: int | None = None) -> None:
    """Kill the build for so many seconds, or so many times, and add to the result what it lost."""
    with starter(result.build, STORAGE_DAEMON) as start:
        kills = kill_rounds(start, result.build, seconds, result.seed, rounds)
    result.kills = kills
    result.tally.operations["request before a kill"] += kills.requests
    result.divergences += [Divergence(PERSISTENCE, f"killed: {violation}",
                                      system=SystemKind.QSD.value)
                           for violation in kills.violations]


def _has(grounds: Sequence[Ground], kind: SystemKind) -> bool:
    return any(isinstance(ground, RealGround) and ground.plan.system is kind
               for ground in grounds)


def _overlaps(result: Result, grounds: Sequence[Ground], kind: SystemKind,
              seconds: float | None) -> bool:
    """Whether requests can overlap on such a system, are to, and there is time for more."""
    return (_has(grounds, kind) and libnbd_available() and AREA in result.areas
            and (seconds is None or seconds >= _ENOUGH))


def has_breakpoints(result: Result, grounds: Sequence[Ground], seconds: float | None) -> bool:
    """Whether breakpoints are checked: there is a qemu-system to hold requests, and time."""
    return _overlaps(result, grounds, SystemKind.QEMU_SYSTEM, seconds)


def verify_breakpoints(result: Result) -> None:
    """Do each scenario, and add to the result what came of it."""
    with starter(result.build, SYSTEM) as start:
        def start_system(configuration: Configuration) -> QemuSystem:
            system = start(configuration)
            assert isinstance(system, QemuSystem)
            return system

        for scenario in SCENARIOS:
            result.tally.operations["step beside a breakpoint"] += len(scenario.steps)
            result.divergences += [
                Divergence(AREA, f"breakpoint: {each}", system=SystemKind.QEMU_SYSTEM.value)
                for each in check(scenario, start_system, result.profile.capabilities)]


def has_ends(result: Result, grounds: Sequence[Ground], seconds: float | None) -> bool:
    """Whether it is checked what ends while requests are under way."""
    return _overlaps(result, grounds, SystemKind.QSD, seconds)


def verify_ends(result: Result) -> None:
    """Do each of :data:`harness.exploration.directed.ends.ENDS`; the result has what came of
    it."""
    with starter(result.build, STORAGE_DAEMON) as start:
        def begin(configuration: Configuration) -> HeldDaemon:
            system = start(configuration)
            assert isinstance(system, HeldDaemon)
            return system

        for end in ENDS:
            result.tally.operations["end with requests under way"] += 1
            result.divergences += [
                Divergence(AREA, f"end: {each}", system=SystemKind.QSD.value)
                for each in check_end(end, begin, result.profile.capabilities)]
