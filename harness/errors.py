# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that end a run with one line on stderr instead of a traceback."""

from __future__ import annotations

from typing import ClassVar


class HarnessError(Exception):
    """The message is one line: what is wrong, and how to mend it."""

    exit_code: ClassVar[int] = 2


class EnvironmentProblem(HarnessError):
    """Something that the run needs is missing or broken on this machine."""
