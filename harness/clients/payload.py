# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes that qemu-io can read as a file, without a file."""

import os


class Payload:
    """Anonymous memory with a path that other processes of the same user can open.

    `write -s PATH` takes the data of a write from a file; one such file serves all writes.
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("payload", os.MFD_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def put(self, data: bytes) -> None:
        """Replace the content."""
        os.ftruncate(self._descriptor, 0)
        place = 0
        while place < len(data):
            place += os.pwrite(self._descriptor, data[place:] if place else data, place)

    def close(self) -> None:
        """Let the memory go; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
