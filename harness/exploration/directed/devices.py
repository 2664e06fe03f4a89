# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of what only a qemu-system has: the guest's device, seen while jobs run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import statuses
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Fault, Format, Image, RequestKind
from model.job_operations import (
    Abort,
    Backup,
    BitmapMode,
    DriveBackup,
    JobCancel,
    JobFinalize,
    Sync,
    Transaction,
)
from model.operations import Via

CLUSTER: Final = 64 * KIB
SIZE: Final = 8 * CLUSTER + 512


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("jobs", "a job below the guest's device", _below_the_device)
    yield Check("options", "a device that has to stay where it is", _stays)
    yield Check("options", "a device on a backing file", _on_a_backing_file)
    yield Check("faults", "a new disk is looked at, one that moves is not", _looked_at)
    yield Check("access", "requests past the end of a disk", _past_the_end)
    yield Check("graph", "a new disk that keeps what is read", _keeps_what_is_read)
    yield Check("jobs", "drive-backups to the same file, one after the other", _same_file)
    for mode in (None, "existing"):
        yield Check("jobs", f"drive-backup, mode {mode}", _drive_backups(mode))
    yield Check("graph", "a new disk that is refused, looked at or not", _refused_disk)
    yield Check("jobs", "a drive-backup whose copies a client gives up", _given_up)
    yield Check("jobs", "drive-backups of one name, to files of two formats", _one_name)
    yield Check("jobs", "a new disk on a job's filter", _on_a_filter)
    yield Check("jobs", "drive-backups of zeroes in parts, and of a backing file", _zeroes)


def _below_the_device(plan: Plan) -> Trace:
    """The device moves to a job's filter, named or not, and back; so do its bitmaps."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE), Image("tmp2", SIZE))))
    write = ops.Write("src", CLUSTER + 512, CLUSTER, Via.DEVICE)
    builder.add_all((ops.BitmapAdd("src", "dirty"), ops.Attach("src"), write))
    for filter_node in (None, "filter"):
        for command in (
                Backup("job", "src", "tmp", Sync.NONE, filter_node=filter_node),
                Backup("job", "src", "tmp", Sync.BITMAP, "dirty", BitmapMode.ALWAYS,
                       filter_node=filter_node, auto_finalize=False)):
            builder.add_all((command, *(
                ops.Write(node, CLUSTER * place, 512, Via.DEVICE)
                for place in (1, 3) for node in ("src", "filter", "#block(job)")),
                ops.Attach("tmp2"), JobFinalize("job"), JobCancel("job"), ops.Attach("src"),
                write, ops.Inspect("tmp")))
    builder.add_all((
        ops.AddFilter("cbw", "src", "tmp"), ops.Attach("cbw"), write,
        Backup("job", "cbw", "tmp2", Sync.NONE), ops.Write("cbw", 0, 1, Via.DEVICE),
        JobCancel("job"), ops.Attach("src"), ops.RemoveNode("cbw"), ops.Inspect("tmp2")))
    return builder.trace()


def _stays(plan: Plan) -> Trace:
    """Of two users that a filter would not let write, a refusal names the newest: the filter with
    its target, but the device once it has tried to move and come back."""
    builder = Builder(plan, Configuration((Image("src", SIZE), Image("tmp", SIZE))))
    refused = ops.AddSnapshot("snap", "cbw")
    builder.add_all((ops.Attach("src"), ops.AddFilter("cbw", "src", "src"), refused,
                     ops.Attach("cbw"), refused, ops.Attach("tmp"), refused))
    return builder.trace()


def _on_a_backing_file(plan: Plan) -> Trace:
    """A new disk, and one that is moved there."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE), Image("src", SIZE, Format.QCOW2, backing="base"))))
    there, back = ops.Attach("base"), ops.Attach("src")
    builder.add_all((there, back, there))
    return builder.trace()


def _looked_at(plan: Plan) -> Trace:
    """The failure that waits for the first read meets the disk's own, if that is new."""
    fails = (Fault(RequestKind.READ, 0, once=True),)
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),), faults=fails), Image("tmp", SIZE, faults=fails))))
    for node in ("src", "tmp"):
        read = ops.Read(node, 0, 512, Via.DEVICE)
        builder.add_all((ops.Attach(node), read, read))
    return builder.trace()


