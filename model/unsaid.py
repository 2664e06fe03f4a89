# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the model has nothing to say, and what would kill a build by a known defect.

A trace has no operation of the first kind: its outcome depends on what cannot be seen, or no
client could send it.  One of the second kind has no outcome but the end of QEMU.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from . import operations as ops
from .backup_job import BackupJob
from .bitmap import align_down, align_up
from .block_copy import DEFAULT_CLUSTER, MEMORY
from .configuration import Configuration, Fault, Format, Image, Protocol, RequestKind
from .content import ZERO
from .copy_before_write import CopyBeforeWrite
from .graph import Graph
from .image import Image as ImageNode
from .job_operations import Backup, Sync, Transaction
from .node import Node
from .operations import Operation, Request
from .permissions import parents_first
from .program import run_to_end
from .requests import CHANGES
from .snapshot_access import SnapshotAccess


class Impossible(ValueError):
    """An operation that no trace may contain; nothing has been done."""


def check_request(configuration: Configuration, request: Request) -> None:
    """Refuse what no client sends, and what over these images cannot be told."""
    if request.offset < 0 or request.length < 0:
        raise Impossible("a negative offset or length")
    if isinstance(request, ops.Status) and not request.via.is_nbd:
        raise Impossible("block status is asked over NBD only")
    images = configuration.images
    aligned = [image.request_alignment for image in images if image.request_alignment]
    if isinstance(request, ops.Discard) and any(
            (request.offset | request.length) % alignment for alignment in aligned):
        raise Impossible("an unaligned discard, of which QEMU's blkdebug itself dies")
    if isinstance(request, ops.Discard):
        _check_discard(images, request)
    if isinstance(request, ops.Zero) and request.fast and (
            aligned or any(image.backing for image in images)):
        raise Impossible("whether such an image zeroes fast is up to the storage below it")
    if isinstance(request, ops.Write) and request.fua and any(
            fault.kind is RequestKind.FLUSH for image in images for fault in image.faults):
        raise Impossible("whether a durable write flushes differs between formats and builds")


def _check_discard(images: tuple[Image, ...], discard: ops.Discard) -> None:
    if any(image.format is Format.PARALLELS and image.discard for image in images):
        raise Impossible("what a discard does to parallels images differs between builds")
    cluster = max(image.cluster_size or DEFAULT_CLUSTER for image in images)
    if any(image.faults for image in images) and (discard.offset | discard.length) % cluster:
        raise Impossible("a discard is cut at clusters of the images; which piece fails matters")


def check_order(node: Node, request: Request) -> None:
    """Refuse, over storage that fails, a change that copies more than one cluster, or one that
    may be copied as zeroes: how the storage's block status cuts the copy up, and what it says of
    zeroes, decides which requests are made, and so which one fails."""
    start, end = request.offset, min(request.offset + request.length, node.size)
    while isinstance(node, CopyBeforeWrite) and isinstance(request, CHANGES) and start < end:
        low = align_down(start, node.cluster_size)
        high = min(align_up(end, node.cluster_size), node.size)
        dirty = [(max(a, low), min(b, high))
                 for a, b in node.block_copy.copy_bitmap.dirty_ranges() if a < high and low < b]
        if sum(b - a for a, b in dirty) > node.cluster_size:
            raise Impossible("copies several clusters over failing storage")
        if any(_has_zeroes(node.source, a, b) for a, b in dirty):
            raise Impossible("copies what may be told to be zero, over failing storage")
        node = node.source


def _has_zeroes(node: Node, start: int, end: int) -> bool:
    content = run_to_end(node.read(start, end), lambda storage_request: None)
    return any(run.value == ZERO for run in content.runs())


def check_jobs(jobs: Sequence[BackupJob], faults: Mapping[str, Sequence[Fault]]) -> None:
    """Refuse jobs over storage that fails whose requests can come in more than one order."""
    failing = any(faults.values())
    if failing and len(jobs) > 1:
        raise Impossible("several jobs run beside each other over failing storage")
    if failing and any(job.command.max_workers != 1 for job in jobs):
        raise Impossible("a job with several requests at a time over failing storage")


