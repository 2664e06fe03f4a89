# SPDX-License-Identifier: GPL-2.0-or-later
"""libnbd's state machine, turned by hand and never for longer than asked."""

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from harness.clients.deadline import Deadline
from harness.clients.errors import ClientError, RequestNotSent
from harness.clients.libnbd import require_libnbd
from harness.clients.nbd_types import (
    CHANNEL,
    ExportInfo,
    NbdDisconnected,
    NbdError,
    NbdNonsense,
    NbdRefused,
    NbdTimeout,
    asked,
)
from harness.clients.uninterrupted import Uninterrupted

if TYPE_CHECKING:
    import nbd

_READ, _WRITE = 1, 2  # libnbd's AIO_DIRECTION_*
_POLL_FOR = {_READ: select.POLLIN, _WRITE: select.POLLOUT,
             _READ | _WRITE: select.POLLIN | select.POLLOUT}
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR

_HANG_UP = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
_HANG_UP_TEXT = "server disconnected"  # In the middle of a message; libnbd gives no number.


class Wire:
    """A connection in libnbd's hands."""

    def __init__(self, end: socket.socket, export: str, structured: bool,
                 contexts: Sequence[str], deadline: Deadline) -> None:
        """Negotiate over a connected socket, which belongs to libnbd from now on."""
        require_libnbd()
        import nbd  # Not at the top: it is optional, and perhaps was found only just now.

        self.error = nbd.Error
        self._broken: nbd.Error | None = None
        self._direction = 0
        self._poll = select.poll()
        self.handle = handle = nbd.NBD()
        handle.set_export_name(export)
        handle.set_request_structured_replies(structured)
        # Newer libnbd would ask newer QEMU for extended headers: other code in the server, so
        # the same run would not be the same on two machines.
        if hasattr(handle, "set_request_extended_headers"):
            handle.set_request_extended_headers(False)
        # No checks; the one bit kept makes no check, but sets a header flag as the protocol wants.
        handle.set_strict_mode(getattr(nbd, "STRICT_AUTO_FLAG", 0))
        for context in contexts:
            handle.add_meta_context(context)
        self._negotiate(end, export, deadline)

    def gone(self) -> bool:
        """Whether the connection is no more."""
        return bool(self.handle.aio_is_dead() or self.handle.aio_is_closed())

    def turn(self, milliseconds: int) -> bool:
        """Wait for the socket and let libnbd use it once; False if the time ran out."""
        direction = self.handle.aio_get_direction()
        if direction != self._direction:
            self._poll.register(self.handle.aio_get_fd(), _POLL_FOR[direction])
            self._direction = direction
        ready = self._poll.poll(milliseconds)
        if not ready:
            return False
        self.use(ready[0][1])
        return True

    def use(self, ready: int) -> None:
        """Tell libnbd what the socket is ready for, as poll(2) says it."""
        direction = self.handle.aio_get_direction()
        try:
            if direction & _READ and ready & _READABLE:
                with Uninterrupted():  # It may call us back.
                    self.handle.aio_notify_read()
            elif direction & _WRITE and ready & _WRITABLE:
                self.handle.aio_notify_write()
        except self.error as error:
            self._broken = error  # What was in flight is now complete, with ENOTCONN.

    def wanted(self) -> tuple[int, int]:
        """The descriptor, and the poll(2) events that libnbd waits for on it."""
        return self.handle.aio_get_fd(), _POLL_FOR[self.handle.aio_get_direction()]

    def send(self, verb: str, offset: int, length: int,
             call: Callable[..., int], *arguments: object) -> int:
        """Start a command and return libnbd's cookie for it."""
        if offset < 0 or offset >= 1 << 64:
            raise RequestNotSent(CHANNEL, asked(verb, offset, length), "offset out of range")
        try:
            return call(*arguments)
        except self.error as error:
            what = asked(verb, offset, length)
            if self.gone():
                raise self._end(what) from None
            raise RequestNotSent(CHANNEL, what, error.string) from None

    def finish(self, cookie: int, verb: str, offset: int, length: int, seconds: float) -> None:
        """Wait for one command; raises if it fails or if that takes longer than `seconds`."""
        handle = self.handle
        deadline = None
        try:
            while not handle.aio_command_completed(cookie):
                if deadline is None:
                    deadline = Deadline(seconds)
                if not self.turn(deadline.left_ms()):
                    raise NbdTimeout(CHANNEL, asked(verb, offset, length), seconds)
        except self.error as error:
            raise self.failure(error, asked(verb, offset, length)) from None

    def failure(self, error: "nbd.Error", what: str) -> ClientError:
        """What the error of a completed command means."""
        # The protocol's errors do not include these two: libnbd itself reports the end of the
        # connection, or an answer to this command that is against the protocol.
        if error.errnum == errno.ENOTCONN:
            return self._end(what)
        if error.errnum == errno.EPROTO:
            return NbdNonsense(CHANNEL, what, error.string)
        return NbdError(CHANNEL, what, error.errnum)

    def info(self) -> ExportInfo:
        """What was negotiated."""
        handle = self.handle
        return ExportInfo(
            size=handle.get_size(), read_only=handle.is_read_only(),
            can_flush=handle.can_flush(), can_fua=handle.can_fua(), can_trim=handle.can_trim(),
            can_zero=handle.can_zero(), can_fast_zero=handle.can_fast_zero(),
            can_df=handle.can_df(), can_cache=handle.can_cache(),
            can_multi_conn=handle.can_multi_conn(),
            structured=handle.get_structured_replies_negotiated(),
            minimum_block=handle.get_block_size(0), preferred_block=handle.get_block_size(1),
            maximum_block=handle.get_block_size(2))

    def close(self) -> None:
        """Let libnbd go; whoever uses the handle later is told that it is closed."""
        self.handle = cast("nbd.NBD", _Closed())

    def goodbye(self, seconds: float) -> None:
        """Take leave as the protocol wants and wait for the server to hang up."""
        deadline = Deadline(seconds)
        with contextlib.suppress(self.error, NbdDisconnected):
            self.handle.aio_disconnect()
            while not self.gone() and self.turn(deadline.left_ms()):
                pass

    def _negotiate(self, end: socket.socket, export: str, deadline: Deadline) -> None:
        what = f"export {export!r}"
        end.setblocking(False)
        try:
            self.handle.aio_connect_socket(end.detach())
            while not self.handle.aio_is_ready():
                if self.gone():
                    raise self._refusal(what)
                if not self.turn(deadline.left_ms()):
                    raise NbdTimeout(CHANNEL, what, deadline.seconds)
        except self.error as error:
            self._broken = error
            raise self._refusal(what) from None

    def _refusal(self, what: str) -> ClientError:
        error = self._broken
        if error is not None and error.errnum not in (0, errno.EPROTO, *_HANG_UP):
            return NbdRefused(f"{CHANNEL}: {error.string}")
        return self._end(what)

    def _end(self, what: str) -> ClientError:
        error = self._broken
        if error is None or error.errnum in _HANG_UP or _HANG_UP_TEXT in error.string:
            return NbdDisconnected(CHANNEL, what, error.string if error else "")
        return NbdNonsense(CHANNEL, what, error.string)


class _Closed:
    """In the place of a handle after `close`."""

    def __getattr__(self, name: str) -> object:
        raise NbdDisconnected(CHANNEL, None, "this client was closed")