def _past_the_end(plan: Plan) -> Trace:
    """Nothing stands between these clients and the disk, or its filter, that would cut or refuse a
    request before it gets there."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE))))
    builder.add_all((ops.BitmapAdd("src", "dirty"), ops.AddFilter("cbw", "src", "tmp"),
                     ops.Attach("cbw")))
    for via, start, length in itertools.product(
            (Via.DEVICE, Via.MONITOR), (SIZE - 512, SIZE, SIZE + 512), (0, 512, 1024)):
        builder.add_all((
            ops.Read("cbw", start, length, via), ops.Write("cbw", start, length, via),
            *(ops.Zero("cbw", start, length, via, unmap=unmap) for unmap in (False, True)),
            ops.Discard("cbw", start, length, via)))
    builder.add(ops.Inspect("src"))
    return builder.trace()


def _keeps_what_is_read(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration((
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("src", SIZE, Format.QCOW2, backing="base"))))
    builder.add_all((
        ops.AddCopyOnRead("cor", "src"), ops.Attach("cor"),
        ops.Export("src", allocation_depth=True, writable=False),
        ops.Status("src", 0, SIZE, context=ops.Context.DEPTH)))
    return builder.trace()


def _refused_disk(plan: Plan) -> Trace:
    """A new disk is put on its node, then looked at, and asks to write last; older builds look
    even later whether a job or an overlay holds the node."""
    fails = (Fault(RequestKind.READ, 0, once=True),)
    builder = Builder(plan, Configuration((
        Image("src", SIZE, faults=fails), Image("over", SIZE, Format.QCOW2, backing="src"),
        Image("tmp", SIZE), Image("tmp2", SIZE))))
    read = ops.Read("cbw2", 0, 512, Via.NBD_DF)
    builder.add_all((
        ops.Attach("none"), ops.AddFilter("cbw", "src", "tmp"),
        ops.AddFilter("cbw2", "src", "tmp2"), ops.Export("cbw2"), ops.Attach("cbw"),
        ops.Attach("src"), read, read, ops.Unexport("cbw2"), ops.Attach("src")))
    return builder.trace()


def _same_file(plan: Plan) -> Trace:
    """The node over a target is gone when its job has ended, however that was."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE))))
    job = DriveBackup("job", "src", "tmp", Sync.FULL, format="raw", auto_finalize=False)
    builder.add(ops.RemoveNode("tmp"))
    for end in (JobFinalize("job"), JobCancel("job"), JobFinalize("job")):
        builder.add_all((job, end))
    builder.add_all((ops.Restart(), ops.Inspect("tmp")))
    return builder.trace()


def _given_up(plan: Plan) -> Trace:
    """A target that the command opens frees space, also of an image that did not before, and does
    not afterwards."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE, discard=False))))
    builder.add_all((
        ops.RemoveNode("tmp"), ops.Export("src"),
        DriveBackup("job", "src", "tmp", Sync.FULL, format="raw", filter_node="filter",
                    auto_finalize=False),
        ops.AddSnapshot("snap", "filter"), ops.Export("snap"),
        ops.Discard("snap", CLUSTER, CLUSTER), ops.Inspect("snap"), JobFinalize("job"),
        ops.Restart(), ops.Inspect("tmp"), ops.Export("tmp"),
        ops.Discard("tmp", 3 * CLUSTER, CLUSTER), ops.Inspect("tmp")))
    return builder.trace()


def _one_name(plan: Plan) -> Trace:
    """That a job's name is taken is found out when the target has been opened, or made anew."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("qcow", SIZE, Format.QCOW2),
        Image("raw", SIZE, filled=((0, SIZE),)), Image("short", CLUSTER))))
    first = DriveBackup("job", "src", "qcow", Sync.FULL, format="qcow2", mode="existing",
                        auto_finalize=False)
    second = replace(first, target="raw", format="raw")
    builder.add_all((
        *(ops.RemoveNode(node) for node in ("qcow", "raw", "short")), first, second,
        replace(second, target="short"), replace(second, mode=None), JobFinalize("job"),
        ops.Restart(), *(ops.Inspect(node) for node in ("qcow", "raw"))))
    return builder.trace()


def _on_a_filter(plan: Plan) -> Trace:
    """It may be where others used the job's disk before; but older builds put it on no target of
    a job."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE))))
    builder.add_all((
        Backup("job", "src", "tmp", Sync.NONE, filter_node="filter"), ops.Attach("tmp"),
        ops.Attach("filter"), ops.Write("filter", CLUSTER, 512, Via.DEVICE), JobCancel("job"),
        ops.Write("filter", 2 * CLUSTER, 512, Via.DEVICE), ops.Inspect("tmp")))
    return builder.trace()


def _zeroes(plan: Plan) -> Trace:
    """What is copied as data since block status tells of less than a cluster is written as zeroes
    to a target that the command opens, if it is.  An overlay of the disk is no hindrance."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE, filled=((0, CLUSTER),)),
        Image("src", SIZE, Format.QCOW2, cluster_size=4 * KIB, backing="base"),
        Image("qcow", SIZE, Format.QCOW2), Image("raw", SIZE))))
    usual = DriveBackup("job", "src", "qcow", Sync.FULL, format="qcow2", mode="existing")
    builder.add_all((
        ops.Export("src"), ops.Zero("src", 2 * CLUSTER, 4 * KIB),
        *map(ops.RemoveNode, ("qcow", "raw")), usual,
        replace(usual, device="base", target="raw", format="raw"), ops.Restart(),
        ops.Inspect("raw"), ops.Export("qcow", allocation_depth=True),
        *statuses("qcow", SIZE), ops.Inspect("qcow")))
    return builder.trace()


