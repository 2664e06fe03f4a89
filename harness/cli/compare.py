# SPDX-License-Identifier: GPL-2.0-or-later
"""``compare``: two builds, each other's oracle, with the model as the third opinion."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from harness.builds import find
from harness.cli.console import Progress, output
from harness.cli.files import check_file, check_folder, write
from harness.cli.main import INTERRUPTED
from harness.cli.release_note import Deviation, Side, differences, release_note
from harness.cli.report import RUN, comparison_report
from harness.cli.results import divergence_of
from harness.exploration import areas
from harness.exploration.campaign import MOST_FINDS, batches
from harness.exploration.differential import Comparison, Contest, contest, fares
from harness.exploration.investigate import investigate, keep
from harness.exploration.subjects import Subject, subject_of
from harness.lockstep.trace import load
from harness.systems.known_defects import spelled

SHRINKING: Final = 15.0
"""Seconds for each difference that no capability explains."""
MOST_SHRUNK: Final = 5
"""Further ones are saved as they are."""


def compare(options: argparse.Namespace) -> int:
    """The command."""
    chosen = areas.chosen(options.area)
    check_folder(options.output)
    for file in (options.json, options.report):
        if file is not None:
            check_file(file)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    found = Comparison()
    with Progress() as progress:
        subjects = []
        # That one of them is not there is to be said before the other is probed.
        for build in [find(spec) for spec in options.builds]:
            progress.phase(f"probing QEMU {build.version}")
            subjects.append(subject_of(build))
        first, second = subjects
        held = contest(first.grounds, second.grounds, [area.name for area in chosen], seed)
        progress.phase(f"comparing QEMU {first.build.version} and {second.build.version}, "
                       f"seed {seed}")
        try:
            _search(options, held, found, progress)
            deviations = _look_into(found, held, options, progress)
            interrupted = False
        except KeyboardInterrupt:
            deviations = _look_into(found, held, options, progress, most=0)
            interrupted = True
    sides = _sides(subjects)
    by_capability = differences(found, *(side.capabilities for side in sides))
    plain = {
        "builds": [_build(subject) for subject in subjects], "seed": seed, "steps": found.steps,
        "traces": found.traces, "directed": found.directed,
        "explained": [each.to_json() for each in by_capability],
        "unexplained": [each.to_json() for each in deviations],
    }
    _show(release_note(by_capability, deviations, sides), found, held, subjects, seed)
    text = json.dumps(plain, indent=2) + "\n"
    if deviations:
        write(options.output / RUN, text)
    if options.json is not None:
        write(options.json, text)
    if options.report is not None:
        write(options.report, comparison_report(plain, options.output))
    if interrupted:
        output().print("INTERRUPTED: that is what was found so far", style="bold yellow")
        return INTERRUPTED
    return 1 if found.unexplained else 0


def _search(options: argparse.Namespace, held: Contest, found: Comparison,
            progress: Progress) -> None:
    seconds = options.seconds
    if seconds is None and options.steps is None:
        seconds = options.default_seconds
    deadline = None if seconds is None else time.monotonic() + seconds
    for each in held.deadly():
        found.explain(each)
    with closing(batches(held, deadline, options.workers)) as coming:
        for batch in coming:
            found.add(batch)
            progress.note(f"{found.steps:,} steps in {found.traces:,} traces, "
                          f"{len(found.explained)} differences, "
                          f"{len(found.unexplained)} unexplained")
            if ((deadline is not None and time.monotonic() >= deadline)
                    or (options.steps is not None and found.steps >= options.steps)
                    or len(found.unexplained) >= MOST_FINDS):
                return


def _look_into(found: Comparison, held: Contest, options: argparse.Namespace,
               progress: Progress, most: int = MOST_SHRUNK) -> list[Deviation]:
    """Save what no capability explains, shrink and explain the first ones; those that are then the
    same, once."""
    made: dict[object, Deviation] = {}
    for number, each in enumerate(found.unexplained.values(), start=1):
        pair = held.pairs[each.find.ground]
        became = keep(each.find, number, options.output)
        other = each.other
        if number <= most:
            progress.phase(f"looking into unexplained difference {number}")
            became = investigate(became, pair.sides[each.side], SHRINKING)
            if became.shrunk is not None and not each.alike:
                other = fares(load(became.shrunk), pair.sides[1 - each.side])
        made.setdefault((each.side, became.steps or number), Deviation(
            each.side, other, each.alike, divergence_of(became, pair.plan.system.value)))
    return list(made.values())


def _sides(subjects: Sequence[Subject]) -> list[Side]:
    versions = [subject.build.version.split()[0] for subject in subjects]
    if versions[0] == versions[1]:
        versions = [f"{version} of {subject.build.name}"
                    for version, subject in zip(versions, subjects, strict=True)]
    return [Side(version, subject.profile.capabilities, subject.build)
            for version, subject in zip(versions, subjects, strict=True)]


def _build(subject: Subject) -> dict[str, Any]:
    return {"name": subject.build.name, "path": str(subject.build.path),
            "version": subject.build.version,
            "capabilities": {spelled(name): has for name, has in dataclasses.asdict(
                subject.profile.capabilities).items()}}


def _show(note: Iterator[str], found: Comparison, held: Contest, subjects: Sequence[Subject],
          seed: int) -> None:
    console = output()
    for number, line in enumerate(note):
        console.print(line, style="bold" if number == 0 else "")
    not_checked = dict.fromkeys(each for subject in subjects for each in subject.not_checked)
    if not_checked:
        console.print("not compared:")
        for each in not_checked:
            console.print(f"  {each}")
    kinds = " and ".join(pair.plan.system.value for pair in held.pairs)
    console.print(f"{found.steps} steps in {found.traces} traces, {found.directed} of them "
                  f"directed checks, on {kinds}, seed {seed}: the same operations on both, each "
                  "in lockstep with the model")
