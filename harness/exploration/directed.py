# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks: what exploration would reach sooner or later, done first and completely.

Every offset and length between the places that matter, in three clusters and at the end of a
disk, for every kind of request; every option, format, fault and pair of cluster and granularity
once.  Each check is a trace, so that what it finds is replayed and shrunk as any other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from harness.exploration import (
    directed_bitmaps,
    directed_extents,
    directed_jobs,
    directed_lengths,
    directed_neighbours,
    directed_schedules,
    directed_words,
    interleavings,
)
from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.scene import SECTOR
from harness.exploration.sweep import sweep
from harness.lockstep.trace import SystemKind, Trace
from model import operations as ops
from model.configuration import (
    KIB,
    MIB,
    Configuration,
    Fault,
    Format,
    Image,
    Protocol,
    RequestKind,
)
from model.operations import BitmapRef, OnCbwError, Operation, Request, Via

CLUSTER: Final = 64 * KIB
REACH: Final = 3 * CLUSTER
"""Requests of one case stay within so much."""
STRIDE: Final = 4 * CLUSTER
"""From case to case on one disk: a cluster between them that nobody touches."""
TAIL: Final = 3 * SECTOR

POINTS: Final = (0, 1, 511, 512, CLUSTER - 512, CLUSTER - 1, CLUSTER, CLUSTER + 1,
                 2 * CLUSTER - 1, 2 * CLUSTER, 2 * CLUSTER + 512, REACH - 1, REACH)
END_POINTS: Final = (0, CLUSTER - 1, CLUSTER, CLUSTER + 1, CLUSTER + 512, CLUSTER + TAIL - 512,
                     CLUSTER + TAIL - 1, CLUSTER + TAIL)
"""On a disk of one cluster and a tail."""

Ask: TypeAlias = Callable[[int, int, Via], Request]
"""A request for an offset and a length, through a channel."""


def checks(system: SystemKind) -> list[Check]:
    """All of them, in the order in which they are done.

    A qemu-system is given only those that are about its own channels, the human monitor's; all
    others would ask the same code as they ask of a storage daemon.
    """
    own = [(400, _ranges()), (300, _ends())]
    if system is SystemKind.QEMU_SYSTEM:
        return _in_turn(own)
    return _in_turn([
        (60, directed_schedules.checks()), (20, directed_jobs.checks()),
        (20, directed_extents.checks()), (30, _faults()), *own,
        (50, directed_bitmaps.checks()), (100, directed_lengths.checks()),
        (150, _options()), (80, _granularities()), (80, _formats()),
        (500, directed_neighbours.checks()), (100, directed_words.checks()),
        (600, interleavings.checks()), (700, _states())])


def _in_turn(families: Sequence[tuple[int, Iterable[Check]]]) -> list[Check]:
    """The checks of all families, of each of which it is said how many steps a check has, about.
    At any time all families have had the same number of steps: a short run has some of all, and
    of what takes few steps much."""
    checks = [replace(check, due=number * steps)
              for steps, family in families for number, check in enumerate(family, start=1)]
    return sorted(checks, key=lambda check: check.due)


def _channels(plan: Plan) -> tuple[Via, Via]:
    """What changes go through, and what short reads do.

    The human monitor prints what is read as text: long reads through it take long.
    """
    if plan.system is SystemKind.QEMU_SYSTEM:
        return Via.MONITOR, Via.MONITOR
    return Via.NBD, Via.NBD_DF


def _pairs(points: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.combinations(points, 2))


def _disks(size: int, source: Image | None = None, target: Image | None = None) -> Configuration:
    return Configuration((source or Image("src", size, filled=((0, size),)),
                          target or Image("tmp", size)))


_GRAPH: Final = (ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
                 ops.Export("cbw"), ops.Export("snap", allocation_depth=True))
_TAKE_DOWN: Final = (ops.Unexport("snap"), ops.Unexport("cbw"), ops.RemoveNode("snap"),
                     ops.RemoveNode("cbw"))


# Guest requests and snapshot discards of every range, each on clusters that are as at the start.


def _changes(node: str) -> dict[str, Ask]:
    return {
        "write": lambda offset, length, via: ops.Write(node, offset, length, via),
        "zero": lambda offset, length, via: ops.Zero(node, offset, length, via),
        "zero with unmap": lambda offset, length, via: ops.Zero(
            node, offset, length, via, unmap=True),
        "discard": lambda offset, length, via: ops.Discard(node, offset, length, via),
    }


