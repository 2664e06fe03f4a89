# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of the clusters and subclusters of qcow2 images: what becomes of them when parts
of them are zeroed, when the end of the image cuts them, and when a request to them fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, TAKE_DOWN
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Fault, Format, Image, RequestKind
from model.job_operations import Backup, BitmapMode, Sync
from model.operations import Context, OnCbwError, Operation, Via

_FINE: Final = CLUSTER // 32
"""Bytes of a subcluster."""


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("status", "zeroes of parts of clusters that read as zero", _parts)
    yield Check("status", "the last cluster of an image that becomes larger", _last)
    yield Check("zeroes", "what the last cluster of an image frees", _freed)
    yield Check("faults", "requests of an overlay that fail", _failing)
    yield Check("zeroes", "zero clusters whose space is scattered", _scattered)
    yield Check("zeroes", "zero clusters of which some subclusters have had data", _mixed)
    yield Check("zeroes", "preallocated clusters beside such that have data", _preallocated)
    for cluster, subclusters in ((4 * KIB, False), (16 * KIB, True), (128 * KIB, True)):
        name = f"clusters of {cluster // KIB} KiB{' with subclusters' if subclusters else ''}"
        yield Check("access", f"reads of two tables that are kept, {name}",
                    _tables(cluster, subclusters))
    yield Check("zeroes", "copies of zero clusters and such as are perhaps zero", _perhaps)
    yield Check("zeroes", "who may free the space of clusters", _whose_space)
    yield Check("zeroes", "zeroes of parts of clusters whose data are zeroes", _zero_data)
    yield Check("faults", "a write that fails where there is space already", _space_kept)


def _statuses(node: str, size: int, unit: int = CLUSTER) -> Iterator[Operation]:
    """A look at all and at each unit, as clients see it and at how deep it lies."""
    for context in (Context.ALLOCATION, Context.DEPTH):
        yield ops.Status(node, 0, size, context=context)
        for place in range(0, size, unit):
            yield ops.Status(node, place, min(unit, size - place), context=context)


def _perhaps(plan: Plan) -> Trace:
    """Of a cluster over a hole of the backing file of which a part is zeroed it is up to storage
    whether it becomes a zero cluster, and so whether it is one run with zero clusters before it
    or after it, which decides whether all of them are copied as zeroes or as data."""
    cell, size = 4 * KIB, 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size), Image("tmp", size, Format.QCOW2),
        Image("src", size, Format.QCOW2, cluster_size=cell, backing="base"))))
    builder.add(ops.Export("src"))
    for start, parts in ((0, ((0, 8), (8.5, 16))), (CLUSTER, ((0.5, 8), (8, 16))),
                         (2 * CLUSTER, ((0.5, 1), (1.5, 2), (2, 16))),
                         (3 * CLUSTER, ((0, 8), (8.5, 15)))):
        builder.add_all(ops.Zero("src", start + int(low * cell), int((high - low) * cell))
                        for low, high in parts)
    builder.add_all((
        ops.Write("src", 4 * CLUSTER - cell, cell), ops.Unexport("src"), *GRAPH,
        *(ops.Write("cbw", place, 512) for place in range(0, size, CLUSTER)),
        ops.Export("tmp", writable=False), *_statuses("tmp", size), ops.Inspect("snap")))
    return builder.trace()


def _freed(plan: Plan) -> Trace:
    """All that the image has of its last cluster is all of it: zeroes free its space, as a job
    tells that copies in one piece, or not, what is zero."""
    size = 8 * CLUSTER + 4 * KIB
    sources = [f"src{start}" for start in range(3)]
    builder = Builder(plan, Configuration((
        *(Image(name, size, Format.QCOW2, subclusters=True, filled=((8 * CLUSTER, 4 * KIB),))
          for name in sources),
        *(Image(f"to-{name}", size, Format.QCOW2) for name in sources))))
    for name, start in zip(sources, (0, 2 * KIB, 4 * KIB - 512), strict=True):
        builder.add_all((
            ops.BitmapAdd(name, "dirty"), ops.Export(name),
            ops.Zero(name, 6 * CLUSTER + 2 * KIB, CLUSTER), ops.Zero(name, 7 * CLUSTER, CLUSTER),
            ops.Zero(name, 8 * CLUSTER + start, 4 * KIB - start, unmap=True),
            Backup("job", name, f"to-{name}", Sync.BITMAP, bitmap="dirty",
                   bitmap_mode=BitmapMode.NEVER),
            ops.Export(f"to-{name}", allocation_depth=True)))
        builder.add_all((*_statuses(name, size), *_statuses(f"to-{name}", size)))
    return builder.trace()


