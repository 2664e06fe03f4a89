# SPDX-License-Identifier: GPL-2.0-or-later
"""Block-copy: bring old data from the source to the target, each cluster once.

Its state is the *copy bitmap*: the clusters still to be copied.  A filter's guest writes and a
backup job share one block-copy, so neither copies what the other has.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from .bitmap import DirtyBitmap, align_down, align_up
from .configuration import KIB, MIB
from .content import ZERO, Content, zeroes
from .content import is_zero as reads_zero
from .errors import CommandRefused, Errno, RequestFailed, Undetermined
from .jobs import Progress
from .node import DATA, Node, Status, Zeroing
from .program import Program, Task, Wait
from .qcow2 import Qcow2
from .readings import until_read
from .rules import rule
from .tracking import least

LEAST_CLUSTER: Final = 64 * KIB
"""Bytes: no unit of copying is smaller."""
BUFFER: Final = 1 * MIB
"""Bytes that a copy task moves at most, or one cluster if that is more."""
MOST_TASKS: Final = 64
"""Copy tasks that one request has under way at a time."""
MEMORY: Final = 128 * MIB
"""Bytes that the copy tasks of all requests may have in hand at a time."""
LARGEST_SIZE: Final = (1 << 63) - 1
"""Bytes: QEMU's sizes are signed 64-bit numbers."""


def cluster_size_of(target: Node, min_cluster_size: int) -> int:
    """The unit of copying in bytes: the largest of 64 KiB, ``min_cluster_size`` and what the
    target says of its own clusters; so that a cluster of the target is never copied in part.

    Raises CommandRefused for a ``min_cluster_size`` that is no power of two or not below 2^63.
    The source's clusters play no part.  Source: option min-cluster-size; experiment.
    """
    if min_cluster_size > LARGEST_SIZE:
        raise CommandRefused(f"min-cluster-size too large: {min_cluster_size} > {LARGEST_SIZE}")
    if min_cluster_size & (min_cluster_size - 1):
        raise CommandRefused("min-cluster-size needs to be a power of 2")
    return max(LEAST_CLUSTER, min_cluster_size, target.reported_cluster_size or 0)


@dataclass(slots=True, eq=False)
class CopyTask:
    """A run of clusters being copied; while it is in flight nobody else copies any of them."""

    start: int
    end: int
    told: int = 0
    """Up to where block status has told of it at once."""

    @property
    def memory(self) -> int:
        """What the task takes of the memory for copies; of a cluster larger than that, all."""
        return min(self.end - self.start, MEMORY)


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """How one request copies: tasks at a time, and the most bytes of one (0: no further limit)."""

    tasks: int = MOST_TASKS
    chunk: int = 0


@dataclass(slots=True)
class CopyCall:
    """One request to copy a range.  ``cancelled``: it starts no further task.  ``last_task``: it
    is cancelled once it has started so many."""

    limits: CopyLimits = CopyLimits()
    cancelled: bool = False
    last_task: int | None = None
    failure: Errno | None = None
    """The errno of the first of its tasks that failed; ``failed_reading``: the task failed to read
    the source, not to write the target."""
    failed_reading: bool = False


def _shows_through(source: Node, target: Node) -> bool:
    """Whether the source is in the target's backing chain."""
    node: Node | None = target
    while node is not None and node is not source:
        node = node.backing if isinstance(node, Qcow2) else None
    return node is not None


