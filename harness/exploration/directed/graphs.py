# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of what there is once of each: options, formats, faults, granularities."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, TAKE_DOWN, disks
from harness.exploration.sweep import sweep
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import (
    KIB,
    MIB,
    Configuration,
    Format,
    Image,
    Protocol,
)
from model.inspection import PIECE
from model.job_operations import Backup, Sync
from model.operations import BitmapRef, OnCbwError, Operation, Via

# Options of the filter.


def options() -> Iterator[Check]:
    yield Check("options", "options of the filter", _every_option)


def _every_option(plan: Plan) -> Trace:
    size = 3 * MIB + 512
    builder = Builder(plan, Configuration((
        Image("src", size), Image("tmp", size), Image("other", CLUSTER))))
    builder.add_all((ops.BitmapAdd("src", "b0"), ops.BitmapAdd("other", "small"),
                     ops.BitmapAdd("tmp", "elsewhere", 4 * KIB),
                     ops.BitmapAdd("src", "held"), ops.BitmapAdd("src", "off", disabled=True),
                     ops.Export("src", writable=False, bitmaps=(BitmapRef("src", "held"),))))
    for options in _option_values():
        builder.add(ops.AddFilter("cbw", "src", "tmp", **options))
        builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.RemoveNode("cbw")))
    for file, target in ((None, "tmp"), ("src", None), (None, None), ("nope", "tmp"),
                         ("src", "nope"), ("nope", "nope"), ("src", "src"), ("tmp", "src")):
        builder.add_all((ops.AddFilter("cbw", file, target), ops.RemoveNode("cbw")))
    builder.add_all((ops.AddSnapshot("snap", "nope"), ops.AddSnapshot("src", "src"),
                     ops.RemoveNode("nope")))
    for granularity in (0, 1, 256, 512, 513, 768, 1 * MIB, 1 << 31):
        builder.add_all((ops.BitmapAdd("src", "g", granularity), ops.BitmapRemove("src", "g")))
    return builder.trace()


def _option_values() -> Iterator[dict[str, Any]]:
    yield from ({"on_cbw_error": value} for value in (*OnCbwError, "foo", ""))
    yield from ({"cbw_timeout": value} for value in (0, 1, 45, (1 << 32) - 1, 1 << 32, -1))
    yield from ({"min_cluster_size": value} for value in (
        0, 1, 3, 512, 513, CLUSTER - 1, CLUSTER, CLUSTER + 1, 2 * CLUSTER, 96 * KIB, 1 * MIB,
        2 * MIB, 4 * MIB, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63))
    for node, name in (("src", "b0"), ("src", "nope"), ("nope", "b0"), ("other", "small"),
                       ("tmp", "elsewhere"), ("src", "held"), ("src", "off")):
        yield {"bitmap": BitmapRef(node, name)}


# Bitmaps coarser and finer than the cluster.


def granularities() -> Iterator[Check]:
    for granularity, smallest in itertools.product(
            (512, 4 * KIB, CLUSTER, 128 * KIB, 1 * MIB), (CLUSTER, 256 * KIB)):
        yield Check("bitmaps", f"granularity {granularity // 512} sectors, cluster "
                    f"{smallest // KIB} KiB", _filter_with_bitmap(granularity, smallest))
    yield Check("bitmaps", "writes that are widened", _widened)
    yield Check("access", "snapshots of nodes that keep none", _keep_none)
    yield Check("access", "a snapshot of a snapshot with smaller clusters", _smaller_below)


