# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies that a simulated system can tell, each the picture of a defect that QEMU might have.

A check that cannot fail is none: for every oracle there are lies here that it must catch.
"""

from __future__ import annotations

from harness.systems.lies.answers import ANSWERS
from harness.systems.lies.deeds import DEEDS, ENDS
from harness.systems.lies.lie import Chance, Lie, Oracle
from harness.systems.lies.observations import OBSERVATIONS

__all__ = ["Chance", "Lie", "Oracle", "catalogue"]


def catalogue() -> dict[str, Lie]:
    """Every lie, by name."""
    return {lie.name: lie for lie in (*ANSWERS, *OBSERVATIONS, *DEEDS, *ENDS)}
