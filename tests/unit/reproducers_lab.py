# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces for the tests of reproducers: every kind of act is in them."""

from __future__ import annotations

from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.lockstep.verdict import Failed
from harness.systems.failure import SystemHung
from model.configuration import Configuration, Fault, Format, Image, Protocol, RequestKind
from model.job_operations import Backup, Sync
from model.operations import (
    AddFilter,
    AddOverlay,
    AddSnapshot,
    Attach,
    BitmapAdd,
    Context,
    Discard,
    Export,
    Flush,
    Inspect,
    Kill,
    Operation,
    Read,
    RemoveNode,
    Reopen,
    ReopenAs,
    Restart,
    Status,
    Unexport,
    Via,
    Write,
    Zero,
)

K = 1024
SIZE = 256 * K
IMAGES = Configuration((
    Image("src", SIZE, filled=((0, SIZE),)),
    Image("tmp", SIZE, Format.QCOW2, cluster_size=64 * K),
    Image("over", SIZE, Format.QCOW2, detect_zeroes="unmap"),
    Image("far", SIZE, protocol=Protocol.NBD),
    Image("bad", SIZE, filled=((0, SIZE),), faults=(Fault(RequestKind.READ, 512),)),
))
GRAPH: tuple[Operation, ...] = (
    AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"),
    Export("cbw", allocation_depth=True), Export("snap"))
THOROUGH: tuple[Operation, ...] = (
    *GRAPH,
    Write("cbw", 64 * K, 4 * K, Via.NBD_SIMPLE, fua=True),
    Read("snap", 0, 128 * K, Via.NBD_DF),
    Read("snap", 0, 128 * K),
    Zero("cbw", 128 * K, 4 * K, unmap=True, fast=True),
    Zero("cbw", 192 * K, 512),
    Status("snap", 0, SIZE, one=True),
    Status("cbw", 0, SIZE, context=Context.DEPTH, others=(Context.ALLOCATION,)),
    BitmapAdd("src", "b"),
    BitmapAdd("src", "b"),
    Discard("snap", 0, 64 * K),
    Read("snap", 0, 512, Via.NBD_DF),
    Inspect("snap"),
    Inspect("tmp"),
    Flush("cbw"),
    RemoveNode("over"),
    AddOverlay("over", "snap"),
    Export("over"),
    Write("over", 128 * K, 64 * K, zeroes=True),
    Read("over", 0, 512, Via.NBD_DF),
    Unexport("snap"),
    Read("cbw", SIZE, 512, Via.NBD_DF),
    Write("cbw", SIZE - 512, 1024),
    Export("bad", called="odd"),
    Read("bad", 0, 1024),
    Restart(),
    Reopen("src", read_only=True),
    Export("src", writable=False),
    Write("src", 0, 512),
    Reopen("src"),
    ReopenAs(AddFilter("cbw", "src", "tmp")),
    Backup("j", "src", "tmp", Sync.FULL, auto_dismiss=False, max_workers=1),
    BitmapAdd("tmp", "b"),
)
BY_MONITOR: tuple[Operation, ...] = (
    *GRAPH,
    Attach("cbw"),
    Write("cbw", 128 * K, 512, Via.DEVICE),
    Read("snap", 128 * K, 64 * K, Via.MONITOR),
    Discard("snap", 0, 64 * K),
    Read("snap", 0, 512, Via.MONITOR),
)
KILLED: tuple[Operation, ...] = (Export("src"), Kill(), Inspect("src"))


def trace(operations: tuple[Operation, ...], system: SystemKind = SystemKind.QSD,
          images: Configuration = IMAGES) -> Trace:
    """The operations, numbered from 1."""
    return Trace(Header(images, system), tuple(
        Step(number, each) for number, each in enumerate(operations, start=1)))


def in_the_end(what: Trace) -> Failed:
    """As if QEMU had not answered when it was looked at after the last step: so everything is
    looked at there."""
    return Failed(len(what.steps) - 1, what.steps[-1], SystemHung("a look", 1.0), observing=True)