def _filter_with_bitmap(granularity: int, cluster: int) -> Make:
    def make(plan: Plan) -> Trace:
        size = 9 * cluster + 512
        target = Image("tmp", size, Format.QCOW2, cluster_size=cluster)
        builder = Builder(plan, disks(size, target=target))
        builder.add_all((ops.BitmapAdd("src", "b0", granularity), ops.Export("src"),
                         ops.Write("src", cluster - 1, 1), ops.Write("src", 3 * cluster - 1, 2),
                         ops.Write("src", 5 * cluster + 512, 512), ops.Write("src", size - 1, 1),
                         ops.Unexport("src"),
                         ops.AddFilter("cbw", "src", "tmp", BitmapRef("src", "b0")),
                         *GRAPH[1:], ops.BitmapClear("src", "b0")))
        builder.add_all(ops.Write("cbw", place * cluster + 1, cluster)
                        for place in range(0, 9, 2))
        builder.add_all(sweep(builder))
        return builder.trace()

    return make


def _widened(plan: Plan) -> Trace:
    """A bitmap finer than what requests are widened to tells by how much they are, be it at the
    very start of the disk.  A filter widens none, be there a client that has known the disk."""
    unit = 4 * KIB
    ranges = list(itertools.combinations(
        (0, 1, 512, unit - 1, unit, unit + 1, unit + 512, 2 * unit), 2))
    size = (len(ranges) + 1) * 3 * unit
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),), request_alignment=unit),
        Image("tmp", size))))
    for change, first in ((ops.Write, (0, 512)), (ops.Zero, (512, unit))):
        builder.add_all((ops.BitmapAdd("src", "fine", 512), ops.Export("src")))
        builder.add_all(change("src", index * 3 * unit + start, end - start)
                        for index, (start, end) in enumerate((first, *ranges)))
        builder.add_all((ops.Unexport("src"), ops.BitmapRemove("src", "fine")))
    builder.add_all((
        ops.Export("src"), ops.Read("src", 0, 512, Via.QEMU_IO),
        Backup("job", "src", "tmp", Sync.NONE, filter_node="jf"), ops.BitmapAdd("jf", "fine", 512),
        ops.Write("src", 0, 512, Via.QEMU_IO), ops.Inspect("src")))
    return builder.trace()


def _keep_none(plan: Plan) -> Trace:
    """Whatever is asked of such a snapshot, the node that it is over stays as it is."""
    builder = Builder(plan, disks(4 * CLUSTER, target=Image("tmp", 4 * CLUSTER, Format.QCOW2)))
    builder.add_all((ops.AddCopyOnRead("cor", "src"), ops.AddSnapshot("aside", "cor")))
    for below in ("src", "tmp", "cor", "aside"):
        builder.add_all((ops.AddSnapshot("snap", below), ops.Export("snap")))
        for start, length in ((0, 0), (512, CLUSTER), (CLUSTER, CLUSTER)):
            builder.add_all((
                *(ops.Read("snap", start, length, via)
                  for via in (Via.NBD, Via.NBD_DF, Via.QEMU_IO)),
                ops.Status("snap", start, length), ops.Discard("snap", start, length),
                ops.Write("snap", start, length), ops.Zero("snap", start, length)))
        builder.add_all((ops.Inspect("snap"), ops.Unexport("snap"), ops.RemoveNode("snap")))
    builder.add(ops.Inspect("src"))
    return builder.trace()


def _smaller_below(plan: Plan) -> Trace:
    """A cluster of which the snapshot below denies a part is denied, and no other.  What the guest
    changes ends where one read of a node above the snapshot does.  Nothing is zeroed there, and
    nothing copied if that had to be fast."""
    size = PIECE + 8 * CLUSTER
    builder = Builder(plan, Configuration((
        *disks(size).images, Image("tmp2", size, Format.QCOW2, cluster_size=4 * CLUSTER))))
    above = ops.AddSnapshot("snap2", "cbw2")
    builder.add_all((
        *GRAPH[:3], ops.AddFilter("cbw2", "snap", "tmp2"), above,
        ops.Write("cbw", PIECE - 4 * CLUSTER, 4 * CLUSTER), ops.Inspect("cbw2"),
        ops.Export("cbw2"), ops.Zero("cbw2", 0, CLUSTER, fast=True),
        ops.Zero("cbw2", 4 * CLUSTER, CLUSTER), ops.Unexport("cbw2"),
        ops.Inspect("snap2"), ops.RemoveNode("snap2"), GRAPH[3],
        *(ops.Discard("snap", place * CLUSTER, CLUSTER) for place in (1, 6, 8, 15)),
        ops.Unexport("snap"), above, ops.Inspect("snap2")))
    return builder.trace()


