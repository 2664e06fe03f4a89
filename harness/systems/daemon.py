# SPDX-License-Identifier: GPL-2.0-or-later
"""A real qemu-storage-daemon."""

from __future__ import annotations

from harness.builds import STORAGE_DAEMON, Build
from harness.clients.qmp import DEFAULT_TIMEOUT
from harness.storage.images import ImageStore
from harness.systems.qmp_system import QmpSystem
from model.configuration import Configuration


class QsdSystem(QmpSystem):
    """A storage daemon: QMP, and requests over NBD."""

    def __init__(self, build: Build, configuration: Configuration, store: ImageStore, *,
                 timeout: float = DEFAULT_TIMEOUT, core: bool = False) -> None:
        """Start it with the configuration's images attached; see :class:`QmpSystem`."""
        super().__init__(build, STORAGE_DAEMON, configuration, store, timeout, core=core)
