# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that pretend to be QEMU's."""

from __future__ import annotations

from pathlib import Path

from harness.builds import STORAGE_DAEMON, SYSTEM

PRODUCTS = {SYSTEM: "QEMU emulator version", "qemu-nbd": "/somewhere/qemu-nbd"}


def write_script(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def write_tool(folder: Path, name: str = STORAGE_DAEMON, version: str = "9.8.7 (fake)") -> Path:
    """A tool that answers `--version` as QEMU's of that name does."""
    product = PRODUCTS.get(name, f"{name} version")
    return write_script(folder / name, f"echo '{product} {version}'; echo 'Copyright (c) Nobody'")
