# SPDX-License-Identifier: GPL-2.0-or-later
"""From a find to files that somebody can work with: trace, shortest trace, story."""

from __future__ import annotations

import dataclasses
import traceback
from dataclasses import dataclass
from pathlib import Path

from harness.builds import Build
from harness.errors import EnvironmentProblem, HarnessError
from harness.exploration.grounds import Ground, RealGround, where
from harness.exploration.tally import Find
from harness.lockstep import human, recording
from harness.lockstep.recording import Recording
from harness.lockstep.replay import replay
from harness.lockstep.shrink import Budget, Progress, shrink
from harness.lockstep.trace import Trace, save
from harness.lockstep.verdict import Conforms, Failed, Failure, Verdict
from harness.reproducers.handover import NOTHING, Reproducers, write_reproducers
from harness.systems.failure import SystemFailed, SystemHung


@dataclass(frozen=True)
class Investigated:
    """What became of a find."""

    find: Find
    number: int
    trace: Path
    shrunk: Path | None = None
    shrunk_length: int | None = None
    story: Path | None = None
    summary: str = ""
    """How the shortest trace ends, in one line."""
    again: str = ""
    """How it went when it was done again, in one line."""
    steps: tuple[str, ...] = ()
    """The shortest trace, a line an operation."""
    reproducers: Reproducers = NOTHING


def prepare(folder: Path) -> None:
    """Make the folder and see whether it can be written to; raises EnvironmentProblem."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as why:
        raise EnvironmentProblem(f"cannot write to {folder}: {why.strerror}") from why


def keep(find: Find, number: int, folder: Path, name: str = "") -> Investigated:
    """Save the trace of a find as it is; its files are called ``name``, if not by number and
    area."""
    prepare(folder)
    path = folder / f"{name or f'{number}-{find.area}'}.jsonl"
    save(path, find.trace)
    return Investigated(find, number, path, summary=find.summary)


def investigate(kept: Investigated, ground: Ground, seconds: float,
                progress: Progress | None = None) -> Investigated:
    """Do the trace again, make it minimal, and tell its story; files beside the trace.

    A hang has been waited for in full when it was found.  So tries to make it smaller are made in
    haste, and what they come to is waited for in full again when its story is told.
    """
    hung = kept.find.verdict == SystemHung.verdict
    try:
        with (ground.hasty() if hung else ground).open() as stand:
            result = shrink(kept.find.trace, stand, budget=Budget(seconds=seconds),
                            progress=progress)
        again = result.reproduction.summary
        if isinstance(result.verdict, Conforms):
            return _not_seen(kept, f"not seen again: {again}")
        verdict, seen = _seen(result.trace, result.verdict, ground)
        if isinstance(verdict, Conforms) or (hung and not is_hang(verdict)):
            return _not_seen(kept, "hangs no longer when it is waited for, only in haste: "
                             f"{result.verdict.summary}")
    except SystemFailed as why:
        return _not_seen(kept, f"{why.verdict} at the start: {why}")
    except Exception as why:
        # Shrinking asks of the model what nobody has asked it before; should it stumble there,
        # the find is still one.
        traceback.print_exc()
        return _not_seen(kept, f"not shrunk, by a defect of the harness: {why}")
    shrunk = kept.trace.with_suffix(".shrunk.jsonl")
    save(shrunk, result.trace)
    story = kept.trace.with_suffix(".txt")
    recording.save(recording.path_of(shrunk), seen)
    try:
        story.write_text(seen.story, encoding="utf-8")
    except OSError as why:
        raise EnvironmentProblem(f"cannot write {story}: {why.strerror}") from why
    reproducers = _handed_over(result.trace, verdict, ground, kept.trace.with_suffix(""))
    return Investigated(kept.find, kept.number, kept.trace, shrunk, len(result.trace.steps), story,
                        verdict.summary, again, lines(result.trace), reproducers)


def _not_seen(kept: Investigated, why: str) -> Investigated:
    """The find as it was found."""
    return dataclasses.replace(kept, again=why, steps=lines(kept.find.trace))


def is_hang(verdict: Verdict) -> bool:
    """Whether the system did not answer in time."""
    return isinstance(verdict, Failed) and isinstance(verdict.failure, SystemHung)


def _seen(trace: Trace, ended: Failure, ground: Ground) -> tuple[Verdict, Recording]:
    """The trace done once more: how it ends, and what is seen meanwhile.

    If it ends otherwise than before, or cannot be done, that is told as it was, without steps.
    But a hang is one only if it is one now.
    """
    if isinstance(ground, RealGround) and isinstance(ended, Failed):
        ground = dataclasses.replace(ground, stacks=True)
    watcher = recording.Watcher()
    verdict: Verdict = ended
    with ground.open() as stand:
        try:
            verdict = replay(trace, stand, watch=watcher.watch)
        except HarnessError:
            if is_hang(ended):
                raise
        same = not isinstance(verdict, Conforms) and verdict.signature == ended.signature
        if same or is_hang(ended):
            return verdict, recording.recording(trace, verdict, stand, where(ground),
                                                watcher.steps)
        return ended, recording.recording(trace, ended, stand, where(ground))


def _handed_over(trace: Trace, failure: Failure, ground: Ground, base: Path) -> Reproducers:
    try:
        with ground.open() as stand:
            return write_reproducers(trace, failure, stand, build_of(ground), base)
    except Exception as why:
        # As above: the find is worth more than the files about it.
        traceback.print_exc()
        return Reproducers(f"no reproducer, by a defect of the harness: {why}")


def build_of(ground: Ground) -> Build | None:
    """The build of a real ground; None of a simulation."""
    return getattr(ground, "build", None)


def lines(trace: Trace) -> tuple[str, ...]:
    """The trace for people: images, then a line an operation."""
    return (*human.configuration(trace.configuration),
            *(f"{step.number:4} {human.operation(step.operation)}" for step in trace.steps))
