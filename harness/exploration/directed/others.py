# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules over other graphs: a target that shows the source where nothing is copied yet, disks
that do not free space, a job of several tasks that fail."""

from __future__ import annotations

from dataclasses import replace

from harness.exploration.building import Plan
from harness.exploration.directed.script import CLOSING, CLUSTER, JOB, Script, disks, overlays
from harness.exploration.images import SECOND_TARGET, SOURCE, TARGET
from harness.exploration.openings import FILTER, SECOND_FILTER, SNAPSHOT
from harness.lockstep.trace import Trace
from harness.systems.flights import TOGETHER
from model import operations as ops
from model.configuration import Configuration, Format, Image, Protocol, RequestKind
from model.job_operations import JobCancel, JobFinalize, JobPause, JobResume, OnError, Sync
from model.schedule import Start

READ, WRITE, STATUS = RequestKind.READ, RequestKind.WRITE, RequestKind.STATUS


def shown(plan: Plan, *between: str) -> Trace:
    """The target's readers see the source where nothing is copied yet, also through overlays
    ``between`` the two: copies wait for them, but not for readers of what is beside."""
    script = Script(plan, overlays(8, *between))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), ops.Export(FILTER),
                ops.Export(TARGET, writable=False))
    script.read(0, node=TARGET)
    script.write(0, 0.5)
    script.done(READ, SOURCE, 0, nth=1)
    script.done(READ, SOURCE, 0)
    script.finish()
    script.read(2, 0.5, TARGET)
    script.read(2.5, 0.5, TARGET)
    script.write(2)
    script.write(2, 0.5)
    script.done(READ, SOURCE, 2, nth=2)
    script.done(READ, SOURCE, 2, nth=1)
    script.read(2, 1, TARGET)
    script.finish()
    for read, written in ((4, 5), (7, 6)):
        script.read(read, node=TARGET)
        script.write(written, 0.5)
        script.done(READ, SOURCE, written)
        script.finish()
    return script.trace()


def beyond(plan: Plan) -> Trace:
    """An overlay asks nothing of what is below it past the end of that."""
    script = Script(plan, Configuration((
        Image(SOURCE, 2 * CLUSTER, protocol=Protocol.HELD, filled=((0, 2 * CLUSTER),)),
        Image(TARGET, 4 * CLUSTER, Format.QCOW2, backing=SOURCE))))
    script.must(ops.Export(TARGET))
    script.guest = TARGET
    script.read(2, node=TARGET)
    script.write(3, 0.5)
    script.read(1, 2, TARGET)
    script.finish()
    return script.trace()


def apart(plan: Plan) -> Trace:
    """Copies into a target that shows nothing of the source wait for nobody who reads it."""
    script = Script(plan, disks(2))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), ops.Export(FILTER),
                ops.Export(TARGET, writable=False))
    script.read(0, 2, TARGET)
    script.write(0, 0.5)
    script.copy(0)
    script.finish()
    return script.trace()


def below(plan: Plan, between: ops.AddSnapshot | ops.AddCopyOnRead) -> Trace:
    """A filter cuts discards at the clusters of a qcow2 that is below another node ``between``,
    be that but the target of a filter further below.  Zeroes free no space through a copy-on-read
    node."""
    images = overlays(5)
    script = Script(plan, replace(images, images=(*images.images, Image(
        SECOND_TARGET, 5 * CLUSTER, protocol=Protocol.HELD))))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), between,
                ops.AddFilter(SECOND_FILTER, between.node, SECOND_TARGET),
                ops.Export(SECOND_FILTER))
    script.guest = SECOND_FILTER
    script.discard(0.5, 3)
    script.done(READ, SOURCE, 0)
    script.finish()
    if isinstance(between, ops.AddCopyOnRead):
        script.zero(4, unmap=True)
        script.finish()
    return script.trace()


def job(plan: Plan) -> Trace:
    """A job's filter copies as one of the user's does, whatever options the job has."""
    script = Script(plan, overlays(6))
    script.guest = SOURCE
    script.must(ops.Export(SOURCE), Start(replace(JOB, sync=Sync.NONE)),
                ops.Export(TARGET, writable=False))
    script.read(0, node=TARGET)
    script.write(0, 0.5)
    script.done(READ, SOURCE, 0, nth=1)
    script.done(READ, SOURCE, 0)
    script.finish()
    script.read(2, 0.5, TARGET)
    script.write(2, 2)
    script.done(READ, SOURCE, 2, nth=1)
    script.finish(latest=True)
    script.write(4, 2)
    script.read(4, node=TARGET)
    script.read(5, node=TARGET)
    script.finish(latest=True)
    return script.trace()


def zeroes_shown(plan: Plan) -> Trace:
    """What is copied as zeroes waits for readers, too: it may be another's data by then that
    shows."""
    size = 8 * CLUSTER
    script = Script(plan, Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=((0, CLUSTER),), tells_status=True),
        Image(TARGET, size, Format.QCOW2, backing=SOURCE))))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), ops.Export(FILTER),
                ops.Export(TARGET, writable=False))
    for cluster in (2, 4):
        script.read(cluster, node=TARGET)
        script.write(cluster, 0.5)
        script.done(STATUS, SOURCE, cluster)
        script.done(READ, SOURCE, cluster)
        script.finish()
    script.read(0, node=TARGET)
    script.write(0, 2)
    script.finish(latest=True)
    return script.trace()


def detecting(plan: Plan) -> Trace:
    """Disks that detect zeroes are asked to write zeroes, whoever writes them: a guest, or a copy
    of what no block status told to be zero."""
    size = 8 * CLUSTER
    script = Script(plan, Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=((0, CLUSTER),), detect_zeroes="unmap"),
        Image(TARGET, size, protocol=Protocol.HELD, detect_zeroes="on"))))
    script.must(ops.BitmapAdd(SOURCE, "b0", CLUSTER))
    script.fleecing()
    for cluster, count in ((0, 1), (0.5, 1), (2, 0.5), (4, 2)):
        script.start(ops.Write(FILTER, int(cluster * CLUSTER), int(count * CLUSTER), zeroes=True))
        script.finish()
    script.write(6)
    script.finish()
    script.add_all(ops.Inspect(node) for node in (SOURCE, TARGET, SNAPSHOT))
    return script.trace()


def durable(plan: Plan) -> Trace:
    """Each write through an export with writethrough is flushed, also one of zeroes, and answered
    as the flush is; a discard only where its client asks for that.  What a snapshot gives up is
    none of the disk's."""
    script = Script(plan, disks(16))
    script.must(ops.BitmapAdd(SOURCE, "b0", CLUSTER), ops.AddFilter(FILTER, SOURCE, TARGET),
                ops.AddSnapshot(SNAPSHOT, FILTER), ops.Export(FILTER, writethrough=True),
                ops.Export(SNAPSHOT))
    changes = (ops.Write(FILTER, 0, 512), ops.Zero(FILTER, 0, CLUSTER),
               ops.Zero(FILTER, 0, 512, unmap=True), ops.Write(FILTER, 0, 512, fua=True),
               ops.Discard(FILTER, 0, 512), ops.Discard(FILTER, 0, CLUSTER, fua=True),
               ops.Discard(SNAPSHOT, 0, CLUSTER, fua=True), ops.Write(FILTER))
    for cluster, change in enumerate(changes):
        script.base = cluster
        script.start(change)
        script.finish()
    for cluster, change in enumerate((changes[0], changes[5]), start=len(changes)):
        script.base = cluster
        script.start(change)
        script.copy(0)
        script.done(RequestKind.DISCARD if isinstance(change, ops.Discard) else WRITE, SOURCE, 0)
        script.read(0)
        script.done(RequestKind.FLUSH, SOURCE, error="EIO")
        script.finish()
    script.add_all(ops.Inspect(node) for node in (SOURCE, TARGET, SNAPSHOT))
    return script.trace()


