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


def path_of(image: str, place: Place | None) -> str:
    """The file of an image; its name, as no file has it, for one that is in none of its own."""
    return place.path if isinstance(place, FilePlace) else image
