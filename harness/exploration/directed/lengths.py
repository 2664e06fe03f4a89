# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of long requests: longer than any limit that a copy is cut at, and than what
may be copied at a time."""

from __future__ import annotations

from collections.abc import Iterator

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, TAKE_DOWN, disks
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import GIB, KIB, MIB, Configuration, Format, Image
from model.job_operations import Backup, Sync
from model.operations import Operation, Via

LENGTHS = (15 * CLUSTER + 1, 1 * MIB, 1 * MIB + 1, 2 * MIB - CLUSTER, 5 * MIB + 512,
           31 * MIB + CLUSTER // 2)
"""Around a mebibyte, which one copy takes at the most; and longest, several times over, of what
one request may have."""
LONGEST = max(LENGTHS)


def checks() -> Iterator[Check]:
    """Each kind of request that changes something, in every length."""
    yield Check("access", "requests of gibibytes", _gibibytes)
    yield Check("formats", "requests longer than the storage takes at a time", _pieces)
    yield Check("formats", "discards longer than the storage takes at a time", _in_pieces)
    for target in (Format.RAW, Format.QCOW2):
        for name, change in _changes().items():
            yield Check("access", f"long {name}, copied to {target}", _long(change, target))


def _changes() -> dict[str, ops.Request]:
    return {"write": ops.Write("cbw", 0, 1), "zeroes": ops.Zero("cbw", 0, 1),
            "zeroes with unmap": ops.Zero("cbw", 0, 1, unmap=True),
            "discard": ops.Discard("cbw", 0, 1), "snapshot discard": ops.Discard("snap", 0, 1)}


def _long(kind: ops.Request, target: Format) -> Make:
    """The requests start in the middle of a cluster, and are done on a fresh graph each."""
    def make(plan: Plan) -> Trace:
        size = LONGEST + 3 * CLUSTER + 512
        builder = Builder(plan, disks(size, target=Image("tmp", size, target)))
        for length in LENGTHS:
            builder.add_all(GRAPH)
            for offset in (CLUSTER // 2, CLUSTER):
                if builder.add(_moved(kind, offset, length)):
                    break
            builder.add_all(_looks(length))
            builder.add_all(TAKE_DOWN)
        return builder.trace()

    return make


def _moved(kind: ops.Request, offset: int, length: int) -> ops.Request:
    """The request elsewhere."""
    if isinstance(kind, ops.Zero):
        return ops.Zero(kind.node, offset, length, unmap=kind.unmap)
    return type(kind)(kind.node, offset, length)


def _looks(length: int) -> Iterator[Operation]:
    """At what comes before and after, then at all of it."""
    end = CLUSTER // 2 + length
    last = end // CLUSTER * CLUSTER
    for offset in (0, CLUSTER, last - CLUSTER, last, last + CLUSTER):
        yield ops.Read("snap", offset, CLUSTER, Via.NBD_DF)
    yield ops.Read("snap", CLUSTER, length - CLUSTER, Via.NBD)
    yield ops.Status("snap", 0, end)
    yield ops.Inspect("snap")


def _pieces(plan: Plan) -> Trace:
    """Reads and writes longer than the storage takes are done in pieces, each of its own data."""
    size = 8 * CLUSTER
    nodes = {"src": Format.RAW, "qcow": Format.QCOW2, "tmp": Format.RAW}
    builder = Builder(plan, Configuration(tuple(
        Image(node, size, wanted, filled=((CLUSTER, CLUSTER),), discard=False,
              request_alignment=512, max_transfer=CLUSTER // 2)
        for node, wanted in nodes.items())))
    for node in nodes:
        builder.add(ops.Export(node))
        for offset, length in ((0, CLUSTER), (512, CLUSTER), (2 * CLUSTER - 1, 3 * CLUSTER)):
            builder.add_all((ops.Write(node, offset, length), ops.Inspect(node),
                             ops.Write(node, offset + CLUSTER, length, fua=True),
                             ops.Read(node, offset, length + CLUSTER, Via.NBD_DF)))
        builder.add_all((ops.Zero(node, 4 * CLUSTER + 1, 2 * CLUSTER), ops.Inspect(node),
                         ops.Unexport(node)))
    for source, target in (("src", "qcow"), ("qcow", "tmp")):
        builder.add_all((ops.AddFilter("cbw", source, target), *GRAPH[1:],
                         ops.Write("cbw", CLUSTER + 512, 3 * CLUSTER), ops.Inspect("snap"),
                         *TAKE_DOWN, Backup("job", source, target, Sync.FULL),
                         ops.Inspect(target)))
    return builder.trace()


def _gibibytes(plan: Plan) -> Trace:
    """What carries no data may be nearly 4 GiB long, as the protocol counts: 31 bits are not
    enough.  The disks are holes for the most part, and stay so."""
    size = 4 * GIB + 2 * CLUSTER + 512
    filled = ((0, CLUSTER), (2 * GIB, CLUSTER), (4 * GIB, CLUSTER))
    builder = Builder(plan, Configuration((
        Image("src", size, filled=filled),
        Image("qcow", size, Format.QCOW2, cluster_size=2 * MIB, filled=filled))))
    if Via.NBD not in plan.channels:  # qemu-io does not send what is longer than 2 GiB
        return builder.trace()
    for node in ("src", "qcow"):
        builder.add_all((ops.BitmapAdd(node, "dirty", 16 * MIB), ops.Export(node)))
        for length in (2 * GIB - 512, 2 * GIB, 4 * GIB - 64 * KIB, 4 * GIB - 512):
            builder.add_all((
                ops.Write(node, 2 * GIB - 512, 1024), ops.Discard(node, CLUSTER // 2, length),
                ops.BitmapClear(node, "dirty"), ops.Write(node, 2 * GIB - 512, 1024),
                ops.Zero(node, CLUSTER // 2, length, unmap=True),
                ops.BitmapClear(node, "dirty")))
        builder.add_all((ops.Status(node, 0, 4 * GIB - 512), *(
            ops.Read(node, place, 2 * CLUSTER, Via.NBD_DF)
            for place in (0, 2 * GIB - CLUSTER, 4 * GIB - CLUSTER))))
    return builder.trace()


def _in_pieces(plan: Plan) -> Trace:
    """All of it is discarded, piece by piece."""
    size = 8 * CLUSTER
    nodes = {"src": Format.RAW, "qcow": Format.QCOW2}
    builder = Builder(plan, Configuration(tuple(
        Image(node, size, wanted, filled=((0, size),), request_alignment=512,
              max_discard=CLUSTER) for node, wanted in nodes.items())))
    for node in nodes:
        builder.add_all((
            ops.BitmapAdd(node, "dirty", CLUSTER), ops.Export(node),
            ops.Discard(node, CLUSTER, 3 * CLUSTER), ops.Status(node, 0, size),
            ops.Discard(node, 5 * CLUSTER - 512, 2 * CLUSTER), ops.Status(node, 0, size),
            ops.Inspect(node)))
    return builder.trace()