# Formats.


def formats() -> Iterator[Check]:
    yield Check("zeroes", "zeroes that must be fast, over every format", _fast_zeroes)
    yield Check("zeroes", "zeroes that must be fast, of parts of blocks", _fast_parts)
    yield Check("classic", "source as backing file, read directly", _classic)
    for each in Format:
        yield Check("formats", f"temporary image in {each}", _temporary(each, Protocol.FILE))
    for each in (Format.RAW, Format.QCOW2):
        yield Check("formats", f"temporary image in {each} over NBD",
                    _temporary(each, Protocol.NBD))
    yield Check("status", "how deep images of every format are allocated", _depths)
    yield Check("options", "clusters of more bytes than a request over NBD may have",
                _large_clusters)
    yield Check("options", "targets whose clusters are larger than what is asked for",
                _larger_than_asked)


def _temporary(wanted: Format, protocol: Protocol) -> Make:
    def make(plan: Plan) -> Trace:
        size = 3 * MIB + 512
        builder = Builder(plan, disks(size, target=Image("tmp", size, wanted, protocol)))
        builder.add_all(GRAPH)
        builder.add_all(_work(size))
        builder.add_all(sweep(builder))
        return builder.trace()

    return make


def _fast_parts(plan: Plan) -> Trace:
    """Of a part of a block they fail before bitmaps record them."""
    kinds = [each for each in Format if each is not Format.LUKS]
    builder = Builder(plan, Configuration(tuple(
        Image(f"src-{each}", CLUSTER, each) for each in kinds)))
    for each in kinds:
        source = f"src-{each}"
        builder.add_all((
            ops.BitmapAdd(source, "dirty", 512), ops.Export(source),
            *(ops.Zero(source, start, length, fast=True, unmap=unmap)
              for start, length in ((1, 1), (1024, 513), (2048, 512)) for unmap in (False, True))))
    return builder.trace()


def _large_clusters(plan: Plan) -> Trace:
    """They are copied whole, and the disk need not have so many."""
    cluster = 64 * MIB
    size = 3 * MIB + 512
    builder = Builder(plan, Configuration((
        Image("src", size, protocol=Protocol.NBD, filled=((0, size),)), Image("tmp", size),
        Image("nbd", size, protocol=Protocol.NBD))))
    for target in ("tmp", "nbd"):
        builder.add_all((
            ops.AddFilter("cbw", "src", target, min_cluster_size=cluster), *GRAPH[1:],
            ops.Write("cbw", size - 1, 1), ops.Write("cbw", 512, 1),
            ops.Discard("snap", 0, size), ops.Inspect("snap"), *TAKE_DOWN,
            Backup("job", "src", target, Sync.FULL, min_cluster_size=cluster),
            Backup("job", "src", target, Sync.FULL, min_cluster_size=cluster,
                   max_chunk=cluster)))
    builder.add_all(sweep(builder))
    return builder.trace()


def _larger_than_asked(plan: Plan) -> Trace:
    """They are never copied in part, whatever the least is to be."""
    size = 9 * CLUSTER + 512
    builder = Builder(plan, disks(size, target=Image(
        "tmp", size, Format.QCOW2, cluster_size=4 * CLUSTER)))
    for least in (CLUSTER, 2 * CLUSTER, 4 * CLUSTER, 8 * CLUSTER):
        builder.add_all((
            ops.AddFilter("cbw", "src", "tmp", min_cluster_size=least), *GRAPH[1:],
            ops.Write("cbw", 5 * CLUSTER, 512), ops.Discard("snap", 0, 3 * CLUSTER),
            ops.Inspect("snap"), *TAKE_DOWN,
            Backup("job", "src", "tmp", Sync.FULL, min_cluster_size=least, max_chunk=2 * CLUSTER),
            Backup("job", "src", "tmp", Sync.FULL, min_cluster_size=least)))
    return builder.trace()


