# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests in the words of the clients that carry them out; the clients raise what went wrong."""

from __future__ import annotations

from harness import stamps
from harness.clients.monitor import MonitorIo
from harness.clients.nbd import NbdClient
from harness.clients.qemu_io import QemuIo
from harness.systems.base import Answer
from model import operations as ops
from model.operations import Request, Via
from model.requests import stamp_of


def by_nbd(client: NbdClient, number: int, request: Request) -> Answer:
    """Send the request on a connection that negotiated what it needs."""
    offset, length = request.offset, request.length
    match request:
        case ops.Read():
            return Answer(data=client.read(offset, length, df=request.via is Via.NBD_DF))
        case ops.Write():
            client.write(offset, stamps.data(stamp_of(number, request), offset, length),
                         fua=request.fua)
        case ops.Zero():
            client.zero(offset, length, no_hole=not request.unmap, fast=request.fast,
                        fua=request.fua)
        case ops.Discard():
            client.discard(offset, length, fua=request.fua)
        case ops.Flush():
            client.flush()
        case ops.Status():
            extents = client.block_status(offset, length, request.context, req_one=request.one)
            return Answer(extents=tuple([(each.length, each.flags) for each in extents]))
    return Answer()


def by_qemu_io(client: QemuIo | MonitorIo, number: int, request: Request) -> Answer:
    """Have qemu-io do the request, which is no block status; it cannot insist on *fast* zeroes,
    and does not say whether a flush succeeded."""
    offset, length = request.offset, request.length
    match request:
        case ops.Read():
            return Answer(data=client.read(offset, length))
        case ops.Write():
            client.write(offset, stamps.data(stamp_of(number, request), offset, length),
                         fua=request.fua)
        case ops.Zero():
            client.zero(offset, length, unmap=request.unmap, fua=request.fua)
        case ops.Discard():
            client.discard(offset, length)
        case ops.Flush():
            client.flush()
    return Answer()