def _parts(plan: Plan) -> Trace:
    """Over data, and over what the file system may or may not tell to be a hole: a part becomes
    zero, then all of it, with its space or without, then it is discarded."""
    size = 9 * CLUSTER + 512
    names = [f"src{index}" for index in range(6)]
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, 2 * CLUSTER), (4 * CLUSTER, _FINE))),
        *(Image(name, size, Format.QCOW2, subclusters=index % 2 == 1,
                backing="base" if index < 2 else None,
                preallocation="metadata" if index > 3 else None,
                filled=((CLUSTER, CLUSTER), (6 * CLUSTER, 2 * _FINE)))
          for index, name in enumerate(names)))))
    for name in names:
        builder.add(ops.Export(name, allocation_depth=True))
        for cluster in range(9):
            builder.add(ops.Zero(name, cluster * CLUSTER + 512, 512))
        builder.add_all((
            ops.Zero(name, 2 * CLUSTER + 4 * _FINE, CLUSTER), ops.Zero(name, size - 512, 512),
            ops.Zero(name, 4 * CLUSTER - 512, 512 + _FINE // 2),
            ops.Zero(name, 5 * CLUSTER + 3 * _FINE + 512, CLUSTER)))
        builder.add_all(_statuses(name, size))
        for cluster, unmap in ((0, False), (1, True), (2, False), (3, True), (6, True)):
            builder.add(ops.Zero(name, cluster * CLUSTER, CLUSTER, unmap=unmap))
        builder.add_all((ops.Zero(name, 6 * CLUSTER + _FINE, 2 * CLUSTER, unmap=True),
                         ops.Write(name, 3 * CLUSTER + 512, 512)))
        builder.add_all(_statuses(name, size))
        builder.add_all(ops.Discard(name, cluster * CLUSTER, CLUSTER)
                        for cluster in (0, 2, 5, 7))
        builder.add_all((
            *_statuses(name, size), ops.Inspect(name), ops.Unexport(name),
            ops.Resize(name, size + 2 * CLUSTER), ops.Export(name, allocation_depth=True),
            ops.Status(name, size, 2 * CLUSTER, context=Context.DEPTH),
            ops.Write(name, size + CLUSTER, 512), ops.Read(name, size, 2 * CLUSTER, Via.NBD_DF)))
    return builder.trace()


_CUT: Final = 2 * CLUSTER + 8 * _FINE
"""Where images end in their third cluster."""
_ZEROED: Final[tuple[tuple[ops.Request, ...], ...]] = (
    (), (ops.Zero("", 2 * CLUSTER, 8 * _FINE),), (ops.Zero("", CLUSTER, CLUSTER + 8 * _FINE),),
    (ops.Zero("", 2 * CLUSTER + _FINE, 7 * _FINE),), (ops.Discard("", 2 * CLUSTER, 8 * _FINE),))
"""What is done to some image then."""


def _last(plan: Plan) -> Trace:
    """What it keeps past the end of the image is zeroed with all that is before that, not with a
    part; and what shows there then is not what is below, if that has something there."""
    size = 4 * CLUSTER
    belows = (None, CLUSTER, _CUT, size)
    disks = [(f"src{int(fine)}{below}", fine, below)
             for fine, below in itertools.product((False, True), belows)]
    builder = Builder(plan, Configuration((
        *(Image(f"base{below}", below, filled=((0, below),)) for below in belows[1:] if below),
        *(Image(name, size, Format.QCOW2, subclusters=fine,
                backing=None if below is None else f"base{below}")
          for name, fine, below in disks))))
    for name, *_ in disks:
        for written, zeroed in ((False, _ZEROED[1]), *((True, each) for each in _ZEROED)):
            if written:
                builder.add_all((ops.Export(name), ops.Write(name, 0, size), ops.Unexport(name)))
            builder.add_all((
                ops.Resize(name, _CUT), ops.Export(name),
                *(replace(each, node=name) for each in zeroed), ops.Unexport(name),
                *(ops.Resize(name, each) for each in (_CUT, _CUT + 512, _CUT + 512)),
                ops.Export(name), ops.Status(name, 2 * CLUSTER, 8 * _FINE + 512),
                ops.Unexport(name), ops.Resize(name, size),
                ops.Export(name, allocation_depth=True), *_statuses(name, size),
                ops.Read(name, 2 * CLUSTER, CLUSTER, Via.NBD_DF), ops.Unexport(name)))
    return builder.trace()


def _failing(plan: Plan) -> Trace:
    """Each kind of request of the overlay's own fails once; and how deep it lies what is below."""
    size = 8 * CLUSTER
    kinds = tuple(each for each in RequestKind if each is not RequestKind.FLUSH)
    faults = (*(Fault(kind, index * CLUSTER, once=True) for index, kind in enumerate(kinds)),
              Fault(RequestKind.STATUS, 6 * CLUSTER, once=True))
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, 2 * CLUSTER),)),
        Image("middle", 7 * CLUSTER, Format.QCOW2, backing="base",
              filled=((3 * CLUSTER, CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="middle", faults=faults,
              filled=((5 * CLUSTER, CLUSTER),)),
        Image("tmp", size))))
    builder.add_all((ops.Export("src", allocation_depth=True), *_statuses("src", 6 * CLUSTER)))
    for change, (index, _) in itertools.product((ops.Write, ops.Zero, ops.Discard),
                                                enumerate(kinds)):
        builder.add_all((change("src", index * CLUSTER, CLUSTER),
                         ops.Read("src", index * CLUSTER, CLUSTER, Via.NBD_DF)))
    look = ops.Status("snap", 6 * CLUSTER, CLUSTER)
    builder.add_all((ops.Inspect("src"), ops.Unexport("src"), ops.AddFilter("cbw", "src", "tmp"),
                     ops.AddSnapshot("snap", "cbw"), ops.Export("snap"), look, look))
    return builder.trace()


