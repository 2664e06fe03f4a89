# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of blockdev-reopen: images read-only and back, under whoever uses them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Fault, Format, Image, Protocol, RequestKind
from model.job_operations import (
    Backup,
    BitmapMode,
    JobCancel,
    JobFinalize,
    OnError,
    Sync,
)
from model.operations import BitmapRef, OnCbwError, Operation, Via

CLUSTER: Final = 64 * KIB
SIZE: Final = 8 * CLUSTER
READ_ONLY: Final = ops.Reopen("src", read_only=True)
WRITABLE: Final = ops.Reopen("src")


def checks() -> Iterator[Check]:
    """All of them, those that find most first."""
    yield Check("persistence", "bitmaps of an image that is reopened", _kept)
    yield Check("persistence", "a reopen that is refused, and bitmaps", _refused)
    yield Check("graph", "images reopened under whoever uses them", _used)
    yield Check("options", "filters and snapshots that cannot be reopened", _filters)
    yield Check("jobs", "images of a job reopened", _jobs)
    yield Check("formats", "images of every format reopened", _formats)
    yield Check("discard", "images reopened to discard, or not", _discards)


def _disks() -> Configuration:
    return Configuration((
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("src", SIZE, Format.QCOW2, backing="base", filled=((CLUSTER, 2 * CLUSTER),)),
        Image("tmp", SIZE), Image("tmp2", SIZE, Format.QCOW2)))


def _bitmap_deeds() -> tuple[Operation, ...]:
    """What may be done to bitmaps that may not change."""
    kept, other = BitmapRef("src", "p0"), BitmapRef("src", "t0")
    return (
        ops.BitmapClear("src", "p0"), ops.BitmapClear("src", "t0"),
        ops.BitmapMerge("src", "p0", (other,)), ops.BitmapMerge("src", "t0", (kept,)),
        ops.BitmapDisable("src", "p0"), ops.BitmapEnable("src", "p1"),
        ops.BitmapAdd("src", "p2", persistent=True), ops.BitmapAdd("src", "t2"),
        ops.BitmapRemove("src", "p3"), ops.BitmapRemove("src", "t2"), READ_ONLY,
        ops.Resize("src", SIZE + CLUSTER), ops.Resize("src", SIZE))


def _some_bitmaps() -> tuple[Operation, ...]:
    return (ops.BitmapAdd("src", "p0", persistent=True),
            ops.BitmapAdd("src", "p1", 512, persistent=True, disabled=True),
            ops.BitmapAdd("src", "p3", 4 * KIB, persistent=True), ops.BitmapAdd("src", "t0"),
            ops.Export("src"), ops.Write("src", CLUSTER - 1, 2))


def _changes(node: str = "src") -> tuple[Operation, ...]:
    """Everything that changes, or might."""
    return (ops.Write(node, 3 * CLUSTER, 512), ops.Write(node, 0, 512, fua=True),
            ops.Write(node, 0, 0), ops.Zero(node, 100, CLUSTER), ops.Zero(node, 0, 0),
            ops.Zero(node, CLUSTER, CLUSTER, unmap=True), ops.Zero(node, 0, CLUSTER, fast=True),
            ops.Discard(node, 2 * CLUSTER, CLUSTER), ops.Discard(node, 0, 0), ops.Flush(node),
            ops.Write(node, 5 * CLUSTER, 512, Via.QEMU_IO),
            ops.Write(node, 5 * CLUSTER, 512, Via.MONITOR))


