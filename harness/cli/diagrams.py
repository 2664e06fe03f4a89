# SPDX-License-Identifier: GPL-2.0-or-later
"""Small pictures of rules: what there is before and after an operation that fires one."""

from __future__ import annotations

import textwrap
from typing import Final

from harness.cli.drawing import CLUSTER, Drawing, table
from harness.cli.scenarios import SCENARIOS, Scenario
from harness.lockstep import human

_WIDTH: Final = 99


def diagram(rule: str) -> str:
    """The rule's picture, lines of text."""
    return _drawn(SCENARIOS[rule])[0]


def fires(rule: str) -> bool:
    """Whether an operation that the rule's picture shows fires the rule."""
    return rule in _drawn(SCENARIOS[rule])[1]


def _drawn(scenario: Scenario) -> tuple[str, set[str]]:
    """The picture, and the rules that fired while its operations were done."""
    drawing = Drawing(scenario.images, scenario.cluster, scenario.capabilities)
    for operation in scenario.operations[:-scenario.shown]:
        drawing.apply(operation)
    list(drawing.answers())  # those that came before are no part of the picture
    states = [drawing.state()]
    lines = [list(drawing.waits())]
    fired = drawing.machine.rules.copy()
    for operation in scenario.operations[-scenario.shown:]:
        lines[-1].append(f"> {drawing.apply(operation)}")
        states.append(drawing.state())
        lines.append([*drawing.answers(), *drawing.waits()])
    fired = drawing.machine.rules - fired
    labels = ("before", *["then"] * (scenario.shown - 1), "after")
    heading, *rows = table(list(zip(labels, states, strict=True)))
    if scenario.cluster != CLUSTER:
        label = human.size(scenario.cluster)
        heading = label + heading[len(label):]
    told = [heading]
    for row, below in zip(rows, lines, strict=True):
        told += [row, *below]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
                     if len(line) > _WIDTH else line for line in told), set(fired)
