# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of bitmaps: transactions undone, bitmaps that images keep, many words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.keeping import after_jobs, durable, grown, kept
from harness.lockstep.trace import Trace
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
from model.job_operations import (
    Abort,
    Backup,
    BitmapMode,
    JobCancel,
    JobDismiss,
    JobFinalize,
    JobResume,
    OnError,
    Sync,
    Transaction,
)
from model.operations import BitmapRef, Operation, Via

CLUSTER: Final = 64 * KIB
SIZE: Final = 16 * CLUSTER


def checks() -> Iterator[Check]:
    """All of them, those that find most first."""
    yield Check("bitmaps", "several bitmaps shown by one export", _shown)
    yield Check("bitmaps", "bitmaps in use by an export, a job and a transaction", _in_use)
    yield Check("jobs", "jobs that discard what they have copied", _discarding(failing=True))
    yield Check("persistence", "bitmaps kept by an image, cluster 512 bytes", kept(512))
    yield Check("transactions", "each action done, and undone by each way to fail", _undone)
    yield Check("transactions", "jobs that end together", _groups)
    yield Check("persistence", "bitmaps kept by an image after jobs", after_jobs)
    yield Check("transactions", "jobs over one disk that end together", _over_one_disk)
    yield Check("bitmaps", "bitmaps shown of which only the name is given", _named)
    yield Check("bitmaps", "granularities that nobody has asked for", _defaults)
    yield Check("jobs", "jobs that discard what they have copied, zeroes too",
                _discarding(failing=False))
    yield Check("persistence", f"bitmaps kept by an image, cluster {64 * KIB} bytes",
                kept(64 * KIB))
    yield Check("persistence", "jobs and exports that a restart or a kill ends", _interrupted)
    yield Check("persistence", "bitmaps of an image opened read-only", _read_only)
    yield Check("jobs", "a job whose filter has a snapshot", _snapshot_of_a_job)
    yield Check("transactions", "jobs and bitmaps at once", _jobs_at_once)
    yield Check("transactions", "actions that build on one another", _building)
    yield Check("persistence", "bitmaps kept in storage that does not grow", _behind_nbd)
    yield Check("persistence", "bitmaps of an image that has grown when it is killed", grown)
    yield Check("persistence", "durable changes outlive a kill", durable)


def _disks(size: int = SIZE) -> Configuration:
    return Configuration((
        Image("base", size + CLUSTER), Image("src", size, Format.QCOW2, filled=((0, size),)),
        Image("tmp", size), Image("tmp2", size)))


def _some_bitmaps() -> tuple[Operation, ...]:
    """A few bitmaps of differing content."""
    return (ops.BitmapAdd("src", "fine", 4 * KIB), ops.BitmapAdd("src", "coarse", 256 * KIB),
            ops.BitmapAdd("src", "off", disabled=True), ops.BitmapAdd("src", "clean"),
            ops.BitmapAdd("tmp", "other", 512), ops.Export("src"), ops.Export("tmp"),
            ops.Write("src", 100, 10), ops.Write("src", 5 * CLUSTER - 1, 2),
            ops.Write("tmp", 3 * CLUSTER + 512, 512), ops.Write("tmp", SIZE - 1, 1),
            ops.BitmapClear("src", "clean"), ops.BitmapMerge(
                "src", "off", (BitmapRef("tmp", "other"),)))


