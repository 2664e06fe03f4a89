# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of requests of every range: every offset and length between the places that
matter, in three clusters and at the end of a disk, for every kind of request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, TAKE_DOWN, disks, statuses
from harness.lockstep.trace import SystemKind, Trace
from model import operations as ops
from model.configuration import KIB, MIB, Configuration, Format, Image
from model.nbd_export import BITMAP_CONTEXT
from model.node import SECTOR
from model.operations import BitmapRef, Operation, Request, Via

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


def _channels(plan: Plan) -> tuple[Via, Via]:
    """What changes go through, and what short reads do.

    The human monitor prints what is read as text: long reads through it take long.
    """
    if plan.system is SystemKind.QEMU_SYSTEM:
        return Via.MONITOR, Via.MONITOR
    return Via.NBD, Via.NBD_DF


def _pairs(points: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.combinations(points, 2))


# Guest requests and snapshot discards of every range, each on clusters that are as at the start.


def _changes(node: str) -> dict[str, Ask]:
    return {
        "write": lambda offset, length, via: ops.Write(node, offset, length, via),
        "zero": lambda offset, length, via: ops.Zero(node, offset, length, via),
        "zero with unmap": lambda offset, length, via: ops.Zero(
            node, offset, length, via, unmap=True),
        "discard": lambda offset, length, via: ops.Discard(node, offset, length, via),
    }


def ranges() -> Iterator[Check]:
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
        builder = Builder(plan, disks(size))
        builder.add_all(GRAPH)
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


def ends() -> Iterator[Check]:
    for name, ask in {**_changes("cbw"), "snapshot discard": _changes("snap")["discard"]}.items():
        yield Check("tails", f"{name} at the end of the disk, every range", _at_the_end(ask))


def _at_the_end(ask: Ask) -> Make:
    def make(plan: Plan) -> Trace:
        via, look = _channels(plan)
        size = CLUSTER + TAIL
        builder = Builder(plan, disks(size))
        for start, end in _pairs(END_POINTS):
            builder.add_all(GRAPH)
            if builder.add(ask(start, end - start, via)):
                builder.add(ops.Read("snap", 0, CLUSTER, Via.NBD_DF))
                builder.add(ops.Read("snap", CLUSTER, TAIL, look))
            builder.add_all(TAKE_DOWN)
        builder.add_all(ops.Inspect(node) for node in ("src", "tmp"))
        return builder.trace()

    return make


# What may not be read, and what is not even there.


def edges() -> Iterator[Check]:
    yield Check("access", "requests at the edges of what may be read", _edges)
    yield Check("access", "requests of no bytes", _no_bytes)
    yield Check("discard", "discards of clusters that show what is below", _showing)
    yield Check("zeroes", "changes of several blocks, of the outer ones of a part", _blocks)


def _edges(plan: Plan) -> Trace:
    """A byte of a cluster that may not be read makes all of a request an error, whatever is
    copied of it; and a snapshot is not written to.  Clusters are (a) as they were, (b) copied, (c)
    not in the bitmap, (d) copied and given up: each beside each."""
    states = "aabacadbbcbdccdda"
    places = {state: [index * CLUSTER for index, each in enumerate(states) if each == state]
              for state in "abcd"}
    size = len(states) * CLUSTER
    builder = Builder(plan, disks(size))
    builder.add_all((ops.BitmapAdd("src", "b0", CLUSTER), ops.Export("src")))
    builder.add_all(ops.Write("src", offset, 1) for state in "abd" for offset in places[state])
    builder.add_all((ops.Unexport("src"), replace(GRAPH[0], bitmap=BitmapRef("src", "b0")),
                     *GRAPH[1:]))
    builder.add_all(ops.Write("cbw", offset, CLUSTER) for offset in places["b"] + places["d"])
    builder.add_all(ops.Discard("snap", offset, CLUSTER) for offset in places["d"])
    for edge, (before, after) in itertools.product(
            range(CLUSTER, size, CLUSTER), ((512, 1), (1, 512))):
        builder.add_all((ops.Read("snap", edge - before, before + after, Via.NBD_DF),
                         ops.Status("snap", edge - before, before + after)))
    builder.add_all(ask(state[0], 512, Via.NBD) for state in places.values()
                    for ask in _changes("snap").values())
    builder.add_all(ops.Inspect(node) for node in ("src", "tmp", "snap"))
    return builder.trace()


