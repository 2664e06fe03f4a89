# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of which clusters a job copies, and a filter keeps, when it is not all of them:
what is allocated or dirty is given in other units than it is copied in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, TAKE_DOWN, statuses
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, MIB, Configuration, Format, Image
from model.job_operations import Backup, BitmapMode, JobFinalize, Sync
from model.operations import BitmapRef

CELLS = (4 * KIB, 64 * KIB, 256 * KIB)
"""What the disk allocates at a time."""
GRANULARITIES = (512, 64 * KIB, 256 * KIB, 1 * MIB)
CLUSTERS = (64 * KIB, 256 * KIB)
"""What is copied at a time: the target's clusters."""


def checks() -> Iterator[Check]:
    """Every pair of units, after what matters most."""
    yield Check("zeroes", "clusters of the copy that are holes in part", _holes)
    for target in (Format.RAW, Format.QCOW2):
        yield Check("tails", f"zeroes up to an uneven end, copied over data in {target}",
                    _uneven(target))
    for cell, cluster in itertools.product(CELLS, CLUSTERS):
        yield Check("jobs", f"sync top: disk allocates {cell // KIB} KiB, copies are of "
                    f"{cluster // KIB} KiB", _top(cell, cluster))
    yield Check("jobs", "backups into an overlay of the backup before", _chain)
    for granularity, cluster in itertools.product(GRANULARITIES, CLUSTERS):
        yield Check("jobs", f"sync bitmap: granularity {granularity // 512} sectors, copies are "
                    f"of {cluster // KIB} KiB", _dirty(granularity, cluster))


def _places(unit: int, cluster: int) -> Iterator[tuple[int, int]]:
    """Ranges of whole units: at the start, the end and in the middle of a cluster, from one into
    the next, several, and far from all others; as (offset, length)."""
    large = max(unit, cluster)
    yield 0, unit
    yield 3 * large - unit, unit
    yield 5 * large + (large // 2 // unit * unit), unit
    yield 7 * large - unit, 2 * unit
    yield 9 * large, large + unit
    yield 13 * large, 3 * large


def _size(unit: int, cluster: int) -> int:
    """Ends in the middle of both."""
    return 18 * max(unit, cluster) + 512


def _uneven(target: Format) -> Make:
    """A run of zeroes takes its end with it, which is a part of a cluster, however many clusters
    come before that: in what a filter copies for one change, and in a job."""
    size = 5 * CLUSTER + 512
    before = (ops.Export("src"), ops.Export("tmp"),
              ops.Zero("src", CLUSTER, size - CLUSTER, unmap=True), ops.Write("tmp", 0, size),
              ops.Unexport("src"), ops.Unexport("tmp"))

    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("src", size, Format.QCOW2), Image("tmp", size, target))))
        for start in (CLUSTER, 2 * CLUSTER + 512, size - 512 - CLUSTER, size - 512):
            builder.add_all((
                *before, *GRAPH, ops.Write("cbw", start, size - start), ops.Inspect("snap"),
                *statuses("snap", size), *TAKE_DOWN))
        builder.add_all((*before, Backup("job", "src", "tmp", Sync.FULL), ops.Inspect("tmp")))
        return builder.trace()

    return make


def _top(cell: int, cluster: int) -> Make:
    """With the end of the disk allocated, and not."""
    def make(plan: Plan) -> Trace:
        size = _size(cell, cluster)
        places = (*_places(cell, cluster), (size - 512, 512))
        disks = (("src", "tmp", places), ("src2", "tmp2", places[:-1]))
        builder = Builder(plan, Configuration((
            Image("base", size, filled=((0, size),)), *(image for name, copy, filled in disks
            for image in (Image(name, size, Format.QCOW2, backing="base", cluster_size=cell,
                                filled=filled),
                          Image(copy, size, Format.QCOW2, cluster_size=cluster))))))
        for name, copy, _ in disks:
            builder.add_all((
                ops.BitmapAdd(name, "dirty"), ops.Export(name),
                Backup(copy, name, copy, Sync.TOP, "dirty", BitmapMode.ALWAYS,
                       filter_node=f"filter-{copy}", auto_finalize=False),
                ops.Inspect(copy), ops.Export(copy, writable=False), ops.Status(copy, 0, size)))
        return builder.trace()

    return make


