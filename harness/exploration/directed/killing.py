# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed schedules in whose middle QEMU is killed: after every one of their steps in turn.

What storage then holds must be exactly what it had completed; with that the next QEMU goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from harness.exploration.building import Plan
from harness.exploration.directed.script import CLUSTER, JOB, ROOM, Play, Script, disks, overlays
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.lockstep.trace import Trace
from harness.systems.base import WHOLE
from model import operations as ops
from model.configuration import RequestKind
from model.operations import Operation, Via
from model.schedule import Start

READ, WRITE = RequestKind.READ, RequestKind.WRITE


class _Killed(Exception):
    """The script has come to where QEMU is to be killed."""


class _Mortal(Script):
    """A script that ends after so many steps of a schedule."""

    left: int | None = None
    """How many steps are left; None: it goes on to its end."""

    def must(self, *operations: Operation) -> None:
        """See :meth:`Script.must`; raises _Killed."""
        for operation in operations:
            if self.left == 0:
                raise _Killed
            super().must(operation)
            if self.left is not None:
                self.left -= 1


def _at_each_step(plan: Plan, begin: Callable[[Script], None], play: Play) -> Trace:
    script = _Mortal(plan, disks(ROOM))
    for landed in (False, True):
        for moment in count(1):
            begin(script)
            script.left = moment
            try:
                play(script)
                script.finish()
            except _Killed:
                pass
            ended = script.left > 0
            script.left = None
            # Changes of one place may not land together: then nothing does.
            if not (landed and script.add(ops.Kill(landed=True))):
                script.must(ops.Kill())
            script.must(ops.Inspect(SOURCE), ops.Inspect(TARGET))
            if ended:
                break
    return script.trace()


def fleecing(plan: Plan) -> Trace:
    """A client reads and gives up what a guest changes."""
    return _at_each_step(plan, lambda script: script.fleecing(), _fleeced)


def _fleeced(script: Script) -> None:
    script.read(0)
    script.write(0, 2)
    script.give_up(2)
    script.write(2, 0.5)
    script.zero(3)
    script.copy(0, nth=-1)
    script.done(READ, SOURCE, 3)
    script.gone(TARGET)
    script.done(READ, SOURCE, 0)
    script.done(WRITE, SOURCE, 2)
    script.back(TARGET)
    script.done(WRITE, TARGET, 3)
    script.flush()


def backing_up(plan: Plan) -> Trace:
    """A job copies what a guest changes."""
    return _at_each_step(plan, lambda script: script.must(ops.Export(SOURCE)), _backed_up)


def _backed_up(script: Script) -> None:
    script.guest = SOURCE
    script.must(Start(replace(JOB, max_workers=1, max_chunk=CLUSTER)))
    script.write(0, 0.5)
    script.write(2)
    script.done(READ, SOURCE, 2)
    script.done(READ, SOURCE, 0)
    script.done(WRITE, TARGET, 2)
    script.done(WRITE, SOURCE, 2)


def bitmaps(plan: Plan) -> Trace:
    """A qcow2 image over the source, with persistent bitmaps: one that the image had, which is
    inconsistent after a kill, and a new one, of which it knows nothing.  What a good end stored
    is there."""
    script = Script(plan, overlays(ROOM))
    kept = ops.BitmapAdd(TARGET, "p0", CLUSTER, persistent=True)
    script.must(kept, ops.Restart())
    for landed in (False, True):
        _over(script)
        script.must(ops.BitmapAdd(TARGET, "new", CLUSTER, persistent=True))
        script.write(0, 0.5)
        script.read(1, node=TARGET)
        script.write(2)
        script.must(ops.Kill(landed=landed), ops.Inspect(SOURCE), ops.Inspect(TARGET),
                    ops.BitmapRemove(TARGET, "p0"), kept, ops.Restart())
    _over(script)
    script.must(ops.Restart(), ops.Inspect(TARGET))
    return script.trace()


def large(plan: Plan) -> Trace:
    """A disk too large to be read whole where that is not needed: looking at it must not tell QEMU
    where there is data, as it would remember that."""
    script = Script(plan, disks(WHOLE // CLUSTER + ROOM))
    script.must(ops.Export(SOURCE))
    script.guest = SOURCE
    script.write(0, 2)
    script.must(ops.Kill(landed=True), ops.Inspect(SOURCE))
    script.guest = FILTER
    script.fleecing()
    script.read(0, node=FILTER, via=Via.NBD)
    script.write(0, 2)
    script.finish()
    script.must(ops.Inspect(SOURCE), ops.Inspect(SNAPSHOT))
    return script.trace()


def _over(script: Script) -> None:
    """The guest writes over the source; what the image then has is flushed, as only of that it is
    known what a kill leaves."""
    script.must(ops.AddFilter(FILTER, SOURCE, TARGET), ops.Export(FILTER), ops.Export(TARGET))
    script.write(0)
    script.finish()
    script.must(ops.Flush(TARGET))
