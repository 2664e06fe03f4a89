# SPDX-License-Identifier: GPL-2.0-or-later
"""What waits for review: shown change by change, accepted or rejected.

The same change in several golden outputs, in the variants of one test for instance, is one change:
it is shown once and settled once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch

from .differences import difference
from .store import Change, Store


@dataclass(frozen=True, slots=True)
class Pending:
    """One change, and the golden outputs that it waits for."""

    names: tuple[str, ...]
    change: Change
    difference: str
    """As it is in the first of them."""


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
    """What waits for review, change by change; ``only``: names or globs to choose by."""
    found: dict[tuple[Change, tuple[str, ...]], list[str]] = {}
    shown: dict[str, str] = {}
    for name in store.pending():
        new = store.read_pending(name)
        if new is None or not chosen(name, only):
            continue
        change = store.change(name, new)
        if change is None:
            store.reject(name)  # settled by other means meanwhile
            continue
        titles = (store.path(name).name, store.pending_path(name).name)
        shown[name] = difference(store.read(name) or "", new, titles)
        lines = tuple(line for line in shown[name].splitlines()[2:] if line[0] in "+-")
        found.setdefault((change, lines), []).append(name)
    return [Pending(tuple(names), change, shown[names[0]])
            for (change, _), names in sorted(found.items(), key=lambda item: item[1])]


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
    done: dict[Choice, list[str]] = {Choice.ACCEPT: [], Choice.REJECT: [], Choice.SKIP: []}
    standing: Choice | None = None
    for each in pending(store, only):
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
