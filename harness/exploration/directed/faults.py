# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of storage that fails: what clients hear, and what becomes of the copies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed import cells, choosing
from harness.exploration.directed.fleecing import CLUSTER, GRAPH, disks
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Fault, Format, Image, RequestKind
from model.inspection import PIECE
from model.job_operations import (
    Abort,
    Backup,
    JobCancel,
    Sync,
    Transaction,
)
from model.operations import BitmapRef, Context, OnCbwError, Operation, Via


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("faults", "flushes fail", _flushes)
    yield Check("faults", "flushes fail when jobs end", _flushed_by_jobs)
    for node, kind, policy in itertools.product(
            ("src", "tmp"), (RequestKind.READ, RequestKind.WRITE), OnCbwError):
        yield Check("faults", f"{kind} of {node} fails, {policy}", _fault(node, kind, policy))
    yield Check("faults", "a copy fails behind what may not be read", _behind)
    yield Check("faults", "zeroes of parts of blocks fail", _parts_of_blocks)
    yield Check("faults", "reads fail, by every channel", _reads)
    yield Check("faults", "zeroes that no block status tells are written as data", _untold)
    yield Check("faults", "filters are flushed when they are removed", _flushed_at_removal)
    yield Check("faults", "reads of all of a disk fail where they come first", _first_of_all)
    yield Check("faults", "block status of one extent, and what fails behind it", _behind_extent)
    yield Check("faults", "flushes fail when jobs are refused", _flushed_by_refusals)
    yield Check("faults", "flushes fail when jobs' filters are refused", _flushed_unfiltered)
    yield Check("faults", "filters are flushed when they are to be reopened", _flushed_reopened)
    yield Check("faults", "discards of which a part cannot be copied", _copied_in_part)
    yield Check("faults", "discards cut where they were when a filter was opened", _cut_as_opened)
    yield Check("faults", "a change of nothing is yet to be flushed", _nothing)
    yield Check("faults", "zeroes of parts of blocks are recorded up to what fails", _recorded)
    yield Check("faults", "backing files are read beside what fails", _read_beside)
    yield Check("faults", "the next copy is looked up beside one that fails", choosing.looked_up)
    yield Check("faults", "data that an image cannot write to its file", cells.unwritten)
    yield Check("faults", "a write of nothing is yet to be flushed, by where it is", _nowhere)
    yield Check("faults", "block status of what a job may copy fails", choosing.unchosen)
    yield Check("faults", "block status of what follows what is denied", choosing.denied)
    yield Check("faults", "a backing file fails where nothing is kept of it", cells.beside)


def _fault(node: str, kind: RequestKind, policy: OnCbwError) -> Make:
    def make(plan: Plan) -> Trace:
        size = 4 * CLUSTER
        faults = (Fault(kind, 0), Fault(kind, 2 * CLUSTER, "ENOSPC", once=True))
        disks = [Image("src", size, filled=((0, size),), faults=faults if node == "src" else ()),
                 Image("tmp", size, faults=faults if node == "tmp" else ())]
        builder = Builder(plan, Configuration(tuple(disks)))
        builder.add_all((ops.AddFilter("cbw", "src", "tmp", on_cbw_error=policy), *GRAPH[1:]))
        for place, change in ((3, ops.Write), (0, ops.Discard), (0, ops.Zero), (0, ops.Write),
                              (2, ops.Discard), (2, ops.Write), (0, ops.Write), (1, ops.Write)):
            builder.add(change("cbw", place * CLUSTER, CLUSTER))
            builder.add_all(ops.Read("snap", each * CLUSTER, CLUSTER, Via.NBD_DF)
                            for each in range(4))
        return builder.trace()

    return make


_BLOCK: Final = 512


