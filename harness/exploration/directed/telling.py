# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed schedules over storage that tells block status, and lets QEMU wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.exploration.building import Plan
from harness.exploration.directed.script import (
    CLUSTER,
    JOB,
    ROOM,
    Play,
    Script,
    look,
    side_by_side,
)
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Image, Protocol, RequestKind
from model.job_operations import JobFinalize, Sync
from model.operations import Via
from model.schedule import Start

READ, WRITE, ZERO, STATUS = (
    RequestKind.READ, RequestKind.WRITE, RequestKind.ZERO, RequestKind.STATUS)


def _disks(rooms: int) -> Configuration:
    """A source and an empty target that tell block status; of each four clusters of the source the
    first two and the second half of the last hold data."""
    size = rooms * ROOM * CLUSTER
    half = CLUSTER // 2
    data = tuple(piece for room in range(0, size, ROOM * CLUSTER)
                 for piece in ((room, 4 * half), (room + 7 * half, half)))
    return Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=data, tells_status=True),
        Image(TARGET, size, protocol=Protocol.HELD, tells_status=True)))


def _played(plan: Plan, plays: Sequence[Play]) -> Trace:
    return side_by_side(plan, plays, _disks(len(plays)))


# Clients and copies


def telling(plan: Plan) -> Trace:
    """Block status that a client and copies ask for, under way beside each other and beside
    guest writes."""
    return _played(plan, (
        _status_meets_write, _later_runs, _status_of_target, _copied_meanwhile, _frozen_again,
        _copies_of_zeroes, _copy_is_cut, _who_waits_for_a_cut_copy, _short_run,
        _told_when_complete, _remembered, _remembered_until_zeroed, _remembered_beside,
        _guest_asks, _given_up_meanwhile))


def _status_meets_write(script: Script) -> None:
    """A guest's write waits for block status of the source, its copy does not; a status that is
    asked for when the copy is made is of the target, and holds up nobody."""
    script.ask(0)
    script.write(0)
    script.done(STATUS, SOURCE, 0, nth=1)
    script.copy(0)
    script.ask(0)
    script.done(STATUS, SOURCE, 0)
    script.done(WRITE, SOURCE, 0)


def _later_runs(script: Script) -> None:
    """Frozen is all that is left of a status, run by run."""
    script.ask(0, 4)
    script.write(0, 0.5)
    script.write(3, 0.5)
    script.done(STATUS, SOURCE, 0, nth=1)
    script.done(STATUS, SOURCE, 3)
    script.copy(0)
    script.copy(3)
    script.done(STATUS, SOURCE, 0)  # now cluster 0 may be written
    script.done(STATUS, SOURCE, 2)  # and cluster 3, which the client now asks the target for
    script.done(WRITE, SOURCE, 3)


def _status_of_target(script: Script) -> None:
    """Of a status of what is done in part, each part is asked of its own image."""
    script.write(1)
    script.finish()
    script.ask(0, 2)
    script.write(1, 0.5)
    script.done(STATUS, SOURCE, 0)
    script.done(WRITE, SOURCE, 1)
    script.done(STATUS, TARGET, 1)


def _copied_meanwhile(script: Script) -> None:
    """What was copied while a reader asked for its status is read from the target."""
    script.read(0, via=Via.NBD)
    script.write(0)
    script.done(STATUS, SOURCE, 0, nth=1)
    script.copy(0)
    script.done(STATUS, SOURCE, 0)
    script.done(READ, TARGET, 0)


def _frozen_again(script: Script) -> None:
    """What was not is read from the source, where it is frozen again before the write that waits
    can go on."""
    script.read(0, 2, via=Via.NBD)
    script.write(1)
    script.done(STATUS, SOURCE, 1)
    script.copy(1)
    script.done(STATUS, SOURCE, 0)
    script.done(READ, SOURCE, 0)
    script.done(WRITE, SOURCE, 1)


def _copies_of_zeroes(script: Script) -> None:
    """What reads as zero is neither read for the copy nor for the client, and is copied as
    zeroes."""
    script.write(2)
    script.done(STATUS, SOURCE, 2)
    script.done(ZERO, TARGET, 2)
    script.read(2, via=Via.NBD)
    script.done(STATUS, TARGET, 2)


