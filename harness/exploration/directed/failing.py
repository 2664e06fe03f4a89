# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of requests that overlap over storage that fails or takes too long."""

from __future__ import annotations

from harness.exploration.building import Plan
from harness.exploration.directed.script import (
    CLOSING,
    CLUSTER,
    ROOM,
    Script,
    disks,
    look,
    side_by_side,
)
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import SNAPSHOT
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import RequestKind

READ, WRITE = RequestKind.READ, RequestKind.WRITE


def failing(plan: Plan) -> Trace:
    """A failed copy that breaks the guest's request."""
    return side_by_side(plan, (
        _source_fails, _target_fails, _retry_of_another, _fails_meanwhile, _fails_unnoticed,
        _waits_for_its_own, _waits_in_turn, _given_up_copy_fails, _reads_fail, _write_itself_fails,
        _discard_fails))


def _source_fails(script: Script) -> None:
    """The copy's errno is the guest's answer; what came before it in the range stays done; and
    what failed is copied the next time."""
    script.write(1, 0.5)
    script.copy(1)
    script.done(WRITE, SOURCE, 1)
    script.write(0, 3)
    script.done(READ, SOURCE, 2, error="ENOMEM")
    script.copy(0)
    script.write(0, 3)
    script.copy(2)


def _target_fails(script: Script) -> None:
    """The same of the target, with a read of the cluster under way and one after it."""
    script.write(0, 2)
    script.read(0)
    script.done(READ, SOURCE, 0)
    script.done(WRITE, TARGET, 0, error="ENOSPC")
    script.read(1)
    script.done(READ, SOURCE, 0)
    script.write(1)
    script.copy(1, nth=1)


def _retry_of_another(script: Script) -> None:
    """Who waited for a copy that failed copies what it needs itself, and so on."""
    script.write(0, 2)
    script.write(0, 0.5)
    script.write(1, 0.5)
    script.done(READ, SOURCE, 0, error="EIO")
    script.done(READ, SOURCE, 0)
    script.done(WRITE, TARGET, 0, error="EPERM")
    script.write(0)
    script.done(READ, SOURCE, 1)


def _fails_meanwhile(script: Script) -> None:
    """Who has copied something looks for more to copy before it waits for others."""
    script.write(1)
    script.write(2)
    script.write(0, 3)
    script.done(READ, SOURCE, 2, error="EIO")
    script.copy(0)
    script.copy(2)
    script.copy(1)


def _fails_unnoticed(script: Script) -> None:
    """Who waits for the copies of others waits for the latest one first, and looks at nothing
    else before that ends."""
    script.write(0)
    script.write(1)
    script.write(0, 2)
    script.done(READ, SOURCE, 0, error="EIO")
    script.copy(1)
    script.copy(0)


def _waits_for_its_own(script: Script) -> None:
    """Who waits for copies of its own goes on after all others that wait for one of them: these
    make the copy that has failed meanwhile, and get the error."""
    script.write(1)
    script.finish()
    script.write(2)
    script.write(0, 3)
    script.write(0, 3)
    script.done(READ, SOURCE, 2, error="EIO")
    script.copy(0)
    script.done(READ, SOURCE, 2, error="ENOMEM")


def _waits_in_turn(script: Script) -> None:
    """Of those that wait for a copy the first to do so goes on first, not who waited for another
    copy before."""
    script.write(0)
    script.write(1)
    script.write(0, 2)
    script.write(0, 0.5)
    script.copy(1)
    script.done(READ, SOURCE, 0, error="EIO")
    script.done(READ, SOURCE, 0, error="ENOMEM")


def _given_up_copy_fails(script: Script) -> None:
    """What was given up while it was copied is to be copied again if the copy fails."""
    script.write(0)
    script.give_up(0)
    script.done(RequestKind.DISCARD, TARGET, 0)
    script.done(READ, SOURCE, 0, error="EIO")
    script.write(0)
    script.done(READ, SOURCE, 0)


def _reads_fail(script: Script) -> None:
    """A fleecing read that fails holds up nobody any more."""
    script.read(0)
    script.read(1)
    script.write(0, 2)
    script.done(READ, SOURCE, 0, error="EIO")
    script.copy(0)
    script.read(0)
    script.done(READ, SOURCE, 1, error="ENOMEM")
    script.done(READ, TARGET, 0, error="EIO")


def _write_itself_fails(script: Script) -> None:
    """The copy was made and stays, whatever becomes of the guest's request."""
    script.write(0)
    script.copy(0)
    script.read(0)
    script.done(WRITE, SOURCE, 0, error="EIO")
    script.write(0)
    script.done(WRITE, SOURCE, 0)


