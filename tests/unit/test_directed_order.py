# SPDX-License-Identifier: GPL-2.0-or-later
"""In which order directed checks are done: whatever the model knows is met early."""

from __future__ import annotations

from harness.exploration.building import Plan
from harness.exploration.directed.catalogue import checks
from harness.exploration.steering import pairs_of
from harness.lockstep.trace import SystemKind
from model.capabilities import Capabilities
from model.operations import Via
from model.rules import RULES

EARLY = 240
"""Steps of each family of checks: together some 8,000."""


def test_every_rule_fires_early() -> None:
    """A run of a minute, also on a slow machine, fires all rules, whatever it draws."""
    fired = set()
    for kind in (SystemKind.QSD, SystemKind.QEMU_SYSTEM):
        plan = Plan(kind, Capabilities(
            # The defects that are rules of their own.
            refused_enable_disables=True, aborted_backup_dirties_bitmap=True,
            refused_readonly_reopen_blocks_writes=True,
            human_monitor=kind is SystemKind.QEMU_SYSTEM), tuple(Via))
        for check in checks(kind):
            if check.due <= EARLY:
                fired |= {rule for pair in pairs_of(check.make(plan), plan) for rule in pair}
    assert not RULES.keys() - fired
