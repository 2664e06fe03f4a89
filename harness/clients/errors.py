# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong between a client and QEMU.

A verdict is not made here.  The layers above read `PeerGone` as a crash, `PeerSilent` as a
hang and `PeerNonsense` as a broken protocol, while `RequestFailed` and `QmpRefused` are
ordinary outcomes to be compared with the model's.
"""

import errno as errno_module

from harness.errors import HarnessError


def errno_name(number: int) -> str:
    """The symbolic name of an errno, such as `EACCES`; the number itself if it has none."""
    return errno_module.errorcode.get(number, str(number))


class ClientError(HarnessError):
    """Root of everything that a client raises."""


class PeerGone(ClientError):
    """The peer closed the connection or died; `asked` is the request in flight, if any."""

    def __init__(self, channel: str, asked: str | None, detail: str = "") -> None:
        self.channel = channel
        self.asked = asked
        self.detail = detail
        when = f" while asked for: {asked}" if asked else ""
        super().__init__(f"{channel}: the peer is gone{when}" + (f" ({detail})" if detail else ""))


class PeerSilent(ClientError):
    """No answer came within the bound that the caller gave; the request may still be running."""

    def __init__(self, channel: str, asked: str, seconds: float) -> None:
        self.channel = channel
        self.asked = asked
        self.seconds = seconds
        super().__init__(f"{channel}: no answer within {seconds:g} s to: {asked}")


class PeerNonsense(ClientError):
    """The peer answered what its protocol does not allow."""

    def __init__(self, channel: str, asked: str | None, detail: str) -> None:
        self.channel = channel
        self.asked = asked
        self.detail = detail
        where = f" to: {asked}" if asked else ""
        super().__init__(f"{channel}: not an answer{where}: {detail}")


class RequestFailed(ClientError):
    """A storage request was answered with an error; only the number is to be compared."""

    def __init__(self, channel: str, asked: str, errno: int) -> None:
        self.channel = channel
        self.asked = asked
        self.errno = errno
        super().__init__(f"{channel}: {asked}: {errno_name(errno)}")


class RequestNotSent(ClientError):
    """The client library or qemu-io itself refused the request, so QEMU never saw it."""

    def __init__(self, channel: str, asked: str, detail: str) -> None:
        self.channel = channel
        self.asked = asked
        self.detail = detail
        super().__init__(f"{channel}: not sent: {asked}: {detail}")
