# SPDX-License-Identifier: GPL-2.0-or-later
"""What a system was seen to do, step by step, kept beside the trace: a report needs no QEMU then.

The model's side is not in it, since a trace gives that again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.ranges import Ranges
from harness.systems.base import ALL_CHANNELS
from harness.systems.failure import SystemCrashed, SystemHungUp
from model.operations import Via
from model.outcome import BitmapsByNode, BitmapView, Observation

from . import human
from .codec import CodecError, from_plain, to_plain
from .concurrent import PendingDiffers
from .differences import Difference
from .explain import explain
from .replay import Stand, replay
from .run import Done
from .trace import Trace, TraceError
from .verdict import Conforms, Diverges, Verdict

_MARK: Final = "cbw-lockstep-seen"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class StorageTold:
    """A storage request that QEMU made and must not have (``extra``), or did not make."""

    extra: bool
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A difference: its kind, in words, and the ranges of the disk that it is about."""

    kind: str
    words: tuple[str, ...]
    places: Ranges = ()
    storage: tuple[StorageTold, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeBitmaps:
    """The bitmaps of one node, as QMP shows them."""

    node: str
    bitmaps: tuple[BitmapView, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step gave.  ``bitmaps`` None: as after the step before."""

    number: int
    answer: str
    bitmaps: tuple[NodeBitmaps, ...] | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """A trace as it went on a system, and how it ended."""

    system: str
    verdict: str = "conforms"
    """One word: conforms, divergence, crash, hang, hang-up, garbage or damage."""
    summary: str = ""
    number: int | None = None
    """Of the operation at which it ended; None: it conforms."""
    differences: tuple[Told, ...] = ()
    last_words: tuple[str, ...] = ()
    story: str = ""
    channels: tuple[Via, ...] = tuple(Via)
    steps: tuple[Seen, ...] = ()


@dataclass
class Watcher:
    """Puts down what each step gives; :meth:`watch` is for ``run``."""

    steps: list[Seen] = field(default_factory=list)
    _last: BitmapsByNode = field(default_factory=dict)

    def watch(self, done: Done) -> None:
        """Take down a step."""
        seen = done.found.bitmaps
        bitmaps = None if seen == self._last else tuple(
            NodeBitmaps(node, views) for node, views in seen.items())
        self._last = seen
        self.steps.append(Seen(done.step.number, human.answer(done.answer), bitmaps))


def record(trace: Trace, stand: Stand, system: str) -> Recording:
    """Do the trace and take down what is seen."""
    watcher = Watcher()
    verdict = replay(trace, stand, watch=watcher.watch)
    return recording(trace, verdict, stand, system, watcher.steps)


def recording(trace: Trace, verdict: Verdict, stand: Stand, system: str,
              steps: Sequence[Seen] = ()) -> Recording:
    """The recording of a trace that ended so."""
    if isinstance(verdict, Conforms):
        return Recording(system, summary=verdict.summary, steps=tuple(steps))
    differences: tuple[Told, ...] = ()
    last_words: tuple[str, ...] = ()
    if isinstance(verdict, Diverges):
        word = "divergence"
        differences = tuple(Told(each.kind, tuple(each.words()), each.places, _storage(each))
                            for each in verdict.differences)
    else:
        failure = verdict.failure
        word = failure.verdict
        if isinstance(failure, SystemCrashed | SystemHungUp):
            last_words = failure.stderr
    channels = tuple(via for via in Via if via in (verdict.channels or ALL_CHANNELS))
    return Recording(system, word, verdict.summary, verdict.step.number, differences, last_words,
                     explain(trace, verdict, stand.model), channels, tuple(steps))


def _storage(difference: Difference) -> tuple[StorageTold, ...]:
    if not isinstance(difference, PendingDiffers):
        return ()
    return tuple(StorageTold(extra, each.node, human.storage_request(each))
                 for extra, requests in ((False, difference.missing), (True, difference.extra))
                 for each in requests)


def path_of(trace: Path) -> Path:
    """Where the recording of a trace file is kept: beside it."""
    return trace.with_suffix(".seen.json")


def save(path: Path, what: Recording) -> None:
    """Write a recording; raises TraceError."""
    text = json.dumps({_MARK: _VERSION, **to_plain(what)}, indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as why:
        raise TraceError(path, None, f"cannot write what was seen: {why.strerror}") from why


def load(path: Path) -> Recording:
    """Read a recording; raises TraceError with one line of what is wrong."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise TraceError(path, None, f"cannot read what was seen: {why.strerror}") from why
    except ValueError as why:
        raise TraceError(path, None, f"not JSON: {why}") from why
    if not isinstance(plain, dict) or plain.pop(_MARK, None) != _VERSION:
        raise TraceError(path, None, f'not a recording: "{_MARK}" is not {_VERSION}')
    try:
        return from_plain(Recording, plain)
    except CodecError as why:
        raise TraceError(path, None, str(why)) from why


def observations(steps: Sequence[Seen]) -> list[Observation]:
    """What the system showed of bitmaps after each step."""
    found: list[Observation] = []
    bitmaps: BitmapsByNode = {}
    for each in steps:
        if each.bitmaps is not None:
            bitmaps = {node.node: node.bitmaps for node in each.bitmaps}
        found.append(Observation(bitmaps, {}))
    return found
