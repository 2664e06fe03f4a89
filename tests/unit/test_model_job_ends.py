# SPDX-License-Identifier: GPL-2.0-or-later
"""What may end a job, and so kill a build whose filters cannot go while they are used."""

from __future__ import annotations

import pytest

from model.capabilities import Capabilities
from model.configuration import Configuration, Image
from model.job_operations import Backup, JobSetSpeed, Sync
from model.machine import Machine
from model.operations import AddFilter, BitmapAdd, BitmapRef, Export
from tests.unit.fleecing import CLUSTER


@pytest.mark.parametrize(("used", "speed", "deadly"), [
    (AddFilter("cbw", "jf", "tmp"), 1, "filtered_job_filter_aborts"),
    (AddFilter("cbw", "jf", "tmp"), None, None),
    (Export("src", writable=False, bitmaps=(BitmapRef("jf", "b0"),)), 1,
     "busy_bitmap_removal_aborts")])
def test_a_slow_job_that_is_given_another_speed_may_end(
        used: AddFilter | Export, speed: int | None, deadly: str | None) -> None:
    machine = Machine(Configuration(tuple(
        Image(name, 2 * CLUSTER) for name in ("src", "tmp", "tmp2"))), Capabilities(
            copy_bitmap_on_filter=False, filtered_job_filter_aborts=True,
            busy_bitmap_removal_aborts=True))
    for number, operation in enumerate((
            Backup("job", "src", "tmp2", Sync.FULL if speed else Sync.NONE, filter_node="jf",
                   speed=speed, max_chunk=CLUSTER), BitmapAdd("jf", "b0"), used)):
        assert machine.apply(number, operation).refused is None
    assert machine.deadly(JobSetSpeed("job", 0)) == deadly
