# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of what an image keeps, above all bitmaps, however QEMU ends."""

from __future__ import annotations

import itertools

from harness.exploration.building import Builder, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, MIB, Configuration, Fault, Format, Image, RequestKind
from model.job_operations import Abort, Backup, BitmapMode, Sync, Transaction
from model.operations import BitmapRef


def kept(cluster: int) -> Make:
    def make(plan: Plan) -> Trace:
        size = 6 * MIB + 512
        images = Configuration((
            Image("src", size, Format.QCOW2, cluster_size=cluster), Image("tmp", size)))
        builder = Builder(plan, images)
        # With granularity 512, a bitmap of 12289 bits: three clusters of 512 bytes and a bit.
        builder.add_all((
            ops.BitmapAdd("src", "p0", 512, persistent=True), ops.BitmapAdd("src", "lost", 512),
            ops.BitmapAdd("src", "p1", CLUSTER, persistent=True, disabled=True),
            ops.BitmapAdd("src", "p2", 1 * MIB, persistent=True),
            ops.BitmapAdd("tmp", "no", persistent=True), ops.Export("src"),
            *(ops.Write("src", place, 1) for place in (
                0, 2 * MIB - 1, 2 * MIB, 2 * MIB + 4 * KIB, 4 * MIB - 512, 6 * MIB, size - 1)),
            ops.BitmapMerge("src", "p1", (BitmapRef("src", "p0"),))))
        for end in (ops.Restart(), ops.Restart(), ops.Kill(), ops.Restart(), ops.Kill()):
            builder.add_all((ops.Flush("src"), end, ops.Export("src", bitmaps=(
                BitmapRef("src", "p0"),)), ops.Status("src", 0, size, context=(
                    "qemu:dirty-bitmap:p0")), ops.Unexport("src"),
                ops.Resize("src", size), ops.Export("src"), ops.Write("src", 3 * MIB, 1024),
                ops.BitmapAdd("src", f"q{len(builder.steps)}", 4 * KIB, persistent=True),
                ops.BitmapEnable("src", "p1"), ops.BitmapClear("src", "p2"),
                Transaction((ops.BitmapRemove("src", "p2"), Abort())),
                ops.Write("src", 5 * MIB, 1), ops.Discard("src", 4 * MIB, 96 * KIB + 256)))
        builder.add(ops.Inspect("src"))
        for bitmap in list(builder.scene.bitmaps):
            builder.add(ops.BitmapRemove(bitmap.node, bitmap.name))
        builder.add_all((ops.BitmapAdd("src", "p0", persistent=True), ops.Flush("src"),
                         ops.Kill(), ops.BitmapAdd("src", "p0", persistent=True),
                         *map(ops.RemoveNode, ("src", "tmp")), ops.Restart(),
                         ops.BitmapRemove("src", "p0"), ops.Restart()))
        return builder.trace()

    return make


def after_jobs(plan: Plan) -> Trace:
    """A bitmap that an image keeps is kept on when a job with it has ended, well or not, and holds
    then what that job has left of it."""
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2), Image("tmp", size),
        Image("bad", size, faults=(Fault(RequestKind.WRITE, 2 * CLUSTER),)))))
    for target, mode in itertools.product(("tmp", "bad"), BitmapMode):
        builder.add_all((
            ops.BitmapAdd("src", "p0", persistent=True), ops.Export("src"),
            *(ops.Write("src", cluster * CLUSTER, 512) for cluster in (0, 2, 3)),
            Backup("job", "src", target, Sync.BITMAP, "p0", mode, max_workers=1),
            ops.Write("src", CLUSTER, 512), ops.Restart(), ops.Inspect("src"),
            ops.BitmapRemove("src", "p0")))
    return builder.trace()


def grown(plan: Plan) -> Trace:
    """An image that has grown beyond what it has stored of a bitmap can be opened after a kill,
    though the bitmap is of no use then."""
    builder = Builder(plan, Configuration((
        Image("src", 1 * MIB, Format.QCOW2, cluster_size=512),)))
    builder.add_all((
        ops.BitmapAdd("src", "p0", 512, persistent=True), ops.Export("src"),
        ops.Write("src", 0, 512), ops.Restart(), ops.Resize("src", 5 * MIB), ops.Flush("src"),
        ops.Kill(), ops.BitmapClear("src", "p0"), ops.Resize("src", 6 * MIB),
        ops.BitmapRemove("src", "p0"), ops.Resize("src", 6 * MIB),
        ops.BitmapAdd("src", "p0", 512, persistent=True), ops.Restart(), ops.Inspect("src")))
    return builder.trace()


def durable(plan: Plan) -> Trace:
    """A durable change of any kind outlives a kill, with what the image notes of it."""
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, size),)),
        Image("src", size, Format.QCOW2, backing="base"))))
    for change in (ops.Zero("src", 512, 4 * KIB, fua=True), ops.Write("src", 0, 512, fua=True),
                   ops.Zero("src", CLUSTER, CLUSTER, fua=True),
                   ops.Discard("src", 0, CLUSTER, fua=True),
                   ops.Zero("src", 2 * CLUSTER - 512, CLUSTER, unmap=True, fua=True)):
        builder.add_all((ops.Export("src"), change, ops.Kill(), ops.Inspect("src")))
    return builder.trace()
