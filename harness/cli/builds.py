# SPDX-License-Identifier: GPL-2.0-or-later
"""``builds``: which QEMUs are here, what each can do; bring one from Debian."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Final

from rich.table import Table

from harness.builds import ON_PATH, TOOLS, Build, fetch, fetched, find
from harness.cli.console import Progress, output
from harness.errors import HarnessError
from harness.exploration.subjects import Subject, subject_of
from harness.invocation import command
from harness.systems.capabilities import describe
from harness.systems.known_defects import spelled
from model.capabilities import Capabilities

SECTIONS: Final = (("can do", False), ("known defects", True))
"""Of capabilities: a title, and whether the section is of deviations."""


def builds(options: argparse.Namespace) -> int:
    """The command."""
    verbs = {"list": _list, "show": _show, "fetch": _fetch}
    return verbs[options.verb](options)


def _list(options: argparse.Namespace) -> int:
    """Builds side by side; one that cannot be used says why."""
    known: dict[str, Subject | str] = {}
    for spec in (None, *fetched()):
        name = spec or ON_PATH
        try:
            known[name] = subject_of(find(spec))
        except HarnessError as why:
            known[name] = str(why)
    subjects = {name: each for name, each in known.items() if isinstance(each, Subject)}
    console = output()
    if subjects:
        console.print(_side_by_side(subjects))
    for name, each in known.items():
        if isinstance(each, str):
            console.print(f"{name}: {each}")
    if len(known) == 1:
        console.print(f"more builds: {command('builds fetch debian:trixie')}")
    return 0


def _side_by_side(subjects: dict[str, Subject]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for name, subject in subjects.items():
        # A column as narrow as can be: names of builds are longer than what stands below them.
        lines = [*name.replace(":", ":\n").replace("-", "-\n").split("\n"),
                 subject.build.version.split()[0]]
        table.add_column("\n".join(lines), vertical="bottom", no_wrap=True)
    for title, deviation in SECTIONS:
        table.add_row(title, style="bold")
        for each in dataclasses.fields(Capabilities):
            if each.metadata["deviation"] is deviation:
                table.add_row(f"  {spelled(each.name)}", *(
                    "yes" if getattr(subject.profile.capabilities, each.name) else "-"
                    for subject in subjects.values()))
    return table


def _show(options: argparse.Namespace) -> int:
    build = find(options.build)
    console = output()
    console.print(f"QEMU {build.version}: {build.path}", style="bold")
    for line in _tools(build):
        console.print(f"  {line}")
    subject = subject_of(build, cache=not options.no_cache)
    profile = subject.profile
    for title, deviations in SECTIONS:
        console.print(f"{title}:")
        for each in dataclasses.fields(Capabilities):
            if each.metadata["deviation"] is deviations:
                has = "yes" if getattr(profile.capabilities, each.name) else "no"
                console.print(f"  {has:4} {spelled(each.name)}: {describe(each.name)}")
    for found in profile.divergences:
        console.print(f"DIVERGES: probe {spelled(found.capability)}: {found.strange}",
                      style="bold red")
    for text in subject.not_checked:
        console.print(f"not checked: {text}")
    return 1 if profile.divergences else 0


def _tools(build: Build) -> list[str]:
    missing = build.missing()
    lines = []
    for name in TOOLS:
        if build.has(name):
            tool = build.tool(name)
            lent = " (lent by PATH)" if tool.borrowed else ""
            lines.append(f"{name}: {tool.path}{lent}")
        else:
            lines.append(f"{name}: missing; Debian has it in {missing[name]}")
    return lines


def _fetch(options: argparse.Namespace) -> int:
    with Progress() as progress:
        progress.phase(f"fetching {options.suite}")
        fetch(options.suite, progress=progress.note)
    console = output()
    console.print(f"{options.suite} is here: use it by --qemu-build {options.suite}")
    return 0
