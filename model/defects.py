# SPDX-License-Identifier: GPL-2.0-or-later
"""Known defects that kill: which operation would be the end of a build that has them.

Each is a deviation among the capabilities (:mod:`model.capabilities`), which says in words what
it is.  No trace for a build has an operation that is deadly there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from . import operations as ops
from . import resizing
from .bitmap import align_down, align_up, split
from .block_copy import LEAST_CLUSTER, MEMORY
from .configuration import Format, RequestKind
from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import CommandRefused, Errno, RequestFailed
from .graph import Graph
from .held_image import HeldImage
from .image import Image
from .job_operations import (
    Backup,
    JobCancel,
    JobFinalize,
    JobResume,
    JobSetSpeed,
    Sync,
    Transaction,
)
from .links import shown_filter
from .node import SECTOR, Node
from .operations import Operation, Request, Via
from .permissions import parents_first
from .program import run_to_end
from .qcow2 import Qcow2
from .requests import CHANGES
from .snapshot_access import SnapshotAccess
from .transactions import deadly_refusal

ALLOCATED = 0x10
"""The bit of a block status that says "allocated" inside QEMU."""


def deadly(graph: Graph, operation: Operation) -> str | None:
    """The known defect (its name among the capabilities) by which the operation would kill a
    build that has these capabilities."""
    for defect in _triggers(graph, operation):
        if getattr(graph.capabilities, defect):
            return defect
    return None


def _triggers(graph: Graph, operation: Operation) -> Iterable[str]:
    if isinstance(operation, ops.AddFilter):
        if _is_huge(operation.min_cluster_size):
            yield "huge_min_cluster_size_aborts"
    elif isinstance(operation, ops.BitmapMerge):
        if not operation.sources:
            yield "empty_merge_crashes"
    elif isinstance(operation, Transaction):
        for action in operation.actions:
            yield from _triggers(graph, action)
        yield from deadly_refusal(graph, operation)
    elif isinstance(operation, Backup):
        if not operation.auto_dismiss:
            yield "concluded_job_query_crashes"
        if _is_huge(operation.min_cluster_size):
            yield "huge_min_cluster_size_aborts"
        smallest = operation.min_cluster_size or 0
        fits = smallest < 1 << 32 and not smallest & (smallest - 1)
        if fits and smallest > MEMORY and operation.sync != Sync.NONE:
            yield "large_cluster_aborts"
        target = graph.nodes.get(operation.target)
        if target is not None and _is_image_of(Format.QED, target):
            yield "qed_parallel_allocation_aborts"
        yield from _job_triggers(graph.nodes.get(operation.device), target)
    elif isinstance(operation, (JobCancel, JobFinalize, JobResume, JobSetSpeed)):
        job = graph.jobs.get(operation.job)
        if job is not None and (job.is_held or not isinstance(operation, JobSetSpeed)):
            yield from _end_triggers(graph)
        if job is not None and job.is_active:
            yield from _job_triggers(job.filter, job.filter.target)
    elif isinstance(operation, ops.Restart):
        yield from _end_triggers(graph)
    elif isinstance(operation, ops.Resize):
        yield from _resize_triggers(graph, operation)
    elif isinstance(operation, ops.Inspect):
        node = graph.nodes.get(operation.node)
        if node is not None:
            yield from _past_an_end(node, node.size)
            yield from _copy_on_read_triggers(node)
    elif isinstance(operation, ops.RemoveNode):
        node = graph.nodes.get(operation.node)
        if node is not None and any(bitmap.busy for bitmap in node.bitmaps):
            yield "busy_bitmap_removal_aborts"
    elif isinstance(operation, ops.Attach):
        if graph.device is not None and graph.device.name == operation.node:
            yield "attaching_again_aborts"
        node = graph.nodes.get(operation.node)
        if node is not None and graph.device is None:
            yield from _past_an_end(node, min(SECTOR, node.size))
            yield from _copy_on_read_triggers(node, (0, SECTOR), aligned=False)
    elif isinstance(operation, Request):
        yield from _request_triggers(graph, operation)


def _end_triggers(graph: Graph) -> Iterable[str]:
    """By the end of a job, which removes its filter."""
    if _is_filtered(graph):
        yield "filtered_job_filter_aborts"
    if any(bitmap.busy for job in graph.jobs.values() for bitmap in job.filter.bitmaps):
        yield "busy_bitmap_removal_aborts"


def _is_filtered(graph: Graph) -> bool:
    """Whether another filter's copy bitmap is on the filter of a job, which so cannot go."""
    for job in graph.jobs.values():
        own = (job.filter.access, job.filter.done, job.filter.block_copy.copy_bitmap)
        if job.is_active and any(bitmap.name is None and bitmap not in own
                                 for bitmap in job.filter.bitmaps):
            return True
    return False


def _is_huge(min_cluster_size: int | None) -> bool:
    """Whether a cluster size passes the first check, yet is too large for a bitmap."""
    return (min_cluster_size is not None and 1 << 32 <= min_cluster_size < 1 << 63
            and not min_cluster_size & (min_cluster_size - 1))