def _actions() -> tuple[Operation, ...]:
    fine, other = BitmapRef("src", "fine"), BitmapRef("tmp", "other")
    return (
        ops.BitmapAdd("src", "new"), ops.BitmapAdd("src", "new", 512, disabled=True),
        ops.BitmapAdd("src", "new", persistent=True), ops.BitmapRemove("src", "fine"),
        ops.BitmapClear("src", "fine"), ops.BitmapClear("src", "clean"),
        ops.BitmapClear("src", "off"), ops.BitmapEnable("src", "off"),
        ops.BitmapEnable("src", "fine"), ops.BitmapDisable("src", "fine"),
        ops.BitmapDisable("src", "off"), ops.BitmapMerge("src", "coarse", (fine, other)),
        ops.BitmapMerge("src", "fine", (other,)), ops.BitmapMerge("src", "clean", (fine,)),
        ops.BitmapMerge("src", "clean", (fine, BitmapRef("src", "nope"))),
        ops.BitmapMerge("src", "off", (other, fine)),
        Backup("job", "src", "tmp2", Sync.FULL, filter_node="filter"),
        Backup("job", "src", "tmp2", Sync.BITMAP, "fine", BitmapMode.ON_SUCCESS,
               filter_node="filter"),
        Backup("job", "src", "tmp2", Sync.BITMAP, "coarse", BitmapMode.ALWAYS,
               filter_node="filter"),
        Backup("job", "src", "tmp2", Sync.BITMAP, "off", BitmapMode.NEVER,
               filter_node="filter"))


def _undone(plan: Plan) -> Trace:
    failures: Sequence[Operation] = (
        Abort(), ops.BitmapClear("src", "nope"), ops.BitmapAdd("src", "fine"),
        ops.BitmapMerge("src", "clean", (BitmapRef("nope", "fine"),)),
        Backup("job2", "src", "nope", Sync.FULL))
    builder = Builder(plan, _disks())
    builder.add_all(_some_bitmaps())
    for action, failure in itertools.product(_actions(), failures):
        builder.add(Transaction((action, failure)))
        builder.add(ops.Write("src", 7 * CLUSTER, 512))
    for one, other in itertools.combinations(_actions(), 2):
        builder.add(Transaction((one, other, Abort())))
    switch = {on: (ops.BitmapEnable if on else ops.BitmapDisable)("src", "fine")
              for on in (True, False)}
    for first, *more in itertools.product((True, False), repeat=4):
        builder.add_all((switch[first], Transaction((
            *(switch[on] for on in more), ops.BitmapRemove("src", "fine"), switch[True]))))
    builder.add_all(ops.Inspect(node) for node in ("src", "tmp2"))
    return builder.trace()


def _building(plan: Plan) -> Trace:
    """Pairs of actions of which the second finds what the first has done."""
    builder = Builder(plan, _disks())
    actions = _actions()
    for one, other in itertools.permutations(
            (actions[0], actions[3], actions[4], actions[7], actions[9], *actions[11:13],
             *actions[17:19]), 2):
        builder.add_all(_some_bitmaps()[:5])
        if not builder.scene.exports:
            builder.add_all((ops.Export("src"), ops.Export("tmp")))
        builder.add_all((ops.Write("src", 100, 10), ops.Write("tmp", 3 * CLUSTER, 512)))
        builder.add(Transaction((one, other)))
        for bitmap in list(builder.scene.bitmaps):
            builder.add(ops.BitmapRemove(bitmap.node, bitmap.name))
    return builder.trace()


def _jobs_at_once(plan: Plan) -> Trace:
    """What backup clients do: a point in time, and bitmaps that begin or end with it."""
    builder = Builder(plan, _disks())
    builder.add_all(_some_bitmaps())
    job = Backup("job", "src", "tmp2", Sync.FULL, filter_node="filter", auto_finalize=False)
    for actions in (
            (ops.BitmapAdd("src", "since"), job),
            (job, ops.BitmapAdd("src", "since")),
            (ops.BitmapClear("src", "fine"), job),
            (ops.BitmapDisable("src", "fine"), ops.BitmapAdd("src", "next"),
             replace(job, sync=Sync.BITMAP, bitmap="fine", bitmap_mode=BitmapMode.NEVER)),
            (ops.BitmapMerge("src", "clean", (BitmapRef("src", "fine"),)),
             ops.BitmapRemove("src", "coarse"),
             replace(job, sync=Sync.BITMAP, bitmap="clean", bitmap_mode=BitmapMode.ALWAYS))):
        builder.add_all((Transaction(actions), ops.Write("src", 9 * CLUSTER, 512),
                         ops.Inspect("tmp2"), JobFinalize("job"),
                         ops.BitmapRemove("src", "since")))
    two = (job, replace(job, job="job2", target="tmp", filter_node="filter2", sync=Sync.TOP))
    builder.add_all((ops.Unexport("tmp"), Transaction(two), ops.Write("src", 0, SIZE),
                     JobFinalize("job2"), JobFinalize("job"), ops.Inspect("tmp"),
                     ops.Inspect("tmp2")))
    return builder.trace()


