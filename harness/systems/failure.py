# SPDX-License-Identifier: GPL-2.0-or-later
"""How a system under test can fail to answer at all.

Each is a verdict, not an outcome to be compared: the run ends there, and the trace up to the
operation in hand shows how to get it again.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import ClassVar, Final

from harness.errors import HarnessError

TAIL: Final = 20
"""How many of the last lines of stderr a crash keeps."""

_ASSERTION: Final = re.compile(r"Assertion [`'](?P<text>.+)' failed|(?P<glib>ERROR:.*assertion.*)")


class SystemFailed(HarnessError):
    """The system under test gave no answer; the message is one line."""

    verdict: ClassVar[str] = "failed"
    """One word for summaries."""


class SystemCrashed(SystemFailed):
    """The process ended by itself: a signal (SIGABRT for an assertion) or an exit status."""

    verdict = "crash"

    def __init__(self, status: int, stderr: Sequence[str] = ()) -> None:
        """``status`` as :mod:`subprocess` has it: negative for a signal."""
        self.status = status
        self.stderr = tuple(stderr[-TAIL:])
        self.assertion = assertion_in(self.stderr)
        text = f"QEMU was ended by {self.signal}" if self.signal else (
            f"QEMU exited with status {status}")
        last = self.assertion or (self.stderr[-1] if self.stderr else "")
        super().__init__(f"{text}: {last}" if last else text)

    @property
    def signal(self) -> str | None:
        """The signal's name, such as ``SIGABRT``; None if the process exited."""
        if self.status >= 0:
            return None
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return f"signal {-self.status}"


class SystemHung(SystemFailed):
    """No answer within the time limit, and the process lives."""

    verdict = "hang"

    def __init__(self, waited_for: str, seconds: float) -> None:
        """``waited_for``: the request or command that was not answered in ``seconds``."""
        self.waited_for = waited_for
        self.seconds = seconds
        super().__init__(f"no answer in {seconds:g} s to: {waited_for}")


class SystemHungUp(SystemFailed):
    """The connection was lost while the process lives on: the server disconnected its client."""

    verdict = "hang-up"

    def __init__(self, channel: str, asked: str | None, stderr: Sequence[str] = ()) -> None:
        """``stderr``: QEMU's last lines, where its NBD server says why it disconnected."""
        self.channel = channel
        self.asked = asked
        self.stderr = tuple(stderr[-TAIL:])
        during = f" during: {asked}" if asked else ""
        last = f" ({self.stderr[-1]})" if self.stderr else ""
        super().__init__(f"QEMU hung up on {channel}{during}{last}")


class SystemGarbled(SystemFailed):
    """The answer cannot be understood."""

    verdict = "garbage"

    def __init__(self, channel: str, asked: str | None, detail: str) -> None:
        """``detail``: what is wrong with the answer."""
        self.channel = channel
        self.asked = asked
        self.detail = detail
        to = f" to: {asked}" if asked else ""
        super().__init__(f"{channel}: not an answer{to}: {detail}")


def assertion_in(lines: Sequence[str]) -> str | None:
    """The text of the failed assertion that the lines of stderr speak of; None if none."""
    for line in reversed(lines):
        found = _ASSERTION.search(line)
        if found:
            return found["text"] or found["glib"]
    return None