def _kept(plan: Plan) -> Trace:
    """Read-only and back, twice each; then the end of QEMU in either state, by itself or not."""
    builder = Builder(plan, _disks())
    builder.add_all((*_some_bitmaps(), ops.Unexport("src"), WRITABLE, READ_ONLY,
                     *_bitmap_deeds(), ops.Export("src"), ops.Export("src", writable=False),
                     *_changes(), WRITABLE, ops.Unexport("src"), WRITABLE, ops.Export("src"),
                     *_changes(), ops.Unexport("src")))
    for end in (ops.Restart(), ops.Kill(), ops.Restart(("src",)), ops.Kill()):
        for last in (READ_ONLY, WRITABLE):
            builder.add_all((
                ops.Export("src"), ops.Write("src", 6 * CLUSTER, 512), ops.Flush("src"),
                ops.BitmapDisable("src", "p0"), ops.Unexport("src"), READ_ONLY, last,
                ops.BitmapEnable("src", "p0"), end, READ_ONLY, ops.BitmapRemove("src", "p1"),
                WRITABLE))
    builder.add_all((
        *_some_bitmaps(), ops.Unexport("src"),
        ops.Export("tmp", bitmaps=(BitmapRef("src", "p0"),)), READ_ONLY, WRITABLE,
        ops.Export("src"), ops.Write("src", 7 * CLUSTER, 512), ops.Unexport("src"), READ_ONLY,
        ops.Unexport("tmp"), ops.RemoveNode("src"), ops.Restart()))
    return builder.trace()


