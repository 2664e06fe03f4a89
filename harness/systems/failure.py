# SPDX-License-Identifier: GPL-2.0-or-later
"""How a system under test can fail to answer at all.

Each is a verdict, not an outcome to be compared: the run ends there, and the trace up to the
operation in hand shows how to get it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from harness.errors import HarnessError
from harness.processes import Exit

TAIL: Final = 20
"""How many of the last lines of stderr a crash keeps."""


class SystemFailed(HarnessError):
    """The system under test gave no answer; the message is one line."""

    verdict: ClassVar[str] = "failed"
    """One word for summaries."""
    details: tuple[str, ...] = ()
    """What else is known, line by line: where each request stands, stacks."""


class SystemCrashed(SystemFailed):
    """The process ended by itself: a signal (SIGABRT for an assertion) or an exit status."""

    verdict = "crash"

    def __init__(self, end: Exit) -> None:
        """``end``: how the process ended."""
        self.end = end
        super().__init__(f"QEMU came to its end, {end}")

    @property
    def status(self) -> int | None:
        """The exit status; None if a signal ended the process."""
        return self.end.code

    @property
    def signal(self) -> str | None:
        """The signal's name, such as ``SIGABRT``; None if the process exited."""
        return self.end.signal

    @property
    def assertion(self) -> str | None:
        """The line of stderr that says which assertion failed; None if there is none."""
        return self.end.assertion

    @property
    def stderr(self) -> tuple[str, ...]:
        """The last lines that the process wrote to stderr."""
        return tuple(self.end.stderr.splitlines()[-TAIL:])


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


class SystemDamaged(SystemFailed):
    """An image is not as it should be when QEMU has ended by itself: corrupt, or with clusters
    that nothing uses any more."""

    verdict = "damage"

    def __init__(self, node: str, wrong: str) -> None:
        """``node``: that of the image; ``wrong``: what ``qemu-img check`` says."""
        self.node = node
        super().__init__(f"QEMU has ended, and left the image of {node} damaged: "
                         f"qemu-img check: {wrong}")