_OUT_OF_THE_GRAPH: Final = ("raw", "qcow", "short")
"""Images whose files are targets."""


def _drive_backups(mode: str | None) -> Make:
    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("base", SIZE, filled=((0, SIZE),)),
            Image("src", SIZE, Format.QCOW2, backing="base", filled=((CLUSTER, 2 * CLUSTER),)),
            Image("plain", SIZE, filled=((0, CLUSTER), (3 * CLUSTER, CLUSTER))),
            Image("alone", SIZE, Format.QCOW2, filled=((2 * CLUSTER, CLUSTER),)),
            Image("raw", SIZE, filled=((0, SIZE),)), Image("qcow", SIZE, Format.QCOW2),
            Image("short", CLUSTER))))
        removals = tuple(ops.RemoveNode(image) for image in _OUT_OF_THE_GRAPH)
        again = (ops.BitmapAdd("src", "dirty"), ops.BitmapAdd("raw", "gone"),
                 ops.BitmapAdd("alone", "empty"), ops.Export("src"),
                 ops.Write("src", 5 * CLUSTER + 1, CLUSTER), *removals)
        looks = (ops.Restart(), *map(ops.Inspect, _OUT_OF_THE_GRAPH))
        used = (ops.Export("qcow", allocation_depth=True),
                ops.Status("qcow", 0, SIZE, context=ops.Context.DEPTH),
                ops.Write("qcow", 512, 512), ops.Unexport("qcow"), ops.Inspect("qcow"))
        usual = DriveBackup("job", "src", "raw", Sync.FULL, format="raw", mode=mode,
                            auto_finalize=False)
        # What a job holds is refused before the target is made.
        held = replace(usual, device="alone")
        builder.add_all((*again, Backup("busy", "plain", "alone", Sync.NONE), held,
                         replace(held, format="some"), *looks, *again))
        for command in _refused(usual):
            builder.add_all((command, Transaction((command,))))
        builder.add_all((*looks, *again))
        for command in _accepted(usual):
            builder.add_all((
                Transaction((command, Abort())), command, ops.Write("src", 5 * CLUSTER, 10),
                JobFinalize("job"), Transaction((Abort(),)), *looks, *used, *again))
        for command in (usual, replace(usual, sync=Sync.INCREMENTAL, bitmap="dirty")):
            builder.add_all((
                command, ops.Write("src", CLUSTER, 1), JobCancel("job"), *looks, *again))
        return builder.trace()

    return make


def _accepted(usual: DriveBackup) -> Iterator[DriveBackup]:
    """Commands of which most are accepted."""
    for sync in (Sync.FULL, Sync.TOP, Sync.NONE):
        yield replace(usual, sync=sync)
        yield replace(usual, sync=sync, device="plain")
    yield replace(usual, sync=Sync.TOP, device="alone")
    yield replace(usual, sync=Sync.INCREMENTAL, device="alone", bitmap="empty")
    yield replace(usual, sync=Sync.BITMAP, bitmap="dirty", bitmap_mode=BitmapMode.ALWAYS)
    yield replace(usual, sync=Sync.INCREMENTAL, bitmap="dirty")
    yield replace(usual, target="qcow", format="qcow2")
    yield replace(usual, target="qcow", format=None)
    yield replace(usual, format=None, device="plain")
    yield replace(usual, target="qcow", format=None, device="plain")
    yield replace(usual, target="qcow", format="qcow2", compress=True)
    yield replace(usual, target="qcow", format="qcow2", sync=Sync.INCREMENTAL, bitmap="dirty")


def _refused(usual: DriveBackup) -> Iterator[DriveBackup]:
    """Commands of which most are refused; some have made the target by then."""
    for device in ("none", "src"):
        yield from (replace(usual, device=device, format=word) for word in ("", "some"))
    yield replace(usual, device="none")
    yield from (replace(usual, mode="some", sync=sync) for sync in (Sync.FULL, "some"))
    yield replace(usual, job="1")
    yield replace(usual, filter_node="1")
    yield from (replace(usual, speed=speed) for speed in (-1, 1 << 63))
    yield replace(usual, compress=True)
    yield replace(usual, target="short")
    yield replace(usual, max_workers=0)
    yield from (replace(usual, sync=Sync.BITMAP, bitmap=bitmap, bitmap_mode=BitmapMode.NEVER)
                for bitmap in (None, "none"))
