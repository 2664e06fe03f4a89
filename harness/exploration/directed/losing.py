# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed schedules of storage whose connection is lost while requests are under way."""

from __future__ import annotations

from harness.exploration.building import Plan
from harness.exploration.directed.script import Script, side_by_side
from harness.exploration.images import SOURCE, TARGET
from harness.lockstep.trace import Trace
from model.configuration import RequestKind

READ, WRITE = RequestKind.READ, RequestKind.WRITE


def lost(plan: Plan) -> Trace:
    """What had no answer is asked again on a new connection, and what comes meanwhile waits; the
    order of things is as if nothing had been."""
    return side_by_side(plan, (_cut_copies, _gone_source, _gone_target))


def _cut_copies(script: Script) -> None:
    script.write(0)
    script.cut(SOURCE)
    script.read(0, 0.5)
    script.done(READ, SOURCE, 0)
    script.cut(TARGET)
    script.done(WRITE, TARGET, 0)
    script.cut(SOURCE)
    script.done(READ, SOURCE, 0)


def _gone_source(script: Script) -> None:
    """A fleecing read still holds up the guest's write when its storage comes back."""
    script.read(0)
    script.gone(SOURCE)
    script.write(1, 0.5)
    script.give_up(2)
    script.back(SOURCE)
    script.write(0, 0.5)
    script.copy(0, nth=-1)
    script.done(READ, SOURCE, 0)


def _gone_target(script: Script) -> None:
    script.write(0)
    script.done(READ, SOURCE, 0)
    script.gone(TARGET)
    script.write(0, 0.5)
    script.read(0)
    script.done(READ, SOURCE, 0)
    script.back(TARGET)
    script.done(WRITE, TARGET, 0)
