# SPDX-License-Identifier: GPL-2.0-or-later
"""How many requests a second the storage that the harness serves takes."""

from __future__ import annotations

import re
import select
import threading
from contextlib import closing
from typing import Final

from harness.builds import Build
from harness.clients.qemu_io import image_of
from harness.errors import HarnessError
from harness.processes import Workspace, run
from harness.storage.held import HeldStorage
from model.configuration import KIB, MIB

REQUESTS: Final = 20_000
_SIZE: Final = 64 * MIB
_TOOL: Final = "qemu-img"
_WORDS: Final = re.compile(rb"completed in ([0-9.]+) seconds")


def held_rate(build: Build) -> float | None:
    """Writes of 4 KiB a second, 16 at a time, by ``qemu-img bench``: each is held, and completed
    by another thread.  None if the build has no qemu-img."""
    if _TOOL not in build.tools:
        return None
    tool = build.tools[_TOOL]
    with Workspace() as workspace, closing(HeldStorage(workspace.socket("held"))) as storage:
        storage.add("disk", _SIZE)
        storage.hold()
        over = threading.Event()
        completing = threading.Thread(target=_complete, args=(storage, over), daemon=True)
        completing.start()
        try:
            done = run([*tool.argv, "bench", "-w", "-c", str(REQUESTS), "-d", "16",
                        "-s", str(4 * KIB), "--image-opts", image_of(storage.path, "disk")],
                       env=tool.env)
        finally:
            over.set()
            storage.let_go()
            completing.join()
        found = _WORDS.search(done.stdout)
        if done.exit.code != 0 or found is None:
            raise HarnessError(f"{tool.path} bench: {done.exit}")
        return REQUESTS / float(found[1])


def _complete(storage: HeldStorage, over: threading.Event) -> None:
    """Complete each request on its own once it is held."""
    poll = select.poll()
    poll.register(storage.news, select.POLLIN)
    while not over.is_set():
        poll.poll(100)
        storage.heard()
        for request in storage.pending():
            storage.complete(request)
