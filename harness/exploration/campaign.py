# SPDX-License-Identifier: GPL-2.0-or-later
"""A run of exploration: traces drawn and done until the budget is spent, by one process or many.

The traces of a seed are numbered.  Which process does which is of no consequence: number, seed
and area decide a trace.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from harness.exploration import crew
from harness.exploration.explorer import Mission
from harness.exploration.tally import Tally

MOST_FINDS: Final = 10
"""A run ends when so many different divergences are found: something is thoroughly wrong."""

Progress = Callable[[Tally], None]


@dataclass(frozen=True)
class Budget:
    """When a run of exploration ends; the first that is reached counts.  None: no such end."""

    seconds: float | None = 60.0
    steps: int | None = None
    finds: int = MOST_FINDS


def explore(mission: Mission, budget: Budget, workers: int = 1,
            progress: Progress = lambda tally: None) -> Tally:
    """Explore until the budget is spent; finds are the first of each kind, with their traces."""
    begun = time.monotonic()
    deadline = None if budget.seconds is None else begun + budget.seconds
    tally = Tally()

    def take(other: Tally) -> bool:
        """Add a batch's tally; whether to go on."""
        for key, find in other.finds.items():
            if key not in tally.finds:
                late = time.monotonic() - begun
                tally.finds[key] = dataclasses.replace(find, elapsed=late)
        tally.add(other)
        tally.sample(time.monotonic() - begun)
        progress(tally)
        spent = budget.steps is not None and tally.steps >= budget.steps
        # Whichever worker has the corpus, it is done.
        return not (len(tally.finds) >= budget.finds
                    or (spent and tally.kept >= len(mission.corpus)))

    with closing(batches(mission, deadline, workers)) as coming:
        for batch in coming:
            if not take(batch):
                break
    return tally


def batches(work: crew.Work[crew.Report], deadline: float | None,
            workers: int) -> Generator[crew.Report]:
    """The reports of batch after batch, perhaps for ever; close it to stop.  What is under way
    at the deadline is done to its end, and reported."""
    if workers > 1:
        yield from crew.batches(work, deadline, workers)
        return
    queue = work.queue(deadline)
    with closing(work.begin()) as means:
        while (batch := queue.take()) is not None:
            course = batch.course()
            for number in batch.numbers:
                yield means.explore([number], deadline, course)
            queue.report(batch, course)
