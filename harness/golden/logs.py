# SPDX-License-Identifier: GPL-2.0-or-later
"""The logs of one QEMU, kept in a folder, as what another QEMU is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .differences import difference
from .meaning import meaning, sentences
from .scenario import Scenario
from .settle import Settled
from .steps import without_marks
from .store import Change, Store
from .verdict import Verdict


@dataclass(frozen=True, slots=True)
class Logs:
    """Where the logs of a run are kept, and those with which they are compared; or neither."""

    save: Path | None = None
    against: Path | None = None

    def settle(self, scenario: Scenario, test: str) -> list[Settled]:
        """Keep the log of the test, and compare it; empty if golden outputs are to be compared."""
        log = scenario.witnesses(None).qemu
        if log is None:
            return []
        log = without_marks(log)
        if self.save is not None:
            Store(self.save).write(test, log)
        if self.against is None:
            return []
        return [_compared(test, Store(self.against), log)]


def _compared(test: str, store: Store, log: str) -> Settled:
    before = store.read(test)
    if before is None:
        return Settled(test, Verdict.MISSING, Change.CREATED, ok=False,
                       text=f"{test}: there is no such log in {store.folder}")
    if before == log:
        return Settled(test, Verdict.PASS)
    said = [f"    {each}" for each in sentences(meaning(before, log))]
    lines = difference(before, log, (str(store.path(test)), "QEMU"))
    return Settled(test, Verdict.GOLDEN_STALE, Change.CHANGED, ok=False, text="\n".join(
        [f"{test}: QEMU says something else than the log in {store.folder}", *said, lines]))
