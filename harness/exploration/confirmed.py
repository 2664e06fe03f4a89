# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rules of the model exploration has fired, and on which real QEMU: in the user's cache.

A rule that no real QEMU has fired is a claim that nobody has checked on this machine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from harness import user_cache

Confirmed: TypeAlias = dict[str, Counter[str]]
"""How often each rule fired, by the version of the QEMU."""


def file() -> Path:
    """Where it is kept."""
    return user_cache.place("rules.json")


def load() -> Confirmed:
    """What is known; nothing if there is no such file, or it is not ours."""
    try:
        kept = json.loads(file().read_text(encoding="utf-8"))
        return {version: Counter({name: int(count) for name, count in counts.items()})
                for version, counts in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def add(version: str, rules: Mapping[str, int]) -> None:
    """Add what a run has fired."""
    known = load()
    known.setdefault(version, Counter()).update(rules)
    user_cache.save(file(), json.dumps(known).encode())
