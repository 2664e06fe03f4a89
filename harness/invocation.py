# SPDX-License-Identifier: GPL-2.0-or-later
"""How this program is called, for commands that it tells people to type."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Final

_BY_TOX: Final = ("verify", "harness", "tests", "minimum")
"""The environments of tox.ini that call it, and whose user may have its libraries nowhere else."""
_PYTHONS: Final = ("python", "python3")


def program() -> str:
    """What stands before its words: through tox if it was called so, else by this very Python."""
    if os.environ.get("TOX_ENV_NAME") in _BY_TOX:
        return through_tox("").rstrip()
    python = next((name for name in _PYTHONS if shutil.which(name) == sys.executable),
                  shlex.quote(sys.executable))
    return f"{python} -m harness"


def through_tox(words: str) -> str:
    """The command that gives it these words, and itself the libraries of tox.ini."""
    return f"tox -e harness -- {words}"


def command(words: str) -> str:
    """The command that gives it these words."""
    return f"{program()} {words}"
