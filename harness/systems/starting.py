# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting systems of a build, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final, TypeAlias

from harness.builds import STORAGE_DAEMON, SYSTEM, Build
from harness.storage.images import ImageStore
from harness.systems.daemon import QsdSystem
from harness.systems.held_daemon import HeldDaemon
from harness.systems.qemu_system import QemuSystem
from harness.systems.qmp_system import QmpSystem
from model.configuration import Configuration, Protocol

TIMEOUT: Final = 30.0
"""Seconds that a request or a command may take before the system counts as hung."""

Start: TypeAlias = Callable[[Configuration], QmpSystem]
"""Starts a system with these images."""

_KINDS: Final[dict[str, type[QsdSystem] | type[QemuSystem]]] = {
    STORAGE_DAEMON: QsdSystem, SYSTEM: QemuSystem}


@contextmanager
def starter(build: Build, tool: str, timeout: float = TIMEOUT, *,
            stacks: bool = False) -> Iterator[Start]:
    """What starts systems that run ``tool``, STORAGE_DAEMON or SYSTEM; they share images that
    take long to make, until the end of the ``with`` block.

    Images on held storage are a storage daemon's.  ``stacks``: those of a system that crashes or
    hangs are wanted, which takes seconds.
    """
    kind = _KINDS[tool]

    def start(configuration: Configuration) -> QmpSystem:
        held = kind is QsdSystem and any(
            image.protocol is Protocol.HELD for image in configuration.images)
        return (HeldDaemon if held else kind)(build, configuration, store, timeout=timeout,
                                                core=stacks)

    with closing(ImageStore(build)) as store:
        yield start
