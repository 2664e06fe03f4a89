# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of requests that overlap: each rule of who waits for whom, once and on purpose.

A check is several scripts, one after the other on one disk, each in clusters of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from harness.exploration.building import Check, Make, Plan
from harness.exploration.directed import (
    failing,
    killing,
    losing,
    others,
    steering,
    tasks,
    telling,
)
from harness.exploration.directed.script import (
    CLUSTER,
    JOB,
    ROOM,
    Script,
    disks,
    if_possible,
    look,
    side_by_side,
)
from harness.exploration.images import SECOND_TARGET, SOURCE, TARGET
from harness.exploration.openings import FILTER, SECOND_FILTER, SECOND_SNAPSHOT, SNAPSHOT
from harness.lockstep.simplify import with_configuration
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, RequestKind
from model.job_operations import JobFinalize, JobResume, OnError
from model.schedule import Start

READ, WRITE = RequestKind.READ, RequestKind.WRITE


def checks() -> Iterator[Check]:
    """All of them, those that find most first."""
    for area, name, make in (
            ("concurrency", "guest writes and fleecing reads", _locking),
            ("failures", "copies that fail, guest's request broken", failing.failing),
            ("timeouts", "copies out of time, guest's request broken", failing.late),
            ("failures", "copies that fail, snapshot broken", failing.breaking),
            ("timeouts", "copies out of time, snapshot broken", failing.late_and_broken),
            ("failures", "copies of several tasks, of which some fail", tasks.failing),
            ("concurrency", "a job and guest writes", _jobs),
            ("concurrency", "the source shows through the target", others.shown),
            ("failures", "a job of several tasks that fail", others.failing),
            ("concurrency", "block status under way", telling.telling),
            ("failures", "a job of which a client gives up a part", others.given_up),
            ("concurrency", "disks that free no space", others.keeping),
            ("zeroes", "data that is zero", others.detecting),
            ("failures", "writes and discards that are flushed", others.durable),
            ("failures", "storage that is lost and found", losing.lost),
            ("concurrency", "a connection that is full", others.crowded),
            ("concurrency", "copies that wait for memory", tasks.memory),
            ("failures", "QEMU killed at each step of guest and client", killing.fleecing),
            *steering.makers(),
            ("failures", "block status that fails", telling.failing),
            ("concurrency", "block status for jobs", telling.jobs),
            ("timeouts", "block status out of time", telling.late),
            ("timeouts", "discards and zeroes out of time", failing.late_others),
            ("concurrency", "block status for copy-on-read", telling.kept),
            ("failures", "QEMU killed beside persistent bitmaps", killing.bitmaps),
            ("failures", "QEMU killed at each step of a job and a guest", killing.backing_up),
            ("concurrency", "filters over filters", _stacked),
            ("timeouts", "filters over filters, none out of time",
             lambda plan: _stacked(plan, timeout=60)),
            ("timeouts", "filters over filters, of which 0 seconds are none",
             lambda plan: _stacked(plan, timeout=0)),
            ("concurrency", "the source shows through two overlays",
             lambda plan: others.shown(plan, "between")),
            ("concurrency", "the source's zeroes show through the target", others.zeroes_shown),
            ("concurrency", "the source shows through a job's target", others.job),
            ("concurrency", "a target that shows nothing of the source", others.apart),
            ("concurrency", "an overlay longer than what shows through it", others.beyond),
            ("concurrency", "discards over a snapshot",
             lambda plan: others.below(plan, ops.AddSnapshot(SNAPSHOT, FILTER))),
            ("concurrency", "discards over a copy-on-read node",
             lambda plan: others.below(plan, ops.AddCopyOnRead("cor", FILTER))),
            ("concurrency", "a job that is paused and cancelled with much left", others.cancelled),
            ("concurrency", "a job that copies a snapshot", others.pushed),
            ("concurrency", "flushes of disks that nobody may write to", others.flushing),
            ("concurrency", "tasks that wait for memory", tasks.memory_of_tasks),
            ("concurrency", "a job and a guest that wait for memory", tasks.memory_of_a_job),
            ("concurrency", "copies of several tasks", tasks.several),
            ("concurrency", "a copy of more tasks than go at a time", tasks.many)):
        yield Check(area, f"schedule: {name}", functools.partial(if_possible, make))
    for area, name, make in (
            ("concurrency", "guest writes and fleecing reads", _locking),
            ("failures", "copies that fail, snapshot broken", failing.breaking),
            ("timeouts", "copies out of time, guest's request broken", failing.late),
            ("failures", "storage that is lost and found", losing.lost),
            ("concurrency", "a job and guest writes", _jobs)):
        yield Check(area, f"schedule in an I/O thread: {name}",
                    functools.partial(_in_thread, make))
    for area, name, make in (
            ("concurrency", "flushes that wait for their turn", tasks.flushes),
            ("failures", "QEMU killed beside a large disk", killing.large),
            ("concurrency", "copies of zeroes that take space", telling.spaced)):
        yield Check(area, f"schedule: {name}", functools.partial(if_possible, make))


