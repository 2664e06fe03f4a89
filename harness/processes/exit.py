# SPDX-License-Identifier: GPL-2.0-or-later
"""How a child ended."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

# glibc's assert, GLib's g_assert and g_error, QEMU's error_abort, the sanitizers.
_ASSERTION = re.compile(
    r"^.*(?:Assertion `.*' failed\.?"
    r"|ERROR:\S+:\d+:\S+ .*"
    r"|code should not be reached.*"
    r"|Unexpected error in \S+ at \S+:.*"
    r"|ERROR: \w+Sanitizer: .*"
    r"|: runtime error: .*)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Exit:
    """Either a status (`code`) or a signal (`signal`, as "SIGABRT")."""

    code: int | None
    signal: str | None
    stderr: str
    """The end of what it wrote there."""

    @classmethod
    def of(cls, returncode: int, stderr: str) -> Exit:
        """From subprocess's return code, which is negative for a signal."""
        if returncode >= 0:
            return cls(returncode, None, stderr)
        try:
            name = signal.Signals(-returncode).name
        except ValueError:  # real-time signals between the first and the last have no name
            name = f"signal {-returncode}"
        return cls(None, name, stderr)

    @property
    def assertion(self) -> str | None:
        """The first line of `stderr` in which QEMU, a library or a sanitizer gives up."""
        match = _ASSERTION.search(self.stderr)
        return match[0].strip() if match else None

    def __str__(self) -> str:
        how = f"exit status {self.code}" if self.signal is None else f"killed by {self.signal}"
        said = self.assertion or next(reversed(self.stderr.splitlines()), "")
        return f"{how}: {said}" if said else how
