# SPDX-License-Identifier: GPL-2.0-or-later
"""What exploration has done and found so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from harness.exploration.coverage import Line
from harness.lockstep.differences import Signature
from harness.lockstep.trace import Trace

SAMPLES: Final = 120
"""About so many samples of the pace are kept."""


@dataclass(frozen=True)
class Find:
    """A trace on which a system deviated from the model, or failed to answer."""

    area: str
    ground: int
    """Index of the ground it was found on."""
    trace: Trace
    """Up to and with the operation at which it showed."""
    signature: Signature
    summary: str
    verdict: str = "divergence"
    """One word: divergence, crash, hang, hang-up, garbage or damage."""
    elapsed: float = 0.0
    """Seconds since the run began."""

    @property
    def key(self) -> tuple[int, Signature, str]:
        """Equal for finds that are, probably, the same defect of the same ground."""
        last = self.trace.steps[-1].operation.name if self.trace.steps else ""
        return self.ground, self.signature, last


@dataclass
class Tally:
    """Counts, and the first find of each key."""

    traces: int = 0
    directed: int = 0
    """How many of the traces were directed checks."""
    kept: int = 0
    """How many of the corpus have had their turn."""
    sequences: int = 0
    """How many sequences the traces of an exhaustive run came to."""
    killing: int = 0
    """How many were left out, since they would kill the build by a known defect."""
    steps: int = 0
    areas: Counter[str] = field(default_factory=Counter)
    """Steps by area."""
    operations: Counter[str] = field(default_factory=Counter)
    alignments: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests by operation and by how they are aligned; see ``alignment.ALIGNMENTS``."""
    rules: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    """Rules that fired in one operation, or in one and the next; see ``steering.Pair``."""
    lines: set[Line] = field(default_factory=set)
    """Lines of QEMU that were executed, if they steer."""
    finds: dict[tuple[int, Signature, str], Find] = field(default_factory=dict)
    repeats: Counter[tuple[int, Signature, str]] = field(default_factory=Counter)
    """How often each key was found."""
    astray: Counter[str] = field(default_factory=Counter)
    """Traces that ended early, as the model that let them be drawn does not let them be done: how
    many, by what it says."""
    drawing: float = 0.0
    """Seconds spent on drawing traces."""
    running: float = 0.0
    """Seconds spent on doing them."""
    pace: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the run began, steps done by then), a sample now and then."""
    done: list[str] = field(default_factory=list)
    """The traces of the last batch, in words; of all others there are counts alone."""

    @property
    def drawing_share(self) -> float:
        """Which part of the time went into drawing traces and choosing among them."""
        return round(self.drawing / ((self.drawing + self.running) or 1.0), 3)

    def found(self, find: Find) -> None:
        """Take note of a find."""
        self.finds.setdefault(find.key, find)
        self.repeats[find.key] += 1

    def sample(self, elapsed: float) -> None:
        """Note how far the run is after so many seconds; of many samples, every other is kept."""
        if not self.pace or elapsed - self.pace[-1][0] >= elapsed / SAMPLES:
            self.pace.append((round(elapsed, 2), self.steps))
            if len(self.pace) > 2 * SAMPLES:
                del self.pace[1::2]

    def add(self, other: Tally) -> None:
        """Take on the counts and finds of another tally, a batch's."""
        self.done = other.done
        self.traces += other.traces
        self.directed += other.directed
        self.kept += other.kept
        self.sequences += other.sequences
        self.killing += other.killing
        self.steps += other.steps
        self.areas.update(other.areas)
        self.operations.update(other.operations)
        self.alignments.update(other.alignments)
        self.rules.update(other.rules)
        self.pairs |= other.pairs
        self.lines |= other.lines
        for key, find in other.finds.items():
            self.finds.setdefault(key, find)
        self.repeats.update(other.repeats)
        self.astray.update(other.astray)
        self.drawing += other.drawing
        self.running += other.running
