# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage requests in qemu-io's words, the same for both places that understand them."""

from abc import ABC, abstractmethod

from harness.clients.errors import PeerNonsense, RequestFailed, RequestNotSent
from harness.clients.payload import Payload
from harness.clients.transcript import (
    MapRun,
    Report,
    Transfer,
    Unreadable,
    allocated_bytes,
    allocation_map,
    report,
)


class QemuIoRequests(ABC):
    """Requests on one image; offsets and lengths in bytes.

    They raise `RequestFailed` with QEMU's errno, `RequestNotSent` if qemu-io did not carry out
    the command, `PeerGone`, `PeerSilent` or `PeerNonsense`.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._payload = Payload()

    @abstractmethod
    def command(self, text: str) -> list[str]:
        """Run any command and return the lines that it prints."""

    @abstractmethod
    def _transfer(self, text: str, transfer: Transfer) -> list[str]:
        """Run the command of a transfer and return the lines that it prints."""

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        return self._report(f"read -v {offset} {length}",
                            Transfer("read", offset, length, dump=True)).data or b""

    def verify(self, offset: int, length: int, pattern: int) -> bool:
        """Read, and tell whether all bytes are `pattern`; cheaper than `read` when large."""
        return self._report(f"read -P {pattern} {offset} {length}",
                            Transfer("read", offset, length)).matched

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Write."""
        self._payload.put(data)
        # An empty file of data is refused, an empty write is not.
        source = f"-s {self._payload.path}" if data else "-P 0"
        self._report(f"write {'-f ' if fua else ''}{source} {offset} {len(data)}",
                     Transfer("write", offset, len(data)))

    def write_pattern(self, offset: int, length: int, pattern: int, *, fua: bool = False) -> None:
        """Write the same byte all over."""
        self._report(f"write {'-f ' if fua else ''}-P {pattern} {offset} {length}",
                     Transfer("write", offset, length))

    def zero(self, offset: int, length: int, *, unmap: bool = False, fua: bool = False) -> None:
        """Write zeroes; `unmap` allows deallocation."""
        flags = ("-u " if unmap else "") + ("-f " if fua else "")
        self._report(f"write -z {flags}{offset} {length}", Transfer("write", offset, length))

    def discard(self, offset: int, length: int) -> None:
        """Discard."""
        self._report(f"discard {offset} {length}", Transfer("discard", offset, length))

    def map(self) -> tuple[MapRun, ...]:
        """What is allocated in the image itself, from its start to its end."""
        try:
            found = allocation_map(lines := self.command("map"))
        except Unreadable as error:
            raise PeerNonsense(self.channel, "map", str(error)) from None
        if found is None:
            raise self._not_sent("map", lines)
        if isinstance(found, int):
            raise RequestFailed(self.channel, "map", found)
        return found

    def allocated(self, offset: int, length: int) -> int:
        """How many bytes of a range are allocated in the image itself."""
        text = f"alloc {offset} {length}"
        try:
            found = allocated_bytes(length, lines := self.command(text))
        except Unreadable as error:
            raise PeerNonsense(self.channel, text, str(error)) from None
        if found is None:
            raise self._not_sent(text, lines)
        number, count = found
        if number:
            raise RequestFailed(self.channel, text, number)
        return count

    def close(self) -> None:
        """Release what the client holds; may be called again."""
        self._payload.close()

    def _report(self, text: str, transfer: Transfer) -> Report:
        lines = self._transfer(text, transfer)
        try:
            found = report(transfer, lines)
        except Unreadable as error:
            raise PeerNonsense(self.channel, text, str(error)) from None
        if found is None:
            raise self._not_sent(text, lines)
        if found.errno:
            raise RequestFailed(self.channel, text, found.errno)
        return found

    def _not_sent(self, text: str, lines: list[str]) -> RequestNotSent:
        said = " / ".join(line for line in lines if line) or "qemu-io printed no result"
        return RequestNotSent(self.channel, text, said)