def _in_thread(make: Make, plan: Plan) -> Trace:
    if plan.capabilities.threaded_client_aborts:
        return Script(plan, Configuration()).trace()
    trace = if_possible(make, plan)
    return with_configuration(trace, replace(trace.configuration, iothread=True))


# Who waits for whom


def _locking(plan: Plan) -> Trace:
    return side_by_side(plan, (
        _write_meets_read, _second_cluster, _beginning_overlaps, _several_reads,
        _several_reads_latest_last, _several_writers, _copy_in_flight, _writers_share_a_copy,
        _partly_copied, _overlapping_reads, _other_changes, _zeroes, _give_up_meets_copy,
        _give_up_meets_read, _give_up_parts, _flushes, _no_bytes, _odd_bytes))


def _write_meets_read(script: Script) -> None:
    """The copy does not wait for the read, the write does; a read that begins later does not
    hold it up."""
    script.read(0)
    script.write(0)
    script.copy(0, nth=1)
    script.read(0)  # of the target, as the cluster is done
    script.done(READ, SOURCE, 0)
    script.done(WRITE, SOURCE, 0)


def _second_cluster(script: Script) -> None:
    """Frozen is all of a read, and waited for in all of a write."""
    script.read(0, 2)
    script.write(1, 0.5)
    script.copy(1)
    script.done(READ, SOURCE, 0)
    script.finish()
    script.read(3)
    script.write(2, 2)
    script.copy(2)
    script.done(READ, SOURCE, 3)


def _beginning_overlaps(script: Script) -> None:
    """A read that begins below the write, and ends within."""
    script.read(0, 1.5)
    script.write(1, 2)
    script.copy(1)
    script.done(READ, SOURCE, 0)


def _several_reads(script: Script) -> None:
    """A write waits for all reads of its clusters, whichever ends first."""
    script.read(0, 0.5)
    script.read(0.5, 0.5)
    script.write(0)
    script.copy(0, nth=2)
    script.done(READ, SOURCE, 0, nth=1)
    script.done(READ, SOURCE, 0)


def _several_reads_latest_last(script: Script) -> None:
    script.read(0, 0.5)
    script.read(0.5, 0.5)
    script.write(0, 2)
    script.copy(0, nth=2)
    script.done(READ, SOURCE, 0)
    script.read(1, 0.5)  # of the target: it holds up nobody
    script.done(READ, SOURCE, 0)


def _several_writers(script: Script) -> None:
    """All that wait for a read go on when it ends."""
    script.read(0)
    for cluster in (0, 0, 0.5):
        script.write(cluster, 0.5)
    script.copy(0, nth=1)
    script.done(READ, SOURCE, 0)


def _copy_in_flight(script: Script) -> None:
    """A cluster is done when it is copied, not before: a read meanwhile is of the source."""
    script.write(0, 0.5)
    script.done(READ, SOURCE, 0)
    script.read(0, 0.5)
    script.done(WRITE, TARGET, 0)
    script.read(0.5, 0.5)
    script.done(READ, SOURCE, 0)


