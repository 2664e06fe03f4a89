# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of an image that has a snapshot as its backing file: what the snapshot denies,
it denies to who reads and to who writes a part of a cluster."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, statuses
from harness.lockstep.trace import Trace
from model import operations as ops
from model.bitmap import align_down
from model.configuration import KIB, Configuration, Format, Image
from model.job_operations import Backup, JobCancel, Sync
from model.operations import BitmapRef, Context, OnCbwError, Via
from model.qcow2_cells import ENTRY

_OPENED: Final = (ops.RemoveNode("over"), ops.AddOverlay("over", "snap"),
                  ops.Export("over", allocation_depth=True))


def checks() -> Iterator[Check]:
    """All of them."""
    for cluster, subclusters in ((CLUSTER, False), (4 * KIB, False), (CLUSTER, True)):
        name = f"clusters of {cluster // KIB} KiB{' with subclusters' if subclusters else ''}"
        yield Check("overlays", f"an overlay of a snapshot, {name}",
                    _denied(cluster, subclusters, ops.Write, ops.Zero, ops.Discard))
    for change in (ops.Write, ops.Zero, ops.Discard):
        yield Check("overlays", f"an overlay of a snapshot, clusters of 128 KiB, {change.name}",
                    _denied(2 * CLUSTER, False, change))
    yield Check("overlays", "an overlay of a snapshot, its end", _ends)
    yield Check("overlays", "an overlay of a snapshot, read at once", _at_once)
    yield Check("overlays", "an overlay of a snapshot, read by its tables", _by_tables)
    yield Check("overlays", "an overlay of a snapshot, opened, used and closed", _life)
    yield Check("overlays", "the classic scheme over a snapshot", _classic)
    yield Check("overlays", "an overlay of a snapshot, some of its clusters with space", _spaced)
    yield Check("overlays", "an overlay of a snapshot, written to beside zeroes", _beside_zeroes)
    yield Check("overlays", "an overlay of a snapshot, written across clusters", _across)
    yield Check("overlays", "an overlay of a snapshot, written across two with space", _between)
    yield Check("overlays", "an overlay of a snapshot, zeroes over zeroes", _over_zeroes)


def _denied(cluster: int, subclusters: bool, *changes: type[ops.Request]) -> Make:
    """Pairs of clusters of which none, or some part, is denied, and changes that begin or end
    inside them."""
    unit = max(cluster, CLUSTER)
    pair = 2 * unit
    spans = ((512, 512), (unit - 512, 1024), (unit // 2, unit), (0, unit + 512),
             (unit - 512, unit + 512), (0, pair))
    cases = [(denied, change, span) for change in changes for denied, span in
             itertools.product((None, *range(0, pair, CLUSTER)),
                               spans[2:] if change is ops.Discard else spans)]
    size = len(cases) * pair

    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("src", size, filled=((0, size),)), Image("tmp", size),
            Image("over", size, Format.QCOW2, cluster_size=cluster, subclusters=subclusters))))
        builder.add_all((*GRAPH, *_OPENED))
        for number, (denied, change, (offset, length)) in enumerate(cases):
            start = number * pair
            if denied is not None:
                builder.add(ops.Discard("snap", start + denied, CLUSTER))
            builder.add(change("over", start + offset, length))
            builder.add_all(ops.Read("over", place, CLUSTER, Via.NBD_DF)
                            for place in range(start, start + pair, CLUSTER))
            builder.add_all(ops.Status("over", place, unit, context=Context.DEPTH)
                            for place in range(start, start + pair, unit))
        for place in (pair, 18 * pair + CLUSTER):  # in one cluster, and of the second table
            builder.add_all((ops.Discard("snap", place, CLUSTER),
                             ops.Write("over", place + 4 * KIB, 4 * KIB + 512)))
        builder.add_all((ops.Restart(), ops.Inspect("over")))
        return builder.trace()

    return make


def _spaced(plan: Plan) -> Trace:
    """With subclusters, what is read of the snapshot ends with the clusters that have space in
    the overlay, or have none; older builds show where it ends."""
    size = 8 * CLUSTER
    fine = CLUSTER // 32
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("tmp", size),
        Image("over", size, Format.QCOW2, subclusters=True))))
    builder.add_all((*GRAPH, *_OPENED))
    builder.add_all(ops.Write("over", place * CLUSTER + fine, fine) for place in (0, 3, 6))
    builder.add_all(ops.Write("cbw", place * CLUSTER, CLUSTER) for place in (0, 2, 3, 5, 7))
    builder.add_all(ops.Read("over", start * CLUSTER + 2 * fine, (end - start) * CLUSTER,
                             Via.NBD_DF)
                    for start, end in itertools.combinations(range(8), 2))
    builder.add(ops.Inspect("over"))
    return builder.trace()


