# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operation ends with, and what can be seen of the state after it.

The model answers with :class:`Outcome`; the harness turns what a real system answered into values
of the same shape and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, TypeAlias

from .content import Content
from .errors import Errno, QmpError


class Allocation(IntFlag):
    """The flags of NBD's ``base:allocation`` context."""

    DATA = 0
    HOLE = 1
    ZERO = 2


def agreed(answers: Iterable[bool]) -> bool | None:
    """What all of the answers say; None: they differ."""
    different = {*answers}
    return different.pop() if len(different) == 1 else None


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of block status: its length in bytes and the flag values it may have.

    Nearly always a single value.  More than one where the storage below QEMU decides: whether
    the file system keeps a never written part of a raw file as a hole, for instance.
    """

    length: int
    allowed: frozenset[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the model says that an operation ends.

    ``error`` None: success, then ``content`` (reads, inspections) or ``extents`` (block status)
    hold what was asked for.  ``refused`` holds the QMP error instead, for QMP operations.
    ``denied`` lists, for an inspected snapshot, the ranges (start, end) that give EACCES.
    ``perhaps_zero`` lists ranges (start, end) of the disk that may be read as zero instead, the
    storage below QEMU deciding.  ``disconnected``: the server drops the client's connection
    instead of answering.  ``compressed`` has, when QEMU has ended, how many clusters of each qcow2
    file hold compressed data: the numbers that may be, as that can be up to the storage.
    """

    error: Errno | None = None
    refused: QmpError | None = None
    content: Content | None = None
    extents: tuple[Extent, ...] | None = None
    denied: tuple[tuple[int, int], ...] = ()
    perhaps_zero: tuple[tuple[int, int], ...] = ()
    disconnected: bool = False
    compressed: Mapping[str, range] | None = None


@dataclass(frozen=True, slots=True)
class BitmapView:
    """A dirty bitmap as ``query-named-block-nodes`` shows it.

    ``name`` None: anonymous.  ``granularity`` and ``count`` are bytes; count is dirty granules
    times granularity, so it may exceed the disk.
    """

    name: str | None
    granularity: int
    count: int
    recording: bool = False
    busy: bool = False
    persistent: bool = False
    inconsistent: bool = False


BitmapsByNode: TypeAlias = Mapping[str, tuple[BitmapView, ...]]
"""The bitmaps of every node that has any, newest first, as QEMU lists them."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """The guest's device as ``query-block`` shows it: the node that it is on, which is a job's
    filter as long as the job has one over that disk, and the node's bitmaps."""

    node: str
    bitmaps: tuple[BitmapView, ...]


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as ``query-jobs`` and, after ``error``, ``query-block-jobs`` show it; ``done`` and
    ``total`` are its progress in bytes."""

    job: str
    status: str
    done: int
    total: int
    error: str | None = None
    speed: int = 0
    io_status: str = "ok"
    paused: bool = False
    """By the user or an error."""
    auto_finalize: bool = True
    auto_dismiss: bool = True


STATUS_CHANGE: Final = "JOB_STATUS_CHANGE"
"""The name of the event of a job's new status."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A BLOCK_JOB_* event or a JOB_STATUS_CHANGE: its name and its data, without the job's type
    and timestamps.  Left out are the moments in which QEMU pauses a job for its own purposes."""

    name: str
    data: tuple[tuple[str, str | int], ...]

    @property
    def job(self) -> str:
        """The job that it is about."""
        return next(str(value) for key, value in self.data if key in ("device", "id"))


def by_job(events: Iterable[JobEvent]) -> tuple[JobEvent, ...]:
    """The events of each job in their order, the jobs by name: QEMU orders no more than that."""
    return tuple(sorted(events, key=lambda event: event.job))


@dataclass(frozen=True, slots=True)
class Observation:
    """What is compared after every operation: all bitmaps, and named ones by content.

    ``digests`` has, for each named bitmap (node, name), its SHA-256 as given by
    ``x-debug-block-dirty-bitmap-sha256``.  ``events`` are those since the last observation.
    """

    bitmaps: BitmapsByNode
    digests: Mapping[tuple[str, str], str]
    jobs: tuple[JobView, ...] = ()
    events: tuple[JobEvent, ...] = ()
    device: DeviceView | None = None
    """None: there is none."""
