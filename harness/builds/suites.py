# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian suites whose QEMU can be fetched, and where a fetched one is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness import user_cache

SUITES: Final = (
    "debian:bullseye",
    "debian:bookworm",
    "debian:bookworm-backports",
    "debian:trixie",
    "debian:trixie-backports",
)


def directory_of(suite: str, cache: Path | None = None) -> Path:
    """Where `suite` (one of SUITES) is unpacked, whether it is there or not."""
    return (cache or user_cache.place("builds")) / suite.removeprefix("debian:")


def fetched() -> list[str]:
    """The suites that are here."""
    return [suite for suite in SUITES if directory_of(suite).is_dir()]
