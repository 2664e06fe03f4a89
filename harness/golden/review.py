# SPDX-License-Identifier: GPL-2.0-or-later
"""What waits for review: shown change by change, accepted or rejected.

The same change in several golden outputs, in the variants of one test for instance, is one change:
it is shown once and settled once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatch

from .differences import difference
from .meaning import meaning, says_all
from .store import Change, Store


@dataclass(frozen=True, slots=True)
class Pending:
    """One change, and the golden outputs that it waits for."""

    names: tuple[str, ...]
    change: Change
    difference: str
    """As it is in the first of them."""
    meaning: Counter[str] = field(default_factory=Counter)
    """In words, and in how many places of all of them; empty if they are new outputs."""


class Choice(StrEnum):
    """What to do with a change; a capital letter means this one and all that follow."""

    ACCEPT = "a"
    REJECT = "r"
    SKIP = "s"
    ACCEPT_ALL = "A"
    REJECT_ALL = "R"
    SKIP_ALL = "S"


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What became of the golden outputs that waited, by name."""

    accepted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def pending(store: Store, only: Sequence[str] = ()) -> list[Pending]:
    """What waits for review, change by change; ``only``: names or globs to choose by.

    The same meaning, or where words do not say all of it the same lines, is one change.
    """
    found: dict[tuple[Change, Collection[str]], Pending] = {}
    for name in store.pending():
        new = store.read_pending(name)
        if new is None or not chosen(name, only):
            continue
        change = store.change(name, new)
        if change is None:
            store.reject(name)  # settled by other means meanwhile
            continue
        titles = (store.path(name).name, store.pending_path(name).name)
        old = store.read(name)
        shown = difference(old or "", new, titles)
        means = Counter() if old is None else meaning(old, new)
        lines = tuple(line for line in shown.splitlines()[2:] if line[0] in "+-")
        key = (change, frozenset(means) if says_all(means) else lines)
        before = found.get(key) or Pending((), change, shown)
        found[key] = replace(before, names=(*before.names, name), meaning=before.meaning + means)
    return sorted(found.values(), key=lambda each: each.names)


def chosen(name: str, only: Sequence[str]) -> bool:
    """Whether the golden output is meant: by its name, its number, a glob, or with all of a test's
    variants; no choice means all."""
    if not only:
        return True
    test = name.split("@")[0]
    return any(fnmatch(name, each) or each in (test, test.split(".")[0], test.split("-")[0])
               for each in only)


def settle_all(store: Store, choice: Choice, only: Sequence[str] = ()) -> Reviewed:
    """Accept or reject all that waits, or those named."""
    return review(store, lambda _: choice, only)


def review(store: Store, ask: Callable[[Pending], Choice], only: Sequence[str] = ()) -> Reviewed:
    """Walk through what waits; ``ask`` shows a change and says what to do with it."""
    return settle_changes(store, pending(store, only), ask)


def settle_changes(store: Store, changes: Iterable[Pending],
                   ask: Callable[[Pending], Choice]) -> Reviewed:
    """Do with each change what ``ask`` says."""
    done: dict[Choice, list[str]] = {Choice.ACCEPT: [], Choice.REJECT: [], Choice.SKIP: []}
    standing: Choice | None = None
    for each in changes:
        choice = standing or ask(each)
        if choice.isupper():
            standing = choice = Choice(choice.lower())
        for name in each.names:
            if choice is Choice.ACCEPT:
                store.accept(name)
            elif choice is Choice.REJECT:
                store.reject(name)
            done[choice].append(name)
    return Reviewed(*(tuple(done[each]) for each in (Choice.ACCEPT, Choice.REJECT, Choice.SKIP)))


def listed(names: Collection[str]) -> str:
    """Golden names, several variants of a test counted."""
    tests: dict[str, list[str]] = {}
    for name in names:
        tests.setdefault(name.split("@")[0], []).append(name)
    return ", ".join(found[0] if len(found) == 1 else f"{test} ({len(found)} variants)"
                     for test, found in tests.items())