class BlockCopy:
    """What is to be copied from ``source`` to ``target``, and what is being copied."""

    def __init__(self, source: Node, target: Node, copy_bitmap: DirtyBitmap,
                 fired: Counter[str]) -> None:
        """``copy_bitmap`` has the granularity of a cluster."""
        self.source = source
        self.target = target
        self.copy_bitmap = copy_bitmap
        self.cluster_size = copy_bitmap.granularity
        self.length = copy_bitmap.size
        """Bytes of the disk when the block-copy was made: a resize changes nothing of that."""
        self.in_flight: list[CopyTask] = []
        """Latest first."""
        self.memory = MEMORY
        """How many more bytes the tasks may take in hand."""
        self.serialising = _shows_through(source, target)
        """Whether what is copied waits for reads of the target."""
        self.fired = fired
        self.progress: Progress | None = None
        """Of the job that this block-copy works for, if it does."""
        self.discards_source = False
        """Whether the source may drop what was copied (option discard-source of jobs)."""
        self.compressing = False
        self.is_looked_through = False
        """Whether an image below the target detects zeroes in what is copied to it."""

    def copy(self, start: int, end: int, call: CopyCall) -> Program[None]:
        """Copy what is still to be copied of ``[start, end)``, which is aligned to clusters.

        When it returns, and was not cancelled, no cluster of the range is to be copied or in
        flight.  Fails with the errno of the first of its own tasks that failed; a failure of
        somebody else's is retried.
        """
        again = True
        while again and not call.cancelled:
            again = yield from self._copy_dirty(start, end, call)
            if not again and not call.cancelled:
                again = yield from self._wait_for_others(start, end)

    @rule("block-copy.tasks", source="block-copy splits a request into tasks of at most 1 MiB "
          "or one cluster; x-perf of backup jobs")
    def _copy_dirty(self, start: int, end: int, call: CopyCall) -> Program[bool]:
        """Each run of clusters to be copied, at most 1 MiB or what both storages take at once (or
        one cluster) of it, becomes a task; tasks run beside each other, at most 64 at a time;
        after the first failure no new one starts, though its block status may have been asked for,
        and the errno of the first failure is the answer once all have ended.  A single task that
        is all of the request is run by the request itself."""
        tasks: list[Task] = []
        place = start
        found_any = False
        while place < end and call.failure is None and not call.cancelled:
            found = self.copy_bitmap.next_dirty(place, end, self.chunk(call.limits))
            if found is None:
                break
            found_any = True
            copy = self._begin(found[0], align_up(found[1], self.cluster_size))
            is_zero = yield from self._shrink_to_status(copy, follows=start < place == copy.start)
            place = copy.end
            yield from self._take_memory(copy)
            if place >= end and not tasks:
                yield from self._run(copy, is_zero, call)
                break
            yield Wait(lambda: sum(not task.finished for task in tasks) < call.limits.tasks,
                       "a copy task to end: no more may be under way", last=True)
            if call.failure is not None:
                self._put_back(copy)
                break
            task = Task(self._run(copy, is_zero, call))
            tasks.append(task)
            call.cancelled = call.cancelled or len(tasks) == call.last_task
            yield task
            if task.outlives_its_start and call.failure is not None and not call.cancelled:
                yield from self._look_ahead(place, end, call)
        yield Wait(lambda: all(task.finished for task in tasks), "own copy tasks to end",
                   last=True)
        if call.failure is not None:
            raise RequestFailed(call.failure)
        return found_any

    def _look_ahead(self, start: int, end: int, call: CopyCall) -> Program[None]:
        """Before a task has failed, the next one has been made up, and block status been asked
        for it."""
        found = self.copy_bitmap.next_dirty(start, end, self.chunk(call.limits))
        if found is not None:
            copy = self._begin(found[0], align_up(found[1], self.cluster_size))
            yield from self._shrink_to_status(copy, follows=False)
            self.copy_bitmap.set(copy.start, copy.end)
            self.in_flight.remove(copy)

    def chunk(self, limits: CopyLimits) -> int:
        """The most that one task copies, in bytes: whole clusters, as far as source and target
        take so much at once, or else one."""
        if self.compressing:
            return self.cluster_size
        chunk = max(self.cluster_size, BUFFER)
        most = least(self.source.most_at_once, self.target.most_at_once)
        if most is not None:
            chunk = min(chunk, max(align_down(most, self.cluster_size), self.cluster_size))
        return min(chunk, limits.chunk) if limits.chunk else chunk

    def _take_memory(self, copy: CopyTask) -> Program[None]:
        if self.memory < copy.memory:
            yield self._until_there_is_memory(copy.memory)
        self.memory -= copy.memory

    @rule("block-copy.memory", source="block-copy: the copies of one node share 128 MiB")
    def _until_there_is_memory(self, size: int) -> Wait:
        """The tasks of a filter have at most 128 MiB in hand: one that would exceed that waits."""
        return Wait(lambda: self.memory >= size, "memory for the copy")

    @rule("block-copy.claims-clusters", source="one copy of each cluster (block-copy)")
    def _begin(self, start: int, end: int) -> CopyTask:
        """A task takes its clusters out of the copy bitmap before any of its I/O, so that nobody
        else starts to copy them."""
        self.copy_bitmap.reset(start, end)
        task = CopyTask(start, end)
        self.in_flight.insert(0, task)
        return task

    @rule("block-copy.zeroes-stay-zeroes", source="block status of the source chooses the way of "
          "copying (experiment: holes stay holes)")
    def _shrink_to_status(self, task: CopyTask, *, follows: bool) -> Program[bool | None]:
        """A task is cut to the run of equal block status at its start, whole clusters of it; what
        is cut off goes back into the copy bitmap.  A run that reads as zero is copied by writing
        zeroes.  If the run is shorter than a cluster, or block status fails, one cluster is
        copied as data.  The answer is whether zeroes are to be written; None if that depends on
        the storage, or on where in the file of the source its zeroes lie.  ``follows``: the task
        before it in the same request ended where it begins."""
        limit = min(task.end, self.length)
        is_zero: bool | None
        try:
            stop, status = yield from self._status(task.start, limit)
        except RequestFailed:
            stop, is_zero = task.start + self.cluster_size, False
        else:
            is_zero, task.told = status.is_zero, stop
            if is_zero and 0 < status.pieces < self.cluster_size:
                is_zero = None
            if stop - task.start < self.cluster_size:
                is_zero = False
                if status.goes_on or (follows and self._may_be_joined(status)):
                    is_zero = None
                stop = task.start + self.cluster_size
            elif stop == self.length:
                stop = align_up(stop, self.cluster_size)
            else:
                stop = align_down(stop, self.cluster_size)
            if is_zero is None and status.kept:
                raise Undetermined("what may be a hole may be read, and kept")
        self.copy_bitmap.set(stop, task.end)
        task.end = stop
        return is_zero

    def _may_be_joined(self, status: Status) -> bool:
        """Whether a run that may read as zero may as well be the end of a longer run of data, and
        be written with that, so that a target that detects zeroes finds none."""
        return self.is_looked_through and status.is_zero is None and not self.compressing

    def _run(self, task: CopyTask, is_zero: bool | None,
             call: CopyCall) -> Program[None]:
        end = min(task.end, self.length)
        packing = self.target if (self.compressing and not is_zero
                                  and isinstance(self.target, Qcow2)) else None
        reading = False
        try:
            if not is_zero:
                reading = True
                content = yield from self._read(task.start, end)
                reading = False
                if is_zero is None and not reads_zero(content):
                    if not reads_zero(content.slice(0, min(task.told, end) - task.start)):
                        raise Undetermined("what may be told to be zero is of another time than "
                                           "what is read")
                    is_zero = False
            if self.serialising:
                yield from self._wait_for_readers(task.start, end)
            if packing is not None:
                packing.check_fresh(task.start, end)
            if is_zero is False:
                yield from self.target.write(task.start, content)
            else:
                how = Zeroing(perhaps=is_zero is None)
                yield from self.target.write_zeroes(task.start, end, how)
            if packing is not None:
                packing.compress(task.start, content)
        except RequestFailed as why:
            if call.failure is None:
                call.failure, call.failed_reading = why.error, reading
            self._failed(task)
            return
        self._end(task)
        if self.progress is not None:
            self.progress.done += task.end - task.start
        if self.discards_source:
            with suppress(RequestFailed):  # that space is not freed harms no backup
                yield from self.source.discard(task.start, end)

    def _status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """The source's; past its end, if it was made smaller, there is none."""
        if start >= self.source.size:
            return start, DATA
        return (yield from self.source.block_status(start, min(end, self.source.size)))

    def _read(self, start: int, end: int) -> Program[Content]:
        stop = min(end, self.source.size)
        content = (yield from self.source.read(start, stop)) if start < stop else zeroes(0)
        if stop < end:
            self._pad(content, end - start)
        return content

    @rule("block-copy.past-a-shrunk-end", source="block_resize of a filter (experiment)")
    def _pad(self, content: Content, length: int) -> None:
        """What the source had past its end before it was made smaller is copied as zeroes."""
        content.resize(length, ZERO)

    @rule("block-copy.waits-for-readers", source="block-copy: with the source in the target's "
          "backing chain its writes are serialising (experiment)")
    def _wait_for_readers(self, start: int, end: int) -> Program[None]:
        """Where the source shows through the target, a copy might change the target in the middle
        of a read.  So it waits for the reads under way in its clusters, the latest first."""
        return until_read(self.target.reading, start, end, "a read of the target to end")

    @rule("block-copy.failed-clusters-come-back", source="a failed copy can be tried again "
          "(experiment)")
    def _failed(self, task: CopyTask) -> None:
        """A task that fails puts all its clusters back into the copy bitmap."""
        self._put_back(task)

    def _put_back(self, task: CopyTask) -> None:
        self.copy_bitmap.set(task.start, task.end)
        self._end(task)

    def _end(self, task: CopyTask) -> None:
        self.memory += task.memory
        self.in_flight.remove(task)

    def _wait_for_others(self, start: int, end: int) -> Program[bool]:
        """Wait for one task of somebody else, if any; gives whether to look again."""
        other = next((task for task in self.in_flight
                      if task.start < end and start < task.end), None)
        if other is not None:
            yield self._end_of(other)
        return other is not None

    @rule("block-copy.waits-for-others", source="one copy of each cluster (block-copy)")
    def _end_of(self, other: CopyTask) -> Wait:
        """A request with nothing left to copy waits for the tasks of others on its clusters, one
        after the other, and then looks again, as those may have failed.  It also looks again when
        such a task is cut to a run of equal block status: what is cut off is anybody's to copy."""
        end = other.end
        return Wait(lambda: other not in self.in_flight or other.end < end,
                    "somebody else's copy to end")

    def to_copy(self, start: int, end: int) -> list[tuple[int, int]]:
        """What is still to be copied of the clusters that ``[start, end)`` touches, as ranges."""
        return self.copy_bitmap.dirty_ranges(
            align_down(start, self.cluster_size),
            min(align_up(end, self.cluster_size), self.length))

    @rule("block-copy.need-not-copy", source="discard through snapshot-access: do not copy "
          "these clusters")
    def forget(self, start: int, end: int) -> None:
        """Clusters that a client has discarded, or that a job has found it need not copy, leave
        the copy bitmap: they are not copied any more."""
        self.copy_bitmap.reset(start, end)
        if self.progress is not None:
            in_flight = sum(task.end - task.start for task in self.in_flight)
            self.progress.set_remaining(self.copy_bitmap.count + in_flight)
