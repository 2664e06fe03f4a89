# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about two builds, side by side; it reads what ``compare --json`` wrote."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.page import page
from harness.report.traces import SCRIPTS, Told, drawn, trace_fields


def comparison_page(plain: Mapping[str, Any], told: Sequence[Told] = ()) -> str:
    """The page: ``told`` are the traces of what nothing explains, those that have one.

    Raises KeyError or TypeError if ``plain`` is something else.
    """
    builds = [{"version": each["version"], "short": each["version"].split()[0],
               "path": each["path"]} for each in plain["builds"]]
    first, second = builds
    traces = [trace_fields(each, index) for index, each in enumerate(told)]
    groups = [(kind, [*group]) for kind, group in itertools.groupby(
        plain["explained"], key=lambda each: str(each["kind"]))]
    fields = {
        "builds": builds, "groups": groups, "explained": plain["explained"],
        "unexplained": plain["unexplained"], "traces": traces,
        "steps": plain["steps"], "done": plain["traces"], "seed": plain["seed"],
    }
    title = f"QEMU {first['short']} and {second['short']}"
    return page("comparison", SCRIPTS, title, fields, {"traces": [*map(drawn, traces)]})
