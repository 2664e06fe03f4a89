# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of backup jobs: every sync mode, bitmap mode and way to end, once each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from harness.exploration.building import Builder, Check, Make, Plan
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, MIB, Configuration, Fault, Format, Image, RequestKind
from model.job_operations import (
    Backup,
    BitmapMode,
    BlockJobCancel,
    JobCancel,
    JobChange,
    JobComplete,
    JobDismiss,
    JobFinalize,
    JobOperation,
    JobPause,
    JobResume,
    OnError,
    Sync,
)
from model.operations import BitmapRef, Operation

CLUSTER: Final = 64 * KIB
SIZE: Final = 16 * CLUSTER + 512
_SPEED: Final = 4 * MIB
"""Bytes a second: a quarter of a second for all of the disk."""
_EARLY: Final = 8
FAILING: Final = 6 * CLUSTER
"""Where storage fails, if it does: dirty, allocated, and neither the first nor the last."""


class End(StrEnum):
    """How a job comes to its end."""

    SUCCESS = "success"
    FINALIZED = "success, finalized by hand"
    READ_ERROR = "a read fails"
    WRITE_ERROR = "a write fails"
    RESUMED = "a read fails, the job stops and is resumed"
    IGNORED = "a read fails and is tried again at once"
    CANCELLED_STOPPED = "a read fails, the job stops and is cancelled"
    CANCELLED_PENDING = "cancelled with all copied"
    CANCELLED_RUNNING = "cancelled while it runs"


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in the matrix."""

    sync: Sync
    mode: BitmapMode | None
    """None: no bitmap, or, with sync ``incremental``, none named."""
    end: End

    @property
    def name(self) -> str:
        """The cell in words."""
        mode = "" if self.mode is None else f", bitmap mode {self.mode}"
        return f"sync {self.sync}{mode}: {self.end}"


def cells() -> Iterator[Cell]:
    """The whole matrix of what makes sense."""
    modes: dict[Sync, tuple[BitmapMode | None, ...]] = {
        Sync.FULL: (None, BitmapMode.ON_SUCCESS, BitmapMode.ALWAYS),
        Sync.TOP: (None, BitmapMode.ON_SUCCESS, BitmapMode.ALWAYS),
        Sync.BITMAP: tuple(BitmapMode),
        Sync.INCREMENTAL: (None, BitmapMode.ON_SUCCESS),
    }
    for sync, known in modes.items():
        for mode, end in itertools.product(known, End):
            if end is not End.CANCELLED_RUNNING:
                yield Cell(sync, mode, end)
    yield Cell(Sync.NONE, None, End.CANCELLED_RUNNING)


def cell_operations(cell: Cell) -> tuple[Configuration, tuple[Operation, ...]]:
    """Guest writes before, during and after the job of a cell, and looks at everything."""
    command = Backup(
        "job", "src", "tmp", cell.sync,
        bitmap="dirty" if cell.mode or cell.sync is Sync.INCREMENTAL else None,
        bitmap_mode=cell.mode, filter_node="filter", auto_dismiss=False)
    faults: dict[str, tuple[Fault, ...]] = {"src": (), "tmp": ()}
    steps: tuple[Operation, ...] = ()
    match cell.end:
        case End.FINALIZED:
            command = replace(command, auto_finalize=False, use_copy_range=True)
            steps = (JobFinalize("job"),)
        case End.CANCELLED_PENDING:
            command = replace(command, auto_finalize=False)
            steps = (JobCancel("job"),)
        case End.READ_ERROR | End.WRITE_ERROR:
            reading = cell.end is End.READ_ERROR
            command = replace(command, max_workers=1)
            faults["src" if reading else "tmp"] = (
                Fault(RequestKind.READ if reading else RequestKind.WRITE, FAILING, once=True),)
        case End.RESUMED | End.CANCELLED_STOPPED | End.IGNORED:
            command = replace(
                command, max_workers=1, max_chunk=CLUSTER,
                on_source_error=OnError.IGNORE if cell.end is End.IGNORED else OnError.STOP)
            faults["src"] = (Fault(RequestKind.READ, FAILING, once=True),)
            steps = {End.RESUMED: (JobResume("job"),), End.IGNORED: (),
                     End.CANCELLED_STOPPED: (
                         BlockJobCancel("job"), BlockJobCancel("job", force=True))}[cell.end]
        case End.CANCELLED_RUNNING:
            steps = (JobPause("job"), BlockJobCancel("job"), *_touches(13), JobResume("job"),
                     *_touches(14), BlockJobCancel("job"))
        case End.SUCCESS:
            pass
    looks = (ops.Inspect("tmp"), ops.Inspect("src"))
    return configuration(faults), (
        *before(), command, *_touches(8), *looks, *steps, *_touches(11), JobDismiss("job"),
        *looks)


def configuration(faults: dict[str, tuple[Fault, ...]]) -> Configuration:
    """A disk over a backing file, and a target."""
    return Configuration((
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("src", SIZE, Format.QCOW2, backing="base", filled=(
            (CLUSTER, 3 * CLUSTER), (6 * CLUSTER + 512, CLUSTER), (15 * CLUSTER, CLUSTER)),
            faults=faults["src"]),
        Image("tmp", SIZE, faults=faults["tmp"])))


def before() -> tuple[Operation, ...]:
    """What happened before the point in time: bitmaps, and something in them."""
    return (ops.BitmapAdd("src", "older", 4 * KIB), ops.BitmapAdd("src", "dirty"),
            ops.BitmapAdd("src", "newer", 256 * KIB), ops.BitmapAdd("src", "off", disabled=True),
            ops.Export("src"), ops.Write("src", 2 * CLUSTER + 100, 200),
            ops.Write("src", 6 * CLUSTER, CLUSTER), ops.Zero("src", 9 * CLUSTER, 2 * CLUSTER),
            ops.Write("src", SIZE - 1, 1), ops.BitmapClear("src", "newer"))


def _touches(cluster: int) -> tuple[Operation, ...]:
    """A write to a cluster, and one to each of two that the job copies too."""
    return (ops.Write("src", cluster * CLUSTER + 512, 512), ops.Zero("src", 6 * CLUSTER, 4096),
            ops.Write("src", SIZE - 600, 100))


def checks() -> Iterator[Check]:
    """The matrix, what jobs are refused for, and one that is slowed down."""
    for number, cell in enumerate(_various_first(cells())):
        yield Check("jobs", cell.name, _make(cell))
        if number == _EARLY:
            yield Check("jobs", "a job that is slowed down", _slow)
            yield Check("jobs", "each failure of a job, and each thing to do about it", _policies)
        if number == 3 * _EARLY:
            yield Check("jobs", "what may be asked of a job in which state", _verbs)
    yield Check("jobs", "jobs with a bitmap that does not record", _disabled)
    yield Check("jobs", "what is refused", _refusals)


def _various_first(matrix: Iterable[Cell]) -> Iterator[Cell]:
    """The cells in an order in which each, if it can, brings pairs of sync mode, bitmap mode and
    end that none before it had: a short run has seen all pairs."""
    left = list(matrix)
    seen: set[object] = set()
    while left:
        cell = max(left, key=lambda each: len(_pairs(each) - seen))
        seen |= _pairs(cell)
        left.remove(cell)
        yield cell


def _pairs(cell: Cell) -> set[object]:
    return {("sync", cell.sync, cell.mode), ("sync", cell.sync, cell.end),
            ("mode", cell.mode, cell.end)}


def _slow(plan: Plan) -> Trace:
    """What a limit of speed has a job put off is copied later, and is not forgotten."""
    images, operations = cell_operations(Cell(Sync.FULL, BitmapMode.ALWAYS, End.SUCCESS))
    builder = Builder(plan, images)
    builder.add_all(replace(each, speed=_SPEED, max_chunk=CLUSTER)
                    if isinstance(each, Backup) else each for each in operations)
    return builder.trace()


def _policies(plan: Plan) -> Trace:
    """Want of space is told from other failures, and what reads from what writes, be it zeroes."""
    errors, policies = ("EIO", "ENOSPC"), set(OnError) - {OnError.IGNORE}  # tries for ever
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE),
        Image("empty", SIZE, Format.QCOW2),
        *(Image(f"{kind}-{error}", SIZE, filled=((0, SIZE),), faults=(
            Fault(kind, FAILING, error),))
          for kind in (RequestKind.READ, RequestKind.WRITE, RequestKind.ZERO)
          for error in errors))))
    job = Backup("job", "src", "tmp", Sync.FULL, filter_node="filter", auto_dismiss=False,
                 max_workers=1, max_chunk=CLUSTER)
    for error, policy in itertools.product(errors, sorted(policies)):
        for command in (
                replace(job, device=f"{RequestKind.READ}-{error}", on_source_error=policy),
                *(replace(job, device=device, target=f"{kind}-{error}", on_target_error=policy,
                          on_source_error=OnError.STOP)
                  for device, kind in (("src", RequestKind.WRITE), ("empty", RequestKind.ZERO)))):
            # The second is for builds without x-perf: they copy one cluster after the other.
            for each in (command, replace(command, max_workers=None, max_chunk=None,
                                          auto_dismiss=True)):
                if builder.add(each):
                    builder.add_all((JobResume("job"), JobCancel("job"), JobDismiss("job")))
    builder.add_all((replace(job, device=f"{RequestKind.READ}-EIO", target="empty",
                             on_source_error=OnError.STOP), JobResume("job")))
    return builder.trace()


def _disabled(plan: Plan) -> Trace:
    """What takes the place of a bitmap that is disabled is disabled, too, and empty."""
    images = configuration({"src": (), "tmp": ()})
    builder = Builder(plan, images)
    builder.add_all((*before(), ops.BitmapMerge("src", "off", (BitmapRef("src", "dirty"),))))
    for mode, end in itertools.product(reversed(BitmapMode), (JobCancel, JobFinalize)):
        builder.add_all((
            Backup("job", "src", "tmp", Sync.BITMAP, "off", mode, auto_finalize=False),
            *_touches(8), end("job"), *_touches(11),
            ops.BitmapMerge("src", "off", (BitmapRef("src", "older"),))))
    return builder.trace()


def _make(cell: Cell) -> Make:
    def make(plan: Plan) -> Trace:
        images, operations = cell_operations(cell)
        builder = Builder(plan, images)
        builder.add_all(operations)
        return builder.trace()

    return make


# Refusals.


def _commands() -> Iterator[Backup]:
    """Commands of which most are refused."""
    usual = Backup("job", "src", "tmp", Sync.FULL)
    for sync, bitmap, mode in itertools.product(
            (*Sync, "some"), (None, "dirty", "held", "none"), (None, *BitmapMode, "some")):
        yield replace(usual, sync=sync, bitmap=bitmap, bitmap_mode=mode, job="")
    for device, target in (("none", "tmp"), ("src", "none"), ("none", "none"), ("src", "src"),
                           ("src", "short"), ("short", "src")):
        yield replace(usual, device=device, target=target)
    for job in ("", "1", "1x", "a b", "busy", "j" * 200, "j.-_1"):
        yield replace(usual, job=job)
    for name in ("", "src", "1x", "#f", "f" * 31, "f" * 32):
        yield replace(usual, filter_node=name)
    for workers in (0, -1, 1, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, -(1 << 63), 1 << 63):
        yield replace(usual, max_workers=workers)
    for chunk in (-1, 0, 1, CLUSTER - 1, CLUSTER, CLUSTER + 1, (1 << 63) - 1, -(1 << 63), 1 << 63):
        yield replace(usual, max_chunk=chunk)
    for copy_range in (False, True):
        yield replace(usual, use_copy_range=copy_range, max_workers=0)
        yield replace(usual, use_copy_range=copy_range, max_chunk=1)
    yield replace(usual, use_copy_range=True, compress=True, target="packed")
    for smallest in (0, 3, CLUSTER, 4 * CLUSTER, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63):
        yield replace(usual, min_cluster_size=smallest)
    for policy in ("break-snapshot", "break-guest-write", "some"):
        yield replace(usual, on_cbw_error=policy)
    for speed in (-1, 1 << 40):
        yield replace(usual, speed=speed)
    yield replace(usual, compress=True)
    yield replace(usual, compress=True, target="packed")
    yield replace(usual, discard_source=True)


def _refusals(plan: Plan) -> Trace:
    images = configuration({"src": (), "tmp": ()}).images
    builder = Builder(plan, Configuration((
        *images, Image("short", CLUSTER), Image("packed", SIZE, Format.QCOW2),
        *(Image(node, SIZE) for node in ("other", "kept", "spare", "sink")))))
    builder.add_all((*before(), ops.BitmapAdd("src", "held"),
                     ops.Export("base", writable=False, bitmaps=(BitmapRef("src", "held"),)),
                     Backup("busy", "other", "kept", Sync.NONE, filter_node="filter"),
                     Backup("auto", "spare", "sink", Sync.NONE), ops.Export("spare")))
    for command in _commands():
        builder.add(command)
    for device, target in (("other", "tmp"), ("filter", "tmp"), ("src", "filter"),
                           ("src", "kept"), ("kept", "tmp"), ("src", "other"), ("tmp", "src")):
        builder.add(Backup("job", device, target, Sync.FULL))
    builder.add_all(Backup("auto", device, "tmp", Sync.FULL, max_chunk=chunk)
                    for device in ("src", "spare") for chunk in (None, 1))
    for below in ("packed", "tmp"):
        builder.add_all((ops.AddCopyOnRead("cor", below), Backup(
            "job", "src", "cor", Sync.FULL, compress=True, max_chunk=1), ops.RemoveNode("cor")))
    builder.add_all(ops.RemoveNode(node) for node in ("filter", "kept", "other"))
    return builder.trace()


def _verbs(plan: Plan) -> Trace:
    builder = Builder(plan, configuration({
        "src": (Fault(RequestKind.READ, FAILING, once=True),) * 2, "tmp": ()}))
    builder.add_all(before())
    verbs: tuple[type[JobOperation], ...] = (
        JobDismiss, JobFinalize, JobResume, JobPause, JobPause, JobDismiss, JobFinalize,
        JobResume, BlockJobCancel, JobCancel, JobPause, JobResume, JobFinalize, JobDismiss,
        JobDismiss)
    not_for_backups = (JobComplete("job"), JobComplete("job", block=True), JobChange("job"))
    copying = Backup("job", "src", "tmp", Sync.FULL, max_workers=1, auto_finalize=False,
                     auto_dismiss=False)
    for command in (replace(copying, sync=Sync.NONE), replace(
            copying, on_source_error=OnError.STOP), copying):
        builder.add(command)
        for verb in verbs:
            builder.add_all((verb("job"), *not_for_backups))
    for verb, force in itertools.product((JobFinalize, JobCancel), (False, True)):
        builder.add(replace(copying, sync=Sync.FULL if verb is JobFinalize else Sync.NONE))
        builder.add_all(older("job", block=True) for older in (
            JobPause, JobPause, JobFinalize, JobDismiss))
        builder.add(BlockJobCancel("job"))
        builder.add(JobCancel("job", block=True))
        builder.add_all((BlockJobCancel("job", force=True),) if force else (
            JobResume("job", block=True), JobResume("job", block=True), verb("job", block=True)))
        builder.add_all(older("job", block=True) for older in (
            JobPause, JobResume, JobDismiss, JobDismiss))
    builder.add(replace(copying, on_source_error=OnError.STOP))
    builder.add_all(verb("job") for verb in (JobCancel, JobResume, JobDismiss))
    for verb in dict.fromkeys((*verbs, JobComplete, JobChange)):
        builder.add_all((verb("none"), verb("none", block=True)))
    return builder.trace()
