# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of commands about a job while its requests, and the guest's, are under way."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Make, Plan
from harness.exploration.directed.script import CLUSTER, JOB, Script, disks
from harness.exploration.images import SOURCE, TARGET
from harness.lockstep.trace import Trace
from model import operations as ops
from model.backup_job import MOST_RETRIES
from model.configuration import Configuration, RequestKind
from model.job_operations import (
    Backup,
    BitmapMode,
    JobCancel,
    JobDismiss,
    JobFinalize,
    JobOperation,
    JobPause,
    JobResume,
    JobSetSpeed,
    OnError,
    Sync,
)
from model.job_steering import UNLIMITED
from model.schedule import CompleteAll, Start

READ, WRITE, STATUS = RequestKind.READ, RequestKind.WRITE, RequestKind.STATUS
_JOB: Final = replace(JOB, max_workers=2, max_chunk=CLUSTER)
_BITMAP: Final = "b0"
_FINE: Final = CLUSTER // 16
"""Its granularity: not what the job copies at a time, nor counts in."""


def makers() -> Iterator[tuple[str, str, Make]]:
    """Area, name and maker of each."""
    yield "concurrency", "a job is paused and resumed in the middle", _paused
    yield "concurrency", "a job that copies nothing by itself is paused, then cancelled", _passive
    yield "concurrency", "a job that is paused when it is cancelled already", _late
    yield "concurrency", "readers that ask storage again while a job ends", asking_again
    yield "failures", "what a job that is to pause fails to copy", _failing
    yield "failures", "a job that tries again more often than anybody would", _stubborn
    yield "failures", "a job that an error stopped is cancelled beside a guest", _stopped
    yield "failures", "a job that an error stopped is cancelled and asks block status", _asking
    for mode in BitmapMode:
        yield ("failures", f"a job is cancelled in the middle, bitmap mode {mode}",
               functools.partial(_cancelled, mode))
        for end in (JobCancel, JobFinalize):
            yield ("concurrency", f"a guest and {end.name} of a job that waits for it, "
                   f"bitmap mode {mode}", functools.partial(_ended, mode, end("job")))


def _begun(plan: Plan, job: Backup, images: Configuration | None = None) -> Script:
    """The job has begun to copy; its disk has a bitmap with something in it."""
    script = Script(plan, images or disks(6))
    script.guest = SOURCE
    script.must(ops.BitmapAdd(SOURCE, _BITMAP, _FINE), ops.Export(SOURCE),
                *(ops.Write(SOURCE, cluster * CLUSTER, 512) for cluster in (0, 1, 2, 3, 5)),
                Start(job))
    return script


def _with_bitmap(mode: BitmapMode) -> Backup:
    return replace(_JOB, sync=Sync.BITMAP, bitmap=_BITMAP, bitmap_mode=mode)


def _tell(script: Script, *commands: type[JobOperation]) -> None:
    script.must(*(Start(command("job")) for command in commands))


def _finished(script: Script, *commands: JobOperation) -> Trace:
    script.finish()
    script.add_all((*commands, ops.Inspect(SOURCE), ops.Inspect(TARGET)))
    return script.trace()


def _paused(plan: Plan) -> Trace:
    """What is begun is copied, and what waits for its turn; the guest copies on its own.  A job
    that is resumed before it is paused goes on without a pause, with what it had not begun."""
    script = _begun(plan, _JOB, disks(9))
    _tell(script, JobPause, JobPause, JobDismiss, JobFinalize)
    script.write(4, 0.5)
    script.copy(0)
    script.copy(1)
    script.done(READ, SOURCE, 4)
    script.copy(2)
    script.read(3, 0.25, SOURCE)
    script.write(3, 0.5)
    _tell(script, JobPause, JobResume, JobResume)
    script.must(*(Start(JobSetSpeed("job", speed)) for speed in (UNLIMITED, -1, 0)))
    _tell(script, JobPause, JobResume)
    script.finish()
    script.write(5, 0.5)
    _tell(script, JobPause, JobResume)
    script.finish()
    return _finished(script, JobFinalize("job"))