def _ranges() -> Iterator[Check]:
    cases: list[tuple[str, str, Ask]] = [
        ("access", f"guest {name}, every range", ask) for name, ask in _changes("cbw").items()]
    cases.append(("discard", "snapshot discard, every range", _changes("snap")["discard"]))
    for area, name, ask in cases:
        yield Check(area, name, _on_fresh_clusters(ask))


def _on_fresh_clusters(ask: Ask) -> Make:
    def make(plan: Plan) -> Trace:
        via, _ = _channels(plan)
        pairs = _pairs(POINTS)
        size = len(pairs) * STRIDE
        builder = Builder(plan, _disks(size))
        builder.add_all(_GRAPH)
        for index, (start, end) in enumerate(pairs):
            base = index * STRIDE
            if builder.add(ask(base + start, end - start, via)):
                builder.add(ops.Read("cbw", base, STRIDE, Via.NBD_DF))
                builder.add_all(ops.Read("snap", base + offset, CLUSTER, Via.NBD_DF)
                                for offset in range(0, REACH, CLUSTER))
        builder.add_all(ops.Inspect(node) for node in ("src", "tmp", "snap"))
        return builder.trace()

    return make


# The end of a disk that is no whole cluster: only one a disk, so the graph is made anew each time.


def _ends() -> Iterator[Check]:
    for name, ask in {**_changes("cbw"), "snapshot discard": _changes("snap")["discard"]}.items():
        yield Check("tails", f"{name} at the end of the disk, every range", _at_the_end(ask))


def _at_the_end(ask: Ask) -> Make:
    def make(plan: Plan) -> Trace:
        via, look = _channels(plan)
        size = CLUSTER + TAIL
        builder = Builder(plan, _disks(size))
        for start, end in _pairs(END_POINTS):
            builder.add_all(_GRAPH)
            if builder.add(ask(start, end - start, via)):
                builder.add(ops.Read("snap", 0, CLUSTER, Via.NBD_DF))
                builder.add(ops.Read("snap", CLUSTER, TAIL, look))
            builder.add_all(_TAKE_DOWN)
        builder.add_all(ops.Inspect(node) for node in ("src", "tmp"))
        return builder.trace()

    return make


# Every way to look at clusters in every state.


def _states() -> Iterator[Check]:
    for target in (Format.RAW, Format.QCOW2):
        for touch in ("write", "zero with unmap"):
            yield Check("status", f"looks at clusters in every state, {target}, {touch}",
                        _looks(target, _changes("cbw")[touch]))


def _looks(target: Format, touch: Ask) -> Make:
    """Clusters that are untouched, copied, given up, or copied and given up, side by side."""

    def make(plan: Plan) -> Trace:
        patterns = list(itertools.product((False, True), repeat=4))
        size = len(patterns) * STRIDE
        builder = Builder(plan, _disks(size, target=Image("tmp", size, target)))
        builder.add_all(_GRAPH)
        places = [index * STRIDE for index in range(len(patterns))]
        for base, pattern in zip(places, patterns, strict=True):
            for place, (done, given_up) in enumerate(zip(pattern[:2], pattern[2:], strict=True)):
                offset = base + place * CLUSTER
                if done:
                    builder.add(touch(offset, CLUSTER, Via.NBD))
                if given_up:
                    builder.add(ops.Discard("snap", offset, CLUSTER))
        for base in places:
            for start, end in _pairs(POINTS[:10:2]):
                for via in (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE):
                    builder.add(ops.Read("snap", base + start, end - start, via))
                builder.add(ops.Status("snap", base + start, end - start))
            builder.add(ops.Status("snap", base, STRIDE, one=True))
            builder.add(ops.Status("snap", base, STRIDE, context=ops.Context.DEPTH))
            builder.add(ops.Status("cbw", base, STRIDE))
        return builder.trace()

    return make


# Options of the filter.


def _options() -> Iterator[Check]:
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


def _granularities() -> Iterator[Check]:
    for granularity, smallest in itertools.product(
            (512, 4 * KIB, CLUSTER, 128 * KIB, 1 * MIB), (CLUSTER, 256 * KIB)):
        yield Check("bitmaps", f"granularity {granularity // 512} sectors, cluster "
                    f"{smallest // KIB} KiB", _filter_with_bitmap(granularity, smallest))


