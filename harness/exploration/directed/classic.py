# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules over a target that shows the source where nothing is copied yet: copies wait for its
readers, whoever copies."""

from __future__ import annotations

from harness.exploration.building import Plan
from harness.exploration.directed.script import CLUSTER, Script
from harness.exploration.images import SOURCE, TARGET
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Format, Image, Protocol, RequestKind
from model.job_operations import Backup, OnError, Sync
from model.schedule import Start

READ = RequestKind.READ


def job(plan: Plan) -> Trace:
    """A job's filter copies as one of the user's does, whatever options the job has."""
    size = 6 * CLUSTER
    script = Script(plan, Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=((0, size),)),
        Image(TARGET, size, Format.QCOW2, backing=SOURCE))))
    script.guest = SOURCE
    script.must(ops.Export(SOURCE), Start(Backup("job", SOURCE, TARGET, Sync.NONE,
                                                 filter_node="filter", auto_finalize=False,
                                                 on_source_error=OnError.STOP,
                                                 on_target_error=OnError.STOP)),
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
