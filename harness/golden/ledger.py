# SPDX-License-Identifier: GPL-2.0-or-later
"""What a whole test run found out about the golden outputs, gathered over all its processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.invocation import command

from .logs import summary
from .settle import Settled
from .store import Change, Store
from .verdict import Verdict


@dataclass(slots=True)
class Ledger:
    """The results of the tests, and the golden names that the collected tests have."""

    settled: dict[str, Settled] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Every golden name that a collected test can have, in any variant."""
    without_snapshots: set[str] = field(default_factory=set)
    """The golden names, without variants, of tests that builds without snapshot-access run."""
    complete: bool = True
    """Whether all tests were collected, so that a golden output without a test is unused."""
    absent: Counter[str] = field(default_factory=Counter)
    """Why QEMU was not asked, and how often."""
    builds: set[str] = field(default_factory=set)
    against: Path | None = None
    """A folder of another QEMU's logs, if it is those that were compared with."""

    def add(self, settled: Settled) -> None:
        """Take down one result.  Of two builds with the same golden file the worse one counts."""
        before = self.settled.get(settled.name)
        if before is None or (before.ok and not (settled.ok and before.text)):
            self.settled[settled.name] = settled

    def unused(self, store: Store) -> list[str]:
        """The golden outputs without a test; none if not all tests were collected."""
        return store.unused(self.used) if self.complete and self.used else []

    def by_change(self, change: Change) -> list[Settled]:
        """The results that are such a change, by name."""
        return sorted((each for each in self.settled.values() if each.change is change),
                      key=lambda each: each.name)

    def lines(self, store: Store, unused: Sequence[str]) -> Iterator[str]:
        """The summary, a line a fact."""
        builds = ", ".join(sorted(self.builds)) or "no QEMU"
        if self.against is not None:
            yield from summary(self.settled.values(), self.against, builds)
        else:
            yield from self._of_golden_outputs(store, builds)
        for name in unused:
            yield (f"{Change.UNUSED}: {store.path(name).name} (no test has it; "
                   f"{command('golden prune')} removes it)")

    def _of_golden_outputs(self, store: Store, builds: str) -> Iterator[str]:
        confirmed = [each for each in self.settled.values() if each.verdict is Verdict.PASS]
        alone = [each for each in self.settled.values()
                 if each.verdict is Verdict.PASS_UNCONFIRMED]
        yield f"{len(confirmed)} golden outputs agree with the model and {builds}"
        if alone:
            yield f"{len(alone)} more agree with the model; no QEMU of their kind was asked"
        for name, each in sorted(self.settled.items()):
            if each.verdict.diverges:
                yield f"{name}: {each.verdict.value}"
        for why, count in sorted(self.absent.items()):
            yield f"no QEMU asked in {count} tests: {why}"
        for change in (Change.CREATED, Change.CHANGED):
            for each in self.by_change(change):
                state = ("written" if each.written else "waits for review" if each.pending
                         else "not written")
                yield f"{change}: {store.path(each.name).name} ({state})"


def covers(arguments: Sequence[str], root: Path, tests: Path) -> bool:
    """Whether pytest's arguments name all of ``tests``, by itself or with a folder above it."""
    for argument in arguments:
        if "::" in argument:
            continue
        path = (root / argument).resolve()
        if path == tests or path in tests.parents:
            return True
    return False