def _beside_zeroes(plan: Plan) -> Trace:
    """A little is written to a cluster that has space, from a subcluster that is zero to one that
    shows the snapshot, or from this to that; what is between them is read, too, though all of it
    is overwritten, unless it has data.  The snapshot denies what is before some place."""
    cluster, fine = 2 * CLUSTER, 4 * KIB
    cases = tuple(itertools.product((13, 14, 15, 16), (None, False, True), (True, False), (2, 3)))
    size = len(cases) * cluster
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("tmp", size),
        Image("over", size, Format.QCOW2, cluster_size=cluster, subclusters=True))))
    builder.add_all((*GRAPH, *_OPENED))
    for number, (first, denied, zero_first, count) in enumerate(cases):
        start = number * cluster
        last = first + count
        builder.add_all((
            ops.Write("over", start, fine),
            ops.Zero("over", start + (first if zero_first else last) * fine, fine)))
        if denied is None:
            builder.add_all((ops.Write("over", start + (first + 1) * fine, fine),
                             ops.Write("cbw", start, CLUSTER)))
        else:
            builder.add(ops.Discard("snap", start + denied * CLUSTER, CLUSTER))
        builder.add_all((
            ops.Write("over", start + first * fine + 512, count * fine),
            ops.Read("over", start + (first + 1) * fine, 512, Via.NBD_DF),
            *(ops.Status("over", start + place * fine, fine, context=Context.DEPTH)
              for place in range(first, last + 1))))
    builder.add(ops.Inspect("over"))
    return builder.trace()


def _across(plan: Plan) -> Trace:
    """Clusters that take their space one by one, as one of them has it already, or is of another
    table, read what they keep one by one: older builds show where each of these reads ends."""
    shapes = ((4 * KIB, False), (512, False), (CLUSTER, True), (2 * CLUSTER, True))
    last = CLUSTER - 4 * KIB
    before = (None, ops.Write("", last, 4 * KIB), ops.Zero("", last, 2 * KIB),
              ops.Write("", 0, 2 * KIB))
    cases = tuple(itertools.product(before, (CLUSTER - 256, CLUSTER - 6 * KIB)))
    size = len(cases) * 2 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("tmp", size),
        *(Image(f"over{number}", size, Format.QCOW2, cluster_size=cluster, subclusters=subclusters)
          for number, (cluster, subclusters) in enumerate(shapes)))))
    overlays = [f"over{number}" for number in range(len(shapes))]
    builder.add_all((*GRAPH, *(each for over in overlays for each in (
        ops.RemoveNode(over), ops.AddOverlay(over, "snap"), ops.Export(over)))))
    for number, (first, place) in enumerate(cases):
        start = number * 2 * CLUSTER
        builder.add_all(replace(first, node=over, offset=start + first.offset)
                        for over in overlays if first is not None)
        builder.add(ops.Write("cbw", start, CLUSTER))
        builder.add_all(ops.Write(over, start + place, CLUSTER + 256 - place) for over in overlays)
    builder.add_all(map(ops.Inspect, overlays))
    return builder.trace()


def _between(plan: Plan) -> Trace:
    """A little that is written across two clusters that have space keeps the same, in whichever
    way what is beside it is read."""
    fine = CLUSTER // 32
    builder = Builder(plan, Configuration((
        Image("src", 2 * CLUSTER, filled=((0, 2 * CLUSTER),)), Image("tmp", 2 * CLUSTER),
        Image("over", 2 * CLUSTER, Format.QCOW2, subclusters=True))))
    builder.add_all((
        *GRAPH, *_OPENED, ops.Write("over", 0, fine),
        ops.Write("over", 2 * CLUSTER - fine, fine), ops.Write("over", CLUSTER - 512, 1 * KIB),
        ops.Inspect("over")))
    return builder.trace()


def _over_zeroes(plan: Plan) -> Trace:
    """Zeroes of a part of a cluster are data if what the snapshot has there is, be it all zero, to
    the storage below it."""
    small = 4 * KIB
    builder = Builder(plan, Configuration((
        Image("src", 2 * CLUSTER, filled=((0, CLUSTER),)), Image("tmp", 2 * CLUSTER),
        Image("over", 2 * CLUSTER, Format.QCOW2, cluster_size=small))))
    builder.add(ops.Export("src"))
    builder.add_all(ops.Zero("src", place, 512) for place in range(0, small, 512))
    builder.add(ops.Unexport("src"))
    builder.add_all((*GRAPH, *_OPENED))
    builder.add_all(ops.Zero("over", place, 512) for place in (512, small + 512, CLUSTER + 512))
    builder.add_all((*statuses("over", 2 * CLUSTER), ops.Inspect("over")))
    return builder.trace()


