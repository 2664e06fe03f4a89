# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of sizes: those that differ, and those that change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, TAKE_DOWN, statuses
from harness.exploration.sweep import sweep
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Format, Image
from model.job_operations import Backup, BitmapMode, JobCancel, JobFinalize, Sync
from model.operations import BitmapRef, Operation
from model.resizing import LARGEST

SIZE: Final = 4 * CLUSTER + 8 * KIB
OTHERS: Final = (SIZE + 512, SIZE - 512, 5 * CLUSTER, 8 * CLUSTER + 512, 2 * CLUSTER + 4 * KIB,
                 512)
"""Around the source's size, and far from it."""
_NEW: Final = (0, 1, 511, 512, 513, CLUSTER - 1, CLUSTER, CLUSTER + 4 * KIB, 3 * CLUSTER + 1000,
               SIZE - 512, SIZE, SIZE + 512, 6 * CLUSTER)
_CUT: Final = (0, CLUSTER, CLUSTER + 4 * KIB, 3 * CLUSTER + 1000, SIZE + 512, 6 * CLUSTER)
_IMPOSSIBLE: Final = (-1, -(1 << 63), (1 << 63) - 1, (1 << 63) - 512)


def checks() -> Iterator[Check]:
    """Of two nodes, in all that looks at both of them; and of one, before and after."""
    for each in (Format.RAW, Format.QCOW2):
        yield Check("bitmaps", f"resize of {each} with bitmaps of every granularity",
                    _granularities(each))
    for each in (Format.RAW, Format.QCOW2):
        yield Check("graph", f"resize of a disk in {each} and of its filter", _filter(each))
    yield Check("graph", "resize of what is in use", _in_use)
    yield Check("jobs", "backups to targets of another size", _jobs)
    yield Check("bitmaps", "bitmaps of nodes of another size", _bitmaps)
    for source, target in itertools.product((Format.RAW, Format.QCOW2), repeat=2):
        yield Check("tails", f"a temporary image of another size, {source} copied to {target}",
                    _targets(source, target))
    yield Check("status", "backing files of another size", _backing)
    yield Check("status", "resize of an overlay", _overlay)
    for each in (Format.RAW, Format.QCOW2, Format.QED):
        yield Check("graph", f"resize of an image in {each}", _image(each))
    yield Check("graph", "resize of images in formats that cannot be", _formats)
    yield Check("tails", "a cluster that a smaller size has cut", _cut)
    yield Check("tails", "a snapshot over the end of a backing file", _over_the_end)


# Sizes that differ


def _targets(source: Format, target: Format) -> Make:
    def make(plan: Plan) -> Trace:
        names = [(f"tmp{index}", size) for index, size in enumerate(OTHERS)]
        builder = Builder(plan, Configuration((
            Image("src", SIZE, source, filled=((0, SIZE),)),
            *(Image(name, size, target) for name, size in names))))
        for name, _ in names:
            builder.add_all((ops.AddFilter("cbw", "src", name), *GRAPH[1:]))
            for offset in (*range(CLUSTER // 2, SIZE, CLUSTER), SIZE - 512):
                # Of the copies, those past the end of a target kill builds of today.
                builder.add_all((ops.Write("cbw", offset, 512), ops.Read("snap", offset, 512),
                                 ops.Status("snap", offset, 512)))
            builder.add_all((ops.Discard("snap", 0, CLUSTER), ops.Discard("snap", 0, SIZE),
                             *(ops.Inspect(node) for node in ("src", "snap", name)), *TAKE_DOWN))
        return builder.trace()

    return make


def _jobs(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)),
        *(Image(f"tmp{index}", size) for index, size in enumerate(OTHERS)))))
    builder.add_all((ops.BitmapAdd("src", "b0"), ops.Export("src")))
    for index in range(len(OTHERS)):
        builder.add_all((
            Backup("job", "src", f"tmp{index}", Sync.FULL),
            Backup("job", "src", f"tmp{index}", Sync.BITMAP, "b0", BitmapMode.ALWAYS,
                   filter_node="nope"),
            Backup("job", f"tmp{index}", "src", Sync.NONE),
            ops.Resize(f"tmp{index}", SIZE), Backup("job", "src", f"tmp{index}", Sync.FULL),
            ops.Inspect(f"tmp{index}")))
    return builder.trace()


