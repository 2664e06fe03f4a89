# SPDX-License-Identifier: GPL-2.0-or-later
"""A private directory for the images and sockets of one system under test."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from harness.errors import EnvironmentProblem
from harness.processes.keeper import keeper

SOCKET_PATH_LIMIT = 107  # bytes: sun_path of unix(7), less its terminator
ROOM: Final = 64 << 20
"""Bytes.  Where fewer are free, an image may be what did not fit: QEMU asks for long ranges at
once, and nothing of one is taken that does not fit whole."""


class Workspace:
    """Removed at the end of the `with` block or at `close()`, and whatever ends this process.

    With `keep`, a folder, the images are made in there and stay; sockets never stay.
    """

    def __init__(self, keep: Path | None = None) -> None:
        self._private = _make_folder(keeper().directory)
        self.path = self._private if keep is None else _make_folder(keep)

    def file(self, name: str) -> Path:
        """A path for a file of that name."""
        return self.path / name

    def socket(self, name: str) -> Path:
        """A path that is short enough for a UNIX socket."""
        path = self._private / name
        if len(bytes(path)) > SOCKET_PATH_LIMIT:
            raise EnvironmentProblem(
                f"{path} is too long for a UNIX socket; set TMPDIR to a shorter path"
            )
        return path

    def close(self) -> None:
        """Remove what is not to be kept."""
        shutil.rmtree(self._private, ignore_errors=True)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def insist_on_room() -> None:
    """Raise EnvironmentProblem where workspaces have next to no room left on their disk.

    To be called before anything that went wrong is held against the system under test.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise EnvironmentProblem(
            f"only {free >> 10} KiB are free in {folder}, too little to trust what went wrong "
            "there; TMPDIR chooses another place")


def _make_folder(base: Path) -> Path:
    try:
        base.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="w-", dir=base))
    except OSError as error:
        raise EnvironmentProblem(f"cannot make a folder in {base}: {error.strerror}") from error
