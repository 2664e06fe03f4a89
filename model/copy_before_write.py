# SPDX-License-Identifier: GPL-2.0-or-later
"""The copy-before-write filter: keeps a point in time of the node below it.

The guest's requests pass through the filter to its *source* (child ``file``).  Before the first
change of a cluster its old data is copied to the *target*, a temporary image.  The filter keeps
three bitmaps, a bit a cluster:

========  ===============================================================================
access    the backup client may read the cluster
done      the cluster was copied, or need not be: the point in time is in the target
copy      the cluster is still to be copied before it changes (:mod:`model.block_copy`)
========  ===============================================================================

The point in time of a cluster is in the target if it is done, else in the source.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

from .bitmap import DirtyBitmap, align_down, align_up, split
from .block_copy import BlockCopy, CopyCall
from .capabilities import Capabilities
from .content import Content, zeroes
from .errors import Errno, RequestFailed
from .node import SECTOR, Node, Status, Zeroing, filtered
from .operations import OnCbwError
from .program import Program, Task, Wait, collecting, ending
from .readings import Reading, until_read
from .rules import rule
from .tracking import in_order, least

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Timer:
    """The time-out of the copy before one guest request, which touches ``[start, end)``."""

    start: int
    end: int
    expired: bool = False


@dataclass(frozen=True, slots=True)
class CbwOptions:
    """How the filter was opened; ``timeout`` in seconds, 0 or None: none."""

    on_cbw_error: OnCbwError = OnCbwError.BREAK_GUEST_WRITE
    timeout: int | None = None


class CopyBeforeWrite(Node):
    """The filter node.  Its size is the source's size when it was opened."""

    driver = "copy-before-write"
    heeds_nothing = True

    def __init__(self, name: str, source: Node, target: Node, block_copy: BlockCopy,
                 options: CbwOptions, capabilities: Capabilities, *, discard: bool,
                 fired: Counter[str]) -> None:
        super().__init__(name, source.size, discard=discard, fired=fired)
        self.source = source
        self.target = target
        self.block_copy = block_copy
        self.options = options
        self.capabilities = capabilities
        self.cluster_size = block_copy.cluster_size
        self.reported_cluster_size = source.reported_cluster_size
        self.subcluster_size = source.subcluster_size
        self.zeroes_fast = source.zeroes_fast
        self.most_at_once = least(source.most_at_once, target.most_at_once)
        self._discard_alignment = max(source.discard_alignment, target.discard_alignment)
        self.frozen: list[Reading] = []
        """Fleecing reads of the source under way, latest first: the guest must not change what
        they are of."""
        self.timers: list[Timer] = []
        self.snapshot_error: Errno | None = None
        self.done = self._make_bitmap()
        self.access = self._make_bitmap()
        self._start_access()

    def _make_bitmap(self) -> DirtyBitmap:
        """A bitmap for the snapshot's sake: a build without snapshots has, and shows, none."""
        bitmap = DirtyBitmap(self.size, self.cluster_size)
        return self.add_bitmap(bitmap) if self.capabilities.snapshot_access else bitmap

    @rule("cbw.access-starts-as-copy", source="option bitmap of copy-before-write")
    def _start_access(self) -> None:
        """What may be read is, at first, what is to be copied: the clusters that the option
        ``bitmap`` has dirty, wholly or in part; without that option, all.  The bitmap is looked
        at only once: what happens to it later changes nothing."""
        self.access.merge(self.block_copy.copy_bitmap)

    # The guest's side

    @rule("cbw.reads-pass", source="copy-before-write is a filter")
    def _read(self, start: int, end: int) -> Program[Content]:
        """A guest's read goes to the source, is never held up and changes nothing."""
        return self.source.read(start, end)

    def _write(self, start: int, content: Content) -> Program[None]:
        yield from self._before_change(start, start + content.size)
        yield from self.source.write(start, content)

    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        yield from self._before_change(start, end)
        yield from self.source.write_zeroes(start, end, how)

    @property
    def discard_alignment(self) -> int:
        """The larger of the source's and the target's, as they were when it was opened."""
        return self._discard_alignment

    @rule("cbw.discards-in-pieces", source="pdiscard_alignment of the block layer (experiment)")
    def _discard(self, start: int, end: int) -> Program[None]:
        """A discard is done in up to three pieces, each copied by itself: the whole clusters in
        it, what comes before them and what comes after.  The clusters are those of the qcow2
        image below, target included, that has the largest; backing files do not count, nor does
        what came below only after the filter had been opened.  A piece whose copy is not
        supported is left out, and the others are done all the same."""
        for low, high in split(start, end, self.discard_alignment):
            yield from self._advised(self._discard_piece(low, high))

    def _discard_piece(self, start: int, end: int) -> Program[None]:
        yield from self._before_change(start, end)
        yield from self.source.discard(start, end)

    @rule("cbw.unchanged-writes-pass", source="BDRV_REQ_WRITE_UNCHANGED; driver copy-on-read "
          "over a filter (experiment)")
    def write_unchanged(self, start: int, content: Content) -> Program[None]:
        """A write that changes nothing, as of a copy-on-read node above, goes to the source at
        once, through other filters too: nothing is copied, no bitmap of the filter changes and no
        read is waited for."""
        return self.source.take_unchanged(start, content)

    @rule("cbw.flush-source-only", source="the temporary image need not survive (experiment)")
    def _flush(self) -> Program[None]:
        """A flush goes to the source, not to the target, and when those before it have ended."""
        return in_order(self.flushes, self.source.flush())

    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """The source's."""
        stop, status = yield from self.source.block_status(start, end)
        return stop, filtered(status)

    def own_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """The source's, of that image alone."""
        return self.source.own_status(start, end)

    def is_allocated(self, start: int, end: int) -> Program[tuple[int, bool | None]]:
        """What the source says."""
        return self.source.is_allocated(start, end)

    def check_resize(self, size: int) -> None:
        """What the source refuses."""
        self.source.check_resize(size)

    @rule("cbw.resize-copies-nothing", source="block_resize of a filter (experiment)")
    def resize(self, size: int) -> None:
        """The filter resizes its source, rounding its own size down to whole sectors.  Nothing
        is copied before, so what is cut off is lost to the snapshot.  What is new is neither
        copied nor readable through the snapshot.  If the source itself is resized, below a filter
        that nobody uses, the filter keeps its size."""
        self.source.resize(size)
        self._resized(align_down(size, SECTOR))

    @rule("cbw.copies-before-change", source="docs/interop/qmp: copy-before-write: before each "
          "guest write, old data is copied to the target")
    def _before_change(self, start: int, end: int) -> Program[None]:
        """Before a write, a write of zeroes or a discard: every cluster it touches that is still
        to be copied is copied to the target; then *all* clusters it touches are done, also those
        that were not to be copied; then the change waits for the fleecing reads of the source
        that are under way in these clusters.  A write of no bytes touches the cluster that it is
        inside of, or none."""
        if self.snapshot_error is not None:
            return
        start = align_down(start, self.cluster_size)
        end = align_up(end, self.cluster_size)
        try:
            yield from self._copy_in_time(start, end)
        except RequestFailed as why:
            self._copy_failed(why.error)
        else:
            self.done.set(start, end)
        yield from self._wait_for_frozen(start, end)

    def _copy_in_time(self, start: int, end: int) -> Program[None]:
        call = CopyCall()
        if not self.options.timeout:
            yield from self.block_copy.copy(start, end, call)
            return
        timer = Timer(start, end)
        failures: list[Errno] = []
        copy = Task(collecting(self.block_copy.copy(start, end, call), failures))
        self.timers.append(timer)
        yield copy
        yield Wait(lambda: copy.finished or timer.expired, "the copy to end or its time to be up",
                   last=True)
        self.timers.remove(timer)
        if not copy.finished:
            self._time_is_up(call)
        if failures:
            raise RequestFailed(failures[0])

    @rule("cbw.timeout", source="option cbw-timeout of copy-before-write (QEMU 7.1)")
    def _time_is_up(self, call: CopyCall) -> NoReturn:
        """With ``cbw-timeout``, a copy that takes longer fails with ETIMEDOUT.  Its storage
        requests that are under way go on in the background, and no new ones start; what they
        copy need not be copied again."""
        call.cancelled = True
        raise RequestFailed(Errno.ETIMEDOUT)

    @rule("cbw.failed-copy", source="option on-cbw-error of copy-before-write")
    def _copy_failed(self, error: Errno) -> None:
        """A copy that fails breaks the guest's request, which then ends with the errno of the
        copy and changes nothing; or, with ``break-snapshot``, the snapshot: the request goes
        ahead, and from then on no cluster is copied and every fleecing read is refused."""
        if self.options.on_cbw_error is OnCbwError.BREAK_GUEST_WRITE:
            raise RequestFailed(error)
        if self.snapshot_error is None:
            self.snapshot_error = error

    def _wait_for_frozen(self, start: int, end: int) -> Program[None]:
        return until_read(self.frozen, start, end, "a fleecing read of the source to end")

    # The backup client's side

    def snapshot_read(self, start: int, end: int) -> Program[Content]:
        """Read the point in time: run by run of equal done bits; EACCES as :meth:`_may_access`."""
        content = zeroes(end - start)
        place = start
        while place < end:
            self._may_access(place, end)
            done, stop = self._run_of_done(place, end)
            if done:
                piece = yield from self.target.read(place, stop)
            else:
                piece = yield from self._freezing(place, end, self.source.read(place, stop))
            content.paste(place - start, piece)
            place = stop
        return content

    def snapshot_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """Block status of the point in time: that of the child which has it, at most up to where
        the done bit changes; EACCES if any cluster of the *whole* range may not be accessed."""
        self._may_access(start, end)
        done, stop = self._run_of_done(start, end)
        if done:
            return (yield from self.target.own_status(start, stop))
        return (yield from self._freezing(start, end, self.source.own_status(start, stop)))

    @rule("cbw.access-control", source="commit 'copy-before-write: realize snapshot-access API': "
          "a read of what the bitmap did not cover, or of what was discarded, gets EACCES")
    def _may_access(self, start: int, end: int) -> None:
        """If a cluster that the request still touches, be it in part, may not be accessed, all
        that remains of the request is refused with EACCES.  So is every request once a failed
        copy has broken the snapshot."""
        if self.snapshot_error is not None or not self.access.all_dirty(start, end):
            raise RequestFailed(Errno.EACCES)

    @rule("cbw.point-in-time", source="commit 'copy-before-write: realize snapshot-access API': "
          "untouched or in-flight data is read from the active disk, the rest from temp.img")
    def _run_of_done(self, start: int, end: int) -> tuple[bool, int]:
        """The target has the point in time of what is done, the source has that of the rest.
        The answer is whether ``start`` is done, and where in ``(start, end]`` that changes."""
        done, stop = self.done.run(start, end)
        # The defect: a run of done clusters that ends before the request does.
        if done and stop < end and self.capabilities.snapshot_reads_source_before_done_run_ends:
            done = False
        return done, stop

    @rule("cbw.frozen-reads", source="commit 'copy-before-write: realize snapshot-access API': "
          "guest writes wait for in-flight fleecing reads that read from the active disk; "
          "experiment")
    def _freezing(self, start: int, end: int, look: Program[Result]) -> Program[Result]:
        """While a fleecing request looks at the source, the guest cannot change ``[start, end)``,
        which is all that is left of the request: the run that is looked at, and what comes after
        it.  A request that looks at the target holds up nobody."""
        frozen = Reading(start, end)
        self.frozen.insert(0, frozen)
        return (yield from ending(look, partial(self.frozen.remove, frozen)))

    def snapshot_discard(self, start: int, end: int) -> Program[None]:
        """The client is done with the range: it gives up access, nothing of it need be copied
        any more, and the target may free it.  Does not wait for reads under way."""
        if self.capabilities.snapshot_discard_rounds_inwards:
            start, end = self._whole_clusters(start, end)
        if start < end:
            self._give_up(start, end)
            yield from self.target.discard(start, end)

    @rule("cbw.discard-rounds-inwards", source="'copy-before-write: support unligned snapshot-"
          "discard' (QEMU 9.1)")
    def _whole_clusters(self, start: int, end: int) -> tuple[int, int]:
        """A snapshot discard is rounded inwards to whole clusters.  The end of the image is no
        exception: a last cluster that is cut short by it cannot be discarded."""
        return align_up(start, self.cluster_size), align_down(end, self.cluster_size)

    @rule("cbw.discard-gives-up-access", source="commit 'copy-before-write: realize snapshot-"
          "access API': benefit 2, discard support")
    def _give_up(self, start: int, end: int) -> None:
        """Discarded clusters lose their access and copy bits and keep their done bits."""
        self.access.reset(start, end)
        self.block_copy.forget(start, end)
