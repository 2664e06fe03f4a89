# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about golden outputs: where the three witnesses differ, side by side.

It reads what ``golden check --json`` wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any, Final

from harness.report.page import page

_CONTEXT: Final = 3
"""Lines that are shown around those that differ."""
_CUT: Final = "⋮"


def golden_page(plain: Mapping[str, Any]) -> str:
    """The page; raises KeyError or TypeError if that is something else."""
    results = [_result(each) for each in plain["golden"] if not each["ok"]]
    passed = sum(each["ok"] for each in plain["golden"])
    fields = {"results": results, "passed": passed, "builds": plain["builds"],
              "unused": plain.get("unused", [])}
    return page("goldens", ("main",), "golden outputs", fields, {})


def _result(each: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: each[name].splitlines() for name in ("golden", "model", "qemu")
             if each.get(name) is not None}
    columns = []
    seen: list[tuple[list[str], list[str]]] = []
    for name, lines in texts.items():
        same = next((names for names, others in seen if others == lines), None)
        if same is None:
            seen.append(([name], lines))
        else:
            same.append(name)
    for index, (names, lines) in enumerate(seen):
        others = [other for at, (_, other) in enumerate(seen) if at != index]
        columns.append({"names": names, "lines": list(_shown(lines, others))})
    told = takewhile(lambda line: not line.startswith("--- "), each["text"].splitlines()[1:])
    return {"name": each["name"], "verdict": each["verdict"], "columns": columns,
            "text": each["text"], "told": list(told)}


def _shown(lines: Sequence[str], others: Sequence[Sequence[str]]) -> Iterator[tuple[str, bool]]:
    """The lines that another witness lacks, marked, and some around them."""
    odd: set[int] = set()
    near: set[int] = set()
    for other in others:
        matcher = SequenceMatcher(None, lines, other, autojunk=len(lines) > 500)
        for tag, start, end, _, _ in matcher.get_opcodes():
            if tag != "equal":
                odd.update(range(start, end))
                near.update(range(start - _CONTEXT, end + _CONTEXT))
    last = -1
    for index in sorted(near & set(range(len(lines)))):
        if index > last + 1:
            yield _CUT, False
        yield lines[index], index in odd
        last = index
    if last < len(lines) - 1:
        yield _CUT, False