_LAST: Final = ((CLUSTER + 20 * KIB, 2 * CLUSTER, (1, 0)), (CLUSTER + 20 * KIB, CLUSTER, (1,)),
                (2 * CLUSTER + 20 * KIB, 4 * CLUSTER, (3, 2, 1, 0)),
                (4 * CLUSTER + 20 * KIB, 2 * CLUSTER, ()), (4 * CLUSTER, CLUSTER, (3,)))
"""Sizes of images and of their clusters, and what a snapshot may have in the last of these."""


def _ends(plan: Plan) -> Trace:
    """A change reads up to the end of its last cluster, which may be past that of the image, but
    nothing past that of the snapshot."""
    cases = [(size, cluster, denied, change, where) for size, cluster, places in _LAST
             for denied in (4, *places) for change, where in (
                 (ops.Zero, (size - 512, 512)), (ops.Write, (size - 512, 512)),
                 (ops.Write, (size - 17 * KIB, 17 * KIB - 512)),
                 (ops.Write, (align_down(size - 1, cluster), (size - 1) % cluster + 1)))]
    builder = Builder(plan, Configuration((
        Image("src", 4 * CLUSTER, filled=((0, 4 * CLUSTER),)), Image("tmp", 4 * CLUSTER),
        *(Image(f"over{number}", size, Format.QCOW2, cluster_size=cluster)
          for number, (size, cluster, *_) in enumerate(cases)))))
    builder.add_all(GRAPH)
    for denied in (4, 3, 2, 1, 0):
        if denied < 4:
            builder.add(ops.Discard("snap", denied * CLUSTER, CLUSTER))
        for number, (size, _, when, change, where) in enumerate(cases):
            if when == denied:
                name = f"over{number}"
                builder.add_all((
                    ops.RemoveNode(name), ops.AddOverlay(name, "snap"), ops.Export(name),
                    change(name, *where), ops.Read(name, size - 512, 512, Via.NBD_DF),
                    ops.Read(name, where[0], 512, Via.NBD_DF)))
    return builder.trace()


def _at_once(plan: Plan) -> Trace:
    """A write of all that a snapshot denies needs nothing of it; but if it is of 16 KiB at most,
    and not at the start of its cluster, it is read with what is before and after it."""
    sizes = tuple(5 * CLUSTER + tail for tail in (4 * KIB, 16 * KIB, 16 * KIB + 512))
    builder = Builder(plan, Configuration(tuple(
        image for index, size in enumerate(sizes) for image in (
            Image(f"src{index}", size, filled=((0, size),)), Image(f"tmp{index}", size),
            Image(f"over{index}", size, Format.QCOW2, cluster_size=4 * CLUSTER)))))
    for index, size in enumerate(sizes):
        source, keeps, snapshot, over = (
            f"{each}{index}" for each in ("src", "cbw", "snap", "over"))
        builder.add_all((
            ops.BitmapAdd(source, "dirty", CLUSTER), ops.Export(source),
            ops.Write(source, 0, 5 * CLUSTER), ops.Unexport(source),
            ops.AddFilter(keeps, source, f"tmp{index}", BitmapRef(source, "dirty")),
            ops.AddSnapshot(snapshot, keeps), ops.RemoveNode(over),
            ops.AddOverlay(over, snapshot), ops.Export(over, allocation_depth=True),
            ops.Write(over, 5 * CLUSTER, size - 5 * CLUSTER - 512),
            ops.Write(over, 5 * CLUSTER, size - 5 * CLUSTER),
            ops.Read(over, 5 * CLUSTER, 512, Via.NBD_DF), ops.Read(over, 4 * CLUSTER, CLUSTER)))
    return builder.trace()


def _by_tables(plan: Plan) -> Trace:
    """An overlay with small clusters asks for less of the snapshot at a time than it is asked
    for, which tells on a build that is mistaken about the end of what it has copied."""
    cluster = 512
    table = cluster // ENTRY * cluster
    size = 2 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("tmp", size),
        Image("over", size, Format.QCOW2, cluster_size=cluster))))
    builder.add_all((*GRAPH, *_OPENED, ops.Write("cbw", 0, CLUSTER)))
    builder.add_all(ops.Read("over", start, end - start, Via.NBD_DF)
                    for start in (0, 512, table - 512, table)
                    for end in (CLUSTER, CLUSTER + 512, size))
    return builder.trace()


