# SPDX-License-Identifier: GPL-2.0-or-later
"""``replay`` and ``shrink``: one trace, one build."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from harness.builds import find
from harness.cli.console import Progress, output
from harness.cli.files import check_file
from harness.exploration.grounds import (
    TOOLS,
    Ground,
    RealGround,
    simulated,
    unexcusing,
    where,
)
from harness.exploration.investigate import build_of, is_hang
from harness.exploration.subjects import subject_of
from harness.exploration.sweep import with_looks
from harness.lockstep import human, recording
from harness.lockstep import replay as replaying
from harness.lockstep import shrink as shrinking
from harness.lockstep.explain import explain
from harness.lockstep.replay import Stand, check_possible
from harness.lockstep.run import Done
from harness.lockstep.trace import SystemKind, Trace, load, save
from harness.lockstep.verdict import Conforms, Verdict
from harness.reproducers.handover import write_reproducers
from model.configuration import Configuration
from model.machine import Machine
from model.outcome import BitmapView

_WIDTH = 60
"""Columns for an operation, before its answer."""


def replay(options: argparse.Namespace) -> int:
    """The command."""
    trace = load(options.trace)
    if options.stop_at is not None:
        trace = dataclasses.replace(trace, steps=tuple(
            step for step in trace.steps if step.number <= options.stop_at))
    console = output()
    ground = ground_of(trace, options.qemu_build, lie=options.simulated)
    console.print(where(ground))
    for line in elsewhere(trace, ground):
        console.print(f"     {line}")
    for line in human.configuration(trace.configuration):
        console.print(f"     {line}")
    if unknown := trace.header.unknown_capabilities:
        console.print("     the trace was made with capabilities that have no such name here: "
                      f"{', '.join(unknown)}")
    with ground.open() as stand:
        check(trace, stand, ground, options.trace)
        if options.looks:
            trace = with_looks(trace, ground.plan)
        watcher = recording.Watcher()

        models: list[Machine] = []
        fired: Counter[str] = Counter()

        def model(configuration: Configuration) -> Machine:
            models.append(stand.model(configuration))
            return models[-1]

        def watch(done: Done) -> None:
            nonlocal fired
            watcher.watch(done)
            rules = models[-1].rules.copy()
            _show(console, done, rules - fired, options.verbose)
            fired = rules

        verdict = replaying.replay(trace, dataclasses.replace(stand, model=model), watch=watch)
        if options.record:
            recording.save(recording.path_of(options.trace), recording.recording(
                trace, verdict, stand, where(ground), watcher.steps))
        code = _conclude(console, trace, verdict, stand)
        if options.reproducer is not None:
            _hand_over(console, trace, verdict, stand, ground, options.reproducer)
        return code


def shrink(options: argparse.Namespace) -> int:
    """The command."""
    trace = load(options.trace)
    target = options.to or options.trace.with_name(f"{options.trace.name}.shrunk")
    check_file(target)
    console = output()
    ground = ground_of(trace, options.qemu_build)
    with ground.open() as patient, Progress() as progress:
        check(trace, patient, ground, options.trace)
        progress.phase(f"shrinking {options.trace}")
        # A hang that was waited for in full need not be in each try, but in the end again.
        hung = is_hang(replaying.replay(trace, patient))
        with (ground.hasty() if hung else ground).open() as stand:
            result = shrinking.shrink(
                trace, stand, budget=shrinking.Budget(seconds=options.seconds),
                progress=lambda smaller, statistics: progress.note(
                    f"{len(smaller.steps)} operations, {statistics.executions} tries"))
        verdict = replaying.replay(result.trace, patient) if hung else result.verdict
    for line in elsewhere(trace, ground):
        console.print(line)
    console.print(f"{where(ground)}: {result.statistics.summary}")
    console.print(result.reproduction.summary)
    if not isinstance(verdict, Conforms) and result.reproduction.deterministic:
        save(target, result.trace)
        console.print(f"the shortest trace is in {target}")
    with ground.open() as stand:
        code = _conclude(console, result.trace, verdict, stand)
        if options.reproducer is not None:
            _hand_over(console, result.trace, verdict, stand, ground, options.reproducer)
        return code


def ground_of(trace: Trace, spec: str | None, *, lie: str | None = None) -> Ground:
    """Where the trace is done: the kind of system that it was made on, if the build has it; or
    on a simulation that tells this ``lie``, of no name for the truth."""
    header = trace.header
    if lie is not None:
        return simulated(header.capabilities, lie)
    subject = subject_of(find(spec))
    ground = next((ground for ground in subject.grounds if ground.plan.system is header.system),
                  subject.grounds[0])
    return unexcusing(ground, [each.replace("-", "_") for each in header.unexcused])


def elsewhere(trace: Trace, ground: Ground) -> list[str]:
    """A line to say that a trace is done on another kind of system than it was found on."""
    wanted = trace.header.system
    if not isinstance(ground, RealGround) or wanted in (ground.plan.system, SystemKind.SIMULATED):
        return []
    return [f"the trace was found on a {TOOLS[wanted]}, and the build has none: it is done on its "
            f"{TOOLS[ground.plan.system]}"]


def check(trace: Trace, stand: Stand, ground: Ground, path: Path) -> None:
    """Raise TraceError if an operation is impossible on this ground."""
    check_possible(trace, stand.model(trace.configuration), path, ground.plan.channels)


def _conclude(console: Console, trace: Trace, verdict: Verdict, stand: Stand) -> int:
    if isinstance(verdict, Conforms):
        console.print(f"CONFORMS: {human.counted(verdict.steps, 'step')}", style="bold green")
        return 0
    console.print()
    console.print(explain(trace, verdict, stand.model), end="")
    console.print(f"DIVERGES: {verdict.summary}", style="bold red")
    return 1


def _hand_over(console: Console, trace: Trace, verdict: Verdict, stand: Stand, ground: Ground,
               base: Path) -> None:
    """Write what stands alone, if there is anything wrong."""
    if isinstance(verdict, Conforms):
        console.print("no reproducer: nothing diverges")
        return
    made = write_reproducers(trace, verdict, stand, build_of(ground), base)
    for file in (made.shell, made.iotest):
        if file is not None:
            console.print(f"written: {file}")
    console.print(made.note)


def _show(console: Console, done: Done, rules: Iterable[str], verbose: int) -> None:
    what = f"{done.step.number:4} {human.operation(done.step.operation)}"
    console.print(f"{what:{_WIDTH}} {human.answer(done.answer)}",
                  style="red" if done.differences else "")
    if verbose > 1 and rules:
        console.print(f"       rules: {', '.join(sorted(rules))}", style="dim")
    if verbose:
        for node, views in done.found.bitmaps.items():
            console.print(f"       {node}: {', '.join(map(_bitmap, views))}", style="dim")


def _bitmap(view: BitmapView) -> str:
    return f"{view.name or 'anonymous'} {human.size(view.count)}/{human.size(view.granularity)}"
