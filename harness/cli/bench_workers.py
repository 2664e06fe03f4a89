# SPDX-License-Identifier: GPL-2.0-or-later
"""What exploration comes to with one process and with two, and what drawing takes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.exploration import areas, campaign
from harness.exploration.campaign import Budget
from harness.exploration.explorer import Mission
from harness.exploration.steering import CANDIDATES
from harness.exploration.subjects import Subject


@dataclass(frozen=True)
class Explored:
    """What was measured."""

    steps_per_s: float
    drawing_share: float


def explored(subject: Subject, workers: int, seconds: float) -> Explored:
    """Explore all areas for so many seconds, always the same traces, steered as ``verify`` is."""
    mission = Mission(subject.grounds, subject.shares, tuple(
        area.name for area in areas.chosen(None)), seed=1, candidates=CANDIDATES)
    begun = time.monotonic()
    tally = campaign.explore(mission, Budget(seconds), workers)
    return Explored(round(tally.steps / (time.monotonic() - begun), 1), tally.drawing_share)
