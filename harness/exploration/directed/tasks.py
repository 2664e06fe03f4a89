# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules of copies of several tasks: of 1 MiB each, 64 at a time, 16 of their requests sent at
a time."""

from __future__ import annotations

from dataclasses import replace

from harness.exploration.building import Plan
from harness.exploration.directed.script import CLUSTER, JOB, Script, disks, look
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import MIB, Configuration, Image, Protocol, RequestKind
from model.job_operations import JobFinalize
from model.schedule import Start

FLUSH, READ, WRITE = RequestKind.FLUSH, RequestKind.READ, RequestKind.WRITE


def _large(plan: Plan, size: int) -> Script:
    script = Script(plan, disks(size / CLUSTER))
    script.fleecing()
    return script


def several(plan: Plan) -> Trace:
    """Tasks beside each other, and who waits for some of them."""
    script = _large(plan, 4 * MIB + CLUSTER)
    script.read(20, 0.5)
    script.discard(3, 60)
    script.done(READ, SOURCE, 3 + 32)
    script.write(0, 4)  # copies what is before it, and waits for the rest
    script.copy(3)
    script.finish(latest=True)
    look(script)
    return script.trace()


def flushes(plan: Plan) -> Trace:
    """Of flushes, those that wait for another one get as far as to the storage one after the
    other, each behind all that waits for its turn by then."""
    script = Script(plan, disks(20))
    script.fleecing()
    for cluster in range(15):
        script.write(cluster)
    script.flush()
    script.flush()
    script.flush()
    for cluster in range(15, 19):
        script.write(cluster)
    script.done(FLUSH, SOURCE)
    script.finish(latest=True)
    return script.trace()


def failing(plan: Plan) -> Trace:
    """After the first failure no task starts; all that were started are waited for; and who
    waited for them tries again what they leave."""
    script = _large(plan, 5 * MIB)
    script.discard(0, 80)
    script.write(2)
    script.write(70)
    script.done(READ, SOURCE, 32, error="EIO")
    script.done(READ, SOURCE, 0)
    script.done(READ, SOURCE, 64)
    script.done(WRITE, TARGET, 64, error="ENOSPC")
    script.finish()
    script.discard(0, 80)
    script.finish(latest=True)
    look(script)
    return script.trace()


def memory(plan: Plan) -> Trace:
    """All copies of a filter have 128 MiB in hand: four clusters of 32 MiB.  The fifth begins
    when one of them has ended, well or not."""
    cluster = 32 * MIB
    if not plan.capabilities.min_cluster_size:
        return Script(plan, Configuration()).trace()
    script = Script(plan, Configuration(tuple(
        Image(node, 6 * cluster, protocol=Protocol.HELD) for node in (SOURCE, TARGET))))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET, min_cluster_size=cluster),
                ops.AddSnapshot(SNAPSHOT, FILTER), ops.Export(FILTER), ops.Export(SNAPSHOT))
    places = [number * cluster / CLUSTER for number in range(6)]
    for place in places:
        script.write(place, 0.5)
    script.read(places[4], 0.5)
    script.done(READ, SOURCE, places[2], error="EIO")
    script.copy(places[1])
    script.finish()
    return script.trace()


def memory_of_a_job(plan: Plan) -> Trace:
    """A job begins the next copy when one has ended, and may have the memory for the copy after
    that only when those have theirs who wait for it."""
    cluster = 32 * MIB
    if not plan.capabilities.min_cluster_size:
        return Script(plan, Configuration()).trace()
    script = Script(plan, Configuration(tuple(
        Image(node, 6 * cluster, protocol=Protocol.HELD) for node in (SOURCE, TARGET))))
    script.guest = SOURCE
    script.must(ops.Export(SOURCE),
                Start(replace(JOB, max_workers=1, min_cluster_size=cluster)))
    places = [number * cluster / CLUSTER for number in range(6)]
    for place in places[2:5]:
        script.write(place, 0.5)
    script.copy(places[0])
    script.copy(places[4])
    script.finish()
    script.must(JobFinalize("job"))
    return script.trace()


def memory_of_tasks(plan: Plan) -> Trace:
    """128 tasks of two requests have all memory in hand: a third request begins a task, which
    waits; and when a task has ended another one, which does."""
    script = _large(plan, 131 * MIB)
    for place, size in ((0, 64 * MIB), (64 * MIB, 64 * MIB), (128 * MIB, 3 * MIB)):
        script.discard(place / CLUSTER, size / CLUSTER)
    script.done(READ, SOURCE, nth=-1)
    script.done(WRITE, TARGET)
    script.must(ops.Kill())
    return script.trace()


def many(plan: Plan) -> Trace:
    """More tasks than may be under way at a time; and zeroes of more than one request."""
    size = 67 * MIB + CLUSTER
    script = _large(plan, size)
    script.discard(0, size / CLUSTER)
    script.write(66 * 16, 0.5)
    script.finish()
    script.zero(0, size / CLUSTER)
    script.finish()
    return script.trace()
