# SPDX-License-Identifier: GPL-2.0-or-later
"""The vocabulary of backup jobs and transactions; the rest is in :mod:`model.operations`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final

from .configuration import MIB
from .operations import Operation


class Sync(StrEnum):
    """What a backup copies."""

    FULL = "full"
    TOP = "top"
    """What is allocated in the topmost image."""
    NONE = "none"
    """Only what the guest is about to overwrite."""
    BITMAP = "bitmap"
    """What the bitmap has dirty."""
    INCREMENTAL = "incremental"
    """``bitmap`` with bitmap mode ``on-success``."""


class BitmapMode(StrEnum):
    """When the bitmap is brought up to date with what was copied."""

    NEVER = "never"
    ON_SUCCESS = "on-success"
    ALWAYS = "always"


class OnError(StrEnum):
    """What a job does when its own copying fails; a filter's guest writes are not meant."""

    REPORT = "report"
    IGNORE = "ignore"
    STOP = "stop"
    ENOSPC = "enospc"
    """``stop`` for want of space, ``report`` otherwise."""
    AUTO = "auto"
    """The same, for a job."""


@dataclass(frozen=True, slots=True)
class Backup(Operation):
    """blockdev-backup; done when the job rests: paused, pending, concluded, or, with sync
    ``none``, running.  Options left out are None.

    ``max_workers`` 1 makes the order of its requests, and so the effect of a failure, exact.
    """

    name: ClassVar[str] = "backup"
    job: str
    device: str
    target: str
    sync: str
    bitmap: str | None = None
    bitmap_mode: str | None = None
    filter_node: str | None = None
    compress: bool = False
    on_source_error: OnError = OnError.REPORT
    on_target_error: OnError = OnError.REPORT
    auto_finalize: bool = True
    auto_dismiss: bool = True
    max_workers: int | None = None
    max_chunk: int | None = None
    min_cluster_size: int | None = None
    discard_source: bool = False
    on_cbw_error: str | None = None
    speed: int | None = None
    """Bytes a second that the job itself copies; 0 or None: no limit.  See :data:`SLOWEST`."""
    use_copy_range: bool | None = None


SLOWEST: Final = 16
"""Bytes a second, or fewer: a job copies one cluster, and then nothing for more than an hour."""
FAST: Final = 4 * MIB
"""Bytes a second, or more: the job comes to its rest all the same, a moment later.  What comes of
a limit between the two depends on time."""


class NewImage(StrEnum):
    """Whether a target is there already."""

    EXISTING = "existing"
    ABSOLUTE_PATHS = "absolute-paths"
    """It is made; a backing file is named by its whole path."""


@dataclass(frozen=True, slots=True)
class DriveBackup(Backup):
    """drive-backup, which only a qemu-system has: ``target`` is an image whose node has been
    removed, named as that was; QEMU is given its file."""

    name: ClassVar[str] = "drive-backup"
    format: str | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class JobOperation(Operation):
    """A command about one job; done when the job rests again.  ``block``: the older command of
    the same verb, such as ``block-job-pause``."""

    job: str
    block: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class JobFinalize(JobOperation):
    """job-finalize: a pending job commits what it did."""

    name: ClassVar[str] = "job-finalize"


@dataclass(frozen=True, slots=True)
class JobDismiss(JobOperation):
    """job-dismiss: a concluded job is forgotten."""

    name: ClassVar[str] = "job-dismiss"


@dataclass(frozen=True, slots=True)
class JobCancel(JobOperation):
    """job-cancel: the job ends without success."""

    name: ClassVar[str] = "job-cancel"


@dataclass(frozen=True, slots=True)
class BlockJobCancel(JobCancel):
    """block-job-cancel, the older command for the same, with an option of its own."""

    name: ClassVar[str] = "block-job-cancel"
    force: bool = False
    block: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class JobPause(JobOperation):
    """job-pause."""

    name: ClassVar[str] = "job-pause"


@dataclass(frozen=True, slots=True)
class JobResume(JobOperation):
    """job-resume: also after a stop by an error."""

    name: ClassVar[str] = "job-resume"


@dataclass(frozen=True, slots=True)
class JobComplete(JobOperation):
    """job-complete, which is for jobs that mirror."""

    name: ClassVar[str] = "job-complete"


@dataclass(frozen=True, slots=True)
class JobChange(JobOperation):
    """block-job-change, which is for jobs that mirror."""

    name: ClassVar[str] = "job-change"


@dataclass(frozen=True, slots=True)
class JobSetSpeed(JobOperation):
    """block-job-set-speed: bytes a second, 0 being no limit."""

    name: ClassVar[str] = "job-set-speed"
    speed: int = 0


@dataclass(frozen=True, slots=True)
class Transaction(Operation):
    """transaction: all ``actions`` (bitmap commands and backups) happen, or none does."""

    name: ClassVar[str] = "transaction"
    actions: tuple[Operation, ...] = ()
    grouped: bool = False
    """``completion-mode`` grouped: one job that fails or is cancelled takes the others along."""


@dataclass(frozen=True, slots=True)
class Abort(Operation):
    """The transaction action ``abort``: makes the transaction fail."""

    name: ClassVar[str] = "abort"
