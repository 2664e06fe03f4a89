# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of images that detect zeroes in the data that is written to them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Format, Image
from model.job_operations import Backup, BitmapMode, Sync
from model.operations import Context


def checks() -> Iterator[Check]:
    """All of them."""
    for detects in ("on", "unmap"):
        yield Check("zeroes", f"data that is zero, detected ({detects})", _detected(detects))
    yield Check("zeroes", "copies that are zero, detected by their target", _copied)
    yield Check("zeroes", "zeroes at the end that are told with the data before them", _joined)


def _detected(detects: str) -> Make:
    """A guest writes zeroes as data: to all, to parts of clusters, and beside other data."""
    def make(plan: Plan) -> Trace:
        size = 12 * CLUSTER + 512
        builder = Builder(plan, Configuration((
            Image("base", size, filled=((0, 5 * CLUSTER),)),
            Image("src", size, Format.QCOW2, backing="base",
                  filled=((3 * CLUSTER, 3 * CLUSTER),), detect_zeroes=detects),
            Image("tmp", size, Format.QCOW2))))
        builder.add_all((
            ops.BitmapAdd("src", "dirty", 512), *GRAPH, ops.BitmapAdd("cbw", "above", 4 * KIB)))
        builder.add_all(
            ops.Write("cbw", int(start * CLUSTER), int((end - start) * CLUSTER), zeroes=True,
                      fua=start == 3)
            for start, end in ((0, 1), (1.5, 2.5), (3, 3.5), (4, 6), (6.25, 6.5), (7, 7)))
        builder.add_all((
            ops.Write("cbw", 8 * CLUSTER, CLUSTER),
            ops.Write("cbw", 8 * CLUSTER, 2 * CLUSTER, zeroes=True),
            ops.Write("cbw", size - 512, 512, zeroes=True), ops.Status("cbw", 0, size),
            ops.Zero("cbw", 10 * CLUSTER, CLUSTER, unmap=True), ops.Write("cbw", 10 * CLUSTER, 1),
            ops.Write("cbw", 10 * CLUSTER, 1, zeroes=True), ops.Status("cbw", 0, size),
            ops.Export("src", writable=False, allocation_depth=True),
            ops.Status("src", 0, size, context=Context.DEPTH), ops.Status("snap", 0, size),
            *(ops.Inspect(node) for node in ("src", "snap", "tmp"))))
        return builder.trace()

    return make


def _copied(plan: Plan) -> Trace:
    """Clusters that are told in pieces are copied as data, even if all of these are zeroes; so are
    zeroes that storage tells as data."""
    size = 8 * CLUSTER
    targets = tuple(Image(f"tmp-{detects}", size, Format.QCOW2, detect_zeroes=detects,
                          filled=((0, 2 * CLUSTER),)) for detects in ("on", "unmap", None))
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, cluster_size=4 * KIB, filled=((6 * CLUSTER, CLUSTER),)),
        Image("src2", size), *targets)))
    builder.add(ops.Export("src"))
    for start in range(0, size, CLUSTER):
        builder.add(ops.Write("src", start + 8 * KIB, 4 * KIB))
        builder.add(ops.Zero("src", start + 8 * KIB, 4 * KIB))
    builder.add(ops.Unexport("src"))
    for target in targets:
        builder.add_all((
            ops.AddFilter("cbw", "src", target.node), ops.AddSnapshot("snap", "cbw"),
            ops.Export("cbw"), ops.Export(target.node, writable=False, allocation_depth=True)))
        builder.add_all(ops.Write("cbw", start, 1) for start in range(0, 7 * CLUSTER, CLUSTER))
        builder.add_all((
            ops.Status(target.node, 0, size),
            ops.Status(target.node, 0, size, context=Context.DEPTH), ops.Inspect("snap"),
            ops.Unexport("cbw"), ops.RemoveNode("snap"), ops.RemoveNode("cbw"),
            Backup("job", "src", target.node, Sync.FULL), ops.Status(target.node, 0, size),
            ops.Inspect(target.node), ops.Unexport(target.node)))
    builder.add_all((
        ops.Export("src2"), ops.Write("src2", CLUSTER, 2 * CLUSTER, zeroes=True),
        ops.Unexport("src2"), Backup("job", "src2", "tmp-None", Sync.FULL),
        ops.Export("tmp-None", writable=False), ops.Status("tmp-None", 0, size)))
    return builder.trace()


def _joined(plan: Plan) -> Trace:
    """What storage tells as one run of data is copied with one write, in which nobody detects the
    zeroes of a last cluster that is cut short; alone they are detected."""
    size = 4 * CLUSTER - 512
    tail = size - 3 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)),
        *(Image(node, size, Format.QCOW2, detect_zeroes="unmap")
          for node in ("tmp", "tmp2", "tmp3")), Image("low", size))))
    builder.add_all((
        ops.BitmapAdd("src", "last", CLUSTER), ops.BitmapAdd("src", "most", CLUSTER),
        ops.Export("src"), ops.Write("src", size - tail, tail, zeroes=True),
        ops.BitmapDisable("src", "last"), ops.Write("src", CLUSTER, 2 * CLUSTER),
        Backup("job", "src", "tmp", Sync.BITMAP, "most", BitmapMode.NEVER),
        Backup("job", "src", "tmp2", Sync.BITMAP, "last", BitmapMode.NEVER),
        ops.AddFilter("cbw", "tmp3", "low"), Backup("job", "src", "cbw", Sync.FULL),
        *(operation for node in ("tmp", "tmp2", "cbw") for operation in (
            ops.Export(node, writable=False), ops.Status(node, 0, size), ops.Inspect(node)))))
    return builder.trace()
