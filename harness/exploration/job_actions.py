# SPDX-License-Identifier: GPL-2.0-or-later
"""Drawing operations about jobs, transactions and the process itself, given what exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from harness.exploration import openings
from harness.exploration.actions import Drawer
from harness.exploration.areas import Action
from harness.exploration.images import SOURCE
from harness.exploration.scene import Kind
from model import job_operations as jobs
from model import operations as ops
from model.configuration import KIB, MIB, Format
from model.job_operations import (
    Backup,
    BitmapMode,
    DriveBackup,
    JobOperation,
    NewImage,
    OnError,
    Sync,
)
from model.jobs import JobStatus
from model.operations import Operation

JOBS: Final = ("job0", "job1", "job2")
FILTERS: Final = ("jf", "jf2", "jf3", "jf4")
_CHUNKS: Final = (0, 64 * KIB, 64 * KIB, 128 * KIB, 1 * MIB)
_BAD_CHUNKS: Final = (-1, 4 * KIB, 65 * KIB, (1 << 63) - 1)
_WORKERS: Final = (1, 1, 1, 2, (1 << 31) - 1, 0, -1, 1 << 31)
_SLOW: Final = (1, jobs.SLOWEST)
_SPEEDS: Final = (*_SLOW, 0, 0, jobs.FAST, (1 << 63) - 1, -1)
_PACKED: Final = 5
"""How often, in sixteenths, a job to an image that can be compressed does that."""
_SYNCS: Final = {Sync.FULL: 4, Sync.TOP: 3, Sync.BITMAP: 6, Sync.INCREMENTAL: 3, Sync.NONE: 4}
_ON_ERROR: Final = {OnError.REPORT: 4, OnError.STOP: 5, OnError.IGNORE: 2, OnError.ENOSPC: 1,
                    OnError.AUTO: 1}
_VERBS: Final[tuple[type[JobOperation], ...]] = (
    jobs.JobCancel, jobs.BlockJobCancel, jobs.JobPause, jobs.JobResume, jobs.JobFinalize,
    jobs.JobDismiss, jobs.JobComplete, jobs.JobChange)
_SENSIBLE: Final[dict[JobStatus, tuple[type[JobOperation], ...]]] = {
    JobStatus.RUNNING: (jobs.JobCancel, jobs.JobPause),
    JobStatus.PAUSED: (jobs.JobResume, jobs.JobResume, jobs.JobCancel),
    JobStatus.WAITING: (jobs.JobCancel,),
    JobStatus.PENDING: (jobs.JobFinalize, jobs.JobFinalize, jobs.JobCancel),
    JobStatus.CONCLUDED: (jobs.JobDismiss,),
}
"""What moves a job on, by where it rests."""


@dataclass(slots=True)
class JobDrawer(Drawer):
    """Draws these operations too."""

    has_drives: bool = False
    """Whether the system has the command drive-backup."""

    def operation(self) -> Operation | None:
        """An operation; None if what was drawn makes no sense here."""
        if self.planned:
            return self.planned.pop(0)
        action = self.choices.weighted(self.area.actions)
        maker = _MAKERS.get(action)
        return maker(self) if maker is not None else self.make(action)

    # Jobs

    def backup(self, rank: int | None = None, device: str | None = None) -> Backup:
        """blockdev-backup; ``rank``: so many actions are before it in a transaction, in which
        filters have names, since a refusal may speak of any of them."""
        choices = self.choices
        device, target = device or self._device(), self._target()
        sync = choices.weighted(_SYNCS)
        bitmap, mode = self._bitmap_of(device, sync)
        failing = choices.chance(self.area.faults)
        names = [name for name in JOBS if name not in self.scene.jobs]
        if not names or choices.chance(self.area.bad_options):
            names = list(JOBS)
        filters: Sequence[str] = ()
        if rank is not None or choices.chance(10):
            filters = self.scene.unused_names(FILTERS) or FILTERS
        place = rank or 0
        speed = choices.pick(_SPEEDS) if choices.chance(3) else None
        chunk = 64 * KIB if speed in _SLOW else self._chunk()
        packed = _PACKED if self.scene.formats.get(target) is Format.QCOW2 else 1
        return Backup(
            names[min(place, len(names) - 1)], device, target, sync, bitmap, mode,
            filter_node=filters[min(place, len(filters) - 1)] if filters else None,
            compress=choices.chance(packed), on_source_error=choices.weighted(_ON_ERROR),
            on_target_error=choices.weighted(_ON_ERROR),
            auto_finalize=not choices.chance(6), auto_dismiss=not choices.chance(4),
            max_workers=1 if failing else choices.pick(_WORKERS) if choices.chance(3) else None,
            max_chunk=chunk, min_cluster_size=self._cluster(), discard_source=choices.chance(2),
            speed=speed, use_copy_range=choices.pick((None, None, None, False, True, True)),
            on_cbw_error=choices.pick(list(ops.OnCbwError)) if choices.chance(1) else None)

    def drive_backup(self) -> Operation | None:
        """drive-backup of the disk to the file of an image that nothing is built over, whose node
        is removed; what has come of the file shows when another QEMU opens it."""
        choices, scene = self.choices, self.scene
        used = scene.built_on
        targets = [name for name in scene.images if name != SOURCE and name not in used]
        if not targets or not self.has_drives:
            return None
        target = choices.pick(targets)
        modes = (None, NewImage.ABSOLUTE_PATHS, NewImage.EXISTING, NewImage.EXISTING)
        self.planned += [ops.Unexport(target)] * (target in scene.exports)
        self.planned += [ops.RemoveNode(target)] * (target in scene.nodes)
        self.planned.append(DriveBackup(**{
            **asdict(self.backup(device=SOURCE)), "target": target, "mode": choices.pick(modes),
            "format": scene.formats[target] if choices.chance(13) else None}))
        if choices.chance(6):
            self.planned.append(ops.Restart())
            self._plan_start()
        return self.planned.pop(0)

    def _device(self) -> str:
        """What is backed up: the disk as a rule; a snapshot of it, or anything."""
        snapshots = self.scene.of_kind(Kind.SNAPSHOT)
        if snapshots and self.choices.chance(8):
            return self.choices.pick(snapshots).name
        return SOURCE if self.choices.chance(12) else self.choices.pick(list(self.scene.nodes))

    def _target(self) -> str:
        """An image that nothing is built over, as a rule."""
        used = self.scene.built_on
        free = [place.name for place in self.scene.of_kind(Kind.IMAGE)
                if place.name != SOURCE and place.name not in used]
        return self.choices.pick(free if free and self.choices.chance(14)
                                 else list(self.scene.nodes))

    def _bitmap_of(self, device: str, sync: Sync) -> tuple[str | None, str | None]:
        """A bitmap and what becomes of it, most often such as go with the sync mode."""
        if self.choices.chance(self.area.bad_options):
            return (self.choices.pick((None, "b0", "nope")),
                    self.choices.pick((None, *BitmapMode)))
        needed = sync in (Sync.BITMAP, Sync.INCREMENTAL)
        mine = [bitmap.name for bitmap in self.scene.bitmaps if bitmap.node == device]
        if not mine or sync is Sync.NONE or not (needed or self.choices.chance(8)):
            return ("b0" if needed else None), None
        modes: Sequence[str | None] = list(BitmapMode)
        if sync is Sync.INCREMENTAL:
            modes = (None, BitmapMode.ON_SUCCESS)
        elif not needed:
            modes = (BitmapMode.ON_SUCCESS, BitmapMode.ALWAYS)
        return self.choices.pick(mine), self.choices.pick(modes)

    def _chunk(self) -> int | None:
        if not self.choices.chance(3):
            return None
        return self.choices.pick(
            _BAD_CHUNKS if self.choices.chance(self.area.bad_options) else _CHUNKS)

    def _cluster(self) -> int | None:
        return self.choices.pick(openings.MIN_CLUSTERS) if self.choices.chance(1) else None

    def verb(self) -> Operation | None:
        """A command about a job, such as moves it on as a rule."""
        if not self.scene.jobs:
            return jobs.JobCancel(JOBS[0]) if self.choices.chance(1) else None
        name = self.choices.pick(list(self.scene.jobs))
        if self.choices.chance(3):
            return jobs.JobSetSpeed(name, self.choices.pick(_SPEEDS))
        verbs = _VERBS
        if not self.choices.chance(2):
            verbs = _SENSIBLE.get(self.scene.jobs[name], _VERBS)
        verb = self.choices.pick(verbs)
        older = self.choices.chance(3) and not issubclass(verb, jobs.JobCancel)
        return verb(name, block=True) if older else verb(name)

    # Transactions

    def transaction(self) -> Operation | None:
        """A few bitmap commands and jobs at once."""
        grouped = self.choices.chance(5)
        drawn = [self._action(rank, grouped=grouped)
                 for rank in range(self.choices.integer(1, 4))]
        return jobs.Transaction(tuple(each for each in drawn if each is not None), grouped)

    def _action(self, rank: int, *, grouped: bool) -> Operation | None:
        if grouped and not self.choices.chance(1):
            return self.backup(rank)
        if self.choices.chance(1):
            return jobs.Abort()
        if self.choices.chance(3):
            return self.backup(rank)
        return self.choices.pick((
            self.bitmap_add, self.bitmap_add, self.bitmap_remove, self.bitmap_clear,
            self.bitmap_switch, self.bitmap_merge))()

    # The process

    def persistent_bitmap(self) -> Operation | None:
        """A bitmap that the image keeps."""
        node = SOURCE if self.choices.chance(12) else self.choices.pick(list(self.scene.nodes))
        return ops.BitmapAdd(
            node, self.choices.pick(("b0", "b1", "b2", "b3", "p0", "p1")),
            self.choices.pick(openings.GRANULARITIES[:8]), persistent=True,
            disabled=self.choices.chance(3))

    def restart(self) -> Operation | None:
        """A restart, and then an export of the disk with something built over it perhaps."""
        images = list(self.scene.images)
        read_only = self.choices.some(images) if self.choices.chance(2) else []
        self._plan_start()
        return ops.Restart(tuple(read_only))

    def kill(self) -> Operation | None:
        """QEMU is killed when all has been written that it kept in memory."""
        self.planned += [ops.Flush(name) for name in self.scene.exports]
        self.planned.append(ops.Kill())
        self._plan_start()
        return self.planned.pop(0)

    def _plan_start(self) -> None:
        bitmaps = [bitmap for bitmap in self.scene.bitmaps if bitmap.node == SOURCE]
        shown = tuple(bitmaps[:1]) if self.choices.chance(4) else ()
        if self.choices.chance(14):
            self.planned.append(ops.Export(SOURCE, bitmaps=shown))
        if self.choices.chance(2):
            self.planned.append(ops.Export(SOURCE, writable=False))


_MAKERS: Final[dict[Action, Callable[[JobDrawer], Operation | None]]] = {
    Action.BACKUP: JobDrawer.backup,
    Action.DRIVE_BACKUP: JobDrawer.drive_backup,
    Action.JOB_VERB: JobDrawer.verb,
    Action.TRANSACTION: JobDrawer.transaction,
    Action.PERSISTENT_BITMAP: JobDrawer.persistent_bitmap,
    Action.RESTART: JobDrawer.restart,
    Action.KILL: JobDrawer.kill,
}