def _groups(plan: Plan) -> Trace:
    """Jobs of a group that succeed, or fail, or are cancelled together, at each stage; nothing
    but jobs can be of a group."""
    builder = Builder(plan, _disks())
    builder.add_all(_some_bitmaps()[:-2])
    builder.add(ops.Unexport("tmp"))
    copying = Backup("one", "src", "tmp", Sync.BITMAP, "fine", BitmapMode.ON_SUCCESS,
                     filter_node="filter", auto_dismiss=False)
    other = replace(copying, job="two", target="tmp2", filter_node="filter2", bitmap="coarse",
                    bitmap_mode=BitmapMode.ALWAYS)
    waiting = replace(other, sync=Sync.NONE, bitmap=None, bitmap_mode=None)
    denied = replace(other, device="snap", bitmap=None, bitmap_mode=None, sync=Sync.FULL,
                     max_workers=1, on_source_error=OnError.STOP)
    builder.add(ops.AddSnapshot("snap", "tmp2"))
    by_hand = replace(other, auto_finalize=False)
    for action in (*_actions()[:16], Abort()):
        builder.add_all(Transaction(actions, grouped=True)
                        for actions in ((waiting, action), (action, waiting)))
    for first, second, verbs in (
            (copying, other, ()), (copying, by_hand, (JobFinalize("one"),)),
            (copying, by_hand, (JobFinalize("two"),)),
            (replace(copying, auto_finalize=False), other, (JobFinalize("two"),)),
            (copying, by_hand, (JobCancel("one"),)), (copying, by_hand, (JobCancel("two"),)),
            (copying, waiting, (JobCancel("two"),)), (copying, waiting, (JobCancel("one"),)),
            (copying, denied, (JobResume("two"), JobCancel("one"))),
            (copying, replace(denied, target="tmp"), ()),
            (copying, replace(waiting, target="nope"), ())):
        builder.add_all((ops.Write("src", 4 * CLUSTER, 10),
                         Transaction((first, second), grouped=True),
                         ops.Write("src", 6 * CLUSTER, 10), *verbs))
        for name in list(builder.scene.jobs):
            builder.add_all((JobCancel(name), JobDismiss(name)))
    return builder.trace()


def _over_one_disk(plan: Plan) -> Trace:
    """Who used the disk moves to one job's filter and then to the other's, or once only, by which
    of the two goes first; which of the users is the newest then is told by a refusal."""
    job = Backup("one", "src", "tmp", Sync.FULL, auto_finalize=False)
    builder = Builder(plan, _disks())
    for end in (JobFinalize("one"), JobCancel("two"), JobCancel("one")):
        builder.add_all((
            ops.AddFilter("user", "base", "src"), ops.Export("src"),
            Transaction((job, replace(job, job="two", target="tmp2")), grouped=True), end,
            ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
            ops.Unexport("src"), *map(ops.RemoveNode, ("cbw", "user"))))
    return builder.trace()


def _shown(plan: Plan) -> Trace:
    """Each bitmap of an export has a context of its own; what is asked for begins and ends in
    dirty granules, in clean ones, and in their middle."""
    size = SIZE + 512
    builder = Builder(plan, Configuration((Image("src", size), Image("other", size))))
    names = {"fine": 512, "middle": CLUSTER, "coarse": 256 * KIB}
    builder.add_all(ops.BitmapAdd("src", name, unit) for name, unit in names.items())
    builder.add_all((
        ops.BitmapAdd("other", "elsewhere", 4 * KIB), ops.Export("src"), ops.Export("other"),
        *(ops.Write("src", place * CLUSTER, 512) for place in (1, 2, 7, 12)),
        ops.BitmapClear("src", "middle"), ops.Write("src", 5 * CLUSTER - 1, 2),
        ops.Write("src", size - 1, 1), ops.Write("other", 3 * CLUSTER, 1), ops.Unexport("src"),
        ops.Export("src", bitmaps=(*(BitmapRef("src", name) for name in names),
                                   BitmapRef("other", "elsewhere")))))
    edges = (0, CLUSTER, CLUSTER + 512, 3 * CLUSTER, 5 * CLUSTER, 7 * CLUSTER + 1024, size)
    for name in (*names, "elsewhere"):
        builder.add_all(ops.Status("src", start, end - start, context=f"qemu:dirty-bitmap:{name}",
                                   one=start % CLUSTER != 0)
                        for start, end in itertools.combinations(edges, 2))
    return builder.trace()


