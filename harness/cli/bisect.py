# SPDX-License-Identifier: GPL-2.0-or-later
"""``bisect``: one trace, one build, in the exit codes of ``git bisect run``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Final

from harness.builds import SYSTEM
from harness.cli.console import output
from harness.cli.files import check_file, write
from harness.cli.single import check, ground_of
from harness.errors import EnvironmentProblem, HarnessError
from harness.exploration.grounds import TOOLS, Ground, where
from harness.lockstep.replay import replay
from harness.lockstep.trace import SystemKind, Trace, load
from harness.lockstep.verdict import Conforms
from harness.systems.failure import SystemFailed

GOOD, BAD, SKIP = 0, 1, 125
TARGET: Final = "x86_64-softmmu"
_ROOT: Final = Path(__file__).parents[2]
_SCRIPT: Final = """\
#!/bin/sh
# Run it in a QEMU tree:  git bisect start BAD GOOD && git bisect run sh {name}
# exit status: 0 good, 1 bad, 125 this commit cannot be judged, 255 no commit can be

for each in {needs}; do [ -e "$each" ] || {{ echo "$each has gone"; exit 255; }}; done
build={build}
[ -e $build/config.status ] || {{
    mkdir -p $build && (cd $build && ../configure --target-list={targets} --enable-tools)
}} || exit 125
ninja -C $build {programs} || exit 125
{judge}
status=$?
# Git takes any other number below 128 for a bad commit, and stops at one above.
case $status in 0|1|125) exit $status ;; *) exit 255 ;; esac
"""
_TOOLS: Final = "storage-daemon/qemu-storage-daemon qemu-img qemu-io"


def bisect(options: argparse.Namespace) -> int:
    """The command."""
    if options.script is not None:
        return _write_script(options.trace, options.script)
    trace = load(options.trace)
    console = output()
    try:
        code, said = _judged(trace, options)
    except SystemFailed as why:
        # Not by an operation of the trace, of which that would be the verdict.
        code, said = SKIP, f"cannot be judged: before the trace began, {why}"
    except HarnessError as why:
        code, said = SKIP, f"cannot be judged: {why}"
    console.print(said)
    return code


def _judged(trace: Trace, options: argparse.Namespace) -> tuple[int, str]:
    ground = ground_of(trace, options.qemu_build)
    if trace.header.system in TOOLS and ground.plan.system is not trace.header.system:
        return SKIP, f"cannot be judged: {_no_system(trace, ground)}"
    with ground.open() as stand:
        check(trace, stand, ground, options.trace)
        verdict = replay(trace, stand)
    if isinstance(verdict, Conforms):
        return GOOD, f"good: {where(ground)} {verdict.summary}"
    if verdict.step.number != trace.steps[-1].number:
        return SKIP, f"cannot be judged: it {verdict.summary}, before the trace's end"
    return BAD, f"bad: {where(ground)} {verdict.summary}"


def _no_system(trace: Trace, ground: Ground) -> str:
    """Why a trace cannot be judged on a system of another kind than it was found on."""
    wanted = TOOLS[trace.header.system]
    how = (f"; configure QEMU with --target-list={TARGET}, as the script of bisect --script does"
           if wanted == SYSTEM else "")
    return (f"the trace was found on a {wanted}, and the build has none; what a "
            f"{TOOLS[ground.plan.system]} answers says nothing of it{how}")


def _write_script(judge: Path, file: Path) -> int:
    """A script that builds a commit and judges it, by the trace or by its reproducer."""
    check_file(file)
    path = shlex.quote(str(judge.resolve()))
    needs = path
    if judge.suffix == ".sh":
        try:
            # The line by which it finds the program.
            system = f"program {SYSTEM}" in judge.read_text(encoding="utf-8")
        except OSError as why:
            raise EnvironmentProblem(f"cannot read {judge}: {why.strerror}") from why
        how = f'sh {path} "$PWD/$build"'
    else:
        system = load(judge).header.system is SystemKind.QEMU_SYSTEM
        needs += f" {shlex.quote(str(_ROOT / 'harness'))}"
        how = (f"export PYTHONPATH={shlex.quote(str(_ROOT))}\n"
               f"{shlex.quote(sys.executable)} -m harness bisect {path} "
               '--qemu-build "$PWD/$build"')
    # Not in one folder: what was configured without a qemu-system would stay so.
    write(file, _SCRIPT.format(
        name=shlex.quote(file.name), needs=needs, judge=how, targets=TARGET if system else "",
        build="build-bisect-system" if system else "build-bisect",
        programs=f"{SYSTEM} {_TOOLS}" if system else _TOOLS))
    output().print(f"in a QEMU tree: git bisect start BAD GOOD && git bisect run sh "
                   f"{shlex.quote(str(file.resolve()))}")
    return GOOD
