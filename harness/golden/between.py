# SPDX-License-Identifier: GPL-2.0-or-later
"""The difference of two variants of golden outputs: what a change of QEMU has meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from harness.errors import HarnessError
from harness.lockstep.human import counted

from .meaning import meaning, sentences
from .review import chosen
from .store import Store

TODAY: Final = "today"
"""The variant without marks."""
_OLD: Final = "no-snapshot-access"


class UnknownVariant(HarnessError):
    """No golden output has that mark."""


def between(store: Store, before: str, after: str, *, without_snapshots: Collection[str],
            only: Sequence[str] = ()) -> Iterator[str]:
    """Lines that say test by test, and then in all, what differs between two kinds of builds.

    A kind is named by marks as in the names of files, ``no-snapshot-access`` for instance; of each
    test that variant counts which has most of them, and few others.  Where variants differ in
    other marks too, what speaks of those is told apart.  ``without_snapshots``: the tests that
    builds without snapshot-access run; of such builds others say nothing.  Raises UnknownVariant.
    """
    names: dict[str, list[str]] = {}
    for name in store.names():
        names.setdefault(name.split("@")[0], []).append(name)
    wanted = [_wanted(kind, names) for kind in (before, after)]
    tests = {test for test in names if any(chosen(name, only) for name in names[test])}
    old = any(_OLD in each for each in wanted)
    idle = {test for test in tests if old and test not in without_snapshots}
    total: Counter[str] = Counter()
    apart: dict[str, Counter[str]] = {}
    for test in sorted(tests - idle):
        one, other = (_best(names[test], each) for each in wanted)
        found = meaning(store.read(one) or "", store.read(other) or "")
        if not found:
            continue
        besides = _besides(found, (_marks(one) ^ _marks(other)) - (wanted[0] ^ wanted[1]))
        for each in besides.values():
            found -= each
        yield f"{test}: from {_short(one)} to {_short(other)}"
        yield from _told(found, besides, "    ")
        total += found
        for mark, each in besides.items():
            apart.setdefault(mark, Counter()).update(each)
    yield f"in all, from {before} to {after}:"
    yield from _told(total, apart, "")
    if not total:
        yield "    nothing differs" + (" in anything else" if apart else "")
    if idle:
        yield (f"left out: {counted(len(idle), 'test')}, which builds without snapshot-access do "
               "not run")


def _told(found: Mapping[str, int], besides: Mapping[str, Mapping[str, int]],
          indent: str) -> Iterator[str]:
    yield from (f"    {each}" for each in sentences(found))
    for mark, each in sorted(besides.items()):
        yield f"{indent}by {mark}, in which they differ too:"
        yield from (f"{indent}    {text}" for text in sentences(each))


def _besides(found: Mapping[str, int], marks: Collection[str]) -> dict[str, Counter[str]]:
    """What is found that speaks of one of the marks, by mark."""
    told = {mark: Counter({text: count for text, count in found.items()
                           if mark.removeprefix("no-") in text}) for mark in sorted(marks)}
    return {mark: each for mark, each in told.items() if each}


def _wanted(kind: str, names: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The marks that a kind of builds is named by."""
    wanted = _marks("@" + ("" if kind == TODAY else kind))
    known = frozenset[str]().union(*(_marks(name) for each in names.values() for name in each))
    for mark in sorted(wanted - known):
        raise UnknownVariant(f"no golden output has the mark {mark!r}; there are: {TODAY}, "
                             f"{', '.join(sorted(known))}")
    return wanted


def _marks(name: str) -> frozenset[str]:
    return frozenset(name.partition("@")[2].split("+")) - {""}


def _best(variants: Sequence[str], wanted: Collection[str]) -> str:
    return min(variants, key=lambda name: (
        -len(_marks(name).intersection(wanted)), len(_marks(name).difference(wanted)), name))


def _short(name: str) -> str:
    return name.partition("@")[2] or TODAY
