# SPDX-License-Identifier: GPL-2.0-or-later
"""How this program is called, for commands that it tells people to type."""

from __future__ import annotations

import os
from typing import Final

_BY_TOX: Final = ("verify", "harness")
"""The environments of tox.ini that call it, and whose user may have its libraries nowhere else."""


def command(words: str) -> str:
    """The command that gives it these words, through tox if it was called so."""
    if os.environ.get("TOX_ENV_NAME") in _BY_TOX:
        return f"tox -e harness -- {words}"
    return f"python -m harness {words}"
