# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu.qmp's client as the QMP facade wants it: quick, and with one inbox for events."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qemu.qmp import ConnectError, Message, QMPClient
from qemu.qmp.error import ProtocolError


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """An event; `timestamp` is QEMU's, in (seconds, microseconds) since the epoch."""

    name: str
    data: Mapping[str, object]
    timestamp: tuple[int, int]


class Session(QMPClient):
    """qemu.qmp's client, without its cost of logging, and with events kept in one inbox."""

    def __init__(self, progress: Callable[[], None]) -> None:
        super().__init__()
        self.inbox: deque[QmpEvent] = deque()
        self.unrouted: list[Mapping[str, object]] | None = None
        self.sent = 0
        self._progress = progress
        self._fences = 0

    async def verbatim(self, data: bytes) -> object:
        self._fences += 1
        return await self._execute(_Verbatim(data, f"fence#{self._fences}"), assign_id=False)

    def _cb_inbound(self, msg: Message) -> Message:
        return msg  # The inherited hook pretty-prints every message, even if nobody listens.

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _do_send(self, msg: Message) -> None:
        super()._do_send(msg)
        self.sent += 1
        self._progress()

    async def _on_message(self, msg: Message) -> None:
        if "event" in msg:
            self.inbox.append(_event(msg))
        elif self.unrouted is not None and msg.get("id") not in self._pending:
            self.unrouted.append(dict(msg))
        else:
            await super()._on_message(msg)
        self._progress()


class _Verbatim(Message):
    """Bytes to be sent as they are, followed by a command that is answered under `fence`."""

    def __init__(self, data: bytes, fence: str) -> None:
        super().__init__({"id": fence})
        command = json.dumps({"execute": "query-version", "id": fence})
        self._verbatim = data + b"\n" + command.encode() + b"\n"

    def __bytes__(self) -> bytes:
        return self._verbatim


def _event(message: Message) -> QmpEvent:
    name, data, stamp = message["event"], message.get("data", {}), message.get("timestamp", {})
    if not (isinstance(name, str) and isinstance(data, dict) and isinstance(stamp, dict)):
        raise ProtocolError(f"malformed event {dict(message)}")
    return QmpEvent(name, data, (stamp.get("seconds", -1), stamp.get("microseconds", -1)))


def root_cause(error: Exception) -> Exception:
    """The cause under qemu.qmp's wrappings."""
    while isinstance(error, (ConnectError, ProtocolError)):
        inner = getattr(error, "exc", None)
        if not isinstance(inner, Exception):
            break
        error = inner
    return error
