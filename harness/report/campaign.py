# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about a run of ``verify``: verdict, coverage, speed, and each divergence.

What it reads is what ``verify --json`` wrote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.exploration.alignment import ALIGNMENTS
from harness.lockstep.human import counted
from harness.report.page import page
from harness.report.traces import SCRIPTS, Told, drawn, trace_fields
from model import concurrent_machine  # noqa: F401  every rule is declared by importing its module
from model.rules import RULES

_WIDTH: Final = 620
_HEIGHT: Final = 130
"""Of the chart of speed, in pixels."""


def campaign_page(runs: Sequence[Mapping[str, Any]], told: Sequence[Told]) -> str:
    """The page: ``told`` are the traces of the divergences that have one, in their order.

    Raises KeyError or TypeError if ``runs`` are not what ``verify --json`` writes.
    """
    traces = [trace_fields(each, index) for index, each in enumerate(told)]
    shown = [_run(run) for run in runs]
    title = " · ".join(f"QEMU {run['build']['version']}: {each['verdict']}"
                       for run, each in zip(runs, shown, strict=True))
    return page("campaign", SCRIPTS, title, {"runs": shown, "traces": traces},
                {"traces": [*map(drawn, traces)]})


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    count = len(run["divergences"])
    rules = {name: run["rules"].get(name, 0) for name in RULES}
    seconds = run["elapsed_s"]
    return {
        "version": run["build"]["version"], "path": run["build"]["path"],
        "verdict": counted(count, "divergence") if count else "conforms",
        "bad": bool(count),
        "tiles": [
            (f"{run['steps']:,}", "steps"), (f"{run['traces']:,}", "traces"),
            (f"{seconds:.0f} s", f"{run['steps'] / seconds:.0f} steps/s" if seconds else "time"),
            (f"{sum(map(bool, rules.values()))} of {len(rules)}", "rules of the model fired"),
            *_unsteered(run),
            (f"{run['sequences']:,}", "sequences") if run.get("sequences") else (
                f"{run['seed']}", "seed")],
        "divergences": run["divergences"],
        "known_defects": run["known_defects"], "not_checked": run["not_checked"],
        "rules": _bars(rules), "areas": _bars(run.get("areas", {})),
        "heat": _heat(run.get("alignments", {}), run["operations"]),
        "pace": _pace(run.get("pace", []), run["divergences"]),
    }


def _unsteered(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was done without traces: load and kills."""
    load, kills = run.get("load"), run.get("kills")
    tiles = []
    if load:
        tiles.append((f"{load['requests']:,}",
                      f"requests under load in {load['elapsed_s']:.0f} s, "
                      f"{load['fleecing_reads']:,} fleecing reads, {load['denied']:,} denied"))
    if kills:
        tiles.append((f"{kills['kills']:,}", f"kills under load in {kills['rounds']:,} rounds, "
                      f"{kills['elapsed_s']:.0f} s"))
    return tiles


def _bars(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Name, count, and length in percent on a logarithmic scale, since counts differ so much."""
    most = math.log1p(max(counts.values(), default=0)) or 1.0
    return [(name, count, round(100 * math.log1p(count) / most, 1))
            for name, count in counts.items()]


def _heat(alignments: Mapping[str, Mapping[str, int]],
          operations: Mapping[str, int]) -> dict[str, Any]:
    """Requests by alignment, as rows of (count, depth of colour in percent); and the rest."""
    most = math.log1p(max((count for row in alignments.values() for count in row.values()),
                          default=0)) or 1.0
    rows = [(name, [(row.get(each, 0), round(100 * math.log1p(row.get(each, 0)) / most))
                    for each in ALIGNMENTS]) for name, row in alignments.items()]
    others = {name: count for name, count in operations.items() if name not in alignments}
    return {"columns": ALIGNMENTS, "rows": rows, "others": list(others.items())}


def _pace(samples: Sequence[Sequence[float]],
          divergences: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The speed between samples as the points of a curve, and the divergences that were found
    meanwhile, as (place, number, words); None: there are too few samples."""
    speeds = [(after[0], (after[1] - before[1]) / (after[0] - before[0]))
              for before, after in zip([(0.0, 0), *samples], samples, strict=False)
              if after[0] > before[0]]
    if len(speeds) < 3:
        return None
    most = max(speed for _, speed in speeds) or 1.0
    end = speeds[-1][0]
    points = " ".join(f"{_WIDTH * when / end:.1f},{_HEIGHT * (1 - speed / most):.1f}"
                      for when, speed in speeds)
    finds = [(round(_WIDTH * min(each["elapsed_s"] / end, 1.0), 1), number,
              f"after {each['elapsed_s']:.0f} s: {each['summary']}")
             for number, each in enumerate(divergences, start=1)
             if each.get("elapsed_s") is not None]
    return {"points": points, "most": round(most), "end": round(end), "width": _WIDTH,
            "height": _HEIGHT, "finds": finds}
