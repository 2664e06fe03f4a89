# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of what jobs ask block status for, and what becomes of them if that fails."""

from __future__ import annotations

from dataclasses import replace

from harness.exploration.building import Builder, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, disks
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Fault, Image, RequestKind
from model.job_operations import Backup, BitmapMode, JobResume, OnError, Sync


def unchosen(plan: Plan) -> Trace:
    """A job that cannot find out what it has to copy fails, whatever it is to do about errors, and
    has copied nothing."""
    size = 4 * CLUSTER
    builder = Builder(plan, disks(size, Image("src", size, filled=((0, size),), faults=(
        Fault(RequestKind.STATUS, 0, once=True),
        Fault(RequestKind.STATUS, CLUSTER, "ENOSPC", once=True)))))
    usual = Backup("job", "src", "tmp", Sync.TOP, max_workers=1, max_chunk=CLUSTER,
                   on_source_error=OnError.STOP)
    builder.add_all((
        ops.BitmapAdd("src", "b0"), usual,
        replace(usual, bitmap="b0", bitmap_mode=BitmapMode.ALWAYS, on_source_error=OnError.IGNORE),
        ops.Inspect("tmp"), usual, ops.Inspect("tmp")))
    return builder.trace()


def looked_up(plan: Plan) -> Trace:
    """A job of one request at a time has asked for block status of the next cluster, which fails
    once, before the copy of one has failed."""
    status = Fault(RequestKind.STATUS, CLUSTER, "ENOSPC", once=True)
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),), faults=(
            Fault(RequestKind.READ, 0, once=True), status)),
        Image("src2", size, filled=((0, size),), faults=(status,)),
        Image("tmp", size, faults=(Fault(RequestKind.WRITE, 0, once=True),)))))
    for disk in ("src", "src2"):
        builder.add_all((
            ops.Export(disk), Backup("job", disk, "tmp", Sync.FULL, max_workers=1,
                                     max_chunk=CLUSTER, on_source_error=OnError.STOP,
                                     on_target_error=OnError.STOP),
            ops.Status(disk, CLUSTER, CLUSTER), ops.Status(disk, CLUSTER, CLUSTER),
            JobResume("job"), ops.Inspect("tmp")))
    return builder.trace()


def denied(plan: Plan) -> Trace:
    """A job whose copy fails at once, as it is denied what it reads, asks for the block status of
    nothing else: what fails once there fails for a client."""
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),), faults=(
            Fault(RequestKind.STATUS, CLUSTER, once=True),)),
        Image("tmp", size), Image("tmp2", size))))
    status = ops.Status("snap", CLUSTER, CLUSTER)
    builder.add_all((
        *GRAPH, ops.Discard("snap", 0, CLUSTER),
        Backup("job", "snap", "tmp2", Sync.FULL, max_workers=1, max_chunk=CLUSTER), status,
        status, ops.Inspect("tmp2")))
    return builder.trace()