def _filter_with_bitmap(granularity: int, cluster: int) -> Make:
    def make(plan: Plan) -> Trace:
        size = 9 * cluster + 512
        target = Image("tmp", size, Format.QCOW2, cluster_size=cluster)
        builder = Builder(plan, _disks(size, target=target))
        builder.add_all((ops.BitmapAdd("src", "b0", granularity), ops.Export("src"),
                         ops.Write("src", cluster - 1, 1), ops.Write("src", 3 * cluster - 1, 2),
                         ops.Write("src", 5 * cluster + 512, 512), ops.Write("src", size - 1, 1),
                         ops.Unexport("src"),
                         ops.AddFilter("cbw", "src", "tmp", BitmapRef("src", "b0")),
                         *_GRAPH[1:], ops.BitmapClear("src", "b0")))
        builder.add_all(ops.Write("cbw", place * cluster + 1, cluster)
                        for place in range(0, 9, 2))
        builder.add_all(sweep(builder.scene))
        return builder.trace()

    return make


# Formats.


def _formats() -> Iterator[Check]:
    for each in Format:
        yield Check("formats", f"temporary image in {each}", _temporary(each, Protocol.FILE))
    for each in (Format.RAW, Format.QCOW2):
        yield Check("formats", f"temporary image in {each} over NBD",
                    _temporary(each, Protocol.NBD))
    yield Check("classic", "source as backing file, read directly", _classic)


def _temporary(wanted: Format, protocol: Protocol) -> Make:
    def make(plan: Plan) -> Trace:
        size = 3 * MIB + 512
        builder = Builder(plan, _disks(size, target=Image("tmp", size, wanted, protocol)))
        builder.add_all(_GRAPH)
        builder.add_all(_work(size))
        builder.add_all(sweep(builder.scene))
        return builder.trace()

    return make


def _classic(plan: Plan) -> Trace:
    size = 9 * CLUSTER + 512
    builder = Builder(plan, _disks(size, target=Image("tmp", size, Format.QCOW2, backing="src")))
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"),
                     ops.Export("tmp", writable=False)))
    builder.add_all(_work(size))
    builder.add_all(ops.Read("tmp", offset, CLUSTER) for offset in range(0, size - 512, CLUSTER))
    builder.add_all(sweep(builder.scene))
    return builder.trace()


def _work(size: int) -> tuple[Operation, ...]:
    """A little of everything that a guest does."""
    return (ops.Write("cbw", 512, 1), ops.Write("cbw", CLUSTER - 1, 2),
            ops.Zero("cbw", 2 * CLUSTER, CLUSTER), ops.Zero("cbw", 3 * CLUSTER, 512, unmap=True),
            ops.Discard("cbw", 4 * CLUSTER, 2 * CLUSTER), ops.Write("cbw", size - 1, 1),
            ops.Flush("cbw"))


# Storage that fails.


def _faults() -> Iterator[Check]:
    for node, kind, policy in itertools.product(
            ("src", "tmp"), (RequestKind.READ, RequestKind.WRITE), OnCbwError):
        yield Check("faults", f"{kind} of {node} fails, {policy}", _fault(node, kind, policy))


def _fault(node: str, kind: RequestKind, policy: OnCbwError) -> Make:
    def make(plan: Plan) -> Trace:
        size = 4 * CLUSTER
        faults = (Fault(kind, 0), Fault(kind, 2 * CLUSTER, "ENOSPC", once=True))
        disks = [Image("src", size, filled=((0, size),), faults=faults if node == "src" else ()),
                 Image("tmp", size, faults=faults if node == "tmp" else ())]
        builder = Builder(plan, Configuration(tuple(disks)))
        builder.add_all((ops.AddFilter("cbw", "src", "tmp", on_cbw_error=policy), *_GRAPH[1:]))
        for place in (3, 0, 2, 0, 2, 1):
            builder.add(ops.Write("cbw", place * CLUSTER, CLUSTER))
            builder.add_all(ops.Read("snap", each * CLUSTER, CLUSTER, Via.NBD_DF)
                            for each in range(4))
        return builder.trace()

    return make
