# SPDX-License-Identifier: GPL-2.0-or-later
"""The clients of a system's NBD server: started when first needed, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.builds import Tool
from harness.clients.nbd import NbdClient
from harness.clients.qemu_io import QemuIo, image_of
from model.configuration import Configuration
from model.operations import Request, Status, Via


class Key(NamedTuple):
    """What tells libnbd's connections apart."""

    export: str
    structured: bool = True
    contexts: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: Request) -> Key:
        """What a request over NBD needs."""
        contexts = (request.context, *request.others) if isinstance(request, Status) else ()
        return cls(request.node, request.via is not Via.NBD_SIMPLE or bool(contexts), contexts)


class Connections:
    """Clients by what they negotiated."""

    def __init__(self, socket: Path, qemu_io: Tool | None, timeout: float) -> None:
        """``socket`` is where the server listens; ``timeout`` bounds each request, in seconds."""
        self._socket = str(socket)
        self._qemu_io = qemu_io
        self._timeout = timeout
        self._nbd: dict[Key, NbdClient] = {}
        self._programs: dict[str, QemuIo] = {}
        self._writable: set[str] = set()
        """The exports whose qemu-io may write."""
        self.called: dict[str, str] = {}
        """The names of exports that are not called as they are known here."""

    def nbd(self, key: Key) -> NbdClient:
        """The connection; raises ``NbdRefused`` if there is no such export."""
        client = self._nbd.get(key)
        if client is None:
            client = self._nbd[key] = NbdClient.connect(
                self._socket, self.called.get(key.export, key.export), structured=key.structured,
                contexts=key.contexts, timeout=self._timeout)
        return client

    def qemu_io(self, export: str, *, writable: bool) -> QemuIo:
        """A qemu-io on the export; raises ``QemuIoNotOpened`` if there is no such export."""
        if writable and export not in self._writable:
            self.drop_qemu_io(export)  # there may be one that only reads
        client = self._programs.get(export)
        if client is None:
            if self._qemu_io is None:
                raise LookupError("this build has no qemu-io")
            options = ("--image-opts", "-d", "unmap", *(() if writable else ("-r",)))
            image = image_of(self._socket, self.called.get(export, export))
            client = self._programs[export] = QemuIo(
                [*self._qemu_io.argv, *options, image], self._qemu_io.env, self._timeout)
            if writable:
                self._writable.add(export)
        return client

    def drop(self, export: str) -> None:
        """Close all connections to an export."""
        for key in [key for key in self._nbd if key.export == export]:
            self._nbd.pop(key).close()
        self.drop_qemu_io(export)

    def drop_qemu_io(self, export: str) -> None:
        """End the qemu-io on an export, if there is one."""
        if export in self._programs:
            self._programs.pop(export).close()
            self._writable.discard(export)

    def forget_block_sizes(self, configuration: Configuration) -> None:
        """If images differ in them, end every qemu-io: it keeps to that which its export had when
        it connected, and an export may come to show another node."""
        if any(image.request_alignment for image in configuration.images):
            for export in list(self._programs):
                self.drop_qemu_io(export)

    def close(self) -> None:
        """Close all connections."""
        while self._nbd:
            self._nbd.popitem()[1].close()
        while self._programs:
            self._programs.popitem()[1].close()