def _parts_of_blocks(plan: Plan) -> Trace:
    """A request of zeroes writes the blocks at its edges as data: of its three parts that which
    fails, and none after it, leaves what was there.  What fails once does so in each QEMU."""
    places = ((RequestKind.WRITE, 1), (RequestKind.ZERO, 2), (RequestKind.WRITE, 4),
              (RequestKind.READ, 1), (RequestKind.READ, 4))
    size = (len(places) + 1) * CLUSTER
    faults = tuple(Fault(kind, cluster * CLUSTER + block * _BLOCK, once=True)
                   for cluster, (kind, block) in enumerate(places)
                   # One more for the read that copies the cluster.
                   for _ in range(2 if kind is RequestKind.READ else 1))
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),), faults=faults, request_alignment=_BLOCK),
        Image("tmp", size))))
    builder.add_all(GRAPH)
    builder.add_all(ops.Write("cbw", cluster * CLUSTER, 1) for cluster in range(len(places)))
    for start in range(0, size, CLUSTER):
        zero = ops.Zero("cbw", start + _BLOCK + 1, 3 * _BLOCK)
        look = ops.Read("cbw", start, 8 * _BLOCK)
        builder.add_all((zero, look, zero, look))
    builder.add_all((ops.Restart(), *GRAPH[:2], ops.Inspect("snap"), ops.Inspect("src")))
    return builder.trace()