def _writers_share_a_copy(script: Script) -> None:
    """Whoever has nothing to copy waits for the copies of others; all of them are woken."""
    script.write(0)
    script.write(0, 0.5)
    script.write(0.5, 0.5)
    script.write(0, 2)
    script.read(0)
    script.copy(0)
    script.copy(1)


def _partly_copied(script: Script) -> None:
    """A read of three clusters whose second is done freezes all that is left of it while it reads
    the source, and nothing while it reads the target."""
    script.write(1)
    script.finish()
    script.read(0, 3)
    script.write(1, 0.5)
    script.write(2, 0.5)
    script.copy(2)
    script.done(READ, SOURCE, 0)
    script.write(0, 0.5)
    script.copy(0)
    script.finish(latest=True)


def _overlapping_reads(script: Script) -> None:
    """Reads that overlap each other, and writes that meet one, both, or the other of them."""
    script.read(0, 2)
    script.read(1, 2)
    for cluster in (0, 1, 2):
        script.write(cluster, 0.5)
        script.copy(cluster, nth=-1)
    script.done(READ, SOURCE, 1)
    script.done(READ, SOURCE, 0)


def _other_changes(script: Script) -> None:
    """Zeroes and discards wait as writes do; a guest's own reads never wait."""
    script.read(0, 2)
    script.zero(0)
    script.discard(1)
    script.read(0, 0.5, FILTER)
    script.copy(0, nth=1)
    script.copy(1)
    script.done(READ, SOURCE, 0, nth=-1)
    script.done(READ, SOURCE, 0)


def _zeroes(script: Script) -> None:
    """Whether zeroes may free space is for the guest to say, of each request."""
    script.zero(0, 0.5, unmap=True)
    script.zero(0, 0.5)
    script.copy(0)
    script.zero(1.5, 1, unmap=True)


def _give_up_meets_copy(script: Script) -> None:
    """What is given up while it is copied is copied to the end; what was given up before is not
    copied at all, and is done nevertheless."""
    script.write(0)
    script.done(READ, SOURCE, 0)
    script.give_up(0, 2)
    script.write(0.5, 1)
    script.read(1)
    script.done(RequestKind.DISCARD, TARGET, 0)
    script.done(WRITE, TARGET, 0)


def _give_up_meets_read(script: Script) -> None:
    """A discard does not wait for reads, nor takes it away what they have begun; a read of
    several runs is refused at the next one."""
    script.write(1)
    script.finish()
    script.read(0, 2)
    script.read(2)
    script.give_up(0, 3)
    script.done(RequestKind.DISCARD, TARGET, 0)
    script.done(READ, SOURCE, 0)
    script.write(2)
    script.read(2, 2)
    script.done(READ, SOURCE, 2)
    script.read(3)


def _give_up_parts(script: Script) -> None:
    """Of a discard that is not aligned only whole clusters are given up; who reads one of them
    among others is refused all."""
    script.give_up(0.5, 2)
    script.finish()
    script.read(0, 2)
    script.write(0, 3)
    script.finish()


def _flushes(script: Script) -> None:
    """Flushes and durable writes, of nothing too, and a flush while another one is under way."""
    script.write(0, fua=True)
    script.copy(0)
    script.flush()
    script.done(WRITE, SOURCE, 0)
    script.write(0, 0.5)
    script.flush()
    script.done(RequestKind.FLUSH, SOURCE)
    script.finish()
    script.zero(0, 0.5, fua=True)
    script.zero(1, 0.5, fua=True, unmap=True)
    script.copy(1)
    script.done(RequestKind.ZERO, SOURCE, 0)
    script.finish()
    script.write(3, 0, fua=True)
    script.done(RequestKind.FLUSH, SOURCE)


def _odd_bytes(script: Script) -> None:
    """What is asked of a filter is neither widened to an even number of bytes nor cut at one."""
    script.zero(1 / CLUSTER, 0.5)
    script.finish()
    script.discard(1 + 1 / CLUSTER, 0.5)