def _life(plan: Plan) -> Trace:
    """A snapshot of which only a part may be read, and which then breaks, under an image that is
    closed and opened again."""
    size = 8 * CLUSTER + 512
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, 4 * CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="base", filled=((2 * CLUSTER, CLUSTER),)),
        Image("tmp", size - CLUSTER), Image("over", size, Format.QCOW2), Image("copy", size))))
    again = (ops.AddOverlay("over", "snap"), ops.Export("over", allocation_depth=True))
    looks = (*(ops.Read("over", place, CLUSTER, via) for place in range(0, size, 2 * CLUSTER)
               for via in (Via.NBD, Via.NBD_DF)),
             *(status for place in (0, 2 * CLUSTER, 5 * CLUSTER)
               for status in statuses("over", 2 * CLUSTER, place)))
    builder.add_all((
        ops.BitmapAdd("src", "dirty", CLUSTER), ops.Export("src"),
        ops.Write("src", 2 * CLUSTER, 4 * CLUSTER), ops.Unexport("src"),
        ops.AddFilter("cbw", "src", "tmp", BitmapRef("src", "dirty"),
                      OnCbwError.BREAK_SNAPSHOT.value), *GRAPH[1:],
        ops.AddOverlay("over", "snap"), ops.RemoveNode("over"),
        ops.AddOverlay("over", "none"), *again, ops.AddOverlay("over", "snap"),
        ops.BitmapAdd("over", "changed", 512), ops.BitmapAdd("over", "kept", persistent=True)))
    builder.add_all(looks)
    builder.add_all((
        ops.Write("cbw", 2 * CLUSTER, CLUSTER), ops.Write("over", 2 * CLUSTER + 512, 512),
        ops.Write("over", CLUSTER, 512), ops.Discard("over", 3 * CLUSTER, CLUSTER),
        ops.Zero("over", 4 * CLUSTER, CLUSTER, unmap=True), *looks,
        ops.Zero("over", 5 * CLUSTER, CLUSTER), ops.Write("over", 7 * CLUSTER, CLUSTER),
        ops.Write("over", 5 * CLUSTER, CLUSTER + 512),
        ops.Write("over", 6 * CLUSTER + 512, CLUSTER),
        Backup("job", "over", "copy", Sync.TOP), ops.Inspect("copy"),
        Backup("job", "over", "copy", Sync.FULL), Backup("job", "snap", "copy", Sync.NONE),
        *looks, JobCancel("job"), ops.Resize("snap", size), ops.Resize("over", size + 512),
        ops.RemoveNode("snap"), ops.Unexport("snap"), ops.RemoveNode("snap"),
        ops.RemoveNode("cbw"), ops.Unexport("over"), ops.Resize("over", size - CLUSTER),
        ops.RemoveNode("over"), ops.RemoveNode("over"), *again, *looks,
        ops.Write("cbw", size - 512, 512), *looks, ops.Write("over", 5 * CLUSTER, 512),
        ops.Write("over", 2 * CLUSTER, 512), ops.Inspect("over"), ops.Restart(),
        ops.Inspect("over")))
    return builder.trace()


def _classic(plan: Plan) -> Trace:
    """The target of a filter shows a snapshot where nothing is copied yet: another filter's, or
    its own source."""
    size = 9 * CLUSTER + 512
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, 6 * CLUSTER),)), Image("tmp", size),
        Image("over", size, Format.QCOW2), Image("over2", size, Format.QCOW2))))
    builder.add_all((
        *GRAPH, *_OPENED, ops.Write("cbw", 0, CLUSTER), ops.Unexport("cbw"),
        ops.AddFilter("cbw2", "cbw", "over"), ops.AddSnapshot("snap2", "cbw2"),
        ops.Export("cbw2"), ops.Export("snap2"), ops.RemoveNode("over2"),
        ops.AddOverlay("over2", "snap2"), ops.Export("over2", allocation_depth=True)))
    for place in (0, 1, 6):
        builder.add_all((ops.Write("cbw2", place * CLUSTER + 512, CLUSTER),
                         ops.Discard("cbw2", (place + 2) * CLUSTER, CLUSTER)))
    builder.add_all((ops.Write("cbw2", size - 1, 1), ops.Discard("snap", 4 * CLUSTER, CLUSTER),
                     ops.Discard("snap2", 5 * CLUSTER, CLUSTER)))
    for node in ("over", "over2"):
        builder.add_all((
            *(ops.Read(node, place, CLUSTER) for place in range(0, size - 512, CLUSTER)),
            *(ops.Status(node, place, CLUSTER, context=Context.DEPTH)
              for place in range(0, size - 512, CLUSTER)),
            ops.Write(node, 4 * CLUSTER + 512, 512), ops.Write(node, 5 * CLUSTER + 512, 512)))
    builder.add_all((
        ops.AddFilter("cbw3", "snap2", "over2"), ops.Export("cbw3"),
        ops.Discard("cbw3", 6 * CLUSTER, CLUSTER), ops.Read("over2", 6 * CLUSTER, CLUSTER),
        *(ops.Inspect(node) for node in ("snap", "snap2", "over", "over2"))))
    return builder.trace()