def _request_triggers(graph: Graph, request: Request) -> Iterable[str]:
    node = graph.nodes.get(request.node)
    if node is None:
        return
    if isinstance(request, ops.Read) and request.offset <= node.size:
        yield from _read_triggers(node, request)
    if not request.length:
        return
    start, end = request.offset, min(request.offset + request.length, node.size)
    if start >= end:
        return
    yield from _past_an_end(node, end)
    below = parents_first([node])
    if isinstance(request, ops.Discard):
        late = {each.name for job in graph.jobs.values() for each in parents_first([job.filter])}
        if _discards_unaligned(node, start, end, late):
            yield "unaligned_snapshot_discard_aborts"
    kept = [shown for each in below if (shown := shown_filter(each)) is not None]
    for each in kept:
        yield from _lacks_a_copy(each)
    if any(_status_fails(each.target) for each in kept):
        yield "failed_target_status_aborts"
    if _asks_status(request) and any(isinstance(each, SnapshotAccess) for each in below) and any(
            isinstance(each, Qcow2) and each.spec.preallocation for each in below):
        yield "preallocated_status_aborts"
    if isinstance(request, CHANGES):
        yield from _change_triggers(node, start, end)
    if not isinstance(request, ops.Read):
        yield from _copy_on_read_triggers(node)


def _job_triggers(*nodes: Node | None) -> Iterable[str]:
    """By what a job may do to its device and its target: read all of them, change all of them
    (the device by discards)."""
    for node in nodes:
        if node is not None:
            yield from _past_an_end(node, node.size)
            yield from _change_triggers(node, 0, node.size)
            yield from _copy_on_read_triggers(node)


def _resize_triggers(graph: Graph, command: ops.Resize) -> Iterable[str]:
    try:
        resizing.check(graph, command)
    except CommandRefused:
        return
    for node in resizing.resized_with(graph.nodes[command.node]):
        if any(bitmap.busy for bitmap in node.bitmaps):
            yield "busy_bitmap_resize_aborts"
        growth = command.size - node.size
        if not isinstance(node, Image) and align_down(command.size, SECTOR) < growth:
            yield "empty_filter_growth_aborts"


def _past_an_end(node: Node, end: int) -> Iterable[str]:
    """By a request up to ``end`` that goes past the end of a node below, one that was resized
    since the node above was opened."""
    if isinstance(node, CopyBeforeWrite):
        end = min(align_up(end, node.cluster_size), node.size)
        if end > node.source.size:
            yield "shrunk_source_aborts"
        yield from _past_an_end(node.source, min(end, node.source.size))
    elif isinstance(node, CopyOnRead):
        yield from _past_an_end(node.file, min(align_up(end, node.unit), node.file.size))
    elif (kept := shown_filter(node)) is not None:
        if end > kept.size or _shows_beyond(kept, kept.target.size, end):
            yield "resized_filter_snapshot_aborts"
        yield from _past_an_end(kept, end)
        yield from _past_an_end(kept.target, min(end, kept.target.size))
    elif isinstance(node, Qcow2) and node.backing is not None:
        # A write reads up to the end of a cluster, be it past that of the image.
        yield from _past_an_end(node.backing, min(align_up(end, node.cluster), node.backing.size))


def _read_triggers(node: Node, read: ops.Read) -> Iterable[str]:
    """By a read through copy-on-read: over subclusters, or of nothing at an end that is inside a
    cluster."""
    start, end = read.offset, min(read.offset + read.length, node.size)
    plain = not read.length or read.via not in (Via.NBD, Via.QEMU_IO)
    yield from _copy_on_read_triggers(node, (start, end) if plain else None, aligned=False)
    while not read.length and isinstance(node, (CopyBeforeWrite, CopyOnRead)):
        if isinstance(node, CopyOnRead) and start == node.size and start % node.unit:
            yield "empty_copy_on_read_aborts"
        node = node.source if isinstance(node, CopyBeforeWrite) else node.file


