# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to read a node for an inspection; see :class:`harness.systems.inspection.Reader`."""

from __future__ import annotations

from harness.clients.libnbd import require_libnbd
from harness.systems.connections import Connections, Key
from model.operations import Context


class ThroughNbd:
    """Through one of the node's exports, by libnbd: each read is one plain read of the node."""

    def __init__(self, clients: Connections, export: str, *, asks_status: bool) -> None:
        self._clients = clients
        self._export = export
        self._asks_status = asks_status
        self._client = clients.nbd(Key(export))

    @property
    def size(self) -> int:
        """Of the export, in bytes."""
        return self._client.info.size

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a range."""
        return self._client.read(start, end - start, df=True)

    def nonzero(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where block status, if it may be asked, does not say that the range reads as zero."""
        if not self._asks_status:
            return [(start, end)]
        client = self._clients.nbd(Key(self._export, contexts=(Context.ALLOCATION,)))
        found = []
        while start < end:
            for extent in client.block_status(start, end - start, Context.ALLOCATION):
                stop = min(start + extent.length, end)
                if not extent.flags & 2:
                    found.append((start, stop))
                start = stop
        return found


class ThroughQemuIo:
    """Through one of the node's exports, by qemu-io: slow, for where libnbd is absent."""

    def __init__(self, clients: Connections, export: str, size: int) -> None:
        self._client = clients.qemu_io(export, writable=False)
        self._size = size

    @property
    def size(self) -> int:
        """Of the node, in bytes."""
        return self._size

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a range."""
        return self._client.read(start, end - start)

    def nonzero(self, start: int, end: int) -> list[tuple[int, int]]:
        """qemu-io does not tell: a disk that is too big to be read whole needs libnbd."""
        require_libnbd()
        return [(start, end)]
