# SPDX-License-Identifier: GPL-2.0-or-later
"""The logs of one QEMU, kept in a folder, as what another QEMU is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .differences import difference
from .meaning import meaning, sentences
from .scenario import Scenario
from .settle import Settled
from .steps import without_marks
from .store import Store
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


def summary(settled: Iterable[Settled], against: Path, qemu: str) -> Iterator[str]:
    """What came of the comparison, a line a fact, and in words what differs in all."""
    by_verdict: dict[Verdict, list[str]] = {}
    total: Counter[str] = Counter()
    for each in sorted(settled, key=lambda one: one.name):
        by_verdict.setdefault(each.verdict, []).append(each.name)
        total.update(each.meaning)
    yield f"{len(by_verdict.get(Verdict.AS_LOGGED, ()))} logs of {qemu} are as in {against}"
    for verdict, word in ((Verdict.OTHERWISE, "differs"), (Verdict.NOT_LOGGED, "not there")):
        yield from (f"{word}: {name}" for name in by_verdict.get(verdict, ()))
    if total:
        yield f"in all, {qemu} differs by this:"
        yield from (f"    {each}" for each in sentences(total))


def _compared(test: str, store: Store, log: str) -> Settled:
    before = store.read(test)
    if before is None:
        return Settled(test, Verdict.NOT_LOGGED, ok=False,
                       text=f"{test}: there is no such log in {store.folder}")
    if before == log:
        return Settled(test, Verdict.AS_LOGGED)
    means = meaning(before, log)
    lines = difference(before, log, (str(store.path(test)), "QEMU"))
    return Settled(test, Verdict.OTHERWISE, ok=False, meaning=dict(means), text="\n".join(
        [f"{test}: QEMU says something else than the log in {store.folder}",
         *(f"    {each}" for each in sentences(means)), lines]))
