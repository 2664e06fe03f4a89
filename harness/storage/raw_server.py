# SPDX-License-Identifier: GPL-2.0-or-later
"""A second QEMU that serves the raw bytes of image files over NBD."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.builds import STORAGE_DAEMON, SYSTEM, Build
from harness.clients.qmp import DEFAULT_TIMEOUT
from harness.storage.monitored import Monitored
from harness.storage.place import NbdPlace


class RawServer:
    """Serves each file as an export of its node's name; discards reach the file."""

    def __init__(self, build: Build, files: Mapping[str, Path], socket: Path, *,
                 timeout: float = DEFAULT_TIMEOUT) -> None:
        """``files`` by node; ``socket``: where to listen.  Ready when made."""
        # A qemu-system that serves needs no machine, and none of its files.
        daemon = build.has(STORAGE_DAEMON)
        self._process = Monitored(
            build.tool(STORAGE_DAEMON if daemon else SYSTEM),
            () if daemon else ("-machine", "none", "-nodefaults", "-display", "none", "-S"),
            timeout=timeout)
        try:
            qmp = self._process.qmp
            qmp.execute("nbd-server-start", {
                "addr": {"type": "unix", "data": {"path": str(socket)}}})
            for node, path in files.items():
                qmp.execute("blockdev-add", {
                    "driver": "file", "node-name": node, "filename": str(path),
                    "discard": "unmap"})
                qmp.execute("block-export-add", {
                    "type": "nbd", "id": node, "node-name": node, "name": node,
                    "writable": True})
        except BaseException:
            self._process.close()
            raise
        self.places = {node: NbdPlace(str(socket), node) for node in files}
        """Where each file is to be had, by node."""

    def close(self) -> None:
        """Stop serving."""
        self._process.close()