def _copy_is_cut(script: Script) -> None:
    """A copy is cut where its status ends, and the rest is asked about when it has begun."""
    script.discard(0, 4)
    script.done(STATUS, SOURCE, 0)
    script.done(STATUS, SOURCE, 2)
    script.done(ZERO, TARGET, 2)
    script.done(STATUS, SOURCE, 3)


def _who_waits_for_a_cut_copy(script: Script) -> None:
    """Who waits for a copy looks again when that is cut, and so waits for the copy of the rest
    alone.  It does not make it: whose copy it is asks about the rest without a pause."""
    script.write(1, 3)
    script.write(2, 0.5)
    script.done(STATUS, SOURCE, 1)
    script.done(STATUS, SOURCE, 2)
    script.done(ZERO, TARGET, 2)
    script.done(WRITE, SOURCE, 2)
    script.copy(1)


def _short_run(script: Script) -> None:
    """A run that ends within its first cluster is copied as one cluster of data, here one of
    zeroes; the copy then has no hole."""
    script.write(3, 0.5)
    script.done(STATUS, SOURCE, 3)
    script.copy(3)
    script.finish()
    script.ask(3)
    script.ask(3, node=FILTER)


def _told_when_complete(script: Script) -> None:
    """A status tells of what is there when storage completes it, not when it was asked."""
    script.write(2)
    script.finish()
    script.ask(2, 2, FILTER)
    script.zero(2, unmap=True)
    script.done(ZERO, SOURCE, 2)
    script.done(STATUS, SOURCE, 2)


def _remembered(script: Script) -> None:
    """What storage has said to be data is not asked about again, until it begins to change."""
    script.ask(0, 2)
    script.done(STATUS, SOURCE, 0)
    script.ask(1, 2)
    script.discard(1)
    script.copy(1)
    script.ask(0, 2)
    script.finish()


def _remembered_until_zeroed(script: Script) -> None:
    """Nor until it begins to be zeroed."""
    script.ask(0, 2, FILTER)
    script.done(STATUS, SOURCE, 0)
    script.zero(1, 0.5, unmap=True)
    script.finish()
    script.ask(0, 2, FILTER)
    script.finish()


def _remembered_beside(script: Script) -> None:
    """What is changed just before it and just after it does not matter; what is discarded is a
    hole."""
    script.zero(0, 3)
    script.finish()
    script.write(1)
    script.ask(1, node=FILTER)
    script.finish()
    script.zero(0)
    script.discard(2)
    script.finish()
    script.ask(0, 3, FILTER)
    script.finish()


def _guest_asks(script: Script) -> None:
    """Status that a guest asks for, or its sparse read, holds up nobody."""
    script.ask(0, 4, FILTER)
    script.read(1, 2, FILTER, via=Via.NBD)
    script.write(0, 4)
    script.finish(latest=True)


def _given_up_meanwhile(script: Script) -> None:
    """What is given up meanwhile is denied from the next run on."""
    script.ask(0, 3)
    script.read(0, 3, via=Via.NBD)
    script.give_up(0, 4)
    script.finish()


# Failures


def failing(plan: Plan) -> Trace:
    """Block status that fails, or whose connection is lost."""
    return _played(plan, (_copy_knows_nothing, _client_hears, _target_fails, _zeroes_fail, _lost))


def _copy_knows_nothing(script: Script) -> None:
    """A copy whose status fails copies one cluster as data, even if it is zero, and asks about
    the next one; nobody hears of it."""
    script.write(2, 2)
    script.done(STATUS, SOURCE, 2, error="EIO")
    script.done(STATUS, SOURCE, 3, error="ENOSPC")
    script.copy(3)
    script.copy(2)


def _client_hears(script: Script) -> None:
    """The client does, also of one for its read; and holds up nobody any more."""
    script.ask(0, 2)
    script.read(1, via=Via.NBD)
    script.write(0, 2)
    script.done(STATUS, SOURCE, 0, nth=1)
    script.copy(0)
    script.done(STATUS, SOURCE, 0, error="ENOSPC")
    script.done(STATUS, SOURCE, 1, error="EPERM")
    script.done(WRITE, SOURCE, 0)