def keeping(plan: Plan) -> Trace:
    """Of disks that free no space, zeroes that may do so do not ask for it, and discards ask for
    nothing at all; what is copied before is no other.  The same of a filter over a disk that does,
    but for zeroes on QEMU 7.2."""
    size = 8 * CLUSTER
    script = Script(plan, Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=((0, size),), discard=False),
        Image(TARGET, size, protocol=Protocol.HELD, discard=False),
        Image(SECOND_TARGET, size, protocol=Protocol.HELD))))
    script.fleecing()
    script.zero(0, unmap=True)
    script.zero(1, 0.5)
    script.finish()
    script.discard(2)
    script.give_up(3)
    script.finish()
    script.zero(3.5, 1, unmap=True)
    script.finish(latest=True)
    script.must(ops.Inspect(SNAPSHOT), *CLOSING,
                ops.AddFilter(SECOND_FILTER, SECOND_TARGET, TARGET, discard=False),
                ops.Export(SECOND_FILTER))
    script.guest = SECOND_FILTER
    script.zero(0, unmap=True)
    script.discard(1)
    script.finish()
    script.add_all(ops.Inspect(node) for node in (SOURCE, TARGET, SECOND_FILTER))
    return script.trace()


def pushed(plan: Plan) -> Trace:
    """A job that copies a snapshot is a client of it: the guest's writes wait for its reads, and
    what was copied before a write it reads from the target."""
    script = Script(plan, disks(4, SECOND_TARGET))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), ops.AddSnapshot(SNAPSHOT, FILTER),
                ops.Export(FILTER), Start(replace(
                    JOB, device=SNAPSHOT, target=SECOND_TARGET, max_workers=1,
                    max_chunk=CLUSTER)))
    script.write(0, 0.5)
    script.write(1, 0.5)
    script.copy(0, nth=1)
    script.copy(1)
    script.copy(0, SECOND_TARGET)
    script.done(READ, TARGET, 1)
    script.finish()
    script.must(JobFinalize("job"), ops.Inspect(SECOND_TARGET))
    return script.trace()