def _named(plan: Plan) -> Trace:
    """The nearest one of the name is shown, from the node down through filters and backing files;
    and not in a read-only export while it records."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE), Image("src", SIZE, Format.QCOW2, backing="base"),
        Image("tmp", SIZE))))
    builder.add_all((
        ops.BitmapAdd("base", "low"), ops.BitmapAdd("base", "both"), ops.BitmapAdd("src", "both"),
        ops.BitmapAdd("src", "off", disabled=True), ops.BitmapAdd("tmp", "aside"),
        ops.Export("src"), ops.Write("src", 3 * CLUSTER, 512), ops.Unexport("src"),
        ops.AddFilter("cbw", "src", "tmp"), ops.AddCopyOnRead("cor", "cbw"),
        ops.AddSnapshot("snap", "cbw"), ops.BitmapAdd("cbw", "high")))
    for node, name, writable in itertools.product(
            ("src", "cbw", "cor", "snap"), ("low", "both", "off", "aside", "high", "nope"),
            (True, False)):
        builder.add_all((
            ops.Export(node, writable=writable, own_bitmaps=(name,)),
            ops.Status(node, 0, SIZE, context=f"qemu:dirty-bitmap:{name}"),
            ops.BitmapClear("src", name), ops.Unexport(node)))
    builder.add_all((
        ops.Export("cbw", bitmaps=(BitmapRef("base", "both"),), own_bitmaps=("off", "high")),
        ops.Export("src", writable=False, own_bitmaps=("off",)), ops.Unexport("cbw"),
        ops.Export("src", writable=False, own_bitmaps=("off", "low")),
        ops.Restart(("src",)), ops.BitmapAdd("src", "both"),
        ops.Export("src", writable=False, own_bitmaps=("both",))))
    return builder.trace()


def _in_use(plan: Plan) -> Trace:
    """What may not be done to a bitmap that somebody holds."""
    builder = Builder(plan, _disks())
    builder.add_all((*_some_bitmaps(), ops.BitmapAdd("base", "of-another-size")))
    held, other = BitmapRef("src", "fine"), BitmapRef("src", "coarse")
    deeds: tuple[Operation, ...] = (
        ops.BitmapAdd("src", "fine"), ops.BitmapClear("src", "fine"),
        ops.BitmapDisable("src", "fine"), ops.BitmapEnable("src", "fine"),
        ops.BitmapMerge("src", "fine", (other,)), ops.BitmapMerge("src", "coarse", (held,)),
        ops.BitmapMerge("src", "coarse", (other, held)), ops.BitmapRemove("src", "fine"),
        *(ops.BitmapMerge("src", "clean", (other, BitmapRef("tmp", "other"), BitmapRef(*wrong)))
          for wrong in (("src", "nope"), ("nope", "fine"), ("base", "of-another-size"))),
        ops.AddFilter("cbw", "src", "tmp2", held), ops.Export("src", bitmaps=(held,)),
        *(Backup("other", "src", "tmp2", Sync.BITMAP, "fine", mode) for mode in BitmapMode),
        ops.Write("src", 11 * CLUSTER, 512))
    job = Backup("job", "src", "tmp2", Sync.BITMAP, "fine", BitmapMode.NEVER,
                 auto_finalize=False)
    hold_and_let_go: tuple[tuple[Operation, Operation], ...] = (
        (ops.Export("base", writable=False, bitmaps=(held,)), ops.Unexport("base")),
        (job, JobFinalize("job")),
        (replace(job, bitmap_mode=BitmapMode.ALWAYS), JobCancel("job")))
    for hold, let_go in hold_and_let_go:
        builder.add_all((hold, *deeds))
        builder.add_all(Transaction((deed,)) for deed in deeds)
        builder.add_all((let_go, ops.BitmapEnable("src", "fine")))
    builder.add_all(Transaction((first, deed)) for first in (job, ops.BitmapRemove("src", "fine"))
                    for deed in deeds)
    return builder.trace()


# Bitmaps that images keep.


def _interrupted(plan: Plan) -> Trace:
    builder = Builder(plan, _disks())
    job = Backup("job", "src", "tmp", Sync.BITMAP, "p0", BitmapMode.ALWAYS, auto_finalize=False)
    for mode, end in itertools.product(BitmapMode, (ops.Restart(), ops.Kill())):
        builder.add_all((
            ops.BitmapAdd("src", "p0", 4 * KIB, persistent=True), ops.Restart(),
            ops.BitmapAdd("src", "p1", 4 * KIB, persistent=True), ops.Export("src"),
            ops.Write("src", 2 * CLUSTER, 512), replace(job, bitmap_mode=mode),
            ops.Write("src", 4 * CLUSTER, 512),
            ops.Export("tmp", writable=False, bitmaps=(BitmapRef("src", "p1"),)),
            ops.Flush("src"), end, ops.Inspect("tmp"), ops.BitmapRemove("src", "p0"),
            ops.BitmapRemove("src", "p1")))
    return builder.trace()


def _read_only(plan: Plan) -> Trace:
    builder = Builder(plan, _disks())
    stored = BitmapRef("src", "p0")
    builder.add_all((
        ops.BitmapAdd("src", "p0", persistent=True), ops.BitmapAdd("src", "p1", persistent=True),
        ops.Export("src"), ops.Write("src", CLUSTER, 512), ops.Restart(("src", "tmp2")),
        ops.Export("src"), ops.Export("src", writable=False), ops.BitmapAdd("src", "new"),
        ops.BitmapAdd("src", "p2", persistent=True), ops.BitmapClear("src", "p0"),
        ops.BitmapMerge("src", "p0", (BitmapRef("src", "new"),)),
        ops.BitmapMerge("src", "new", (stored,)), ops.BitmapDisable("src", "p1"),
        ops.BitmapEnable("src", "p1"), ops.BitmapRemove("src", "p0"),
        Transaction((ops.BitmapAdd("src", "more"), ops.BitmapClear("src", "p0"))),
        *(Backup("job", "src", "tmp", Sync.BITMAP, "p0", mode) for mode in BitmapMode),
        Backup("job", "src", "tmp2", Sync.FULL), ops.AddFilter("cbw", "src", "tmp2"),
        ops.AddFilter("cbw", "src", "tmp", stored), ops.Export("cbw"),
        ops.Export("cbw", writable=False), ops.Inspect("cbw"), ops.BitmapDisable("src", "p1"),
        ops.Kill(), ops.Restart(), ops.BitmapRemove("src", "p1")))
    return builder.trace()


def _behind_nbd(plan: Plan) -> Trace:
    """With the largest clusters there is room for old and new states of all that are kept."""
    builder = Builder(plan, Configuration((
        Image("src", CLUSTER, Format.QCOW2, Protocol.NBD, cluster_size=2 * MIB),)))
    for index in range(4):
        names = [f"p{index}", f"q{index}"]
        builder.add_all(ops.BitmapAdd("src", name, persistent=True) for name in names)
        builder.add_all((ops.Export("src"), ops.Write("src", 0, CLUSTER), ops.Restart()))
    return builder.trace()


# More about jobs.


def _snapshot_of_a_job(plan: Plan) -> Trace:
    """A client reads the point in time of a job's filter, and gives up what it has read."""
    builder = Builder(plan, _disks())
    builder.add_all((
        ops.BitmapAdd("src", "dirty"), ops.Export("src"), ops.Write("src", 2 * CLUSTER, CLUSTER)))
    for sync in (Sync.NONE, Sync.FULL, Sync.BITMAP):
        dirty = sync is Sync.BITMAP
        builder.add_all((
            Backup("job", "src", "tmp", sync, "dirty" if dirty else None,
                   BitmapMode.ALWAYS if dirty else None, filter_node="filter",
                   auto_finalize=False),
            ops.AddSnapshot("snap", "filter"), ops.Export("snap"),
            ops.Write("src", CLUSTER - 1, 2), ops.Read("snap", 0, 2 * CLUSTER),
            ops.Read("snap", 0, CLUSTER, Via.NBD_DF), ops.Discard("snap", 0, CLUSTER),
            ops.Discard("snap", 8 * CLUSTER, 2 * CLUSTER), ops.Write("src", 8 * CLUSTER, 10),
            ops.Read("snap", 8 * CLUSTER, 10), ops.Inspect("snap"), ops.Discard(
                "src", 12 * CLUSTER, CLUSTER), ops.RemoveNode("filter"), JobCancel("job"),
            ops.Read("snap", 0, 512), ops.Unexport("snap"), ops.RemoveNode("snap"),
            ops.Inspect("tmp")))
    return builder.trace()


