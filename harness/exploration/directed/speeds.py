# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of the speed of jobs: of one that is next to nothing, and what it is set to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.exploration.directed.fleecing import CLUSTER, disks
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Format, Image
from model.job_operations import (
    FAST,
    SLOWEST,
    Backup,
    BitmapMode,
    JobCancel,
    JobDismiss,
    JobFinalize,
    JobPause,
    JobResume,
    JobSetSpeed,
    Sync,
)
from model.operations import Operation

_CLUSTERS: Final = 5
_BITMAP_MODES: Final = {Sync.FULL: None, Sync.TOP: None, Sync.BITMAP: BitmapMode.ALWAYS,
                        Sync.INCREMENTAL: None, Sync.NONE: None}
_ENDS: Final[dict[str, tuple[Operation, ...]]] = {
    "let go": (JobSetSpeed("job", 0),),
    "made slow again, then fast": (JobSetSpeed("job", SLOWEST), JobSetSpeed("job", FAST)),
    "let go while paused": (JobPause("job"), JobSetSpeed("job", 0), JobResume("job")),
    "paused and resumed": (JobPause("job"), JobResume("job"), JobPause("job"), JobResume("job"),
                           JobSetSpeed("job", 0)),
    "cancelled": (JobCancel("job"),),
    "cancelled while paused": (JobPause("job"), JobCancel("job")),
    "left behind": (ops.Restart(),),
}


def checks() -> Iterator[Check]:
    """A job that waits is the only one whose disk the guest can write to half-way."""
    for sync, (name, end) in itertools.product(_BITMAP_MODES, _ENDS.items()):
        yield Check("jobs", f"a slow job, {sync}, {name}", _slow(sync, end))
    yield Check("jobs", "speeds in every state of a job", _states)
    yield Check("jobs", "a slow job over disks that take little at a time", _pieces)
    yield Check("jobs", "slow jobs that have one cluster to copy, or none", _little)


def _begun(plan: Plan) -> Builder:
    size = _CLUSTERS * CLUSTER + 512
    builder = Builder(plan, disks(size))
    builder.add_all((ops.BitmapAdd("src", "b0"), ops.Export("src"),
                     *(ops.Write("src", cluster * CLUSTER, 512) for cluster in (1, 2, 4))))
    return builder


def _slow(sync: Sync, end: tuple[Operation, ...]) -> Make:
    def make(plan: Plan) -> Trace:
        builder = _begun(plan)
        bitmap = "b0" if sync in (Sync.BITMAP, Sync.INCREMENTAL) else None
        builder.add_all((
            Backup("job", "src", "tmp", sync, bitmap, _BITMAP_MODES[sync], filter_node="jf",
                   max_chunk=CLUSTER, auto_finalize=False, speed=1),
            ops.Write("src", 0, CLUSTER), ops.Write("src", 2 * CLUSTER + 512, 512),
            ops.AddSnapshot("snap", "jf"), ops.Export("snap"), ops.Read("snap", 0, 5 * CLUSTER),
            ops.Inspect("tmp"), *end, ops.Write("src", 4 * CLUSTER, 512), JobFinalize("job"),
            ops.Inspect("src"), ops.Inspect("tmp")))
        return builder.trace()

    return make


def _states(plan: Plan) -> Trace:
    builder = _begun(plan)

    def ask() -> None:
        builder.add_all(JobSetSpeed("job", speed) for speed in (
            1, SLOWEST, -1, FAST, (1 << 63) - 1, 0))

    ask()
    for sync, chunk in ((Sync.NONE, None), (Sync.FULL, CLUSTER), (Sync.FULL, None)):
        builder.add(Backup("job", "src", "tmp", sync, max_chunk=chunk, auto_finalize=False,
                           auto_dismiss=False, speed=1 if chunk else FAST))
        ask()
        builder.add_all((JobPause("job"), JobSetSpeed("job", FAST), JobResume("job")))
        ask()
        builder.add(JobFinalize("job") if sync is Sync.FULL else JobCancel("job"))
        ask()
        builder.add(JobDismiss("job"))
        ask()
    usual = Backup("job", "src", "tmp", Sync.FULL, max_chunk=CLUSTER)
    builder.add_all(replace(usual, speed=speed)
                    for speed in (-1, 0, FAST, (1 << 63) - 1, -(1 << 63)))
    # Only a build without x-perf copies no more than a cluster at a time unasked.
    builder.add_all((replace(usual, max_chunk=None, speed=1), ops.Inspect("tmp")))
    return builder.trace()


def _pieces(plan: Plan) -> Trace:
    """It copies whole clusters, and no more of them than source and target take at once, with all
    that is below them: here one, whether they take a little more or not even that."""
    size = 8 * CLUSTER
    most = {"half": CLUSTER // 2, "some": CLUSTER + CLUSTER // 2}
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("tmp", size), Image("tmp2", size),
        *(Image(f"{kind}-{name}", size, filled=((0, size),) if kind == "src" else (),
                request_alignment=512, max_transfer=limit)
          for name, limit in most.items() for kind in ("src", "tmp")),
        Image("over", size, Format.QCOW2, backing="src-some", filled=((0, size),)))))
    builder.add_all((
        ops.AddFilter("cbw", "src", "tmp-some"), ops.AddFilter("cbw2", "src-some", "tmp2"),
        ops.AddSnapshot("snap", "cbw2"), ops.AddCopyOnRead("cor", "over")))
    for pair in (*((f"src-{name}", "tmp") for name in most),
                 *(("src", f"tmp-{name}") for name in most),
                 *((node, "tmp") for node in ("over", "cor", "snap", "cbw", "cbw2"))):
        builder.add_all((Backup("job", *pair, Sync.FULL, filter_node="jf", speed=1),
                         JobCancel("job")))
    return builder.trace()


def _little(plan: Plan) -> Trace:
    """A slow job that has copied all there is with its first piece need not wait."""
    builder = Builder(plan, disks(CLUSTER + 512))
    builder.add_all((ops.BitmapAdd("src", "b0"), ops.Export("src")))
    slow = Backup("job", "src", "tmp", Sync.INCREMENTAL, "b0", max_chunk=CLUSTER, speed=1)
    for command in (slow, replace(slow, auto_finalize=False)):
        for written in (0, 512):
            builder.add_all((ops.Write("src", CLUSTER, written), command, JobFinalize("job"),
                             ops.Inspect("tmp")))
    return builder.trace()