def check_cancel(graph: Graph) -> None:
    """Refuse to cancel a job stopped by an error if its last copies may need no time, as zeroes
    do that only change an image's tables: how many there are then depends on that."""
    for job in graph.jobs.values():
        target = job.filter.target
        if job.stopped_copying and not (
                isinstance(target, ImageNode) and target.spec.format is Format.RAW):
            raise Impossible("how much a stopped job copies on its way out is not known")


def check_restart(configuration: Configuration) -> None:
    """Refuse to restart over storage that is the harness's own and would begin anew."""
    if any(image.protocol is Protocol.HELD for image in configuration.images):
        raise Impossible("held storage belongs to one QEMU")


def check_kill(configuration: Configuration, unsaved: Collection[str]) -> None:
    """Refuse to kill a QEMU where that loses data: qcow2 keeps tables in memory until a flush,
    and what other formats keep nobody has found out.  Raw images keep nothing."""
    check_restart(configuration)
    for image in configuration.images:
        if image.format is Format.QCOW2 and image.node in unsaved:
            raise Impossible(f"what of image {image.node} survives is not known")
        if image.format not in (Format.RAW, Format.QCOW2):
            raise Impossible(f"what a killed QEMU leaves of format {image.format} is not known")


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
        if _target_is_short(graph, operation):
            yield "short_target_aborts"
    elif isinstance(operation, ops.BitmapMerge):
        if not operation.sources:
            yield "empty_merge_crashes"
    elif isinstance(operation, Transaction):
        for action in operation.actions:
            yield from _triggers(graph, action)
    elif isinstance(operation, Backup):
        if _is_huge(operation.min_cluster_size):
            yield "huge_min_cluster_size_aborts"
        if (operation.min_cluster_size or 0) > MEMORY and operation.sync != Sync.NONE:
            yield "large_cluster_aborts"
    elif isinstance(operation, ops.RemoveNode):
        node = graph.nodes.get(operation.node)
        if node is not None and any(bitmap.busy for bitmap in node.bitmaps):
            yield "busy_bitmap_removal_aborts"
    elif isinstance(operation, ops.Attach):
        if graph.device is not None and graph.device.name == operation.node:
            yield "attaching_again_aborts"
    elif isinstance(operation, Request):
        yield from _request_triggers(graph, operation)


def _is_huge(min_cluster_size: int | None) -> bool:
    """Whether a cluster size passes the first check, yet is too large for a bitmap."""
    return min_cluster_size is not None and 1 << 32 <= min_cluster_size < 1 << 63


def _target_is_short(graph: Graph, command: ops.AddFilter) -> bool:
    file, target = graph.nodes.get(command.file or ""), graph.nodes.get(command.target or "")
    return file is not None and target is not None and target.size < file.size


def _request_triggers(graph: Graph, request: Request) -> Iterable[str]:
    node = graph.nodes.get(request.node)
    if node is None or not request.length:
        return
    start, end = request.offset, min(request.offset + request.length, node.size)
    if isinstance(request, ops.Discard) and _discards_unaligned(node, start, end):
        yield "unaligned_snapshot_discard_aborts"
    if start < end and any(
            isinstance(below, SnapshotAccess) and isinstance(below.file, CopyBeforeWrite)
            and _forgets_zeroes(below.file) for below in parents_first([node])):
        yield "unallocated_copy_status_aborts"


def _discards_unaligned(node: Node, start: int, end: int) -> bool:
    """Whether a discard, on its way down, reaches a filter's snapshot without being aligned to
    its clusters."""
    if not node.discard_enabled or start >= end:
        return False
    if isinstance(node, CopyBeforeWrite):
        return _discards_unaligned(node.source, start, end)
    if not isinstance(node, SnapshotAccess) or not isinstance(node.file, CopyBeforeWrite):
        return False
    kept = node.file
    if start % kept.cluster_size or (end % kept.cluster_size and end != kept.size):
        return True
    return _discards_unaligned(kept.target, start, end)


def _forgets_zeroes(kept: CopyBeforeWrite) -> bool:
    """Whether there are copied zeroes that the target may have made unallocated."""
    target = kept.target
    if not isinstance(target, ImageNode) or target.spec.format is not Format.PARALLELS:
        return False
    return any(run.value == ZERO for done in kept.done.dirty_ranges()
               for run in target.content.runs(*done))