def _discarding(*, failing: bool) -> Make:
    """A backup of a snapshot that frees the temporary image as it goes, also if it fails; what
    reads as zero is freed like all else."""
    size = SIZE + 512
    filled = ((0, size),) if failing else (
        (0, 7 * CLUSTER), (8 * CLUSTER, 4 * CLUSTER), (14 * CLUSTER, size - 14 * CLUSTER))
    faults = (Fault(RequestKind.WRITE, 5 * CLUSTER, once=True),) * 2 if failing else ()

    def make(plan: Plan) -> Trace:
        builder = Builder(plan, Configuration((
            Image("src", size, filled=filled), Image("tmp", size),
            Image("tmp2", size, faults=faults))))
        job = Backup("job", "snap", "tmp2", Sync.FULL, discard_source=True, max_workers=1,
                     max_chunk=CLUSTER, auto_dismiss=False)
        for command in (job, replace(job, on_target_error=OnError.STOP), replace(
                job, device="cbw"), replace(job, device="src", auto_finalize=False)):
            builder.add_all((
                ops.AddFilter("cbw", "src", "tmp", on_cbw_error="break-snapshot"),
                ops.AddSnapshot("snap", "cbw"), ops.Export("cbw"), ops.Export("snap"),
                ops.Write("cbw", 2 * CLUSTER, 512), ops.Write("cbw", 9 * CLUSTER, 512), command,
                ops.Write("cbw", 3 * CLUSTER, 512), ops.Write("cbw", 10 * CLUSTER, 512),
                JobResume("job"), ops.Inspect("snap"), ops.Inspect("tmp"), JobFinalize("job"),
                ops.Inspect("tmp2"), ops.Unexport("snap"), ops.Unexport("cbw"),
                ops.RemoveNode("snap"), ops.RemoveNode("cbw"), JobDismiss("job")))
        return builder.trace()

    return make


def _defaults(plan: Plan) -> Trace:
    clusters = (512, 4 * KIB, 32 * KIB, 64 * KIB, 256 * KIB, 2 * MIB)
    images = [Image(f"q{cluster}", 4 * MIB, Format.QCOW2, cluster_size=cluster)
              for cluster in clusters]
    images += [Image(each, 8 * MIB, each) for each in (
        Format.RAW, Format.QED, Format.VDI, Format.VMDK, Format.VPC)]
    builder = Builder(plan, Configuration(tuple(images)))
    builder.add_all(ops.BitmapAdd(image.node, "b0") for image in images)
    builder.add_all((ops.AddFilter("cbw", "q512", "raw"), ops.AddSnapshot("snap", "cbw"),
                     ops.BitmapAdd("cbw", "b0"), ops.BitmapAdd("snap", "b0")))
    return builder.trace()
