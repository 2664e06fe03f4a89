# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is, where more is asked of an image's held storage than QEMU sends at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from .configuration import RequestKind
from .copy_before_write import CopyBeforeWrite
from .errors import Errno
from .graph import Graph
from .held_image import MOST_ZEROES
from .image import Image
from .operations import Discard, OnCbwError, Operation, Read, Write, Zero
from .program import StorageRequest
from .rules import rule
from .small_steps import Pending
from .snapshot_access import SnapshotAccess

MOST_IN_FLIGHT: Final = 16
"""Requests that QEMU sends to one NBD server before it waits for an answer (experiment)."""


@rule("storage.sixteen-at-a-time", source="QEMU's NBD client (experiment)")
def in_turn(_: Graph, pending: Iterable[Pending]) -> Iterator[Pending]:
    """QEMU sends an image's storage at most 16 requests at a time; others wait for their turn."""
    in_flight: Counter[str] = Counter()
    for each in pending:
        node = each.request.node
        in_flight[node] += 1
        if in_flight[node] <= MOST_IN_FLIGHT:
            yield each


def asks_again(graph: Graph, client: Operation, request: StorageRequest,
               error: Errno | None) -> bool:
    """Whether who made the request, for that client, may at once make another one of the same
    storage when it completes, or fails: a reader; who asks block status; a change that is made
    durable, or in pieces; a guest whose copy fails, if that breaks the snapshot; a copy from a
    snapshot, of which a build that has the defect reads neighbouring runs both from the source;
    and, below a ``blkdebug``, what is read to be written back, and a flush."""
    image = graph.nodes[request.node]
    if isinstance(image, Image) and image.spec.is_instrumented and (
            request.kind is RequestKind.FLUSH or _perhaps_of_blocks(request, image)):
        return True
    if request.kind is RequestKind.READ:
        filters = [node for node in graph.nodes.values() if isinstance(node, CopyBeforeWrite)]
        in_runs = graph.capabilities.snapshot_reads_source_before_done_run_ends and any(
            isinstance(node.source, SnapshotAccess) for node in filters)
        return in_runs or isinstance(client, Read) or (error is not None and any(
            node.options.on_cbw_error is OnCbwError.BREAK_SNAPSHOT for node in filters))
    durable = isinstance(client, (Write, Zero, Discard)) and (
        client.fua or graph.exports[client.node].writethrough)
    return request.kind is RequestKind.STATUS or (request.kind.changes and (
        durable or request.length == MOST_ZEROES))


def _perhaps_of_blocks(request: StorageRequest, image: Image) -> bool:
    """Whether it may be a read of the blocks that a write is widened to: the first and the last,
    at once where they lie side by side."""
    return request.kind is RequestKind.READ and request.length <= 2 * image.request_alignment