def _copy_on_read_triggers(node: Node, read: tuple[int, int] | None = None, *,
                           aligned: bool = True) -> Iterable[str]:
    """By a ``read`` through copy-on-read of an image with subclusters, or by reads somewhere, of
    whole clusters of 64 KiB if they are ``aligned``."""
    while isinstance(node, CopyBeforeWrite):
        node = node.source
    for each in parents_first([node]):
        if not isinstance(each, CopyOnRead) or not each.size:
            continue
        cluster = each.file.reported_cluster_size or 1
        if each.file.subcluster_size in (None, cluster) or (aligned and cluster <= LEAST_CLUSTER):
            continue
        places = [read] if read is not None and each is node else [
            (start + cluster // 2, start + cluster // 2) for start in range(0, each.size, cluster)]
        if any(_is_uneven(each, cluster, *place) for place in places):
            yield "uneven_copy_on_read_aborts"


def _is_uneven(copier: CopyOnRead, cluster: int, start: int, end: int) -> bool:
    """Whether something, that is allocated or not, begins in the clusters that are read, before
    what is read of them or after it; which matters unless all that is read is allocated, and told
    to be so at once: what is told of may end with a cluster."""
    if start < end <= align_down(start, cluster) + cluster:
        whole, status = run_to_end(copier.file.own_status(start, end), lambda request: None)
        if status.is_allocated and whole >= end and not status.pieces:
            return False
    place, stop = align_down(start, cluster), min(align_up(end, cluster), copier.size)
    aligned = start == place and end == stop
    while place < stop and not aligned:
        place, status = run_to_end(copier.file.own_status(place, stop), lambda request: None)
        if status.pieces or (place < stop and not start < place < end):
            return True
    return False


def _asks_status(request: Request) -> bool:
    """Whether the request is one of block status, or makes the NBD server ask for it."""
    return isinstance(request, ops.Status) or (
        isinstance(request, ops.Read) and request.via in (Via.NBD, Via.QEMU_IO))


def _shows_beyond(kept: CopyBeforeWrite, start: int, end: int) -> bool:
    """Whether the target has, by the filter's bitmaps, something that may be read in the range."""
    return any(kept.access.next_dirty(max(low, start), min(high, end), end) is not None
               for low, high in kept.done.dirty_ranges())


def _change_triggers(node: Node, start: int, end: int) -> Iterable[str]:
    """By the copies that a change of the range makes, filter after filter, and by what these do
    to the filters' targets."""
    kept = shown_filter(node)
    if kept is not None:
        yield from _target_triggers(kept, [(start, end)])  # a discard
    if isinstance(node, CopyOnRead):
        yield from _change_triggers(node.file, start, end)
    if not isinstance(node, CopyBeforeWrite):
        return
    copied = node.block_copy.to_copy(start, end)
    if copied and node.cluster_size > MEMORY:
        yield "large_cluster_aborts"
    several = sum(high - low for low, high in copied) > node.cluster_size
    if several and _is_image_of(Format.QED, node.target):
        yield "qed_parallel_allocation_aborts"
    # Whole clusters are copied, be it past a new end, though not past that of the beginning.
    yield from _target_triggers(node, [
        (low, min(align_up(high, node.cluster_size), node.block_copy.length))
        for low, high in copied])
    yield from _change_triggers(node.source, start, end)


def _target_triggers(node: CopyBeforeWrite, changed: Iterable[tuple[int, int]]) -> Iterable[str]:
    """By changes of these ranges of a filter's target."""
    for start, end in changed:
        if end > node.target.size:
            yield "short_target_aborts"
        yield from _change_triggers(node.target, start, end)


def _is_image_of(wanted: Format, node: Node) -> bool:
    return isinstance(node, Image) and node.spec.format is wanted


def _discards_unaligned(node: Node, start: int, end: int, late: Collection[str]) -> bool:
    """Whether a discard, or a piece of it (see rule cbw.discards-in-pieces), reaches a filter's
    snapshot on its way down without being aligned to that filter's clusters.  What is below a
    job's filter, the ``late`` nodes, may count for where it is cut, or not: that filter may have
    come since the node was opened."""
    if not node.discard_enabled or start >= end:
        return False
    units = {node.discard_alignment, *(
        each.cluster for each in parents_first([node])
        if isinstance(each, Qcow2) and each.name in late)}
    pieces = {piece for unit in units for piece in split(start, end, unit)}
    if isinstance(node, CopyBeforeWrite):
        return any(_discards_unaligned(node.source, low, high, late) for low, high in pieces)
    kept = shown_filter(node)
    if kept is None:
        return False
    unit = kept.cluster_size
    ends = {kept.size, kept.block_copy.copy_bitmap.size}
    return any(low % unit or (high % unit and ends != {high})
               or _discards_unaligned(kept.target, low, high, late)
               for low, high in pieces)


def _lacks_a_copy(kept: CopyBeforeWrite) -> Iterable[str]:
    """By what the target has not allocated, or perhaps not, though it is done."""
    target = kept.target
    if isinstance(target, HeldImage):  # all is allocated; and looking would not leave it as it is
        return
    for start, end in kept.done.dirty_ranges():
        end = min(end, target.size)
        while start < end:
            try:
                start, status = run_to_end(target.own_status(start, end), lambda request: None)
            except RequestFailed as why:
                if not says_allocated(why.error):
                    yield "failed_target_status_aborts"
                break
            if status.is_allocated is False:
                yield "uncopied_status_aborts"
            elif status.is_allocated is None and _is_image_of(Format.PARALLELS, target):
                yield "unallocated_copy_status_aborts"


def _status_fails(target: Node) -> bool:
    """Whether the target's block status fails with an errno that is taken for a status."""
    return isinstance(target, Image) and any(
        fault.kind is RequestKind.STATUS and not says_allocated(Errno[fault.errno])
        for fault in target.spec.faults)


def says_allocated(error: Errno) -> bool:
    """Whether the errno, if it is taken for a block status, is one of data that are there."""
    return bool(-error & ALLOCATED)