def _classic(plan: Plan) -> Trace:
    size = 9 * CLUSTER + 512
    builder = Builder(plan, disks(size, target=Image("tmp", size, Format.QCOW2, backing="src")))
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"),
                     ops.Export("tmp", writable=False)))
    builder.add_all(_work(size))
    builder.add_all(ops.Read("tmp", offset, CLUSTER) for offset in range(0, size - 512, CLUSTER))
    builder.add_all(sweep(builder))
    return builder.trace()


def _fast_zeroes(plan: Plan) -> Trace:
    """Zero fast or not at all: a filter can what its source can, and copies nothing if it cannot.
    (An image in luks takes a second to be made, and vhdx is as the others.)"""
    size = 4 * CLUSTER
    kinds = [each for each in Format if each not in (Format.LUKS, Format.VHDX)]
    sources = [Image(f"src-{each}", size, each, filled=((0, size),)) for each in kinds]
    builder = Builder(plan, Configuration((
        *sources, *(Image(f"tmp-{each}", size) for each in kinds))))
    for each in kinds:
        guest, client = f"cbw-{each}", f"snap-{each}"
        builder.add_all((ops.AddFilter(guest, f"src-{each}", f"tmp-{each}"),
                         ops.AddSnapshot(client, guest), ops.BitmapAdd(guest, "dirty", CLUSTER),
                         ops.Export(guest), ops.Export(client)))
        builder.add_all(ops.Zero(guest, *place, Via.NBD, unmap=unmap, fast=True)
                        for place, unmap in (((0, CLUSTER), False), ((CLUSTER, CLUSTER), True),
                                             ((3 * CLUSTER - 512, 1024), False),
                                             ((2 * CLUSTER + 512, 512), False)))
        builder.add_all((ops.Zero(guest, 0, 512, Via.NBD, unmap=True), ops.Inspect(client),
                         ops.Inspect(guest)))
    return builder.trace()


def _depths(plan: Plan) -> Trace:
    """Of an image, of an overlay of it and of a filter above, which is a level of its own."""
    size = 3 * MIB
    kinds = [each for each in Format if each is not Format.LUKS]
    images = [Image("tmp", size)]
    for each in kinds:
        images += (Image(f"base-{each}", size, each, filled=((0, CLUSTER),)),
                   Image(f"src-{each}", size, Format.QCOW2, backing=f"base-{each}",
                         filled=((2 * CLUSTER, CLUSTER),)))
    builder = Builder(plan, Configuration(tuple(images)))
    for each in kinds:
        builder.add(ops.AddFilter("cbw", f"src-{each}", "tmp"))
        for node in (f"base-{each}", f"src-{each}", "cbw"):
            builder.add_all((ops.Export(node, writable=False, allocation_depth=True),
                             ops.Status(node, 0, size, context=ops.Context.DEPTH),
                             ops.Unexport(node)))
        builder.add(ops.RemoveNode("cbw"))
    return builder.trace()


def _work(size: int) -> tuple[Operation, ...]:
    """A little of everything that a guest does."""
    return (ops.Write("cbw", 512, 1), ops.Write("cbw", CLUSTER - 1, 2),
            ops.Zero("cbw", 2 * CLUSTER, CLUSTER), ops.Zero("cbw", 3 * CLUSTER, 512, unmap=True),
            ops.Discard("cbw", 4 * CLUSTER, 2 * CLUSTER), ops.Write("cbw", size - 1, 1),
            ops.Flush("cbw"))
