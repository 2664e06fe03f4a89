# SPDX-License-Identifier: GPL-2.0-or-later
"""The human monitor's `qemu-io` command, given through QMP (qemu-system only).

QMP returns nothing of what a request printed: that goes to the standard output of the QEMU
process, which must be a terminal, or it would stay in QEMU's buffer.  What has been written to
a terminal is not at once to be read at the other side, so the end of the output must be told
by the output itself: by the report of the request; or, where there is no such report, by a
*fence*, a command after it whose complaint quotes a unique word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.clients.errors import PeerSilent, RequestNotSent
from harness.clients.qemu_io_requests import QemuIoRequests
from harness.clients.qmp import Qmp, QmpPending
from harness.clients.transcript import Transfer, is_complete

CHANNEL = "human monitor"

_COMMAND = "human-monitor-command"

_PLAIN = frozenset(map(chr, range(32, 127))) - frozenset('"\\')


class Output(Protocol):
    """What a process printed so far; positions count bytes since its start."""

    @property
    def position(self) -> int:
        """How many bytes have come so far."""
        ...

    def since(self, position: int = 0) -> bytes:
        """What has come from `position` on."""
        ...

    def wait(self, enough: Callable[[bytes], bool], position: int = 0,
             timeout: float = 10.0) -> bytes | None:
        """What has come from `position` on, once `enough` accepts it; None if it never does."""
        ...


@dataclass(frozen=True, slots=True)
class _Fence:
    word: str
    pending: QmpPending


class MonitorIo(QemuIoRequests):
    """Requests on a node, or on a guest device as if the guest had made them.

    `output` must hold at least the output of one command: five bytes for each byte dumped.
    """

    def __init__(self, qmp: Qmp, output: Output, *, node: str | None = None,
                 device: str | None = None, fence_device: str | None = None) -> None:
        """Exactly one of `node` (or block backend) and `device` (identifier or QOM path).

        The fence is a command on `fence_device`, by default on the target itself.

        While any request of the process is held up, use devices only, for fences too.  A command
        on a node gets a block backend of its own, and to make and remove it changes the graph:
        7.2 waits for the requests of that node, later versions for those of all nodes (observed
        with 10.0 and 11.1), so that it hangs, with it the monitor, and no command resumes the
        request.  A command on a device waits for nothing but itself, and `resume` finds the
        blkdebug node under a device.
        """
        super().__init__(CHANNEL)
        if (node is None) == (device is None):
            raise ValueError("either a node or a device")
        self._qmp = qmp
        self._output = output
        self._target = node if node is not None else f"-d {device}"
        self._fence_target = self._target if fence_device is None else f"-d {fence_device}"
        self._fences = 0

    def command(self, text: str) -> list[str]:
        """Run any qemu-io command and return the lines that QEMU prints until it has ended."""
        start = self._output.position
        pending = self._qmp.submit(_COMMAND, _arguments(self._target, text))
        fence = self._submit_fence()
        said = _said(self._qmp.result(pending), text)
        return self._until(fence, start, text) + said

    def flush(self) -> None:
        """Flush.  The human monitor does not say whether that succeeded."""
        _said(self._qmp.execute(_COMMAND, _arguments(self._target, "flush")), "flush")

    def _transfer(self, text: str, transfer: Transfer) -> list[str]:
        start = self._output.position
        said = _said(self._qmp.execute(_COMMAND, _arguments(self._target, text)), text)
        output = _text(self._output.since(start))
        if is_complete(transfer, output):
            return output.splitlines() + said
        # Still on its way through the terminal, or never printed: the fence tells which.
        return self._until(self._submit_fence(), start, text) + said

    def _submit_fence(self) -> _Fence:
        self._fences += 1
        word = f"fence-{self._fences}-end"
        # Not a number, so nothing is read; its complaint is on the standard output.
        arguments = _arguments(self._fence_target, f"read {word} 1")
        return _Fence(word, self._qmp.submit(_COMMAND, arguments))

    def _until(self, fence: _Fence, start: int, text: str) -> list[str]:
        """The lines printed from `start` to the fence."""
        _said(self._qmp.result(fence.pending), text)
        word = fence.word.encode()
        output = self._output.wait(lambda data: word in data, start, self._qmp.timeout)
        if output is None:
            self._qmp.execute("query-name")  # If QEMU has died, this tells.
            raise PeerSilent(CHANNEL, text, self._qmp.timeout)
        return _text(output[:output.index(word)]).splitlines()[:-1]


def _arguments(target: str, text: str) -> dict[str, object]:
    if not _PLAIN.issuperset(text):
        raise ValueError(f"cannot be quoted for the human monitor: {text!r}")
    return {"command-line": f'qemu-io {target} "{text}"'}


def _said(answer: object, text: str) -> list[str]:
    """What the monitor itself answers: nothing, a refusal, or a message of the block layer."""
    said = str(answer)
    if said.startswith("Error: ") or "unknown command" in said:
        raise RequestNotSent(CHANNEL, text, said.strip())
    return said.splitlines()


def _text(output: bytes) -> str:
    return output.decode(errors="replace").replace("\r\n", "\n")