def _bitmaps(plan: Plan) -> Trace:
    """Given to a filter, merged, and shown by the export of another node."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE), Image("tmp", SIZE),
        *(Image(f"other{index}", size) for index, size in enumerate(OTHERS)))))
    builder.add(ops.BitmapAdd("src", "mine", CLUSTER))
    for index, size in enumerate(OTHERS):
        reference = BitmapRef(f"other{index}", f"b{index}")
        node, name = reference.node, reference.name
        builder.add_all((
            ops.BitmapAdd(node, name, 4 * KIB), ops.Export(node),
            ops.Write(node, size - 512, 512), ops.Write(node, 0, 1), ops.Unexport(node),
            ops.AddFilter("cbw", "src", "tmp", reference), ops.RemoveNode("cbw"),
            ops.BitmapMerge("src", "mine", (reference,)),
            ops.BitmapMerge(node, name, (BitmapRef("src", "mine"),)),
            ops.Export("src", bitmaps=(reference,))))
        context = f"qemu:dirty-bitmap:{name}"
        builder.add_all(ops.Status("src", offset, SIZE - offset, context=context)
                        for offset in (0, 512, min(size, SIZE) - 512, min(size, SIZE - 512)))
        builder.add(ops.Unexport("src"))
    return builder.trace()


def _backing(plan: Plan) -> Trace:
    """What an overlay has, where its backing file ends before or after it; and a backup of what
    is allocated in it alone."""
    sizes = (*OTHERS, SIZE)
    images = [image for index, size in enumerate(sizes) for image in (
        Image(f"base{index}", size, filled=((0, size),)),
        Image(f"src{index}", SIZE, Format.QCOW2, cluster_size=CLUSTER, backing=f"base{index}",
              filled=((CLUSTER, 512),)))]
    builder = Builder(plan, Configuration((
        *images, *(Image(f"tmp{index}", SIZE) for index in range(len(sizes))))))
    for index in range(len(sizes)):
        source, target = f"src{index}", f"tmp{index}"
        builder.add_all((
            ops.Export(source, allocation_depth=True), ops.Write(source, 2 * CLUSTER + 512, 512),
            ops.Zero(source, SIZE - 512, 512), ops.Status(source, 0, SIZE),
            ops.Status(source, 0, SIZE, context=ops.Context.DEPTH), ops.Unexport(source),
            Backup("job", source, target, Sync.TOP), ops.Inspect(target),
            ops.AddFilter("cbw", source, target), *GRAPH[1:],
            ops.Status("snap", min(sizes[index], SIZE - 512), 512), ops.Write("cbw", 0, SIZE),
            ops.Status("snap", 0, SIZE), ops.Inspect("snap"), *TAKE_DOWN))
    return builder.trace()


# Sizes that change


def _resized(node: str, *looks: Operation) -> Iterator[Operation]:
    """To every size and back to a larger one, with a look at each."""
    for size in (*_NEW, *_IMPOSSIBLE):
        for each in (size, 7 * CLUSTER):
            yield ops.Resize(node, each)
            yield from looks


def _image(wanted: Format) -> Make:
    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("src", SIZE, wanted, filled=((0, SIZE),)),)))
        for operation in _resized("src", ops.Inspect("src")):
            builder.add(operation)
            if isinstance(operation, ops.Inspect):
                builder.add_all((ops.Export("src"), ops.Status("src", 0, 512),
                                 ops.Write("src", 0, 512), ops.Write("src", CLUSTER + 512, 512),
                                 ops.Unexport("src")))
        builder.add_all((ops.Restart(("src",)), ops.Resize("src", CLUSTER),
                         ops.Resize("src", _IMPOSSIBLE[-1])))
        return builder.trace()

    return make


def _formats(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration(tuple(
        Image(f"src-{each}", SIZE, each) for each in Format if each is not Format.LUKS)))
    builder.add_all(ops.Resize(image.node, size) for image in builder.configuration.images
                    for size in (*_IMPOSSIBLE, LARGEST, LARGEST + 1, SIZE, 2 * SIZE, 2 * SIZE + 1,
                                 CLUSTER))
    return builder.trace()


def _granularities(wanted: Format) -> Make:
    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("src", SIZE, wanted, filled=((0, SIZE),)), Image("tmp", SIZE))))
        persistent = wanted is Format.QCOW2
        for granularity in (512, 4 * KIB, CLUSTER, 32 * CLUSTER):
            builder.add(ops.BitmapAdd("src", f"b{granularity}", granularity,
                                      persistent=persistent and granularity == CLUSTER))
        builder.add(ops.BitmapAdd("src", "off", CLUSTER, disabled=True))
        for begin in (None, ops.Restart()) if persistent else (None,):
            if begin is not None:
                builder.add(begin)
            for size in _NEW:
                end = builder.machine.nodes["src"].size
                builder.add_all((
                    ops.Export("src"), ops.Write("src", 0, 1), ops.Write("src", end - 1, 1),
                    ops.Unexport("src"), ops.Resize("src", size),
                    ops.BitmapMerge("src", "off", (BitmapRef("src", f"b{CLUSTER}"),)),
                    ops.Export("src", bitmaps=(BitmapRef("src", f"b{CLUSTER}"),)),
                    ops.Write("src", size - 1, 1),
                    ops.Status("src", 0, size, context=f"qemu:dirty-bitmap:b{CLUSTER}"),
                    ops.Unexport("src"),
                    ops.AddFilter("cbw", "src", "tmp", BitmapRef("src", f"b{CLUSTER}")),
                    ops.RemoveNode("cbw"), ops.Resize("src", SIZE)))
        return builder.trace()

    return make


def _filter(wanted: Format) -> Make:
    """The disk below a filter, or the filter, before or after there is a snapshot; and then all
    that a guest and a client may do.  What reaches past an end kills builds of today."""
    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("src", SIZE, wanted, filled=((0, SIZE),)), Image("tmp", SIZE))))
        for size, node, early in itertools.product(_CUT, ("src", "cbw"), (False, True)):
            view, export = GRAPH[1], GRAPH[3]
            before = (view, export) if early else ()
            builder.add_all((
                ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"),
                ops.Write("cbw", CLUSTER + 512, 512), ops.Unexport("cbw"), *before,
                ops.Resize(node, size), ops.Resize(node, 512 + size // 512 * 512), view, export,
                ops.Export("cbw"), *(ops.Write("cbw", offset, 512)
                                     for offset in (0, 2 * CLUSTER, size - size % 512))))
            builder.add_all(sweep(builder))
            builder.add_all((*TAKE_DOWN, ops.Resize("src", SIZE)))
        return builder.trace()

    return make


def _cut(plan: Plan) -> Trace:
    """It is copied whole: as zeroes what has gone with the end, over what was there before."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE, filled=((0, SIZE),)),
        Image("tmp2", SIZE, Format.QCOW2, filled=((0, SIZE),)))))
    for target, end in (("tmp", 3 * CLUSTER + 1024), ("tmp2", 2 * CLUSTER + 512)):
        builder.add_all((
            ops.AddFilter("cbw", "src", target), ops.Resize("cbw", end), ops.Export("cbw"),
            ops.Write("cbw", end - 512, 512), ops.Inspect(target), ops.Unexport("cbw"),
            ops.RemoveNode("cbw")))
    return builder.trace()