def unwritten(plan: Plan) -> Trace:
    """Of a write that fails below the image nothing is there afterwards; so it is of one of a
    filter, and of one that keeps what is read, which then has failed, too."""
    size = 4 * CLUSTER
    part = (512, 4 * KIB)
    changes: tuple[Operation, ...] = (
        ops.Write("disk", *part), ops.Write("disk", 0, CLUSTER), ops.Zero("disk", *part),
        ops.Write("disk", CLUSTER, CLUSTER), ops.Write("disk", CLUSTER + 512, 512))
    names = [f"disk{index}" for index in range(len(changes))]
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, size),)), Image("src", size, filled=((0, size),)),
        *(Image(name, size, Format.QCOW2, backing="base", filled=((CLUSTER, CLUSTER),),
                fails_first="EIO") for name in names),
        Image("kept", size, Format.QCOW2, backing="base", fails_first="ENOSPC"),
        *(Image(f"tmp-{policy}", size, Format.QCOW2, fails_first="EIO")
          for policy in OnCbwError))))
    for name, change in zip(names, changes, strict=True):
        assert isinstance(change, ops.Request)
        builder.add_all((ops.BitmapAdd(name, "dirty", 4 * KIB),
                         ops.Export(name, allocation_depth=True)))
        for _ in range(2):
            builder.add_all((replace(change, node=name), *_statuses(name, 2 * CLUSTER),
                             ops.Read(name, 0, 2 * CLUSTER, Via.NBD_DF)))
        builder.add_all((ops.Unexport(name), ops.Inspect(name)))
    builder.add_all((ops.AddCopyOnRead("cor", "kept"), ops.Export("cor")))
    for place in (0, 0, 2 * CLUSTER):
        builder.add_all((ops.Read("cor", place + 512, 512, Via.NBD_DF),
                         ops.Status("cor", 0, size)))
    for policy in OnCbwError:
        builder.add_all((ops.AddFilter("cbw", "src", f"tmp-{policy}", on_cbw_error=policy),
                         *GRAPH[1:], *(ops.Write("cbw", CLUSTER, 512),) * 2,
                         ops.Read("snap", CLUSTER, CLUSTER, Via.NBD_DF), *TAKE_DOWN))
    return builder.trace()


