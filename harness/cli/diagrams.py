# SPDX-License-Identifier: GPL-2.0-or-later
"""Small pictures of rules: what there is before and after the operation that fires one."""

from __future__ import annotations

import textwrap
from typing import Final

from harness.cli.drawing import CLUSTER, Drawing, table
from harness.cli.scenarios import SCENARIOS, Scenario
from harness.lockstep import human

_WIDTH: Final = 99


def diagram(rule: str) -> str | None:
    """The rule's picture, lines of text; None if it has none."""
    return _drawn(SCENARIOS[rule])[0] if rule in SCENARIOS else None


def fires(rule: str) -> bool:
    """Whether the operation that the rule's picture shows fires the rule."""
    return rule in _drawn(SCENARIOS[rule])[1]


def _drawn(scenario: Scenario) -> tuple[str, set[str]]:
    """The picture, and the rules that fired while its operation was done."""
    drawing = Drawing(scenario.images, scenario.cluster, scenario.capabilities)
    *unseen, shown = scenario.operations
    for operation in unseen:
        drawing.apply(operation)
    before, waits_before = drawing.state(), list(drawing.under_way())
    fired = drawing.machine.rules.copy()
    words = drawing.apply(shown)
    waits_after = list(drawing.under_way())
    fired = drawing.machine.rules - fired
    heading, first, last = table([("before", before), ("after", drawing.state())])
    if scenario.cluster != CLUSTER:
        label = human.size(scenario.cluster)
        heading = label + heading[len(label):]
    lines = [heading, first, *waits_before, f"> {words}", last, *waits_after]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
                     if len(line) > _WIDTH else line for line in lines), set(fired)
