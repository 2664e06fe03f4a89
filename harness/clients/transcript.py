# SPDX-License-Identifier: GPL-2.0-or-later
"""What qemu-io prints, read back into numbers.

The commands and their output are the same in the program qemu-io and in the human monitor's
command of that name.  qemu-io reports an error as the text of `strerror` in the C locale;
here it becomes the number again.  Where qemu-io prints one line for success and another for
failure, one of the two must be there: silence is not taken for success.
"""

import errno as errno_module
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

_DONE = re.compile(r"(read|wrote|discard) (\d+)/(\d+) bytes at offset (\d+)")
_RATE = re.compile(r".*, \d+ ops; .* ops/sec\)")
_FAILED = re.compile(r"(?:.*: )?(read|write|discard|is_allocated) failed: (.+)")
_STATUS_FAILED = re.compile(r"(?:.*: )?Failed to get allocation status: (.+)")
_MISMATCH = re.compile(r"Pattern verification failed at offset \d+, \d+ bytes")
_DUMP = re.compile(r"[0-9a-f]{8,}:  [0-9a-f]{2} ")
_RUN = re.compile(r".*\((0x[0-9a-f]+)\) bytes +(not allocated|    allocated|allocated)"
                  r" at offset .*\((0x[0-9a-f]+)\)")
_COUNT = re.compile(r"(\d+)/(\d+) bytes allocated at offset .*")

_DUMP_WIDTH = 16  # bytes a line

ERRNO_BY_TEXT = {os.strerror(number): number for number in sorted(errno_module.errorcode)}
"""errno by its text; where two names share a number there is only one text."""


class Unreadable(Exception):
    """The output is not what this command prints; the message says where."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A request as qemu-io will report it: `verb` is read, write or discard."""

    verb: str
    offset: int
    length: int
    dump: bool = False

    @property
    def done_verb(self) -> str:
        """The verb in the report of success."""
        return "wrote" if self.verb == "write" else self.verb


@dataclass(frozen=True, slots=True)
class Report:
    """How a transfer ended: `errno` is 0 for success.

    `data` is what a dump showed, `matched` is false if a pattern was not what was read, `stray`
    are lines that do not belong to the report.
    """

    errno: int
    data: bytes | None
    matched: bool
    stray: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MapRun:
    """`length` bytes that are allocated in the image itself, or are not."""

    length: int
    allocated: bool


def is_complete(transfer: Transfer, output: str) -> bool:
    """Whether the output has all of a transfer's report, in whole lines."""
    if not output.endswith("\n"):
        return False
    *_, before, last = ("\n\n" + output[:-1]).rsplit("\n", 2)
    failed = _FAILED.fullmatch(last)
    if failed is not None:
        return failed[1] == transfer.verb
    return _RATE.fullmatch(last) is not None and _DONE.fullmatch(before) is not None


def report(transfer: Transfer, lines: Sequence[str]) -> Report | None:
    """The report of a transfer; None if the lines have none: then it was not carried out."""
    stray: list[str] = []
    dump: list[str] = []
    number: int | None = None
    matched = True
    for line in lines:
        if _DUMP.match(line):
            dump.append(line)
        elif done := _DONE.fullmatch(line):
            told = (done[1], int(done[2]), int(done[3]), int(done[4]))
            asked = (transfer.done_verb, transfer.length, transfer.length, transfer.offset)
            if number is not None or told != asked:
                raise Unreadable(line)
            number = 0
        elif (failed := _FAILED.fullmatch(line)) and failed[1] == transfer.verb:
            if number is not None:
                raise Unreadable(line)
            number = errno_of(failed[2])
        elif _MISMATCH.fullmatch(line):
            matched = False
        elif line and not _RATE.fullmatch(line):
            stray.append(line)
    if number is None:
        return None
    data = None
    if transfer.dump and number == 0:
        data = _undump(dump, transfer.offset, transfer.length)
    elif dump:
        raise Unreadable(dump[0])
    return Report(number, data, matched, tuple(stray))


def allocation_map(lines: Sequence[str]) -> tuple[MapRun, ...] | int | None:
    """The runs that `map` printed, or its errno; None if it printed neither."""
    runs: list[MapRun] = []
    place = 0
    for line in lines:
        if failed := _STATUS_FAILED.fullmatch(line):
            return errno_of(failed[1])
        if run := _RUN.fullmatch(line):
            if int(run[3], 16) != place:
                raise Unreadable(line)
            length = int(run[1], 16)
            place += length
            runs.append(MapRun(length, not run[2].startswith("not")))
    return tuple(runs) if runs else None


def allocated_bytes(length: int, lines: Sequence[str]) -> tuple[int, int] | None:
    """The errno of `alloc` and the bytes it found allocated; None if it printed neither."""
    for line in lines:
        if failed := _FAILED.fullmatch(line):
            return errno_of(failed[2]), 0
        if count := _COUNT.fullmatch(line):
            if int(count[2]) != length:
                raise Unreadable(line)
            return 0, int(count[1])
    return None


def errno_of(text: str) -> int:
    """The number of an error from its text in the C locale."""
    number = ERRNO_BY_TEXT.get(text.strip())
    if number is None:
        raise Unreadable(f"not an error that this system knows: {text!r}")
    return number


def _undump(lines: Sequence[str], offset: int, length: int) -> bytes:
    data = bytearray()
    for line in lines:
        head, _, body = line.partition(":  ")
        count = min(_DUMP_WIDTH, length - len(data))
        try:
            here = bytes.fromhex(body[:3 * count])
            place = int(head, 16)
        except ValueError:
            raise Unreadable(line) from None
        # Each byte as two digits and a space, one more space, each byte as a character.
        if (place != offset + len(data) or len(here) != count or not count
                or len(body) != 4 * count + 1):
            raise Unreadable(line)
        data += here
    if len(data) != length:
        raise Unreadable(f"{len(data)} of {length} bytes dumped")
    return bytes(data)