def given_up(plan: Plan) -> Trace:
    """What a client of a job's filter gives up, while the job copies something else, is no part of
    the job's length any more."""
    script = Script(plan, disks(4))
    script.must(ops.Export(SOURCE), Start(replace(JOB, max_workers=1, max_chunk=CLUSTER)))
    script.copy(0)
    script.done(READ, SOURCE, 1, error="EIO")
    script.scene.follow(script.machine)  # which has the job's filter now
    script.must(ops.AddSnapshot(SNAPSHOT, "filter"), ops.Export(SNAPSHOT),
                Start(JobResume("job")))
    script.give_up(3)
    script.finish()
    script.must(JobFinalize("job"), ops.Inspect(TARGET))
    return script.trace()


def cancelled(plan: Plan) -> Trace:
    """A job that is told to end, or to pause and then to end, begins to copy nothing of all that
    is left."""
    script = Script(plan, disks(6))
    script.must(ops.Export(SOURCE))
    for told in ((JobCancel("job"),), (JobPause("job"), JobCancel("job"))):
        script.must(Start(replace(JOB, max_workers=1, max_chunk=CLUSTER)), *map(Start, told))
        script.finish()
    script.must(ops.Inspect(TARGET))
    return script.trace()


def failing(plan: Plan) -> Trace:
    """What several tasks of a job fail to copy is not counted as done, whichever of them it is."""
    size = 4 * CLUSTER
    script = Script(plan, Configuration(tuple(
        Image(node, size, protocol=Protocol.HELD, filled=((0, size),))
        for node in (SOURCE, TARGET))))
    script.must(ops.Export(SOURCE), Start(replace(
        JOB, max_workers=3, max_chunk=CLUSTER, on_target_error=OnError.IGNORE)))
    script.done(READ, SOURCE, 1)
    script.done(WRITE, TARGET, 1, error="ENOSPC")
    script.done(READ, SOURCE, 2, error="EIO")
    script.copy(0)
    script.done(READ, SOURCE, 1, error="EIO")
    script.done(READ, SOURCE, 2)
    script.done(WRITE, TARGET, 2, error="ENOSPC")
    script.copy(3)
    script.must(JobResume("job"), JobFinalize("job"), ops.Inspect(SOURCE), ops.Inspect(TARGET))
    return script.trace()


def flushing(plan: Plan) -> Trace:
    """A flush reaches storage while somebody may write to it, whoever flushes, and be it only what
    is there already, as a copy-on-read node does; not before and not after."""
    script = Script(plan, disks(2))
    nodes = (SOURCE, TARGET, FILTER, "cor")
    script.must(ops.Export(SOURCE))
    script.guest = SOURCE
    script.write(0)
    script.finish()
    script.must(ops.Unexport(SOURCE), *(ops.Export(node, writable=False) for node in nodes[:2]))

    def flush() -> None:
        for node in nodes:
            if node in script.machine.exports:
                script.must(Start(ops.Flush(node)))
                script.finish()

    flush()
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), ops.Export(FILTER, writable=False))
    flush()
    script.must(ops.AddCopyOnRead("cor", SOURCE), ops.Export("cor", writable=False))
    flush()
    script.must(ops.Unexport(FILTER), ops.RemoveNode(FILTER), Start(replace(JOB, device="cor")))
    script.finish()
    flush()
    script.must(Start(JobFinalize("job")))
    script.finish()
    script.must(ops.Unexport("cor"), ops.RemoveNode("cor"))
    flush()
    return script.trace()


def crowded(plan: Plan) -> Trace:
    """A client's connection carries as many requests as a server takes of one.  With each that has
    ended there is room for one more, wherever the others are."""
    script = Script(plan, disks(2 * TOGETHER))
    script.fleecing()
    half = TOGETHER // 2
    script.write(0, half)
    script.finish()
    for cluster in range(TOGETHER):
        script.read(cluster)
    for cluster in range(half // 2):
        script.done(READ, TARGET, cluster)
        script.read(TOGETHER + cluster)
    script.finish()
    return script.trace()
