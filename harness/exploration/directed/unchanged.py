# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of writes that change nothing: what a copy-on-read node above a filter does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.exploration.directed.fleecing import statuses
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Format, Image
from model.copy_on_read import MOST_KEPT
from model.inspection import PIECE
from model.job_operations import Backup, Sync
from model.operations import Context, Via

CLUSTER: Final = 64 * KIB
SIZE: Final = 9 * CLUSTER + 512


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("access", "a copy-on-read node above a filter", _above_a_filter)
    yield Check("access", "a copy-on-read node over subclusters", _over_subclusters)
    yield Check("access", "copy-on-read nodes over one another and over two filters", _over_others)
    yield Check("access", "what copy-on-read keeps of a look at all of it", _looked_at)
    yield Check("access", "levels below copy-on-read, and how much it keeps at once", _levels)
    yield Check("access", "what copy-on-read keeps of clusters with space and without", _spaced)
    yield Check("access", "copy-on-read of more than it keeps at once", _more)


def _above_a_filter(plan: Plan) -> Trace:
    """Reads of what only the backing file has put it into the disk, and are no reason to copy."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE - CLUSTER, filled=((0, 5 * CLUSTER),)),
        Image("src", SIZE, Format.QCOW2, backing="base", filled=((2 * CLUSTER, CLUSTER),)),
        Image("tmp", SIZE))))
    builder.add_all((
        ops.BitmapAdd("src", "dirty", 4 * KIB), ops.AddFilter("cbw", "src", "tmp"),
        ops.BitmapAdd("cbw", "above", 4 * KIB), ops.AddSnapshot("snap", "cbw"),
        ops.AddCopyOnRead("cor", "cbw"), ops.AddCopyOnRead("cor", "src"), ops.Export("snap"),
        ops.Export("cor"), _read(512, 512), _read(CLUSTER + 1, 2 * CLUSTER),
        _read(6 * CLUSTER + 512, CLUSTER), ops.Write("cor", 4 * CLUSTER - 512, 1024),
        _read(3 * CLUSTER, 2 * CLUSTER), ops.Zero("cor", 0, 512),
        _read(SIZE - 512, 512), ops.Read("snap", 0, 4 * CLUSTER), ops.Flush("cor"),
        ops.RemoveNode("cbw"), ops.Unexport("cor"), ops.RemoveNode("cor"), ops.Export("src"),
        ops.Status("src", 0, SIZE), ops.Inspect("src"), ops.Inspect("snap"),
        ops.Inspect("tmp")))
    return builder.trace()


def _looked_at(plan: Plan) -> Trace:
    """What is read at a time is kept as data or, if all of it is zero, as zeroes."""
    size = 2 * PIECE + CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="base"))))
    builder.add_all((ops.AddCopyOnRead("cor", "src"), ops.Inspect("cor"),
                     ops.Export("src", allocation_depth=True)))
    for place in range(0, size, PIECE):
        builder.add_all(statuses("src", min(PIECE, size - place), place))
    return builder.trace()


def _levels(plan: Plan) -> Trace:
    """A copy-on-read node is a level above the images below the one that it is over, as each
    filter is.  Of a read of more than 16 MiB, each 16 MiB are kept as data or as zeroes."""
    size = MOST_KEPT + 2 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size - CLUSTER, filled=((0, CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="base", filled=((CLUSTER, CLUSTER),)),
        Image("tmp", size))))
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.AddCopyOnRead("low", "cbw"),
                     ops.AddCopyOnRead("cor", "low")))
    for node in ("cbw", "low", "cor"):
        builder.add_all((ops.Export(node, allocation_depth=True),
                         ops.Status(node, 0, 4 * CLUSTER, context=Context.DEPTH),
                         ops.Status(node, MOST_KEPT, 2 * CLUSTER, context=Context.DEPTH)))
    builder.add_all((_read(2 * CLUSTER - 1, MOST_KEPT + 1), ops.Status("cor", 0, size),
                     ops.Status("cor", 0, size, context=Context.DEPTH)))
    return builder.trace()


def _more(plan: Plan) -> Trace:
    """Data behind what is kept at once as zeroes are not kept with it."""
    size = MOST_KEPT + 4 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((size - CLUSTER, CLUSTER),)),
        Image("src", size, Format.QCOW2, backing="base"))))
    builder.add_all((ops.AddCopyOnRead("cor", "src"), ops.Export("cor"), _read(0, size),
                     ops.Status("cor", 0, size), ops.Inspect("src")))
    return builder.trace()


def _spaced(plan: Plan) -> Trace:
    """With subclusters, what is read of clusters that have space and of such that have none is
    kept apart, as zeroes or as data, also where the space was that of zeroes only."""
    fine = CLUSTER // 32
    size = 12 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("base", size, filled=tuple(
            (place * CLUSTER + 2 * fine, fine) for place in (1, 4, 8, 9))),
        Image("src", size, Format.QCOW2, subclusters=True, backing="base"))))
    builder.add_all((
        ops.Export("src", allocation_depth=True),
        *(ops.Write("src", place * CLUSTER + 20 * fine, fine) for place in (1, 4, 6, 9)),
        ops.Zero("src", 9 * CLUSTER, CLUSTER // 2), ops.Zero("src", 9 * CLUSTER + 20 * fine, fine),
        ops.AddCopyOnRead("cor", "src"), ops.Export("cor")))
    builder.add_all(_read(int(start * CLUSTER), int((end - start) * CLUSTER))
                    for start, end in ((0, 1.5), (3, 6), (7, 8.5), (9.75, 11)))
    builder.add_all(ops.Status("src", 0, size, context=context) for context in Context)
    return builder.trace()


def _over_subclusters(plan: Plan) -> Trace:
    """What a read puts into a disk is whole subclusters, where it has any, of all that the
    backing file or zeroes show through; also through a filter."""
    unit = CLUSTER // 32
    builder = Builder(plan, Configuration((
        Image("base", SIZE - CLUSTER, filled=((0, 5 * CLUSTER),)),
        Image("src", SIZE, Format.QCOW2, subclusters=True, backing="base",
              filled=((2 * CLUSTER + 4 * unit, 3 * unit),)),
        Image("tmp", SIZE), Image("tmp2", SIZE))))
    for below in ("src", "cbw"):
        if below == "cbw":
            builder.add(ops.AddFilter("cbw", "src", "tmp"))
        builder.add_all((ops.AddCopyOnRead("cor", below), ops.Export("cor")))
        place = CLUSTER if below == "cbw" else 0
        builder.add_all((
            _read(2 * CLUSTER + 4 * unit, 3 * unit), _read(place + 512, 512),
            _read(place + 3 * unit - 1, 2),
            _read(2 * CLUSTER + 3 * unit + place // 8, 6 * unit),
            _read(6 * CLUSTER + place // 2, 5 * unit + 1), _read(SIZE - 512, 512),
            ops.Unexport("cor"), ops.RemoveNode("cor"), ops.Export(below, allocation_depth=True),
            ops.Status(below, 0, SIZE, context=ops.Context.DEPTH), ops.Status(below, 0, SIZE),
            ops.Inspect(below), ops.Unexport(below)))
    builder.add_all((
        ops.AddCopyOnRead("cor", "src"), ops.AddCopyOnRead("top", "cor"), ops.Export("top"),
        ops.BitmapAdd("src", "dirty", 512), ops.Read("top", 4 * CLUSTER + 512, 512, Via.NBD_DF),
        Backup("job", "cor", "tmp2", Sync.TOP), ops.Inspect("tmp2")))
    return builder.trace()


def _over_others(plan: Plan) -> Trace:
    """What changes nothing changes nothing for whatever it passes through."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("src", SIZE, Format.QCOW2, backing="base", filled=((2 * CLUSTER, CLUSTER),)),
        Image("tmp", SIZE), Image("tmp2", SIZE))))
    builder.add_all((
        ops.AddFilter("cbw", "src", "tmp"), ops.AddFilter("cbw2", "cbw", "tmp2"),
        ops.AddCopyOnRead("below", "cbw2"), ops.AddCopyOnRead("cor", "below"),
        *(ops.BitmapAdd(node, "dirty", 4 * KIB)
          for node in ("src", "cbw", "cbw2", "below", "cor")),
        ops.AddSnapshot("snap", "cbw"), ops.AddSnapshot("snap2", "cbw2"), ops.Export("cor"),
        _read(CLUSTER + 1, 512), _read(2 * CLUSTER, CLUSTER), _read(3 * CLUSTER - 1, 2),
        ops.Write("cor", 5 * CLUSTER, 512), _read(4 * CLUSTER, 2 * CLUSTER),
        _read(6 * CLUSTER, 0), ops.Read("cor", 512, 0), _read(8 * CLUSTER + 512, 0),
        ops.Write("cor", 7 * CLUSTER + 1, 0),
        _read(SIZE - 512, 512), _read(SIZE, 0),
        *(ops.Inspect(node) for node in ("snap", "snap2", "tmp", "tmp2"))))
    return builder.trace()


def _read(offset: int, length: int) -> ops.Read:
    """Read all of it, not only what block status says is no hole."""
    return ops.Read("cor", offset, length, Via.NBD_DF)
