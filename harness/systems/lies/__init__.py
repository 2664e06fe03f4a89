# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies that a simulated system can tell, each the picture of a defect that QEMU might have.

A check that cannot fail is none: for every oracle there are lies here that it must catch.
"""

from __future__ import annotations

from harness.systems.lies import forgotten
from harness.systems.lies.answers import ANSWERS
from harness.systems.lies.deeds import DEEDS, ENDS
from harness.systems.lies.forgetful_steering import FORGOTTEN_WHEN_STEERED
from harness.systems.lies.forgotten_status import FORGOTTEN_OF_STATUS
from harness.systems.lies.held import MISDEEDS, MISREPORTS
from harness.systems.lies.jobs import JOBS
from harness.systems.lies.lie import Chance, Lie, Oracle
from harness.systems.lies.observations import OBSERVATIONS

FORGOTTEN = (*forgotten.FORGOTTEN, *FORGOTTEN_OF_STATUS)
"""The rules of requests that overlap that a simulation may have forgotten."""

__all__ = ["FORGOTTEN", "FORGOTTEN_WHEN_STEERED", "MISDEEDS", "MISREPORTS", "Chance", "Lie",
           "Oracle", "catalogue", "texts"]


def catalogue() -> dict[str, Lie]:
    """Every lie of a system whose operations come one after the other, by name."""
    return {lie.name: lie for lie in (
        *ANSWERS, *OBSERVATIONS, *JOBS, *DEEDS, *ENDS)}


def texts() -> dict[str, str]:
    """What the defect would be, by the name of the lie; those about requests that overlap too."""
    told = {each.name: each.text for each in catalogue().values()}
    told |= {each.name: each.text for each in (*FORGOTTEN, *FORGOTTEN_WHEN_STEERED)}
    return told | {each.name: each.text for each in (*MISREPORTS, *MISDEEDS)}
