# SPDX-License-Identifier: GPL-2.0-or-later
"""Handing a divergence over: files that stand alone, tried first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.builds import Build
from harness.errors import EnvironmentProblem, HarnessError
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms, Failure
from harness.reproducers.attempt import attempt
from harness.reproducers.compile import NoReproducer, Words, compiled
from harness.reproducers.iotest import OUTPUT, iotest
from harness.reproducers.schedule import schedule
from harness.reproducers.script import Script
from harness.reproducers.shell import shell
from harness.reproducers.unheld import is_held, unheld
from model.machine import Impossible

_WORDS: Final = (Words(qemu_io=True), Words(qemu_io=False))
"""Nearest to what a maintainer would type first; then exactly what the harness did."""


@dataclass(frozen=True, slots=True)
class Reproducers:
    """The files, and a line of how they were tried, or why there are none."""

    note: str
    shell: Path | None = None
    iotest: Path | None = None


NOTHING: Final = Reproducers("")
"""None were asked for."""


def write_reproducers(trace: Trace, failure: Failure, stand: Stand, build: Build | None,
                      base: Path) -> Reproducers:
    """Write ``base`` with ``.sh``, ``.iotest`` and ``.iotest.out`` at its end, if the first of
    them fails at the right place on the build.

    ``build`` None: it was found on a simulation, so there is nothing to try it on.
    """
    version = "(simulated)" if build is None else build.version
    note = ""
    try:
        if is_held(trace):
            alone = _one_by_one(trace, stand)
            if alone is None:
                return _scheduled(trace, failure, stand, build, base)
            trace, failure = alone
        for words in _WORDS:
            script = compiled(trace, failure, stand.model, version, words)
            text = shell(script, f"{base.name}.sh")
            if build is None:
                return _written(script, text, base, "not tried: there is no build")
            tried = attempt(text, build)
            if tried.shows(script.last):
                return _written(script, text, base, f"tried: {tried.said}")
            note = note or f"no reproducer: alone it says: {tried.said or 'nothing'}"
    except (HarnessError, Impossible) as why:
        note = f"no reproducer: {why}"
    return Reproducers(note)


def _one_by_one(trace: Trace, stand: Stand) -> tuple[Trace, Failure] | None:
    """The trace without overlap; None if nothing is wrong then."""
    alone = unheld(trace)
    try:
        verdict = replay(alone, stand)
    except Impossible:
        return None
    return None if isinstance(verdict, Conforms) else (alone, verdict)


def _scheduled(trace: Trace, failure: Failure, stand: Stand, build: Build | None,
               base: Path) -> Reproducers:
    """The schedule with storage of its own."""
    file = base.with_name(f"{base.name}.sh")
    version = "(simulated)" if build is None else build.version
    text = schedule(trace, failure, stand.model, version, file.name)
    note = "not tried: there is no build"
    if build is not None:
        tried = attempt(text, build)
        if not tried.shows(failure.step.number):
            return Reproducers(f"no reproducer: alone it says: {tried.said or 'nothing'}")
        note = f"tried: {tried.said}"
    _write(file, text)
    return Reproducers(f"{note}; no iotest of a schedule", file)


def _written(script: Script, text: str, base: Path, note: str) -> Reproducers:
    file = base.with_name(f"{base.name}.sh")
    _write(file, text)
    test = base.with_name(f"{base.name}.iotest")
    try:
        _write(test, iotest(script))
    except NoReproducer as why:
        return Reproducers(f"{note}; {why}", file)
    _write(test.with_name(f"{test.name}.out"), OUTPUT)
    return Reproducers(note, file, test)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    except OSError as why:
        raise EnvironmentProblem(f"cannot write {file}: {why.strerror}") from why
