# SPDX-License-Identifier: GPL-2.0-or-later
"""From a client's request to its answer: what the channel makes of both.

A request through NBD passes QEMU's server; one through qemu-io passes qemu-io's own block layer
and then the server; one through the human monitor goes to the node directly.
"""

from __future__ import annotations

from typing import Protocol

from . import operations as ops
from .bitmap import align_down
from .channels import seen_through
from .content import ZERO, Stamp, stamped, zeroes
from .errors import Errno, RequestFailed, Undetermined
from .nbd_export import Disconnected, NbdExport
from .node import Node, Zeroing
from .operations import Request, Via
from .outcome import Outcome
from .program import Program


class Ranged(Protocol):
    """A request of a client or to storage."""

    @property
    def offset(self) -> int:
        """Where it begins, in bytes."""

    @property
    def length(self) -> int:
        """How many bytes it is about."""


def overlap(one: Ranged, other: Ranged) -> bool:
    """Whether two requests have bytes in common."""
    return (one.offset < other.offset + other.length
            and other.offset < one.offset + one.length)


CHANGES = (ops.Write, ops.Zero, ops.Discard)
"""The requests that change a node."""


def stamp_of(number: int, write: ops.Write) -> Stamp:
    """What a write, operation ``number``, writes."""
    return ZERO if write.zeroes else number


def program(number: int, request: Request, export: NbdExport) -> Program[Outcome]:
    """What the request does, up to its client's answer; writes carry ``number`` as their stamp."""
    try:
        return (yield from _done(number, request, export))
    except RequestFailed as why:
        return Outcome(error=seen_through(request.via, why.error))
    except Disconnected:
        return _disconnected(request.via)


def _done(number: int, request: Request, export: NbdExport) -> Program[Outcome]:
    """Fails with QEMU's own errno."""
    start, end = request.offset, request.offset + request.length
    if request.via is Via.QEMU_IO and end > export.size:
        raise RequestFailed(Errno.EIO)
    if not request.via.is_local:
        export.check(start, end, changes=isinstance(request, CHANGES))
    if isinstance(request, ops.Read):
        if _is_not_sent(request):
            return Outcome(content=zeroes(0))
        structured = request.via in (Via.NBD, Via.QEMU_IO)
        read = export.read_structured if structured else export.read_plain
        found = yield from read(start, end)
        return Outcome(content=found.content, perhaps_zero=found.perhaps_zero)
    if isinstance(request, ops.Status):
        contexts = (request.context, *request.others)
        told = yield from export.statuses(start, end, contexts, one=request.one)
        return Outcome(extents=told.get(request.context, ()))
    if isinstance(request, ops.Flush):
        yield from _flush(export.node, request.via)
    else:
        yield from _change(number, request, export)
    return Outcome()


def _change(number: int, request: Request, export: NbdExport) -> Program[None]:
    node = export.node
    start, end = request.offset, request.offset + request.length
    if _is_not_sent(request):
        return
    if request.via is Via.QEMU_IO and not isinstance(request, ops.Discard):
        yield from _read_beside(export, start, end)
    if isinstance(request, ops.Write):
        yield from node.write(start, stamped(end - start, stamp_of(number, request)),
                              durable=request.fua or export.writethrough)
    elif isinstance(request, ops.Zero):
        fast = request.fast and request.via.is_nbd
        yield from node.write_zeroes(start, end, Zeroing(
            request.unmap, fast, insists=not export.capabilities.exports_heed_unmap),
            durable=request.fua or export.writethrough)
    elif isinstance(request, ops.Discard):
        yield from node.discard(start, end)
        if request.fua and request.via.is_nbd:
            yield from node.flush()


def _read_beside(export: NbdExport, start: int, end: int) -> Program[None]:
    """qemu-io itself reads what a change leaves out of the blocks of the node's alignment."""
    unit = export.node.request_alignment
    for block in sorted({align_down(edge, unit) for edge in (start, end) if edge % unit}):
        try:
            yield from export.read_structured(block, min(block + unit, export.size))
        except (RequestFailed, Disconnected) as why:
            raise Undetermined("what qemu-io makes of a block that it cannot read") from why


def _is_not_sent(request: Request) -> bool:
    """qemu-io's own NBD client sends no request of no bytes."""
    return not request.length and request.via is Via.QEMU_IO


def _flush(node: Node, via: Via) -> Program[None]:
    """A flush; qemu-io says nothing of one that fails."""
    try:
        yield from node.flush()
    except RequestFailed:
        if via.is_nbd:
            raise


def _disconnected(via: Via) -> Outcome:
    """qemu-io, which loses its own connection, makes EIO of that."""
    return Outcome(error=Errno.EIO) if via is Via.QEMU_IO else Outcome(disconnected=True)
