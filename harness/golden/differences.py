# SPDX-License-Identifier: GPL-2.0-or-later
"""Unified differences of two logs, quick and short on logs of any length.

The first difference comes first and says in which section it is; the rest follows as far as the
limit allows, and what is left out is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple

_CONTEXT: Final = 3
_GRAM: Final = 4
_MANY: Final = 1 << 20
SECTION: Final = "=== "


def first_difference(before: Sequence[str], after: Sequence[str]) -> int | None:
    """The index of the first line that differs; None: the logs are equal."""
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return index
    if len(before) == len(after):
        return None
    return min(len(before), len(after))


def section_of(lines: Sequence[str], index: int) -> str:
    """The heading under which line ``index`` stands; empty before the first one."""
    for line in reversed(lines[:index + 1]):
        if line.startswith(SECTION):
            return line.strip("= ")
    return ""


def difference(before: str, after: str, names: tuple[str, str], limit: int | None = None) -> str:
    """The unified difference of two texts; empty if they are equal.

    ``names`` are what the two are called; ``limit`` is how many lines of differences are shown.
    """
    old, new = before.splitlines(), after.splitlines()
    if first_difference(old, new) is None:
        return ""
    lines = [f"--- {names[0]}", f"+++ {names[1]}"]
    left_out = 0
    for hunk in _hunks(old, new):
        if limit is None or len(lines) + len(hunk) - 2 <= limit:
            lines += hunk
        elif len(lines) == 2:
            lines += hunk[:limit]
            left_out += len(hunk) - limit
        else:
            left_out += len(hunk)
    if left_out:
        lines.append(f"... {left_out} more lines of differences")
    return "\n".join(lines) + "\n"


class Change(NamedTuple):
    """Lines ``[start, end)`` of one log became lines ``[start_new, end_new)`` of the other."""

    start: int
    end: int
    start_new: int
    end_new: int


def _hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[list[str]]:
    """The hunks, in order."""
    group: list[Change] = []
    for change in _changes(old, new):
        if group and change.start - group[-1].end > 2 * _CONTEXT:
            yield _hunk(old, new, group)
            group = []
        group.append(change)
    if group:
        yield _hunk(old, new, group)


def _changes(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """The opcodes of difflib that are no equality, in order."""
    low, low_new = 0, 0
    for at, at_new in [*_anchors(old, new), (len(old), len(new))]:
        if at < low or at_new < low_new:
            continue
        between = SequenceMatcher(None, old[low:at], new[low_new:at_new],
                                  autojunk=(at - low) * (at_new - low_new) > _MANY)
        for tag, *ends in between.get_opcodes():
            if tag != "equal":
                yield Change(low + ends[0], low + ends[1], low_new + ends[2], low_new + ends[3])
        low, low_new = at, at_new
        while low < len(old) and low_new < len(new) and old[low] == new[low_new]:
            low, low_new = low + 1, low_new + 1


def _anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Places that are surely the same in both: a few lines in a row that each log has once.

    This is patience diff.  Aligning all of two long logs by difflib takes minutes, since it costs
    the product of how often a line occurs and most lines are ``{"return": {}}``.
    """
    places = _once(new)
    pairs = [(at, places[gram]) for gram, at in _once(old).items() if gram in places]
    # The longest chain of pairs that rises in both logs; the others are moved lines.
    ends: list[int] = []
    last: list[int] = []
    before: list[int | None] = []
    for index, (_, at_new) in enumerate(pairs):
        rank = bisect_left(ends, at_new)
        before.append(last[rank - 1] if rank else None)
        ends[rank:rank + 1] = [at_new]
        last[rank:rank + 1] = [index]
    chain: list[tuple[int, int]] = []
    step = last[-1] if last else None
    while step is not None:
        chain.append(pairs[step])
        step = before[step]
    return chain[::-1]


def _once(lines: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Where each row of a few lines starts that occurs once, in order."""
    found: dict[tuple[str, ...], int] = {}
    again: set[tuple[str, ...]] = set()
    for at in range(len(lines) - _GRAM + 1):
        gram = tuple(lines[at:at + _GRAM])
        if gram in found:
            again.add(gram)
        found[gram] = at
    return {gram: at for gram, at in found.items() if gram not in again}


def _hunk(old: Sequence[str], new: Sequence[str], group: Sequence[Change]) -> list[str]:
    first, last = group[0], group[-1]
    low, high = max(first.start - _CONTEXT, 0), min(last.end + _CONTEXT, len(old))
    # Lines of context are equal on both sides, so both ranges grow by the same numbers.
    low_new = first.start_new - (first.start - low)
    high_new = last.end_new + (high - last.end)
    where = section_of(old, first.start) or section_of(new, first.start_new)
    lines = [f"@@ -{low + 1},{high - low} +{low_new + 1},{high_new - low_new} @@ {where}".rstrip()]
    at = low
    for change in group:
        lines += [" " + line for line in old[at:change.start]]
        lines += ["-" + line for line in old[change.start:change.end]]
        lines += ["+" + line for line in new[change.start_new:change.end_new]]
        at = change.end
    return lines + [" " + line for line in old[at:high]]
