# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about two builds, side by side; it reads what ``compare --json`` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.page import page


def comparison_page(plain: Mapping[str, Any]) -> str:
    """The page; raises KeyError or TypeError if that is something else."""
    builds = [{"version": each["version"], "short": each["version"].split()[0],
               "path": each["path"], "capabilities": each.get("capabilities", {})}
              for each in plain["builds"]]
    first, second = builds
    names = [name for name in first["capabilities"]
             if first["capabilities"][name] != second["capabilities"].get(name)]
    explained = [{**each, "has": [_has(each["capability"], build["capabilities"])
                                  for build in builds]} for each in plain["explained"]]
    unexplained = [{**each, "who": builds[each["build"]]["short"],
                    "trace": "\n".join(each.get("trace", ()))} for each in plain["unexplained"]]
    fields = {
        "builds": builds, "explained": explained, "unexplained": unexplained, "steps":
        plain["steps"], "traces": plain["traces"], "seed": plain["seed"],
        "differ": [(name, [build["capabilities"].get(name) for build in builds])
                   for name in names],
    }
    title = f"QEMU {first['short']} and {second['short']}"
    return page("comparison", ("main",), title, fields, {})


def _has(names: str, capabilities: Mapping[str, bool]) -> str:
    """Whether a build has a capability, or which of several it has."""
    every = names.split(" and ")
    having = [name for name in every if capabilities.get(name)]
    return "yes" if having == every else ", ".join(having) or "no"
