# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of arguments at their limits: numbers of 32 and 64 bits, long names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Fault, Format, Image, RequestKind
from model.job_operations import Abort, Backup, Sync, Transaction
from model.operations import BitmapRef, Via

SIZE: Final = 256 * KIB
NUMBERS: Final = (
    -1 << 64, (-1 << 63) - 1, -1 << 63, -1, 0, 1, 3, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
    1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64)
NODE_NAMES: Final = (
    "", "1", "-", "#f", "a b", "f\u00e9", "src", "src-file", "src-format", "tmp-format", "f" * 31,
    "f" * 32, "1" * 40, "f.-_9")
BITMAP_NAMES: Final = tuple(
    name for length in range(1022, 1026)
    for name in ("b" * length, "\u00e9" * (length // 2) + "b" * (length % 2),
                 "b" + "\u20ac" * ((length - 1) // 3) + "b" * ((length - 1) % 3)))
"""Of so many bytes: of one, two and three bytes a character."""


EXPORT_NAMES: Final = (
    "", "a/b c?d%2f", "src", "n" * 255, "n" * 256, "n" * 4095, "n" * 4096, "n" * 4097,
    "\u00e9" * 2048, "\u00e9" * 2049)


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("options", "names that nodes may have", _node_names)
    yield Check("options", "numbers that a filter may be given", _filter_numbers)
    yield Check("bitmaps", "names and granularities that bitmaps may have", _bitmaps)
    yield Check("bitmaps", "names that exports may have", _exports)
    yield Check("jobs", "numbers that a job may be given", _job_numbers)
    yield Check("bitmaps", "bitmaps whose names begin alike, shown by one export", _alike)
    yield Check("options", "exports in I/O threads that are not there", _threads)


def _disks() -> tuple[Image, ...]:
    faults = (Fault(RequestKind.READ, 0, once=True),)
    return (Image("src", SIZE, faults=faults), Image("tmp", SIZE),
            Image("qcow", SIZE, Format.QCOW2), Image("small", SIZE // 2))


def _node_names(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration(_disks()))
    job = Backup("job", "src", "tmp", Sync.NONE)
    for name in NODE_NAMES:
        builder.add_all((
            ops.AddFilter(name, "src", "tmp"), ops.AddSnapshot(name, "src"),
            ops.RemoveNode(name) if name not in ("src", "tmp") else ops.Inspect("tmp"),
            replace(job, job="1", filter_node=name)))
    for command in (
            ops.AddFilter("1", "nope", "tmp"), ops.AddFilter("1", "src", "nope"),
            ops.AddFilter("1", "src", None), ops.AddFilter("1", "src", "src"),
            ops.AddFilter("1", "src", "tmp", cbw_timeout=1 << 32),
            ops.AddFilter("1", "src", "tmp", BitmapRef("src", "nope")),
            ops.AddSnapshot("1", "nope")):
        builder.add(command)
    return builder.trace()


def _filter_numbers(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration(_disks()))
    usual = ops.AddFilter("cbw", "src", "tmp")
    for number in NUMBERS:
        for command in (replace(usual, cbw_timeout=number),
                        replace(usual, min_cluster_size=number)):
            builder.add_all((command, ops.RemoveNode("cbw")))
    wrong = 1 << 64
    for command in (
            replace(usual, cbw_timeout=wrong, on_cbw_error="some"),
            replace(usual, cbw_timeout=wrong, min_cluster_size=wrong),
            replace(usual, min_cluster_size=wrong, on_cbw_error="some"),
            replace(usual, min_cluster_size=wrong, file="nope"),
            replace(usual, cbw_timeout=wrong, target=None)):
        builder.add(command)
    return builder.trace()


def _bitmaps(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration(_disks()))
    for name in ("", *BITMAP_NAMES):
        for bitmap in (ops.BitmapAdd("src", name), ops.BitmapAdd("qcow", name, persistent=True)):
            builder.add_all((bitmap, bitmap, ops.BitmapRemove(bitmap.node, name)))
    for number in NUMBERS:
        bitmap = ops.BitmapAdd("src", "b", number)
        builder.add_all((bitmap, ops.BitmapRemove("src", "b"), Transaction((bitmap, Abort()))))
    b = BitmapRef("src", "b")
    builder.add_all((
        ops.BitmapAdd("src", "b"), ops.BitmapAdd("src", "c", 512), ops.BitmapAdd("small", "s"),
        ops.Export("src"), ops.Write("src", SIZE // 2 + 1, 1), ops.BitmapDisable("src", "c"),
        ops.Write("src", 1, 1), ops.BitmapMerge("src", "b", (BitmapRef("src", "c"),)),
        ops.Write("src", SIZE - 1, 1), ops.BitmapMerge("src", "c", (b,)),
        ops.BitmapMerge("src", "b", (b,)), ops.BitmapMerge("src", "b", (b, b)),
        ops.BitmapMerge("src", "b", (b, BitmapRef("src", "c"), b)),
        ops.BitmapMerge("src", "b", (b, BitmapRef("small", "s"))),
        Transaction((ops.BitmapMerge("src", "b", (b,)), ops.BitmapMerge("src", "c", (b,))))))
    return builder.trace()


def _exports(plan: Plan) -> Trace:
    """Clients find an export by its name, and in it bitmaps with the longest names."""
    builder = Builder(plan, Configuration(_disks()))
    for name in EXPORT_NAMES:
        export = ops.Export("qcow", called=name)
        builder.add_all((
            ops.Export("small", called=name), export, ops.Unexport("small"), export,
            ops.Write("qcow", SIZE // 2, 512), ops.Read("qcow", 0, SIZE),
            ops.Export("small", called=name), ops.Export(name[:32]), ops.Unexport("src"),
            ops.Unexport("qcow")))
    longest = BITMAP_NAMES[3:6]
    builder.add_all(ops.BitmapAdd("qcow", name) for name in longest)
    shown = tuple(BitmapRef("qcow", name) for name in longest)
    for name in ("a/b c?d%2f", "n" * 4096):
        builder.add_all((
            ops.Export("qcow", called=name, bitmaps=shown), ops.Inspect("qcow"),
            ops.Write("qcow", 0, 512), ops.Read("qcow", 0, 512, Via.QEMU_IO),
            *(ops.Status("qcow", 0, SIZE, context=context)
              for context in (*(f"qemu:dirty-bitmap:{each}" for each in (*longest, "nope")),
                              ops.Context.DEPTH, "qemu:nope")), ops.Unexport("qcow")))
    builder.add_all((
        ops.Export("qcow", called="n", bitmaps=(BitmapRef("qcow", "nope"),)),
        ops.Export("qcow", called="n" * 4097, bitmaps=(BitmapRef("qcow", "nope"),)),
        ops.Export("1", called="n" * 4097), ops.Export("nope", called="n" * 4097),
        *(ops.Export("qcow", description=text) for text in ("d" * 4097, "\u00e9" * 2049)),
        ops.Export("qcow", called="n" * 4097, description="d" * 4097),
        ops.Export("small"), ops.Export("qcow", called="small", description="d" * 4097),
        ops.Export("qcow", description="\u00e9" * 2048), ops.Read("qcow", 0, 512),
        ops.Unexport("qcow"),
        ops.Restart(("qcow",)), ops.Export("qcow", called="n" * 4097)))
    return builder.trace()


def _job_numbers(plan: Plan) -> Trace:
    builder = Builder(plan, Configuration(_disks()))
    usual = Backup("1", "src", "tmp", Sync.FULL)
    for number in NUMBERS:
        for command in (
                replace(usual, speed=number), replace(usual, max_workers=number),
                replace(usual, max_chunk=number), replace(usual, min_cluster_size=number)):
            builder.add_all((command, Transaction((command,))))
    wrong = 1 << 64
    for command in (
            replace(usual, speed=wrong, sync="some"), replace(usual, speed=wrong,
                                                              bitmap_mode="some"),
            replace(usual, speed=wrong, max_chunk=wrong), replace(
                usual, max_chunk=wrong, max_workers=wrong),
            replace(usual, max_chunk=wrong, min_cluster_size=wrong),
            replace(usual, max_chunk=wrong, on_cbw_error="some"),
            replace(usual, max_chunk=wrong, discard_source=True),
            replace(usual, sync="some", bitmap_mode="some"), replace(usual, bitmap_mode="some"),
            replace(usual, on_cbw_error="some"), replace(usual, discard_source=True)):
        builder.add_all((command, Transaction((command,))))
    return builder.trace()


def _alike(plan: Plan) -> Trace:
    """Each is asked for by its whole name."""
    names = ("b", "bb", "bbb")
    builder = Builder(plan, Configuration((Image("src", SIZE),)))
    builder.add(ops.Export("src"))
    for place, name in enumerate(names):
        builder.add_all((ops.BitmapAdd("src", name, 4 * KIB),
                         ops.Write("src", place * 64 * KIB, 512)))
    for order in (names, names[::-1]):
        builder.add_all((ops.Unexport("src"), ops.Export("src", bitmaps=tuple(
            BitmapRef("src", name) for name in order))))
        builder.add_all(ops.Status("src", 0, SIZE, context=f"qemu:dirty-bitmap:{name}")
                        for name in names)
    return builder.trace()


def _threads(plan: Plan) -> Trace:
    """A name that no thread has is refused, but not before that of a node that is not there."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE), Image("shown", SIZE, read_only=True))))
    builder.add_all((
        ops.Export("src", iothread="nope"), ops.Export("nope", iothread="nope"),
        ops.Export("shown", iothread="nope"),
        ops.Export("shown", writable=False, iothread="nope"), ops.Export("src"),
        ops.Export("src", iothread="nope"), ops.Write("src", 0, 512)))
    return builder.trace()
