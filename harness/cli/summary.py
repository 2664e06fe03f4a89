# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a run for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import Console

from harness.builds import STORAGE_DAEMON, SYSTEM, Build
from harness.cli.console import output
from harness.cli.results import Divergence, Result
from harness.exploration.grounds import replay_command
from harness.lockstep.human import counted
from harness.reproducers.attempt import by_hand
from harness.systems.capabilities import describe, until
from harness.systems.known_defects import spelled
from model.rules import RULES

SHOWN: Final = 30
"""Lines of a trace that are printed."""
AT_LENGTH: Final = 3
"""So many divergences are told at length, unless all are asked for."""


def show(result: Result, *, verbose: bool = False, interrupted: bool = False,
         stderr: bool = False) -> None:
    """Print it, to standard error if the other is taken."""
    console = output(stderr=stderr)
    build, tally = result.build, result.tally
    tools = " and ".join(name for name in (STORAGE_DAEMON, SYSTEM) if build.has(name))
    console.print(f"QEMU {build.version}: {tools} in {build.path}" if tools
                  else f"QEMU {build.version}", style="bold")
    rate = f", {tally.steps / result.elapsed:.0f} steps/s" if result.elapsed else ""
    directed = "" if result.scope else f", {tally.directed} of them directed checks,"
    console.print(f"{counted(tally.steps, 'step')} in {counted(tally.traces, 'trace')}{directed} "
                  f"in {result.elapsed:.1f} s{rate}; "
                  f"{result.scope or f'seed {result.seed}{result.part.words}'}")
    if result.load is not None:
        console.print(f"load: {result.load.summary}")
    if result.coverage is not None:
        console.print("lines of QEMU executed: " + ", ".join(
            f"{source} {each.lines} of {each.of}" for source, each in result.coverage.items()))
    if result.kills is not None:
        console.print(f"kills: {result.kills.summary}")
    fired = [name for name in RULES if tally.rules[name]]
    console.print(f"{len(fired)} of {len(RULES)} rules of the model fired")
    if verbose:
        console.print(f"{len(tally.pairs)} pairs of rules fired, in one operation or in one and "
                      f"the next; {tally.drawing_share:.0%} of the time went into drawing")
        _rules(console, result)
    _known_defects(console, result.profile.defects, verbose=verbose)
    _list(console, "not checked", result.not_checked)
    for number, divergence in enumerate(result.divergences, start=1):
        if number > AT_LENGTH and not verbose:
            console.print()
            console.print(f"divergence {number} ({divergence.area}, {divergence.system}): "
                          f"{divergence.summary}", style="red")
            if divergence.story is not None:
                console.print(f"  the story: {divergence.story}")
        else:
            _divergence(console, number, divergence, build, verbose=verbose)
    if result.divergences:
        console.print()
    _verdict(console, result, interrupted)


def _known_defects(console: Console, names: Sequence[str], *, verbose: bool) -> None:
    """All that is known of each, or their names, as many as there is room for in a line."""
    title = f"{counted(len(names), 'known defect')} of this build"
    if verbose:
        _list(console, title, [f"{spelled(name)}: {describe(name)}{_mended(name)}"
                               for name in names])
    elif names:
        _list(console, f"{title} (-v tells more)", textwrap.wrap(
            ", ".join(map(spelled, names)), console.width - 2, break_on_hyphens=False,
            break_long_words=False))


def _verdict(console: Console, result: Result, interrupted: bool) -> None:
    count = len(result.divergences)
    found = counted(count, "divergence")
    if interrupted:
        console.print(f"INTERRUPTED: {found} so far", style="bold yellow")
    elif count:
        console.print(f"DIVERGES: {found}", style="bold red")
    else:
        defects = len(result.profile.defects)
        but = f", but for {counted(defects, 'known defect')}" if defects else ""
        console.print(f"CONFORMS{but}", style="bold green")


def _divergence(console: Console, number: int, each: Divergence, build: Build, *,
                verbose: bool) -> None:
    console.print()
    often = f", in {each.times} traces" if each.times > 1 else ""
    console.print(f"divergence {number} ({each.area}, {each.system}{often})", style="bold red")
    for line in divergence_lines(each, build, verbose=verbose):
        console.print(f"  {line}")


def divergence_lines(each: Divergence, build: Build, *,
                     verbose: bool = False) -> Iterator[str]:
    """What it is, where its files are, and the commands that do it again on the build."""
    yield each.summary
    yield from (f"  {line}" for line in _shortened(each.lines))
    if each.again:
        yield f"done again: {each.again}"
    if each.elapsed is not None and verbose:
        yield f"found after {each.elapsed:.1f} s"
    if each.story is not None and verbose:
        yield from (f"| {line}" for line in each.story.read_text(encoding="utf-8").splitlines())
    elif each.story is not None:
        yield f"the story: {each.story}"
    if each.trace is not None:
        what = "what leads there" if each.repeat else "replay it"
        yield f"{what}: {replay_command(each.trace, each.system, build.name)}"
    if each.repeat:
        yield f"do it again: {each.repeat}"
    if each.reproducer is not None:
        yield f"without the harness: {by_hand(each.reproducer, build)}"
    if each.iotest is not None:
        yield f"as a test for QEMU's tree: {each.iotest}"
    if each.tried:
        yield each.tried


def _shortened(lines: Sequence[str]) -> Sequence[str]:
    """The lines, or, of very many, the first and the last."""
    if len(lines) <= SHOWN:
        return lines
    left_out = f"... {len(lines) - SHOWN} lines more, see the trace"
    return (*lines[:SHOWN // 3], left_out, *lines[SHOWN // 3 - SHOWN:])


def _rules(console: Console, result: Result) -> None:
    for name in RULES:
        console.print(f"  {result.tally.rules[name]:8} {name}")


def _mended(name: str) -> str:
    release = until(name)
    return f" (mended in {release})" if release else " (not mended so far)"


def _list(console: Console, title: str, items: Iterable[str]) -> None:
    items = list(items)
    if items:
        console.print(f"{title}:")
        for item in items:
            console.print(f"  {item}")