def _showing(plan: Plan) -> Trace:
    """What is discarded reads as zero, though the image had nothing there and its backing file
    has."""
    size = 6 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, size),)), *(
            Image(node, size, Format.QCOW2, subclusters=subclusters, backing="base",
                  filled=((CLUSTER, CLUSTER),))
            for node, subclusters in (("src", False), ("fine", True))))))
    for node in ("src", "fine"):
        builder.add(ops.Export(node, allocation_depth=True))
        for offset, length in ((0, CLUSTER), (CLUSTER, 2 * CLUSTER),
                               (4 * CLUSTER - 512, CLUSTER + 1024)):
            builder.add_all((ops.Discard(node, offset, length), *statuses(node, size)))
        builder.add(ops.Inspect(node))
    return builder.trace()


def _blocks(plan: Plan) -> Trace:
    """What a change leaves of its first block and of its last one stays as it was, however many
    blocks are between."""
    block = 4 * KIB
    size = 6 * block
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),), request_alignment=block),)))
    builder.add(ops.Export("src"))
    for count, head, tail, ask in itertools.product(
            (2, 3, 5), (0, KIB), (0, 3 * KIB), _changes("src").values()):
        builder.add_all((ops.Write("src", 0, size),
                         ask(head, count * block - head - tail, Via.NBD), ops.Inspect("src")))
    return builder.trace()


def _no_bytes(plan: Plan) -> Trace:
    """At any place, up to the end and beyond it, and whatever has become of that place."""
    size = 3 * CLUSTER + TAIL
    builder = Builder(plan, disks(size))
    builder.add_all((ops.BitmapAdd("src", "b0", 512), *GRAPH, ops.Write("cbw", CLUSTER, CLUSTER),
                     ops.Discard("snap", 2 * CLUSTER, CLUSTER)))
    for node, place in itertools.product(
            ("cbw", "snap"), (0, 1, CLUSTER, 2 * CLUSTER, size - 1, size, size + 512)):
        builder.add_all(ops.Read(node, place, 0, via)
                        for via in (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE))
        builder.add_all((ops.Write(node, place, 0, Via.QEMU_IO), ops.Status(node, place, 0),
                         *(ask(place, 0, Via.NBD) for ask in _changes(node).values())))
    builder.add_all(ops.Inspect(node) for node in ("src", "tmp", "snap"))
    return builder.trace()


# Every way to look at clusters in every state.


def states() -> Iterator[Check]:
    for cluster in (4 * KIB, CLUSTER, 2 * MIB):
        yield Check("tails", f"discards to a tail that reads as zero, clusters of {cluster}",
                    _discards_to_a_tail(cluster))
    yield Check("status", "clusters whose subclusters are zero, discarded", _zero_subclusters)
    yield Check("status", "several metadata contexts on one connection", _contexts)
    yield Check("status", "how deep data lies below filters", _depths)
    for target in (Format.RAW, Format.QCOW2):
        for touch in ("write", "zero with unmap"):
            yield Check("status", f"looks at clusters in every state, {target}, {touch}",
                        _looks(target, _changes("cbw")[touch]))


def _looks(target: Format, touch: Ask) -> Make:
    """Clusters that are untouched, copied, given up, or copied and given up, side by side."""

    def make(plan: Plan) -> Trace:
        patterns = list(itertools.product((False, True), repeat=4))
        size = len(patterns) * STRIDE
        builder = Builder(plan, disks(size, target=Image("tmp", size, target)))
        builder.add_all(GRAPH)
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


