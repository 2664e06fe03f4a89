# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of ``verify`` that take more than a trace: load, kills, ends, and QEMU's own
breakpoints."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from harness.builds import STORAGE_DAEMON, SYSTEM
from harness.cli.results import Divergence, Result
from harness.clients.libnbd import libnbd_available
from harness.exploration.breakpoints import SCENARIOS, check, schedule_of
from harness.exploration.directed.ends import ENDS, End
from harness.exploration.directed.ends import check as check_end
from harness.exploration.grounds import Ground, RealGround, build_option
from harness.exploration.investigate import lines, prepare
from harness.exploration.kills import kill_rounds
from harness.exploration.load import LONG, put_load
from harness.invocation import command
from harness.lockstep.trace import SystemKind, Trace, save
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
    repeat = _command(result, AREA, f"--no-directed --load {seconds:g}")
    result.divergences += [Divergence(AREA, f"under load: {violation}",
                                      system=SystemKind.QSD.value, lines=load.place,
                                      repeat=repeat)
                           for violation in load.violations]


def growth_unseen(result: Result, grounds: Sequence[Ground], seconds: float) -> list[str]:
    """What a load of so many seconds leaves unchecked, in words."""
    if AREA not in result.areas or not _has(grounds, SystemKind.QSD) or seconds >= LONG:
        return []
    return [f"whether QEMU's memory grows: that takes a load of {LONG:g} s (--load {LONG:g})"]


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
    repeat = _command(result, PERSISTENCE, f"--no-directed --kill-rounds {kills.rounds}")
    result.divergences += [Divergence(PERSISTENCE, f"killed: {violation}",
                                      system=SystemKind.QSD.value, lines=kills.place,
                                      repeat=repeat)
                           for violation in kills.violations]


def _command(result: Result, area: str, options: str = "") -> str:
    """The command that does this part again, with as little else as can be."""
    return command(f"verify{build_option(result.build.name)} --area {area} --seed {result.seed} "
                   f"--steps 1 --no-corpus {options}").rstrip()


def _after(trace: Trace, then: str, summary: str, name: str, result: Result, folder: Path,
           system: SystemKind = SystemKind.QSD) -> Divergence:
    """What is wrong with what is done ``then``, when the trace has been done."""
    prepare(folder)
    path = folder / f"{name}.jsonl"
    save(path, trace)
    return Divergence(AREA, summary, trace.steps[-1].number, path, system=system, original=path,
                      lines=(*lines(trace), f"then: {then}"),
                      repeat=_command(result, AREA))


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


def verify_breakpoints(result: Result, folder: Path) -> None:
    """Do each scenario, and add to the result what came of it; traces go to the folder."""
    with starter(result.build, SYSTEM) as start:
        def start_system(configuration: Configuration) -> QemuSystem:
            system = start(configuration)
            assert isinstance(system, QemuSystem)
            return system

        capabilities = result.profile.capabilities
        for number, scenario in enumerate(SCENARIOS, start=1):
            result.tally.operations["step beside a breakpoint"] += len(scenario.steps)
            result.divergences += [
                _after(schedule_of(scenario, capabilities),
                       "the same on qemu-system, whose blkdebug holds the requests",
                       f"breakpoint: {each}", f"breakpoint-{number}", result, folder,
                       SystemKind.QEMU_SYSTEM)
                for each in check(scenario, start_system, capabilities)]


def has_ends(result: Result, grounds: Sequence[Ground], seconds: float | None) -> bool:
    """Whether it is checked what ends while requests are under way."""
    return _overlaps(result, grounds, SystemKind.QSD, seconds)


def verify_ends(result: Result, folder: Path) -> None:
    """Do each of :data:`harness.exploration.directed.ends.ENDS`; the result has what came of
    it, the folder the traces."""
    with starter(result.build, STORAGE_DAEMON) as start:
        def begin(configuration: Configuration) -> HeldDaemon:
            system = start(configuration)
            assert isinstance(system, HeldDaemon)
            return system

        capabilities = result.profile.capabilities
        for number, end in enumerate(ENDS, start=1):
            result.tally.operations["end with requests under way"] += 1
            result.divergences += [
                _after(end.script(capabilities).trace(), _told(end), f"end: {each}",
                       f"end-{number}", result, folder)
                for each in check_end(end, begin, capabilities)]


def _told(end: End) -> str:
    """What is done in the end, and how it must go."""
    return f"{end.name}: {' '.join((inspect.getdoc(end.act) or '').split())}"
