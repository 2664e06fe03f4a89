# SPDX-License-Identifier: GPL-2.0-or-later
"""The difference of two variants of golden outputs: what a change of QEMU has meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from .meaning import meaning, sentences
from .review import chosen
from .store import Store

TODAY: Final = "today"
"""The variant without marks."""


def between(store: Store, before: str, after: str, *,
            only: Sequence[str] = ()) -> Iterator[str]:
    """Lines that say test by test, and then in all, what differs between two kinds of builds.

    A kind is named by marks as in the names of files, ``no-snapshot-access`` for instance; of each
    test that variant counts which has most of them, and few others.
    """
    names: dict[str, list[str]] = {}
    for name in store.names():
        if chosen(name, only):
            names.setdefault(name.split("@")[0], []).append(name)
    total: Counter[str] = Counter()
    for test, variants in sorted(names.items()):
        one, other = _best(variants, before), _best(variants, after)
        found = meaning(store.read(one) or "", store.read(other) or "")
        if found:
            yield f"{test}: from {_short(one)} to {_short(other)}"
            yield from (f"    {each}" for each in sentences(found))
            total += found
    yield f"in all, from {before} to {after}:"
    yield from (f"    {each}" for each in sentences(total) or ["nothing differs"])


def _marks(name: str) -> frozenset[str]:
    return frozenset(name.partition("@")[2].split("+")) - {""}


def _best(variants: Sequence[str], kind: str) -> str:
    wanted = _marks("@" + ("" if kind == TODAY else kind))
    return min(variants, key=lambda name: (
        -len(wanted & _marks(name)), len(_marks(name) - wanted), name))


def _short(name: str) -> str:
    return name.partition("@")[2] or TODAY