def _in_use(plan: Plan) -> Trace:
    """By whom a size is kept: an export, a filter, its target, an overlay, a job."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE), Image("src", SIZE, Format.QCOW2, backing="base"),
        Image("tmp", SIZE), Image("tmp2", SIZE))))

    def ask(*more: str) -> None:
        builder.add_all(ops.Resize(node, size) for size in (2 * CLUSTER, SIZE)
                        for node in ("base", "src", "tmp", "tmp2", "cbw", "snap", *more))

    ask()
    for operation in (*GRAPH[:2], GRAPH[3], ops.Export("src", writable=False),
                      ops.Export("tmp"), ops.Unexport("snap"), ops.Unexport("src"), GRAPH[2]):
        builder.add(operation)
        ask()
    builder.add_all((ops.Unexport("cbw"), ops.Unexport("tmp"), *TAKE_DOWN[2:], ops.Export("src"),
                     Backup("job", "src", "tmp", Sync.NONE, filter_node="jf")))
    ask("jf")
    builder.add_all((JobCancel("job"), ops.BitmapAdd("src", "b0"),
                     Backup("job", "src", "tmp", Sync.BITMAP, "b0", BitmapMode.ALWAYS,
                            filter_node="jf", auto_finalize=False)))
    ask("jf")
    builder.add(JobFinalize("job"))
    ask()
    return builder.trace()


def _overlay(plan: Plan) -> Trace:
    """Made smaller and larger again, over a backing file that is shorter or longer."""
    subclusters = (False, True)
    images = [Image(f"base{below}", below, filled=((0, below),)) for below in OTHERS]
    images += [Image(f"src{below}{int(fine)}", SIZE, Format.QCOW2, subclusters=fine,
                     backing=f"base{below}", filled=((0, 512), (2 * CLUSTER, CLUSTER)))
               for below in OTHERS for fine in subclusters]
    builder = Builder(plan, Configuration(tuple(images)))
    for below, fine in itertools.product(OTHERS, subclusters):
        name = f"src{below}{int(fine)}"
        for size in (3 * CLUSTER - 512, CLUSTER + 512, 0):
            for each in (size, size + 1024, SIZE):
                builder.add_all((ops.Resize(name, each), ops.Inspect(name),
                                 ops.Export(name, allocation_depth=True)))
                builder.add_all(statuses(name, each) if each else ())
                builder.add(ops.Unexport(name))
    return builder.trace()


def _over_the_end(plan: Plan) -> Trace:
    """What nobody has written to an overlay is, up to the end of its backing file, what that
    has."""
    sizes = (CLUSTER, SIZE // 2, SIZE - 512)
    builder = Builder(plan, Configuration((Image("tmp", SIZE), *(
        image for size in sizes for image in (
            Image(f"base{size}", size, filled=((0, size),)),
            Image(f"src{size}", SIZE, Format.QCOW2, backing=f"base{size}"))))))
    for size in sizes:
        builder.add_all((
            ops.AddFilter("cbw", f"src{size}", "tmp"), *GRAPH[1:],
            *(ops.Status("snap", start, SIZE - start, context=context)
              for context in ops.Context for start in (0, 512, size - 512)),
            *(ops.Read("snap", start, SIZE - start) for start in (0, size - 512)), *TAKE_DOWN))
    return builder.trace()