def _holes(plan: Plan) -> Trace:
    """What is not a hole in all of a cluster is copied with its data, by a job and by a filter."""
    cell, cluster = 4 * KIB, 64 * KIB
    size = _size(cell, cluster)
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, cluster_size=cell,
              filled=(*_places(cell, cluster), (size - 512, 512))),
        Image("tmp", size), Image("old", size))))
    builder.add_all((Backup("job", "src", "tmp", Sync.FULL), ops.Inspect("tmp"),
                     ops.AddFilter("cbw", "src", "old"), *GRAPH[1:]))
    builder.add_all(ops.Write("cbw", offset, 1) for offset in range(0, size, 2 * cluster))
    builder.add_all((
        ops.Zero("cbw", cluster, 5 * cluster), ops.Discard("cbw", 6 * cluster, size // 2),
        ops.Read("snap", 0, size), ops.Inspect("snap"), ops.Inspect("old")))
    return builder.trace()


def _dirty(granularity: int, cluster: int) -> Make:
    """A job, and a filter that is given the bitmap, beside each other."""
    def make(plan: Plan) -> Trace:
        size = _size(granularity, cluster)
        builder = Builder(plan, Configuration((
            Image("src", size, filled=((0, size),)),
            *(Image(node, size, Format.QCOW2, cluster_size=cluster) for node in ("tmp", "old")))))
        builder.add_all((ops.BitmapAdd("src", "dirty", granularity), ops.Export("src")))
        places = [*_places(granularity, cluster), (size - 512, 512)]
        builder.add_all(ops.Write("src", offset + length // 2, 1) for offset, length in places)
        builder.add_all((
            ops.Unexport("src"), ops.AddFilter("cbw", "src", "old", BitmapRef("src", "dirty")),
            ops.AddSnapshot("snap", "cbw"),
            Backup("job", "src", "tmp", Sync.BITMAP, "dirty", BitmapMode.NEVER,
                   filter_node="filter", auto_finalize=False),
            ops.Inspect("tmp"), ops.Inspect("snap"), ops.Export("tmp", writable=False),
            ops.Status("tmp", 0, size)))
        return builder.trace()

    return make


def _chain(plan: Plan) -> Trace:
    """What is copied at a time is the overlay's cluster, though a smaller part of it would show
    what it is over."""
    cluster = 256 * KIB
    size = 9 * cluster + 512
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("full", size, filled=((0, size),)),
        *(Image(node, size, Format.QCOW2, cluster_size=cluster, backing="full")
          for node in ("tmp", "old")))))
    builder.add_all((
        ops.BitmapAdd("src", "dirty"), ops.Export("src"),
        ops.Write("src", cluster - 1, 2), ops.Write("src", 5 * cluster + 512, 512),
        ops.Write("src", size - 1, 1),
        Backup("job", "src", "tmp", Sync.BITMAP, "dirty", BitmapMode.ALWAYS,
               filter_node="filter", auto_finalize=False),
        ops.Write("src", 3 * cluster + 512, 512), JobFinalize("job"), ops.Inspect("tmp"),
        ops.Unexport("src"), ops.AddFilter("cbw", "src", "old"), ops.AddSnapshot("snap", "cbw"),
        ops.Export("cbw"), ops.Export("snap"), ops.Write("cbw", 2 * cluster - 1, 2),
        ops.Read("snap", 0, size), ops.Discard("snap", 4 * cluster, 2 * cluster - 1),
        ops.Write("cbw", 4 * cluster, cluster), ops.Inspect("snap"), ops.Inspect("old")))
    return builder.trace()