def _target_fails(script: Script) -> None:
    script.write(0)
    script.finish()
    script.ask(0)
    script.done(STATUS, TARGET, 0, error="ENOMEM")
    script.read(0, via=Via.NBD)
    script.done(STATUS, TARGET, 0, error="EIO")


def _zeroes_fail(script: Script) -> None:
    """What could not be copied as zeroes is not done either, and is copied the next time."""
    script.write(2, 0.5)
    script.done(STATUS, SOURCE, 2)
    script.done(ZERO, TARGET, 2, error="ENOSPC")
    script.read(2)
    script.done(READ, SOURCE, 2)
    script.write(2, 0.5)
    script.done(STATUS, SOURCE, 2)
    script.done(ZERO, TARGET, 2)


def _lost(script: Script) -> None:
    """A status that had no answer when its connection was lost is asked for again."""
    script.ask(0, 0.5)
    script.write(3)
    script.cut(SOURCE)
    script.done(STATUS, SOURCE, 3)
    script.gone(SOURCE)
    script.write(0)
    script.back(SOURCE)
    script.done(STATUS, SOURCE, 0, nth=1)
    script.copy(0)


def late(plan: Plan) -> Trace:
    """A copy whose time is up before its block status has come takes the first run and no more;
    who waits for it then copies what it needs of the rest."""
    script = Script(plan, _disks(1))
    script.fleecing(timeout=1)
    script.write(0, 4)
    script.expire()
    script.write(2, 0.5)
    script.done(STATUS, SOURCE, 0)
    script.done(STATUS, SOURCE, 2)
    script.finish(latest=True)
    script.write(0, 4)
    script.finish()
    look(script)
    return script.trace()


def kept(plan: Plan) -> Trace:
    """Who keeps what is read asks whether it is there, and does not remember the answer; of what
    lies in several runs, each is read by itself."""
    script = Script(plan, _disks(1))
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET))
    for node, below in (("cor", SOURCE), ("above", FILTER), ("top", "above")):
        script.must(ops.AddCopyOnRead(node, below), ops.Export(node))
        for offset, length in ((CLUSTER + 1, 2 * CLUSTER), (3 * CLUSTER + 1, 510), (1, 0),
                               (CLUSTER - 1, 1), (2 * CLUSTER - 1, 3)):
            script.start(ops.Read(node, offset, length, Via.NBD_DF))
            script.finish()
        script.must(ops.Unexport(node))
        script.add(ops.RemoveNode("cor"))
    script.add(ops.Inspect(SOURCE))
    return script.trace()


# Jobs


def jobs(plan: Plan) -> Trace:
    """A job asks for the status of what it copies, one run after the other, and with sync=top
    before that of all there is, to find out what it is to copy.  What it cuts off while it may
    have no more tasks is copied by the guest's write that has waited for it."""
    if not plan.capabilities.snapshot_access:  # nor does that build remember what is data
        return Script(plan, Configuration()).trace()
    script = Script(plan, _disks(1))
    script.guest = SOURCE
    script.must(ops.Export(SOURCE))
    for sync in (Sync.FULL, Sync.TOP):
        script.must(Start(replace(JOB, sync=sync, max_workers=1)))
        script.write(2, 0.5)
        script.write(3, 0.5)
        script.done(STATUS, SOURCE, 0)
        script.read(0, 4, SOURCE, via=Via.NBD)
        script.finish(latest=True)
        script.must(JobFinalize("job"))
        script.must(ops.Zero(SOURCE, CLUSTER, CLUSTER, unmap=True))
    script.add_all((ops.Inspect(SOURCE), ops.Inspect(TARGET)))
    return script.trace()


def spaced(plan: Plan) -> Trace:
    """Zeroes are copied as such, be there space for them or not."""
    script = Script(plan, _disks(1))
    script.guest = SOURCE
    script.must(ops.Export(SOURCE))
    script.zero(0, 2)
    script.finish()
    script.must(ops.Unexport(SOURCE))
    script.guest = FILTER
    script.fleecing()
    script.write(0, 0.5)
    script.done(STATUS, SOURCE, 0)
    script.done(ZERO, TARGET, 0)
    script.finish()
    script.discard(1, 2)
    script.finish()
    look(script)
    return script.trace()
