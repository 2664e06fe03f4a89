# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the bytes of an image are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class FilePlace:
    """In the file ``path``."""

    path: str


@dataclass(frozen=True, slots=True)
class NbdPlace:
    """Served, raw, as the export ``export`` on the UNIX socket ``socket``.

    ``reconnect_delay``: seconds for which QEMU tries to get a lost connection back.
    """

    socket: str
    export: str
    reconnect_delay: int = 0


Place: TypeAlias = FilePlace | NbdPlace
"""Where the bytes of an image are."""
