# SPDX-License-Identifier: GPL-2.0-or-later
"""``compare``: two builds, each other's oracle, with the model as the third opinion."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Sequence
from typing import Final

from harness.builds import find
from harness.cli.console import Progress, output
from harness.cli.files import check_file, write
from harness.cli.release_note import Side, release_note
from harness.exploration import areas
from harness.exploration.campaign import MOST_FINDS
from harness.exploration.differential import Comparison, telling
from harness.exploration.differential import compare as differences
from harness.exploration.subjects import Subject, subject_of
from harness.lockstep.shrink import Budget, shrink
from harness.lockstep.trace import header_line, step_line
from harness.lockstep.verdict import Conforms
from harness.report.comparison import comparison_page
from harness.systems.capabilities import describe
from harness.systems.known_defects import spelled

SHRINKING: Final = 10.0
"""Seconds for each difference that no capability explains."""
MOST_SHRUNK: Final = 5


def compare(options: argparse.Namespace) -> int:
    """The command."""
    chosen = areas.chosen(options.area)
    if options.json is not None:
        check_file(options.json)
    if options.report is not None:
        check_file(options.report)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    with Progress() as progress:
        subjects = []
        for spec in options.builds:
            build = find(spec)
            progress.phase(f"probing QEMU {build.version}")
            subjects.append(subject_of(build))
        first, second = subjects
        progress.phase(f"comparing QEMU {first.build.version} and {second.build.version}, "
                       f"seed {seed}")
        found = _search(options, subjects, chosen, seed, progress)
        _make_short(found, subjects, progress)
    _show(found, subjects, seed)
    plain = _as_json(found, subjects, seed)
    if options.json is not None:
        write(options.json, json.dumps(plain, indent=2) + "\n")
    if options.report is not None:
        write(options.report, comparison_page(plain))
    return 1 if found.unexplained else 0


def _search(options: argparse.Namespace, subjects: Sequence[Subject],
            chosen: Sequence[areas.Area], seed: int, progress: Progress) -> Comparison:
    seconds = options.seconds
    if seconds is None and options.steps is None:
        seconds = options.default_seconds
    deadline = None if seconds is None else time.monotonic() + seconds
    found = Comparison()
    first, second = (subject.grounds[0] for subject in subjects)
    plans = first.plan, second.plan
    known = telling(plans[0].capabilities, plans[1].capabilities, plans[0].system)
    for found in differences((first, second), chosen, seed, known):
        progress.note(f"{found.steps:,} steps in {found.traces:,} traces, "
                      f"{len(found.explained)} differences, {len(found.unexplained)} unexplained")
        if ((deadline is not None and time.monotonic() >= deadline)
                or (options.steps is not None and found.steps >= options.steps)
                or len(found.unexplained) >= MOST_FINDS):
            break
    return found


def _make_short(found: Comparison, subjects: Sequence[Subject], progress: Progress) -> None:
    """Make the traces of the first unexplained differences minimal."""
    for key in list(found.unexplained)[:MOST_SHRUNK]:
        each = found.unexplained[key]
        progress.phase(f"shrinking what {subjects[each.side].build.version} does")
        with subjects[each.side].grounds[0].open() as stand:
            result = shrink(each.trace, stand, budget=Budget(seconds=SHRINKING), attempts=1)
        if not isinstance(result.verdict, Conforms):
            found.unexplained[key] = dataclasses.replace(
                each, trace=result.trace, summary=result.verdict.summary)


def _show(found: Comparison, subjects: Sequence[Subject], seed: int) -> None:
    console = output()
    versions = [subject.build.version.split()[0] for subject in subjects]
    if versions[0] == versions[1]:
        versions = [f"{version} of {subject.build.name}"
                    for version, subject in zip(versions, subjects, strict=True)]
    sides = [Side(version, subject.profile.capabilities)
             for version, subject in zip(versions, subjects, strict=True)]
    for number, line in enumerate(release_note(found, sides, seed)):
        console.print(line, style="bold" if number == 0 else "")


def _as_json(found: Comparison, subjects: Sequence[Subject], seed: int) -> dict[str, object]:
    return {
        "builds": [{"path": str(subject.build.path), "version": subject.build.version,
                    "capabilities": {spelled(name): has for name, has in dataclasses.asdict(
                        subject.profile.capabilities).items()}}
                   for subject in subjects],
        "seed": seed, "steps": found.steps, "traces": found.traces,
        "explained": [{"capability": spelled(each.capability),
                       "text": " and ".join(map(describe, each.capability.split(" and "))),
                       "operations": sorted(each.operations), "example": each.example}
                      for each in found.explained.values()],
        "unexplained": [{"build": each.side, "summary": each.summary, "other": each.other,
                         "trace": [header_line(each.trace.header),
                                   *map(step_line, each.trace.steps)]}
                        for each in found.unexplained.values()],
    }
