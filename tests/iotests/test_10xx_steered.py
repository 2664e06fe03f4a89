# SPDX-License-Identifier: GPL-2.0-or-later
"""Backup jobs that are given commands while requests are under way.

How a job ends beside requests of the guest is not here: QEMU is silent then, and must have storage
complete in as many steps as the build takes (docs/concurrency.md).
"""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Image, Protocol, RequestKind
from model.job_operations import (
    Backup,
    BitmapMode,
    JobCancel,
    JobFinalize,
    JobOperation,
    JobPause,
    JobResume,
    OnError,
    Sync,
)
from model.operations import BitmapAdd, Write
from model.schedule import Complete, Start

C = 64 * KIB
SIZE = 6 * C
READ, WRITE = RequestKind.READ, RequestKind.WRITE


def begun(iotest: Scenario) -> None:
    """A job has begun to copy the first four clusters, one at a time."""
    iotest.images(Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),)),
                  Image("copy", SIZE, protocol=Protocol.HELD))
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src")
    iotest.write("src", 0, 4 * C)
    iotest.do(Start(Backup(
        "job", "src", "copy", Sync.BITMAP, "dirty", BitmapMode.ALWAYS, filter_node="filter",
        max_workers=1, max_chunk=C, auto_finalize=False, on_source_error=OnError.STOP,
        on_target_error=OnError.STOP)))


def told(iotest: Scenario, command: JobOperation) -> None:
    """Give the job a command, and do not wait until it rests."""
    iotest.do(Start(command))
    iotest.jobs()


def copied(iotest: Scenario, cluster: int) -> None:
    """Storage reads the cluster from the disk and writes it to the copy."""
    iotest.complete("src", READ, cluster * C, C)
    iotest.complete("copy", WRITE, cluster * C, C)


@pytest.mark.golden(varies=["copy_bitmap_on_filter"])
def test_1015_a_job_is_paused_in_the_middle(iotest: Scenario) -> None:
    """It copies what it has begun, and what waits for its turn.  The guest goes on; the cluster
    that was copied for the guest is not copied again."""
    begun(iotest)
    told(iotest, JobPause("job"))
    iotest.section("The guest writes while the job still copies")
    iotest.start(Write("src", 3 * C, 512))
    copied(iotest, 3)
    iotest.complete("src", WRITE, 3 * C, 512)
    copied(iotest, 0)
    copied(iotest, 1)
    iotest.jobs()
    iotest.bitmaps("filter", "src")
    iotest.section("The job goes on")
    told(iotest, JobResume("job"))
    copied(iotest, 2)
    iotest.do(JobFinalize("job"))
    iotest.bitmaps("src")
    iotest.content("copy")


@pytest.mark.golden(varies=["copy_bitmap_on_filter"])
def test_1016_a_job_that_is_to_pause_fails_to_copy(iotest: Scenario) -> None:
    """No event tells: the cluster is to be copied again.  If the job is cancelled before, the
    bitmap still has it."""
    begun(iotest)
    told(iotest, JobPause("job"))
    iotest.do(Complete("src", READ, 0, C, error="EIO"))
    iotest.jobs()
    iotest.bitmaps("filter")
    iotest.section("The job goes on, and is told to pause again")
    told(iotest, JobResume("job"))
    copied(iotest, 0)
    told(iotest, JobPause("job"))
    copied(iotest, 1)
    iotest.do(Complete("src", READ, 2 * C, C, error="EIO"))
    iotest.bitmaps("filter")
    iotest.section("The end")
    iotest.do(JobCancel("job"))
    iotest.bitmaps("src")
    iotest.content("copy")