def _recorded(plan: Plan) -> Trace:
    """Parts that come after what fails are not tried, and not recorded; two blocks with nothing
    between them are one part."""
    places = ((0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    faults = [Fault(RequestKind.WRITE, _BLOCK * 8 * index + block * _BLOCK, once=True)
              for index, (block, _) in enumerate(places)]
    builder = Builder(plan, Configuration((
        *(Image(f"disk{index}", CLUSTER, filled=((0, CLUSTER),), faults=(fault,),
                request_alignment=_BLOCK) for index, fault in enumerate(faults)),
        Image("tmp", CLUSTER, filled=((0, CLUSTER),), request_alignment=_BLOCK,
              faults=(Fault(RequestKind.ZERO, _BLOCK, once=True),)))))
    for index, (_, blocks) in enumerate(places):
        disk, start = f"disk{index}", _BLOCK * 8 * index
        zero = ops.Zero(disk, start + 1, blocks * _BLOCK + 1)
        look = ops.Read(disk, start, 8 * _BLOCK)
        builder.add_all((ops.BitmapAdd(disk, "dirty", _BLOCK), ops.Export(disk), zero, look, zero,
                         look))
    zero = ops.Zero("tmp", 1, 3 * _BLOCK)
    builder.add_all((ops.BitmapAdd("tmp", "dirty", _BLOCK), ops.Export("tmp"), zero, zero))
    return builder.trace()


def _nothing(plan: Plan) -> Trace:
    """A write, and a discard of who discards, but not zeroes or a read."""
    changes = (ops.Write, ops.Discard, ops.Zero, ops.Read)
    fails = (Fault(RequestKind.FLUSH, 0, once=True),)
    builder = Builder(plan, Configuration((
        *(Image(f"{change.name}-{discard}", CLUSTER, faults=fails, discard=discard)
          for change in changes for discard in (True, False)),
        Image("src", CLUSTER, faults=fails), Image("tmp", CLUSTER))))
    for change in changes:
        for disk in (f"{change.name}-True", f"{change.name}-False"):
            builder.add_all((ops.Export(disk), change(disk), ops.Flush(disk), ops.Flush(disk)))
    builder.add_all(GRAPH)
    for change in (ops.Discard, ops.Zero, ops.Write):
        builder.add_all((change("cbw"), ops.Flush("cbw")))
    return builder.trace()


def _nowhere(plan: Plan) -> Trace:
    """A write of nothing counts where a block begins, and not inside one."""
    places = (0, _BLOCK, CLUSTER, 1, _BLOCK + 1)
    builder = Builder(plan, Configuration(tuple(
        Image(f"disk{place}", 2 * CLUSTER, request_alignment=_BLOCK,
              faults=(Fault(RequestKind.FLUSH, 0, once=True),)) for place in places)))
    for place in places:
        disk = f"disk{place}"
        builder.add_all((ops.Export(disk), ops.Write(disk, place), ops.Flush(disk),
                         ops.Flush(disk)))
    return builder.trace()


def _read_beside(plan: Plan) -> Trace:
    """Of several pieces that a backing file shows, one that fails stops none; each fails once."""
    size = 12 * CLUSTER
    fails = tuple(Fault(RequestKind.READ, cluster * CLUSTER, errno, once=True)
                  for cluster, errno in ((0, "EIO"), (2, "ENOSPC"), (4, "ENOMEM")))
    builder = Builder(plan, Configuration((
        Image("base", size, filled=((0, size),), faults=fails),
        Image("src", size, Format.QCOW2, backing="base",
              filled=((CLUSTER, CLUSTER), (3 * CLUSTER, CLUSTER))))))
    builder.add(ops.Export("src"))
    builder.add_all(ops.Read("src", first * CLUSTER, (end - first) * CLUSTER, Via.NBD_DF)
                    for first, end in ((0, 4), (0, 1), (2, 3), (1, 6), (4, 5)))
    return builder.trace()


def _behind(plan: Plan) -> Trace:
    """Of a write only the second cluster is in the filter's bitmap; that this is not copied breaks
    the snapshot."""
    size = 3 * CLUSTER
    builder = Builder(plan, disks(size, target=Image(
        "tmp", size, faults=(Fault(RequestKind.WRITE, CLUSTER),))))
    builder.add_all((
        ops.BitmapAdd("src", "b0"), ops.Export("src"), ops.Write("src", CLUSTER, 2 * CLUSTER),
        ops.Unexport("src"), ops.AddFilter("cbw", "src", "tmp", BitmapRef("src", "b0"),
                                           OnCbwError.BREAK_SNAPSHOT), *GRAPH[1:]))
    reads = [ops.Read("snap", place, CLUSTER, Via.NBD_DF) for place in range(0, size, CLUSTER)]
    builder.add_all((*reads, ops.Write("cbw", 0, 2 * CLUSTER), *reads))
    return builder.trace()


def _flushed_by_jobs(plan: Plan) -> Trace:
    """A build whose jobs flush the disk when they end meets a failure that waits there, and tells
    nobody; be it that nobody may write to the disk any more."""
    fails = (Fault(RequestKind.FLUSH, 0, once=True),)
    builder = Builder(plan, Configuration((
        Image("src", CLUSTER, faults=fails), Image("packed", CLUSTER, Format.QCOW2, faults=fails),
        Image("kept", CLUSTER, faults=fails), Image("low", CLUSTER, faults=fails),
        Image("tmp", CLUSTER))))
    for node, disk in (("src", "src"), ("packed", "packed"), ("kept", "kept"), ("low", "cor")):
        builder.add_all((ops.Export(node), ops.Write(node, 0, 512)))
        if node in ("kept", "low"):
            builder.add_all((ops.Unexport(node), ops.Export(node, writable=False)))
        if disk == "cor":
            builder.add(ops.AddCopyOnRead(disk, node))
        builder.add_all((Backup("job", disk, "tmp", Sync.NONE, max_workers=1), JobCancel("job"),
                         ops.Flush(node), ops.Flush(node)))
    return builder.trace()


def _flushed_by_refusals(plan: Plan) -> Trace:
    """So does a job that is refused when it has its filter already, in a transaction or not; one
    that is refused before has none to take away."""
    job = Backup("job", "src", "tmp", Sync.FULL, filter_node="filter", max_workers=1)
    other = replace(job, job="job2", target="tmp2", filter_node="filter2")
    refused: tuple[Backup | Transaction, ...] = (
        replace(job, max_chunk=1), replace(job, job="1"), replace(job, speed=-1),
        replace(job, max_workers=0), replace(job, speed=-1, sync=Sync.NONE),
        Transaction((job, Abort())), Transaction((job, replace(other, speed=-1))),
        Transaction((job, replace(other, job="1"))), Transaction((Abort(), job)),
        replace(job, filter_node="src"))
    # A failure for each of the two jobs of a transaction.
    fails = (Fault(RequestKind.FLUSH, 0, once=True), Fault(RequestKind.FLUSH, 0, once=True))
    disks = [f"disk{index}" for index in range(len(refused))]
    builder = Builder(plan, Configuration((
        *(Image(disk, CLUSTER, faults=fails) for disk in disks), Image("src", CLUSTER),
        Image("tmp", CLUSTER), Image("tmp2", CLUSTER))))
    for disk, command in zip(disks, refused, strict=True):
        builder.add_all((ops.Export(disk), ops.Write(disk, 0, 512), _of(disk, command)))
        builder.add_all((ops.Flush(disk),) * (len(fails) + 1))
    return builder.trace()


def _flushed_unfiltered(plan: Plan) -> Trace:
    """A job whose filter may not take its disk's place flushes the disk on all builds: here, as
    the disk does not share its backing file with who writes to it."""
    job = Backup("job", "src", "tmp", Sync.FULL, max_workers=1)
    sound = replace(job, device="disk", job="job2", filter_node="filter2")
    refused = (job, Transaction((job,)), Transaction((sound, job)))
    fails = (Fault(RequestKind.FLUSH, 0, once=True),) * len(refused)
    builder = Builder(plan, Configuration((
        Image("base", CLUSTER), Image("src", CLUSTER, Format.QCOW2, backing="base", faults=fails),
        Image("disk", CLUSTER, faults=fails), Image("tmp", CLUSTER))))
    for node in ("src", "disk"):
        builder.add_all((ops.Export(node), ops.Write(node, 0, 512)))
    builder.add(ops.AddFilter("cbw", "base", "base"))
    for command in refused:
        builder.add_all((command, ops.Flush("src"), ops.Flush("disk")))
        builder.add_all((ops.Flush("src"), ops.Flush("disk")))
    return builder.trace()


def _of(disk: str, command: Backup | Transaction) -> Operation:
    """The command with its jobs on that disk."""
    if isinstance(command, Backup):
        return replace(command, device=disk)
    return replace(command, actions=tuple(
        replace(each, device=disk) if isinstance(each, Backup) else each
        for each in command.actions))


def _flushed_at_removal(plan: Plan) -> Trace:
    """A filter that is removed by command is flushed, and meets the failure that waits below: be
    it alone on its disk, beside another one, or above one.  A snapshot is not."""
    cases: dict[str, tuple[Operation, ...]] = {
        "alone": (ops.AddFilter("cbw", "alone", "tmp"),),
        "beside": (ops.AddFilter("kept", "beside", "tmp"), ops.Export("kept"),
                   ops.AddFilter("cbw", "beside", "tmp")),
        "copier": (ops.AddCopyOnRead("cbw", "copier"),),
        "above": (ops.AddFilter("low", "above", "tmp"), ops.AddCopyOnRead("cbw", "low")),
        "shown": (ops.AddFilter("low", "shown", "tmp"), ops.AddSnapshot("cbw", "low"))}
    builder = Builder(plan, Configuration((Image("tmp", CLUSTER), *(
        Image(name, CLUSTER, (Format.RAW, Format.QCOW2)[index % 2],
              faults=(Fault(RequestKind.FLUSH, 0, once=True),))
        for index, name in enumerate(cases)))))
    for disk, make in cases.items():
        builder.add_all((ops.Export(disk), ops.Write(disk, 0, 512), ops.Unexport(disk), *make,
                         ops.RemoveNode("cbw")))
        top = {"beside": "kept", "above": "low", "shown": "low"}.get(disk, disk)
        builder.add_all((ops.Export(top), ops.Flush(top), ops.Flush(top), ops.Unexport(top)))
        builder.add_all((ops.RemoveNode("low"), ops.RemoveNode("kept")))
    return builder.trace()


def _first_of_all(plan: Plan) -> Trace:
    """Of several faults that one met first: all is not read at once."""
    size = 4 * PIECE
    builder = Builder(plan, Configuration((Image("src", size, filled=((0, size),), faults=(
        Fault(RequestKind.READ, size - 512, "ENOMEM"),
        *(Fault(RequestKind.READ, place, "ENOSPC", once=True)
          for place in (2 * PIECE, PIECE - 512)))),)))
    builder.add_all((ops.Inspect("src"), ops.Inspect("src"), ops.Inspect("src")))
    return builder.trace()


def _behind_extent(plan: Plan) -> Trace:
    """An extent that ends before what fails is told; one that may go on there is not."""
    size = 5 * CLUSTER
    builder = Builder(plan, disks(size, Image(
        "src", size, Format.QCOW2, filled=((0, CLUSTER), (2 * CLUSTER, 3 * CLUSTER)),
        faults=(Fault(RequestKind.STATUS, 3 * CLUSTER),)), Image("tmp", size, Format.QCOW2)))
    builder.add_all((*GRAPH, ops.Write("cbw", 0, CLUSTER), ops.Write("cbw", 2 * CLUSTER, CLUSTER)))
    builder.add_all(ops.Status("snap", start, size - start, context=context, one=one)
                    for start in (0, CLUSTER, 2 * CLUSTER, 3 * CLUSTER)
                    for context in (Context.ALLOCATION, Context.DEPTH) for one in (True, False))
    return builder.trace()


def _untold(plan: Plan) -> Trace:
    """Where a write of data fails, so does a copy of such zeroes."""
    size = 2 * CLUSTER
    formats = (Format.VHDX, Format.LUKS)
    builder = Builder(plan, Configuration((
        *(Image(f"src-{each}", size, each) for each in formats),
        Image("tmp", size, faults=(Fault(RequestKind.WRITE, CLUSTER),)))))
    builder.add_all(Backup("job", f"src-{each}", "tmp", Sync.FULL, max_workers=1)
                    for each in formats)
    return builder.trace()


def _flushes(plan: Plan) -> Trace:
    """A flush that has failed is yet to be done, though nothing was written since; so is one after
    a resize, and after a client is gone.  qemu-io says nothing of one that fails."""
    builder = Builder(plan, Configuration((
        Image("src", CLUSTER, filled=((0, CLUSTER),), faults=(Fault(RequestKind.FLUSH, 0),)),
        Image("tmp", CLUSTER),
        *(Image(name, CLUSTER, faults=(Fault(RequestKind.FLUSH, 0, "ENOSPC", once=True),))
          for name in ("once", "sized", "left")))))
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"), ops.Export("once")))
    for node in ("cbw", "once"):
        for _ in range(2):
            builder.add_all((ops.Flush(node), ops.Write(node, 0, 512), ops.Flush(node),
                             ops.Flush(node), ops.Flush(node, via=Via.QEMU_IO),
                             ops.Discard(node, 0, CLUSTER, fua=True)))
    builder.add_all((ops.Resize("sized", 2 * CLUSTER), ops.Export("sized"), ops.Flush("sized"),
                     ops.Flush("sized")))
    builder.add_all((ops.Export("left"), ops.Read("left", 0, 512, Via.QEMU_IO),
                     ops.Write("left", 0, 512), ops.Unexport("left"), ops.Export("left"),
                     ops.Flush("left")))
    return builder.trace()


def _reads(plan: Plan) -> Trace:
    """What a client hears is up to its channel: a connection may be lost, or qemu-io's own, of
    which it makes an error."""
    builder = Builder(plan, Configuration((Image(
        "src", CLUSTER, filled=((0, CLUSTER),), faults=(Fault(RequestKind.READ, 0, "ENOSPC"),)),)))
    builder.add(ops.Export("src"))
    for via in Via:
        builder.add_all((ops.Read("src", 0, 512, via), ops.Read("src", 512, 512, via)))
    return builder.trace()


def _flushed_reopened(plan: Plan) -> Trace:
    """A filter that is to be reopened is flushed, and is refused for a failure that waits below;
    without one, as it cannot be reopened.  A snapshot is not flushed."""
    filters = (ops.AddFilter("cbw", "src", "tmp"), ops.AddCopyOnRead("cor", "src"),
               ops.AddCopyOnRead("above", "cbw"))
    errors = ("EIO", "ENOSPC", "EPERM", "ENOMEM", "EIO", "EPERM", "EIO")
    builder = Builder(plan, Configuration((
        Image("tmp", CLUSTER), Image("src", CLUSTER, faults=tuple(
            Fault(RequestKind.FLUSH, 0, error, once=True) for error in errors)))))
    snapshot = ops.AddSnapshot("snap", "cbw")
    builder.add_all((ops.Export("src"), ops.Write("src", 0, 512), *filters, snapshot))
    for each in filters:
        builder.add_all((ops.Reopen(each.node), ops.ReopenAs(each)))
    builder.add_all((ops.Reopen("snap"), ops.ReopenAs(snapshot), ops.Flush("src"),
                     *(ops.Reopen(each.node, read_only=True) for each in filters)))
    return builder.trace()


def _copied_in_part(plan: Plan) -> Trace:
    """To a snapshot nothing can be copied, which a discard is not told: it leaves out what is to
    be copied, and that only."""
    size = 6 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, filled=((0, size),)), Image("tmp", size),
        Image("tmp2", size))))
    builder.add_all((
        ops.BitmapAdd("src", "old", CLUSTER), ops.Export("src"), ops.Write("src", 0, CLUSTER),
        ops.Write("src", 4 * CLUSTER, CLUSTER), ops.Unexport("src"),
        ops.BitmapDisable("src", "old"), ops.AddFilter("cbw", "tmp2", "tmp"),
        ops.AddSnapshot("snap", "cbw")))
    for policy in OnCbwError:
        builder.add_all((
            ops.AddFilter("cbw2", "src", "snap", BitmapRef("src", "old"), policy),
            ops.Export("cbw2"), ops.Discard("cbw2", CLUSTER // 2, CLUSTER),
            ops.Discard("cbw2", 3 * CLUSTER, CLUSTER + 512),
            ops.Discard("cbw2", CLUSTER - 512, 2 * CLUSTER), ops.Inspect("cbw2"),
            ops.Unexport("cbw2"), ops.RemoveNode("cbw2")))
    return builder.trace()


def _cut_as_opened(plan: Plan) -> Trace:
    """A job's filter that comes below, or goes, whose target has larger clusters, changes nothing
    of where discards are cut: what cannot be copied of them shows where that is."""
    size = 8 * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, Format.QCOW2, filled=((0, size),)), Image("tmp", size),
        Image("other", size), Image("large", size, Format.QCOW2, cluster_size=4 * CLUSTER))))
    builder.add_all((
        ops.BitmapAdd("src", "old", CLUSTER), ops.Export("src"),
        ops.Write("src", 5 * CLUSTER, CLUSTER), ops.BitmapDisable("src", "old"),
        ops.AddFilter("cbw", "other", "tmp"), ops.AddSnapshot("snap", "cbw")))
    job = Backup("job", "src", "large", Sync.NONE, filter_node="jf", max_workers=1)
    discards = (ops.Discard("cbw2", CLUSTER // 2, 5 * CLUSTER), ops.Discard(
        "cbw2", 5 * CLUSTER - 512, CLUSTER + 512))
    for below, first in (("src", ()), ("jf", (job,))):
        builder.add_all((
            ops.Unexport("src"), *first,
            ops.AddFilter("cbw2", below, "snap", BitmapRef("src", "old")), ops.Export("cbw2"),
            job, *discards, JobCancel("job"), *discards, ops.Inspect("cbw2"),
            ops.Unexport("cbw2"), ops.RemoveNode("cbw2"), ops.Export("src"),
            ops.Write("src", 0, size)))
    return builder.trace()
