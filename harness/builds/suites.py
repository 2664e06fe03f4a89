# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian suites whose QEMU can be fetched, and where a fetched one is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SUITES: Final = (
    "debian:bullseye",
    "debian:bookworm",
    "debian:bookworm-backports",
    "debian:trixie",
    "debian:trixie-backports",
)


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/cbw-lockstep/builds`; as the XDG specification says, a relative
    `XDG_CACHE_HOME` counts as unset."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return base / "cbw-lockstep" / "builds"


def directory_of(suite: str, cache: Path | None = None) -> Path:
    """Where `suite` (one of SUITES) is unpacked, whether it is there or not."""
    return (cache or cache_directory()) / suite.removeprefix("debian:")


def fetched() -> list[str]:
    """The suites that are here."""
    return [suite for suite in SUITES if directory_of(suite).is_dir()]
