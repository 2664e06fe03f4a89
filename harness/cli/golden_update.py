# SPDX-License-Identifier: GPL-2.0-or-later
"""``golden update``: what has changed, test by test and in words; then somebody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from harness.errors import EnvironmentProblem
from harness.golden.ledger import Ledger
from harness.golden.meaning import sentences
from harness.golden.review import Choice, Pending, Reviewed, listed, pending, settle_changes
from harness.golden.store import Store
from harness.lockstep.human import counted

KEYS: Final = "y write them, n leave them for golden review, r review them now"
LINES: Final = 12
"""How many lines of a change are shown; its meaning is shown whole."""


def settle_proposals(store: Store, ledger: Ledger, *, yes: bool,
                     review_one: Callable[[Pending], Choice],
                     read: Callable[[str], str] | None = None) -> Reviewed:
    """Show what the run proposes, and write it if the user wants that.

    Raises EnvironmentProblem if nobody is there to answer.
    """
    changes = proposed(store, ledger)
    if not changes:
        return Reviewed()
    for change in changes:
        print(described(change))
    print(in_all(changes))
    answer = "y" if yes else _answer(sum(len(each.names) for each in changes), read or input)
    if answer == "r":
        return settle_changes(store, changes, review_one)
    choice = Choice.ACCEPT if answer == "y" else Choice.SKIP
    return settle_changes(store, changes, lambda change: choice)


def proposed(store: Store, ledger: Ledger) -> list[Pending]:
    """The changes that a QEMU of this run has confirmed, with other variants that change alike."""
    confirmed = {each.name for each in ledger.settled.values()
                 if each.pending and (each.verdict.confirmed or each.verdict.diverges)}
    return [each for each in pending(store) if confirmed & set(each.names)]


def unconfirmed(store: Store, ledger: Ledger) -> list[str]:
    """The golden outputs that wait since no QEMU of their kind was asked in this run."""
    waiting = set(store.pending())
    return sorted(name for name, each in ledger.settled.items()
                  if each.pending and not each.verdict.confirmed and not each.verdict.diverges
                  and name in waiting)


def described(change: Pending) -> str:
    """The change in words, and its first lines."""
    lines = change.difference.splitlines()
    shown = lines[:LINES]
    if len(lines) > LINES:
        shown.append(f"... {len(lines) - LINES} more lines; golden review shows them")
    words = [f"    {each}" for each in sentences(change.meaning)]
    return "\n".join([f"\n{change.change}: {listed(change.names)}", *words, *shown])


def in_all(changes: Sequence[Pending]) -> str:
    """What all the changes mean together, each counted as often as it shows."""
    total: Counter[str] = Counter()
    for change in changes:
        total += change.meaning
    names = sum(len(each.names) for each in changes)
    head = f"\n{counted(names, 'golden output')} would be written"
    if not total:
        return f"{head}, all of them new"
    head += "; what changes:"
    return "\n".join([head, *(f"    {each}" for each in sentences(total))])


def _answer(count: int, read: Callable[[str], str]) -> str:
    while True:
        try:
            answer = read(f"write these {count} golden outputs? [{KEYS}] ").strip().lower()
        except EOFError:
            raise EnvironmentProblem(
                "golden update asks, and nobody is there to answer: what would be written waits "
                "for golden review; --yes writes it without asking") from None
        if answer in ("y", "n", "r"):
            return answer
