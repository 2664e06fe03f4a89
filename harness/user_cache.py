# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept in the user's cache from run to run: any of it can be deleted at any time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path


def place(name: str) -> Path:
    """`$XDG_CACHE_HOME/cbw-lockstep/NAME`; as the XDG specification says, a relative
    `XDG_CACHE_HOME` counts as unset."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return base / "cbw-lockstep" / name


def key(parts: Sequence[object]) -> str:
    """A file name for what follows from these parts, which JSON can spell."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def identity(program: Path, version: str) -> list[object]:
    """What tells a program from another one, or from itself as it was before it was built anew;
    raises OSError."""
    status = program.stat()
    return [str(program), status.st_size, status.st_mtime_ns, version]


def save(path: Path, content: bytes) -> None:
    """Keep a file, whole or not at all; a cache that cannot be written is no cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        pass