def _scattered(plan: Plan) -> Trace:
    """Clusters that are zero and have their space, smaller than those that are copied: they may
    be told one by one, and then all is copied as data."""
    small = 4 * KIB
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, cluster_size=small), Image("tmp", size, Format.QCOW2))))
    builder.add(ops.Export("src"))
    builder.add_all(ops.Write("src", place, small) for place in reversed(range(0, CLUSTER, small)))
    builder.add(ops.Write("src", CLUSTER, CLUSTER))
    builder.add_all(ops.Zero("src", place, CLUSTER) for place in range(0, 3 * CLUSTER, CLUSTER))
    builder.add_all((
        *_statuses("src", size), ops.Unexport("src"), ops.AddFilter("cbw", "src", "tmp"),
        ops.Export("cbw"), ops.Export("tmp", writable=False, allocation_depth=True)))
    builder.add_all(ops.Write("cbw", place, 1) for place in range(0, size, CLUSTER))
    builder.add_all((*_statuses("tmp", size), ops.Inspect("tmp")))
    return builder.trace()


def _mixed(plan: Plan) -> Trace:
    """All that is zero in a cluster is told at once, be there space for it or not; so a job that
    copies cluster by cluster copies zeroes as such."""
    size = 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, subclusters=True),
        Image("tmp", size, Format.QCOW2), Image("tmp2", size, Format.QCOW2, subclusters=True))))
    builder.add(ops.Export("src"))
    for cluster, changes in enumerate((
            (ops.Write("", 2 * _FINE, _FINE), ops.Zero("", 0, CLUSTER)),
            (ops.Zero("", 0, 2 * _FINE), ops.Write("", 4 * _FINE, CLUSTER - 4 * _FINE),
             ops.Zero("", 2 * _FINE, CLUSTER - 2 * _FINE)),
            (ops.Zero("", 0, CLUSTER), ops.Write("", _FINE, _FINE), ops.Zero("", 0, CLUSTER)),
            (ops.Write("", 0, _FINE), ops.Zero("", 0, 8 * _FINE)))):
        builder.add_all(replace(each, node="src", offset=each.offset + cluster * CLUSTER)
                        for each in changes)
    builder.add_all((
        *_statuses("src", size), Backup("job", "src", "tmp", Sync.FULL),
        Backup("job2", "src", "tmp2", Sync.FULL), ops.Export("tmp", allocation_depth=True),
        ops.Export("tmp2", allocation_depth=True)))
    builder.add_all((*_statuses("tmp", size), *_statuses("tmp2", size)))
    return builder.trace()


def _preallocated(plan: Plan) -> Trace:
    """What is known to be zero of a run of clusters ends where the file has data."""
    size = 16 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, preallocation="metadata"), Image("tmp", size),
        Image("tmp2", size, Format.QCOW2))))
    builder.add(ops.Export("src"))
    builder.add_all(ops.Write("src", place * CLUSTER, CLUSTER) for place in (1, 2, 5, 9))
    for start in (0, 3 * CLUSTER, 4 * CLUSTER, 8 * CLUSTER + 512):
        builder.add_all((ops.Status("src", start, size - start),
                         ops.Read("src", start, size - start)))
    builder.add_all((
        Backup("job", "src", "tmp2", Sync.FULL), ops.Inspect("tmp2"), ops.Unexport("src"),
        *GRAPH, ops.Read("snap", 0, size), ops.Status("snap", 0, size),
        ops.Write("cbw", 0, size), ops.Read("snap", 0, size), ops.Inspect("tmp")))
    return builder.trace()


def _tables(cluster: int, subclusters: bool) -> Make:
    """Block status tells of one table at a time.  So what is read of two, and kept, is kept as
    zeroes in the first, if that has nothing but zeroes; but as data of two halves of a table."""
    table = cluster // (16 if subclusters else 8) * cluster
    size = table + cluster
    places = (table // 2, table)

    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("base", size, filled=tuple((place, cluster) for place in places)),
            Image("src", size, Format.QCOW2, cluster_size=cluster, subclusters=subclusters,
                  backing="base"))))
        builder.add_all((ops.AddCopyOnRead("cor", "src"), ops.Export("cor"),
                         ops.Export("src", writable=False)))
        for place in places:
            builder.add_all((ops.Read("cor", place - cluster, 2 * cluster, Via.NBD_DF),
                             ops.Status("src", place - cluster, 2 * cluster)))
        return builder.trace()

    return make


