# SPDX-License-Identifier: GPL-2.0-or-later
"""``verify``: does a build conform?"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.builds import ON_PATH, find
from harness.cli.console import Progress
from harness.cli.cut_off import bring_back
from harness.cli.files import check_folder, write
from harness.cli.load import (
    growth_unseen,
    has_breakpoints,
    has_ends,
    kill_seconds,
    load_seconds,
    verify_breakpoints,
    verify_ends,
    verify_kills,
    verify_load,
)
from harness.cli.main import INTERRUPTED
from harness.cli.outputs import check_outputs, on_stderr, write_outputs
from harness.cli.parser import UsageError
from harness.cli.probed import by_probes
from harness.cli.report import RUN, campaign_report, runs_of
from harness.cli.results import Divergence, Result, as_json, divergence_of, suite_of
from harness.cli.shelf import Shelf
from harness.cli.summary import show
from harness.cli.values import KnownDefects
from harness.errors import EnvironmentProblem
from harness.exploration import areas, campaign, confirmed, corpus, coverage, exhaustive
from harness.exploration.campaign import Budget
from harness.exploration.explorer import Mission
from harness.exploration.grounds import kind
from harness.exploration.investigate import Investigated, build_of, investigate, keep
from harness.exploration.steering import CANDIDATES
from harness.exploration.subjects import Subject, simulated_subject, subject_of
from harness.exploration.tally import Tally
from harness.lockstep.human import counted
from harness.lockstep.shrink import Statistics
from harness.lockstep.trace import Trace, load
from harness.processes import Workspace

SHRINKING: Final = 20.0
"""Seconds for each divergence."""
MOST_SHRUNK: Final = 5
"""Further divergences are saved as they are."""


@dataclass
class _Keeper:
    """Saves the trace of each new find at once, whatever becomes of the run."""

    folder: Path
    shelf: Shelf
    """Where it is kept for later runs, too."""
    tally: Tally = field(default_factory=Tally)
    """As it was last."""
    kept: dict[object, Investigated] = field(default_factory=dict)

    def take(self, tally: Tally) -> Iterator[Investigated]:
        """Save what is new."""
        self.tally = tally
        for key, find_ in tally.finds.items():
            if key not in self.kept:
                self.kept[key] = keep(find_, len(self.kept) + 1, self.folder)
                self.shelf.keep(find_, find_.trace)
                yield self.kept[key]


def verify(options: argparse.Namespace) -> int:
    """The command."""
    chosen = areas.chosen(options.area)
    check_folder(options.output)
    if options.corpus is not None:
        check_folder(options.corpus, "--corpus")
    check_outputs(options)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    if options.simulated is not None and (options.load or options.kill_rounds):
        raise UsageError("no load is put on a simulation, nor is it killed: leave out --load and "
                         "--kill-rounds")
    if options.simulated is not None and options.coverage:
        raise UsageError("a simulation executes no lines of QEMU: leave out --coverage")
    if options.steer == "lines" and options.coverage is None:
        raise UsageError("--steer lines needs --coverage, and a build made with --enable-gcov")
    specs: Sequence[str | None] = options.qemu_build or [None]
    for spec in specs[1:]:  # that one is not there is to be said before an hour with the others
        find(spec)
    bring_back(options.output)
    results: list[Result] = []
    interrupted = False
    for spec in specs:
        folder = options.output if len(specs) == 1 else options.output / _name(spec)
        result, interrupted = _one(options, spec, folder, chosen, seed)
        results.append(result)
        if result.divergences and folder.is_dir():
            write(folder / RUN, json.dumps(result.to_json(), indent=2) + "\n")
        show(result, verbose=bool(options.verbose), interrupted=interrupted,
             stderr=on_stderr(options))
        if interrupted:
            break
    plain = as_json(results)
    write_outputs(options, [suite_of(result) for result in results], plain,
                  lambda: campaign_report(runs_of(plain), options.output))
    if interrupted:
        return INTERRUPTED
    return 0 if all(result.conforms for result in results) else 1


def _name(spec: str | None) -> str:
    return ON_PATH if spec is None else spec.strip("/").replace("/", "-").replace(":", "-")


def _one(options: argparse.Namespace, spec: str | None, folder: Path,
         chosen: Sequence[areas.Area], seed: int) -> tuple[Result, bool]:
    begun = time.monotonic()
    with Progress() as progress, Workspace() as workspace:
        gauge = coverage.Gauge(options.coverage, workspace.path) if options.coverage else None
        subject = _subject(options, spec, progress, gauge)
        build = subject.build
        dwelt_on = ((exhaustive.AREA,) if options.exhaustive
                    else tuple(area.name for area in chosen))
        result = Result(build, subject.profile, seed, dwelt_on,
                        part=options.part, not_checked=list(subject.not_checked))
        result.divergences += by_probes(subject, folder, options.known_defects)
        mission = Mission(subject.grounds, subject.shares, result.areas, seed,
                          directed=not options.no_directed and not options.exhaustive,
                          looks=options.looks, exhaustive=options.exhaustive,
                          candidates=1 if options.steer == "none" else CANDIDATES,
                          tree=options.coverage if options.steer == "lines" else None,
                          part=options.part)
        keeper = _Keeper(folder, Shelf(_corpus(options, mission)))
        if keeper.shelf.folder is not None:
            mission = dataclasses.replace(
                mission, corpus=corpus.kept(keeper.shelf.folder, mission.grounds))
        what = exhaustive.words(options.exhaustive) if options.exhaustive else f"seed {seed}"
        what += mission.part.words
        progress.phase(f"verifying QEMU {build.version.split()[0]}, {what}")
        interrupted = False
        seconds = options.seconds
        if seconds is None and options.steps is None and not options.exhaustive:
            seconds = options.default_seconds
        for_load = load_seconds(result, subject.grounds, seconds, options.load)
        for_kills = 0.0 if options.kill_rounds else kill_seconds(
            result, subject.grounds, seconds)
        result.not_checked += growth_unseen(result, subject.grounds, for_load)
        left = seconds
        if seconds is not None:
            left = seconds - for_kills - (0.0 if options.load else for_load)
        try:
            if mission.directed and has_breakpoints(result, subject.grounds, seconds):
                verify_breakpoints(result, folder)
            if mission.directed and has_ends(result, subject.grounds, seconds):
                verify_ends(result, folder)
            budget = Budget(left, options.steps)
            progress.expect(result.areas, left, options.steps)
            result.tally = explore(options, budget, mission, keeper, progress)
            if for_load:
                progress.phase(f"load on QEMU {build.version}")
                verify_load(result, for_load)
            if for_kills or options.kill_rounds:
                progress.phase(f"kills of QEMU {build.version}")
                verify_kills(result, for_kills or math.inf, options.kill_rounds)
            progress.phase("looking into divergences" if keeper.kept else "done")
            look_into(keeper, mission, progress)
        except KeyboardInterrupt:
            interrupted = True
            result.tally = keeper.tally
        shrunk = list(keeper.kept.values())
        if any(build_of(ground) for ground in mission.grounds):
            confirmed.add(build.version, result.tally.rules)
        if gauge is not None:
            try:
                result.coverage = coverage.reached(gauge.read(), result.tally.lines)
            except EnvironmentProblem as why:  # the tree is another by now, but what was found is
                result.not_checked.append(f"which lines of QEMU were executed: {why}")
        result.divergences += _divergences(shrunk, mission, result.tally)
        if options.exhaustive:
            result.scope = f"{result.tally.sequences:,} of {what}"
            result.not_checked += exhaustive.undone(
                options.exhaustive, result.tally.sequences, result.tally.killing,
                mission.sequences)
        directed = mission.directed_here()
        undone = directed - result.tally.directed
        if undone > 0 and not interrupted:
            result.not_checked.append(f"{undone} of {directed} directed checks: the "
                                      "budget was spent before they were done")
        result.not_checked += [
            f"the rest of {counted(times, 'trace')} that the model lets be drawn and not be done, "
            f"a defect of its own: {why}" for why, times in sorted(result.tally.astray.items())]
    result.elapsed = time.monotonic() - begun
    return result, interrupted


def _subject(options: argparse.Namespace, spec: str | None, progress: Progress,
             gauge: coverage.Gauge | None) -> Subject:
    if options.simulated is not None:
        return simulated_subject(options.simulated)
    build = find(spec) if gauge is None else gauge.on(find(spec))
    progress.phase(f"probing QEMU {build.version}")
    return subject_of(build, cache=not options.no_cache,
                      deadly=options.known_defects is not KnownDefects.AVOID)


def _corpus(options: argparse.Namespace, mission: Mission) -> Path | None:
    """Where finds are kept for later runs; None: nowhere, as for simulations."""
    if options.no_corpus:
        return None
    real = any(build_of(ground) for ground in mission.grounds)
    folder: Path | None = options.corpus
    return folder or (corpus.default_folder() if real else None)


def explore(options: argparse.Namespace, budget: Budget, mission: Mission, keeper: _Keeper,
            progress: Progress) -> Tally:
    """Explore within the budget."""
    def take(tally: Tally) -> None:
        for each in keeper.take(tally):
            progress.line(f"divergence {each.number}, {each.trace}: {each.find.summary}")
        if options.verbose > 1:
            for line in tally.done:
                progress.line(line)
        progress.tally(tally)

    return campaign.explore(mission, budget, options.workers, take)


def look_into(keeper: _Keeper, mission: Mission, progress: Progress) -> None:
    """Shrink and explain the first finds."""
    for key, each in list(keeper.kept.items())[:MOST_SHRUNK]:

        def smaller(trace: Trace, statistics: Statistics, number: int = each.number) -> None:
            progress.note(f"divergence {number} in {len(trace.steps)} operations, "
                          f"{statistics.executions} tries")

        progress.note(f"divergence {each.number}")
        known = investigate(each, mission.grounds[each.find.ground], SHRINKING, smaller)
        keeper.kept[key] = known
        if known.shrunk is not None:
            keeper.shelf.keep(known.find, load(known.shrunk))


def _divergences(shrunk: Sequence[Investigated], mission: Mission,
                 tally: Tally) -> list[Divergence]:
    """One for each find, those that were made the same by shrinking once only, with the files of
    the first."""
    found: dict[object, Divergence] = {}
    for each in shrunk:
        times = tally.repeats[each.find.key] or 1
        key: object = each.steps or each.number
        if key in found:
            found[key] = dataclasses.replace(found[key], times=found[key].times + times)
            for file in each.trace.parent.glob(f"{each.trace.stem}.*"):
                file.unlink()
            continue
        found[key] = divergence_of(each, kind(mission.grounds[each.find.ground]), times)
    return list(found.values())