def _contexts(plan: Plan) -> Trace:
    """What is told in a context is the same, be it negotiated alone or with others, in whatever
    order; be it that nothing may be told of a cluster, or that a context is not on offer."""
    size = 6 * CLUSTER
    builder = Builder(plan, disks(size))
    bitmaps = ("b0", "b1")
    builder.add_all(ops.BitmapAdd("src", name) for name in bitmaps)
    builder.add_all((
        ops.Export("src"), ops.Write("src", CLUSTER, CLUSTER), ops.Unexport("src"),
        *GRAPH[:3],
        ops.Export("snap", allocation_depth=True,
                   bitmaps=tuple(BitmapRef("src", name) for name in bitmaps)),
        ops.Write("cbw", 0, CLUSTER), ops.Discard("snap", 5 * CLUSTER, CLUSTER)))
    contexts = (ops.Context.ALLOCATION, ops.Context.DEPTH,
                *(f"{BITMAP_CONTEXT}{name}" for name in (*bitmaps, "nope")))
    for count in range(1, len(contexts) + 1):
        for chosen in itertools.permutations(contexts, count) if count < 3 else (
                contexts[:count], contexts[-count:], contexts[count - 1::-1]):
            first, *others = chosen
            builder.add_all(ops.Status("snap", start, end - start, context=first,
                                       others=tuple(others))
                            for start, end in ((0, 5 * CLUSTER), (512, 2 * CLUSTER),
                                               (5 * CLUSTER, size)))
    return builder.trace()


def _depths(plan: Plan) -> Trace:
    """Each filter is a level of its own above what is below the image that it filters."""
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("low", size, filled=((0, CLUSTER),)),
        Image("base", size, Format.QCOW2, backing="low", filled=((CLUSTER, CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="base", filled=((2 * CLUSTER, CLUSTER),)),
        Image("tmp", size))))
    nodes = ("one", "two", "snap")

    def make(node: str, file: str, copier: bool) -> Operation:
        return ops.AddCopyOnRead(node, file) if copier else ops.AddFilter(node, file, "tmp")

    for first, second in itertools.product((False, True), repeat=2):
        builder.add_all((make("one", "src", first), make("two", "one", second),
                         ops.AddSnapshot("snap", "two")))
        for node in nodes:
            builder.add_all((ops.Export(node, writable=False, allocation_depth=True),
                             ops.Status(node, 0, size, context=ops.Context.DEPTH),
                             ops.Unexport(node)))
        builder.add_all(ops.RemoveNode(node) for node in reversed(nodes))
    return builder.trace()


def _discards_to_a_tail(cluster: int) -> Make:
    """Whether the last cluster is copied together with those before it, and so as zeroes, or by
    itself, is up to where the discard is cut."""

    def make(plan: Plan) -> Trace:
        size = 2 * CLUSTER + 4 * KIB
        builder = Builder(plan, Configuration((
            Image("src", size, Format.QCOW2, cluster_size=cluster), Image("tmp", size),
            Image("fine", size, Format.QCOW2, cluster_size=4 * KIB))))
        for target in ("tmp", "fine"):
            builder.add(ops.Export(target))
            for start in (0, 4 * KIB, CLUSTER, 2 * CLUSTER - 512, 2 * CLUSTER, 2 * CLUSTER + 512):
                builder.add_all((
                    ops.AddFilter("cbw", "src", target), ops.Export("cbw"),
                    ops.Discard("cbw", start, size - start), ops.Status(target, 0, size),
                    ops.Unexport("cbw"), ops.RemoveNode("cbw"),
                    ops.Zero(target, 0, size, unmap=True)))
        return builder.trace()

    return make


def _zero_subclusters(plan: Plan) -> Trace:
    """Whether a cluster has space, so that a discard makes all of it zero, is told by what its
    subclusters have been: nothing, data, and zeroes to a part or to all."""
    builder = Builder(plan, Configuration(tuple(
        Image(name, 12 * CLUSTER, Format.QCOW2, subclusters=True) for name in ("src", "tmp"))))
    builder.add_all((*GRAPH, ops.Export("src", False, allocation_depth=True)))
    places = itertools.count(0, CLUSTER)
    for written, zeroed, unmap in itertools.product(
            (0, 4 * KIB, CLUSTER), (4 * KIB, CLUSTER), (False, True)):
        place = next(places)
        if written:
            builder.add(ops.Write("cbw", place, written))
        builder.add(ops.Zero("cbw", place, zeroed, unmap=unmap))
    look = (ops.Status("src", 0, 12 * CLUSTER),
            ops.Status("src", 0, 12 * CLUSTER, context=ops.Context.DEPTH))
    builder.add_all((*look, *(ops.Discard("cbw", place, CLUSTER)
                              for place in range(0, 12 * CLUSTER, CLUSTER)), *look))
    return builder.trace()