def _refused(plan: Plan) -> Trace:
    """Somebody writes to the image, so that it cannot become read-only: its bitmaps and all that
    they would record are as before, or, with a defect of QEMU's, cannot be changed."""
    builder = Builder(plan, _disks())
    builder.add_all((
        *_some_bitmaps(), READ_ONLY, *_changes(), *_bitmap_deeds(), ops.Unexport("src"),
        ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"),
        *_changes("cbw"), ops.Unexport("cbw"), ops.RemoveNode("cbw"), WRITABLE, ops.Export("src"),
        *_changes(), READ_ONLY))
    for last in (WRITABLE, READ_ONLY):
        for end in (ops.Restart(), ops.Kill()):
            builder.add_all((last, ops.BitmapDisable("src", "p0"), ops.BitmapEnable("src", "p1"),
                             ops.Unexport("src"), end, ops.Export("src"),
                             ops.Write("src", 0, SIZE // 2), ops.Flush("src"), READ_ONLY))
    builder.add_all((
        WRITABLE, ops.Unexport("src"), ops.AddCopyOnRead("cor", "src"), READ_ONLY,
        ops.Export("cor"), ops.Read("cor", 4 * CLUSTER, CLUSTER), *_changes("cor"), WRITABLE,
        *_changes("cor"), ops.Unexport("cor"), ops.RemoveNode("cor"),
        ops.AddFilter("cbw", "src", "tmp"), ops.AddCopyOnRead("cor", "cbw"), ops.Export("cor"),
        READ_ONLY, ops.Read("cor", 7 * CLUSTER, CLUSTER), WRITABLE,
        ops.Read("cor", 7 * CLUSTER, CLUSTER), ops.Unexport("cor"), ops.RemoveNode("cor"),
        ops.RemoveNode("cbw"), READ_ONLY, ops.Inspect("src"), *_given_up()))
    return builder.trace()


def _given_up() -> tuple[Operation, ...]:
    """What a client gives up of a snapshot is discarded in the temporary image, which cannot be
    changed; less than a cluster is not."""
    return (ops.BitmapAdd("tmp2", "p9", persistent=True), ops.AddFilter("cbw", "tmp", "tmp2"),
            ops.AddSnapshot("snap", "cbw"), ops.Export("snap"),
            ops.Reopen("tmp2", read_only=True), ops.Discard("snap", 512, CLUSTER),
            ops.Discard("snap", CLUSTER, CLUSTER), ops.Reopen("tmp2"),
            ops.Discard("snap", 512, CLUSTER), ops.Discard("snap", 2 * CLUSTER, CLUSTER),
            ops.Inspect("snap"))


def _used(plan: Plan) -> Trace:
    """An image under exports, filters and overlays, as the source or the target of some."""
    builder = Builder(plan, _disks())
    names = ("base", "src", "tmp", "tmp2")
    reopened = [ops.Reopen(name, read_only=read_only) for name in (*names, "nope", "cbw", "snap")
                for read_only in (True, True, False)]
    builder.add_all((ops.BitmapAdd("base", "b0"), ops.BitmapAdd("src", "b0")))
    for users in (
            (ops.Export("src"),), (ops.Export("src", writable=False),),
            (ops.AddFilter("cbw", "src", "tmp"),),
            (ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
             ops.Export("snap")),
            (ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw", writable=False)),
            (ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw")),
            (ops.AddFilter("cbw", "base", "tmp2"), ops.AddSnapshot("snap", "cbw"),
             ops.AddCopyOnRead("cor", "src"))):
        builder.add_all((*users, *reopened))
        # And as users of what is read-only by now.
        for each in reversed(users):
            if isinstance(each, ops.Export):
                builder.add(ops.Unexport(each.node))
            else:
                builder.add(ops.RemoveNode(getattr(each, "node", "")))
        builder.add_all((READ_ONLY, *users, WRITABLE, *users, ops.Write("src", 0, 512),
                         ops.Write("cbw", CLUSTER, 512), ops.Read("snap", 0, CLUSTER)))
        builder.add_all(ops.Unexport(name) for name in list(builder.scene.exports))
        builder.add_all(ops.RemoveNode(name) for name in ("snap", "cor", "cbw"))
    # A filter that is looked at would not let others write to its source.
    builder.add_all((ops.Export("src"), ops.AddFilter("cbw", "src", "tmp"), ops.Inspect("cbw"),
                     ops.Unexport("src"), *map(ops.Inspect, (*names, "cbw"))))
    return builder.trace()


def _filters(plan: Plan) -> Trace:
    """No filter can be reopened, with whichever options, and none notices the attempt."""
    builder = Builder(plan, _disks())
    given = ops.AddFilter("cbw", "src", "tmp")
    builder.add_all((given, ops.AddSnapshot("snap", "cbw"), ops.AddCopyOnRead("cor", "tmp2"),
                     ops.Export("cbw"), ops.Export("snap"), ops.Write("cbw", 0, 512)))
    others = (given, *(replace(given, on_cbw_error=value) for value in (*OnCbwError, "foo")),
              *(replace(given, cbw_timeout=value) for value in (0, 45, -1, 1 << 32)),
              *(replace(given, min_cluster_size=value) for value in (0, 3, 128 * KIB, 1 << 63)),
              *(replace(given, file=value) for value in ("base", "nope", None)),
              *(replace(given, target=value) for value in ("tmp2", "src", "nope", None)),
              replace(given, bitmap=BitmapRef("src", "nope")), replace(given, discard=False),
              replace(given, node="snap"), replace(given, node="nope"),
              *(ops.AddSnapshot(name, file) for name in ("snap", "cbw", "nope")
                for file in ("cbw", "src", "nope")),
              ops.AddCopyOnRead("cor", "tmp2"), ops.AddCopyOnRead("cor", "tmp"))
    builder.add_all(ops.ReopenAs(options) for options in others)
    builder.add_all(ops.Reopen(name, read_only=read_only) for name in ("cbw", "snap", "cor")
                    for read_only in (True, False))
    builder.add_all((ops.Write("cbw", 2 * CLUSTER, 512), ops.Read("snap", 0, SIZE),
                     ops.Inspect("snap")))
    return builder.trace()


def _jobs(plan: Plan) -> Trace:
    """A job's device while nobody writes to it, and its target; jobs of a read-only device."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, Format.QCOW2, filled=((0, SIZE),)),
        Image("tmp", SIZE, Format.QCOW2), Image("tmp2", SIZE, faults=(
            Fault(RequestKind.WRITE, 3 * CLUSTER, once=True),)))))
    builder.add_all((*_some_bitmaps(), ops.Unexport("src"),
                     ops.BitmapAdd("tmp", "p9", persistent=True)))
    job = Backup("job", "src", "tmp", Sync.FULL, filter_node="filter", auto_finalize=False)
    both = [ops.Reopen(node, read_only=read_only) for node in ("src", "tmp", "filter")
            for read_only in (True, False)]
    builder.add_all((
        job, *both, ops.Export("src"), *both, ops.Write("src", 0, 512), JobFinalize("job"), *both,
        ops.Unexport("src"), READ_ONLY, job, WRITABLE, ops.Export("src"),
        ops.Write("src", 0, 512), JobCancel("job"), ops.Unexport("src")))
    # What a refused reopen makes of the target: nothing can be written to it.
    builder.add_all((ops.Export("tmp"), ops.Reopen("tmp", read_only=True), ops.Unexport("tmp"),
                     replace(job, on_target_error=OnError.REPORT), ops.Reopen("tmp"),
                     JobFinalize("job"), ops.Inspect("tmp")))
    for mode in BitmapMode:
        synced = replace(job, sync=Sync.BITMAP, bitmap="p0", bitmap_mode=mode)
        for volatile in (synced, replace(synced, bitmap="t0")):
            builder.add_all((
                READ_ONLY, volatile, WRITABLE, ops.Export("src"), ops.Write("src", CLUSTER, 512),
                ops.Unexport("src"), READ_ONLY, JobFinalize("job"), WRITABLE, ops.Export("src"),
                ops.Write("src", 4 * CLUSTER, 512), ops.Unexport("src")))
    builder.add_all((ops.Restart(), ops.Inspect("src"), ops.Inspect("tmp")))
    return builder.trace()


def _formats(plan: Plan) -> Trace:
    """Formats and protocols differ in what can be reopened; after a start read-only, too."""
    images = [*(Image(f"in-{each}", SIZE, each) for each in Format),
              *(Image(f"nbd-{each}", SIZE, each, Protocol.NBD)
                for each in (Format.RAW, Format.QCOW2))]
    builder = Builder(plan, Configuration(tuple(images)))
    for node in (image.node for image in images):
        read_only, writable = ops.Reopen(node, read_only=True), ops.Reopen(node)
        builder.add_all((
            ops.Export(node), ops.Write(node, 0, 512), read_only, ops.Write(node, 512, 512),
            ops.Unexport(node), read_only, read_only, ops.Export(node),
            ops.Export(node, writable=False), ops.Read(node, 0, CLUSTER), writable,
            ops.Unexport(node), ops.Export(node), ops.Write(node, 1024, 512), ops.Unexport(node),
            # Those that cannot be reopened at all, as what else they are told to be.
            ops.ReopenAs(ops.AddSnapshot(node, "in-raw"))))
    builder.add(ops.Restart(tuple(image.node for image in images)))
    builder.add_all(ops.Reopen(image.node, read_only=read_only) for image in images
                    for read_only in (True, False))
    builder.add_all(ops.Inspect(image.node) for image in images)
    return builder.trace()


def _discards(plan: Plan) -> Trace:
    """What discards and zeroes free, in the image and for who uses it, is up to the last
    command."""
    nodes = ("src", "tmp", "tmp2")
    builder = Builder(plan, _disks())
    for discard in (False, True, False, None):
        for node in nodes:
            builder.add_all((
                ops.Reopen(node, discard=discard), ops.Export(node), ops.Write(node, 0, SIZE),
                ops.Discard(node, 0, 2 * CLUSTER),
                ops.Zero(node, 3 * CLUSTER, CLUSTER, unmap=True), ops.Status(node, 0, SIZE),
                ops.Read(node, 0, SIZE, Via.NBD_DF), ops.Unexport(node),
                ops.Reopen(node, read_only=True, discard=discard)))
        builder.add_all(ops.Inspect(node) for node in nodes)
    return builder.trace()
