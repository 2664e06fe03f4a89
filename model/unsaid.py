# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the model has nothing to say, and what would kill a build by a known defect.

A trace has no operation of the first kind: its outcome depends on what cannot be seen, or no
client could send it.  One of the second kind has no outcome but the end of QEMU.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import operations as ops
from .bitmap import align_down, align_up
from .configuration import Configuration, Format, RequestKind
from .content import ZERO
from .copy_before_write import CopyBeforeWrite
from .graph import Graph
from .image import Image
from .node import Node
from .operations import Operation, Request, Via
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
    if isinstance(request, ops.Zero) and request.fast and (
            aligned or any(image.backing for image in images)):
        raise Impossible("whether such an image zeroes fast is up to the storage below it")
    if isinstance(request, ops.Write) and request.fua and any(
            fault.kind is RequestKind.FLUSH for image in images for fault in image.faults):
        raise Impossible("whether a durable write flushes differs between formats and builds")


def check_order(node: Node, request: Request) -> None:
    """Refuse, over storage that fails, a change that copies more than one cluster: how block
    status cuts the copy up decides what is copied before the failure."""
    start, end = request.offset, request.offset + request.length
    while isinstance(node, CopyBeforeWrite) and isinstance(request, CHANGES):
        low = align_down(start, node.cluster_size)
        high = min(align_up(end, node.cluster_size), node.size)
        copy_bitmap = node.block_copy.copy_bitmap
        dirty = sum(min(b, high) - max(a, low) for a, b in copy_bitmap.dirty_ranges()
                    if a < high and low < b)
        if dirty > node.cluster_size:
            raise Impossible("copies several clusters over failing storage")
        node = node.source


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
    elif isinstance(operation, Request):
        node = graph.nodes.get(operation.node)
        if isinstance(node, SnapshotAccess) and isinstance(node.file, CopyBeforeWrite):
            yield from _snapshot_triggers(node, node.file, operation)


def _is_huge(min_cluster_size: int | None) -> bool:
    """Whether a cluster size passes the first check, yet is too large for a bitmap."""
    return min_cluster_size is not None and 1 << 32 <= min_cluster_size < 1 << 63


def _target_is_short(graph: Graph, command: ops.AddFilter) -> bool:
    file, target = graph.nodes.get(command.file or ""), graph.nodes.get(command.target or "")
    return file is not None and target is not None and target.size < file.size


def _snapshot_triggers(node: SnapshotAccess, kept: CopyBeforeWrite,
                       request: Request) -> Iterable[str]:
    start, end = request.offset, min(request.offset + request.length, node.size)
    unaligned = start % kept.cluster_size or (end % kept.cluster_size and end != kept.size)
    if isinstance(request, ops.Discard) and node.discard_enabled and start < end and unaligned:
        yield "unaligned_snapshot_discard_aborts"
    asks_status = isinstance(request, ops.Status) or (
        isinstance(request, ops.Read) and request.via in (Via.NBD, Via.QEMU_IO))
    if asks_status and start < end and _forgets_zeroes(kept.target, kept, start, end):
        yield "unallocated_copy_status_aborts"


def _forgets_zeroes(target: Node, kept: CopyBeforeWrite, start: int, end: int) -> bool:
    """Whether the range has copied zeroes that the target may have made unallocated."""
    if not isinstance(target, Image) or target.spec.format is not Format.PARALLELS:
        return False
    place = start
    while place < end:
        done, stop = kept.done.run(place, end)
        if done and any(run.value == ZERO for run in target.content.runs(place, stop)):
            return True
        place = stop
    return False