def _failing(plan: Plan) -> Trace:
    """Nobody is told of a failure before a pause: the clusters are copied afterwards."""
    script = _begun(plan, _JOB)
    _tell(script, JobPause)
    script.done(READ, SOURCE, 0, error="EIO")
    script.done(READ, SOURCE, 1)
    script.done(WRITE, TARGET, 1, error="ENOSPC")
    script.write(1, 0.5)
    script.finish()
    _tell(script, JobResume)
    script.done(READ, SOURCE, 0, error="EIO")
    script.finish()
    return _finished(script, JobResume("job"), JobFinalize("job"))


def _stopped(plan: Plan) -> Trace:
    """As many requests as may be, and one more, are begun before the job sees its end."""
    script = _begun(plan, _JOB)
    script.done(READ, SOURCE, 0, error="EIO")
    script.copy(1)
    script.write(5, 0.5)
    _tell(script, JobCancel, JobPause, JobResume)
    script.done(READ, SOURCE, 0, error="EIO")
    return _finished(script)


def _telling() -> Configuration:
    images = disks(6)
    return replace(images, images=tuple(
        replace(image, tells_status=True) for image in images.images))


def _asking(plan: Plan) -> Trace:
    """A job that has to ask what to copy sees its end before it has begun all that it might."""
    script = _begun(plan, _JOB, _telling())
    script.done(STATUS, SOURCE, 0)
    script.done(STATUS, SOURCE, 1)
    script.done(READ, SOURCE, 0, error="EIO")
    script.finish()
    _tell(script, JobCancel)
    return _finished(script)


def _late(plan: Plan) -> Trace:
    """It is paused in name only, and cannot be resumed when it has ended."""
    script = _begun(plan, replace(_JOB, auto_dismiss=False))
    _tell(script, JobCancel, JobPause)
    script.finish()
    return _finished(script, JobResume("job"), JobPause("job"), JobDismiss("job"))


def _stubborn(plan: Plan) -> Trace:
    """When it ends nobody may write to the disk any more: its storage is not flushed."""
    script = _begun(plan, replace(_JOB, max_workers=1, on_source_error=OnError.IGNORE))
    for _ in range(MOST_RETRIES + 1):
        script.done(READ, SOURCE, 0, error="EIO")
    script.finish()
    script.must(ops.Unexport(SOURCE))
    _tell(script, JobFinalize)
    return _finished(script)


def _passive(plan: Plan) -> Trace:
    """It is paused at once, whatever the guest has under way, and ends when that has ended, well
    or not."""
    script = _begun(plan, replace(_JOB, sync=Sync.NONE))
    script.write(0, 0.5)
    _tell(script, JobPause)
    script.done(READ, SOURCE, 0)
    script.write(1, 0.5)
    _tell(script, JobResume, JobPause, JobCancel)
    script.must(CompleteAll(TARGET, "ENOSPC"))
    return _finished(script)


def asking_again(plan: Plan) -> Trace:
    """They ask for block status, then read.  Up to QEMU 10.0 the last one, which only reads, ends
    when the others' reads are answered, too."""
    script = _begun(plan, replace(_JOB, sync=Sync.NONE), _telling())
    for cluster in (0, 1, 3, 4):
        script.read(cluster, 1, SOURCE, via=ops.Via.NBD)
    script.done(STATUS, SOURCE, 1)
    script.read(5, 0.5, SOURCE)
    _tell(script, JobCancel)
    return _finished(script)


def _cancelled(mode: BitmapMode, plan: Plan) -> Trace:
    """What is under way is copied first.  A guest's copy that then fails is in no bitmap."""
    script = _begun(plan, _with_bitmap(mode))
    script.write(5, 0.5)
    script.write(0, 0.5)
    _tell(script, JobCancel, JobCancel, JobPause, JobResume, JobFinalize)
    for cluster in (0, 1, 2):
        script.copy(cluster)
    script.must(CompleteAll(SOURCE, "EIO"))
    return _finished(script)


def _ended(mode: BitmapMode, command: JobOperation, plan: Plan) -> Trace:
    """Meanwhile no command is answered; what the guest then writes is recorded."""
    script = _begun(plan, _with_bitmap(mode))
    script.finish()
    script.write(5, 0.5)
    script.write(4, 0.5)
    script.read(1, 1, SOURCE)
    script.must(Start(command))
    return _finished(script, JobFinalize("job"))