def _discard_fails(script: Script) -> None:
    """A target that cannot discard: what was given up stays given up."""
    script.give_up(0, 2)
    script.write(0)
    script.done(RequestKind.DISCARD, TARGET, 0, error="EIO")
    script.read(1)


def breaking(plan: Plan) -> Trace:
    """A failed copy that breaks the snapshot: each script has a filter of its own."""
    plays = (_broken_by_the_target, _broken_while_others_copy, _broken_while_reading)
    script = Script(plan, disks(ROOM * len(plays)))
    for index, play in enumerate(plays):
        if index:
            script.must(*CLOSING)
        script.fleecing(breaks=True)
        script.base = index * ROOM
        play(script)
        script.finish()
    look(script)
    return script.trace()


def _broken_by_the_target(script: Script) -> None:
    """The guest's request goes ahead; no cluster is copied or can be read any more, but given
    up; and what is copied stays."""
    script.write(1)
    script.finish()
    script.write(0)
    script.done(READ, SOURCE, 0)
    script.done(WRITE, TARGET, 0, error="ENOSPC")
    script.done(WRITE, SOURCE, 0)
    script.write(2)
    script.read(1)
    script.start(ops.Status(SNAPSHOT, CLUSTER, CLUSTER))
    script.give_up(2)
    script.discard(3)


def _broken_while_others_copy(script: Script) -> None:
    """Copies that are under way go on; who waited for the one that failed tries for itself, and
    the first error is the one that counts."""
    script.write(0)
    script.write(0, 0.5)
    script.write(1)
    script.done(READ, SOURCE, 0, error="EIO")
    script.done(READ, SOURCE, 0)
    script.done(WRITE, TARGET, 0, error="EPERM")
    script.done(READ, SOURCE, 1)
    script.write(1, 0.5)
    script.done(WRITE, TARGET, 1)
    script.finish()
    script.read(1)
    script.read(2)


def _broken_while_reading(script: Script) -> None:
    """Writes still wait for reads under way; a read of several runs is refused at the next."""
    script.write(1)
    script.finish()
    script.read(0, 2)
    script.write(0)
    script.done(READ, SOURCE, 0, nth=1, error="EIO")
    script.write(0, 0.5)  # copies nothing and waits for nobody
    script.done(READ, SOURCE, 0)


# Time-outs.  Each expiration takes a second, so one serves many.


def late(plan: Plan) -> Trace:
    """Time runs out before a copy's read has come, before its write, while it waits for another's
    copy, and after the copy; late copies succeed and fail.  One that fails in time is no matter of
    time."""
    script = Script(plan, disks(12))
    script.fleecing(timeout=1)
    script.write(11)
    script.done(READ, SOURCE, 11, error="ENOMEM")
    script.write(10)
    script.done(READ, SOURCE, 10)
    script.done(WRITE, TARGET, 10, error="ENOSPC")
    script.write(0)
    script.write(0, 0.5)  # waits for the first one's copy, and must not try by itself
    script.write(2, 2)
    script.write(5)
    script.write(7)
    script.copy(7)
    script.read(5)
    script.write(9)
    script.done(READ, SOURCE, 9)
    script.expire()
    script.read(0)
    script.done(READ, SOURCE, 0, error="EIO")
    script.copy(2)
    script.copy(5)
    script.done(WRITE, TARGET, 9, error="ENOSPC")
    script.write(2, 2)  # is copied: only to be done
    script.write(9)
    script.write(0)
    script.finish()
    look(script)
    return script.trace()


def late_others(plan: Plan) -> Trace:
    """Time runs out for a discard and for a write of zeroes, which then do nothing."""
    script = Script(plan, disks(4))
    script.fleecing(timeout=1)
    script.discard(0)
    script.zero(2)
    script.expire()
    script.finish()
    look(script)
    return script.trace()


def late_and_broken(plan: Plan) -> Trace:
    """The guest's request goes ahead when its time is up, with the copy still under way."""
    script = Script(plan, disks(8))
    script.fleecing(breaks=True, timeout=1)
    script.read(0, 0.5)
    script.write(0)
    script.write(2)
    script.done(READ, SOURCE, 2)
    script.expire()
    script.read(2)
    script.write(4)
    script.done(READ, SOURCE, 0)  # of the client: only now the guest may write
    script.done(WRITE, SOURCE, 2)
    script.finish()
    script.write(0)
    script.read(6)
    script.finish()
    look(script)
    return script.trace()