def _whose_space(plan: Plan) -> Trace:
    """Whether zeroes that may free space do so shows in whether a cluster without space beside it
    is one with it, and so in what a copy of both makes of a target with larger clusters."""
    size, names = 2 * CLUSTER, ("src", "below", "beneath", "freed", "flat")
    builder = Builder(plan, Configuration((
        Image("tmp", size), *(
            Image(name, size, Format.RAW if name == "flat" else Format.QCOW2,
                  request_alignment=512 if name == "beneath" else None, discard=name == "freed")
            for name in names),
        *(Image(f"{name}-copy", size, Format.QCOW2, cluster_size=size) for name in names))))
    builder.add(ops.AddFilter("cbw", "below", "tmp"))
    for name in names:
        export = "cbw" if name == "below" else name
        builder.add_all((ops.Export(export), ops.Write(export, 0, CLUSTER),
                         ops.Zero(export, 0, size, unmap=True), *_statuses(export, size),
                         Backup("job", export, f"{name}-copy", Sync.FULL),
                         ops.Export(f"{name}-copy"), *_statuses(f"{name}-copy", size)))
    return builder.trace()


def _zero_data(plan: Plan) -> Trace:
    """A cluster of data is none of zeroes, be they all zero: a part of it is not zeroed fast."""
    builder = Builder(plan, Configuration((
        Image("src", 2 * CLUSTER, Format.QCOW2),
        Image("fine", 2 * CLUSTER, Format.QCOW2, subclusters=True))))
    for node, cell in (("src", CLUSTER), ("fine", _FINE)):
        builder.add(ops.Export(node))
        for place, fast in ((0, False), (cell, True)):
            builder.add_all((
                ops.Write(node, place, cell, zeroes=True),
                ops.Zero(node, place + 512, cell - 512, fast=fast), *_statuses(node, 2 * cell),
                ops.Zero(node, place, cell, fast=True), *_statuses(node, 2 * cell)))
    return builder.trace()


def _space_kept(plan: Plan) -> Trace:
    """What a cluster of zeroes has of space stays its own when data cannot be written there:
    nobody else is given it."""
    size = 4 * CLUSTER
    sizes = (512, CLUSTER)
    builder = Builder(plan, Configuration(tuple(
        Image(f"src{length}", size, Format.QCOW2, filled=((0, CLUSTER),), fails_first="EIO")
        for length in sizes)))
    for length in sizes:
        node = f"src{length}"
        builder.add_all((
            ops.Export(node), ops.Zero(node, 0, CLUSTER), ops.Write(node, 0, length),
            ops.Write(node, 2 * CLUSTER, CLUSTER), ops.Write(node, 0, CLUSTER),
            *_statuses(node, size), ops.Inspect(node)))
    return builder.trace()


def beside(plan: Plan) -> Trace:
    """What a small write keeps of its clusters is read below by itself, and not what is written:
    what fails there does not matter.  So it is at one end only; and at both, if one cluster has
    space in the file, and the other one has none."""
    size = 8 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, size),), faults=tuple(
            Fault(RequestKind.READ, place) for place in (
                CLUSTER - 512, 2 * CLUSTER, 5 * CLUSTER, 7 * CLUSTER - 512))),
        Image("src", size, Format.QCOW2, backing="base"),
        Image("fine", size, Format.QCOW2, backing="base", subclusters=True))))
    for node in ("src", "fine"):
        builder.add_all((
            ops.Export(node), ops.Write(node, CLUSTER - 1024, 1024),
            ops.Write(node, 2 * CLUSTER, 1024), ops.Write(node, 4 * CLUSTER, CLUSTER),
            ops.Zero(node, 4 * CLUSTER, CLUSTER), ops.Write(node, 5 * CLUSTER - 512, 1024),
            ops.Write(node, 7 * CLUSTER, CLUSTER), ops.Zero(node, 7 * CLUSTER, CLUSTER),
            ops.Write(node, 7 * CLUSTER - 512, 1024)))
        builder.add_all(ops.Read(node, place * CLUSTER, CLUSTER) for place in range(8))
    return builder.trace()