def _no_bytes(script: Script) -> None:
    """A write of no bytes inside a cluster has it copied and waits, though nothing is written; at
    the start of one it touches none."""
    script.read(0)
    script.write(0, 0)
    script.write(0.5, 0)
    script.copy(0, nth=1)
    script.done(READ, SOURCE, 0)


# Larger graphs


def _jobs(plan: Plan) -> Trace:
    """A job and a guest on the same clusters; before it one with an argument that there is not,
    which does not begin."""
    script = Script(plan, disks(5))
    script.guest = SOURCE
    script.must(ops.Export(SOURCE), Start(replace(JOB, bitmap_mode="sometimes")), Start(replace(
        JOB, max_workers=2, max_chunk=CLUSTER, on_target_error=OnError.IGNORE)))
    script.write(0, 0.5)
    script.write(1, 2.5)
    script.write(4)
    script.done(READ, SOURCE, 4)
    script.done(READ, SOURCE, 0)
    script.done(WRITE, TARGET, 0, error="ENOSPC")
    script.read(4, node=SOURCE)
    script.copy(1)
    script.done(READ, SOURCE, 2, error="EIO")
    script.finish(latest=True)
    script.add_all((JobResume("job"), JobFinalize("job"), ops.Inspect(TARGET)))
    return script.trace()


def _stacked(plan: Plan, timeout: int | None = None) -> Trace:
    """A filter over a filter: a copy of the upper one is a read through the lower one, which holds
    up nobody; a write waits in both."""
    script = Script(plan, disks(4 * ROOM, SECOND_TARGET))
    script.must(
        ops.AddFilter(FILTER, SOURCE, TARGET),
        ops.AddFilter(SECOND_FILTER, FILTER, SECOND_TARGET, cbw_timeout=timeout),
        ops.AddSnapshot(SNAPSHOT, FILTER), ops.AddSnapshot(SECOND_SNAPSHOT, SECOND_FILTER),
        *(ops.Export(node) for node in (SECOND_FILTER, SNAPSHOT, SECOND_SNAPSHOT)))
    script.guest = SECOND_FILTER
    script.read(0)
    script.read(0, 0.5, SECOND_SNAPSHOT)
    script.write(0)
    script.copy(0, SECOND_TARGET, nth=2)
    script.done(READ, SOURCE, 0, nth=1)
    script.copy(0, nth=1)
    script.done(READ, SOURCE, 0)
    script.write(1, 2)
    script.finish(latest=True)
    for play in (_first_after_a_read, _first_after_a_copy, _first_after_two_copies):
        script.base += ROOM
        play(script)
        script.finish()
    look(script)
    return script.trace()


def _first_after_a_read(script: Script) -> None:
    """Two writes with a cluster in common: whichever comes first to the lower filter copies it.
    The first one waits for the latest read first, and so is behind the other in the end."""
    script.read(1, node=SECOND_SNAPSHOT)
    script.read(0, node=SECOND_SNAPSHOT)
    script.write(0, 1.5)
    script.copy(0, SECOND_TARGET, nth=-1)
    script.write(1.5)
    script.copy(2, SECOND_TARGET)
    script.done(READ, SOURCE, 0)
    script.done(READ, SOURCE, 1)


def _first_after_a_copy(script: Script) -> None:
    """The same after a copy: whoever did it goes on first, unless it is one with a time-out, which
    is a task of its own."""
    script.write(0, 1.5)
    script.write(1.5)
    script.copy(2, SECOND_TARGET)
    script.copy(0, SECOND_TARGET)


def _first_after_two_copies(script: Script) -> None:
    """Whoever has several tasks goes on after those who have waited for the last of them."""
    script.write(1)
    script.finish()
    script.write(0, 2.5)
    script.write(2.5)
    script.copy(3, SECOND_TARGET)
    for cluster in (0, 2):
        script.copy(cluster, SECOND_TARGET)
