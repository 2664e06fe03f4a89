# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes, numbers, errors, operations and configurations in the short form that people use.

The sizes are those of QEMU's tools (``64k``, ``1M+512``), the operations those of ``qemu-io``
(``write cbw 0 64k``).
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterable
from enum import Enum
from textwrap import wrap
from typing import Any, Final

from harness.systems.base import Answer
from model.configuration import Configuration, Fault, Image, Protocol, RequestKind
from model.operations import BitmapOperation, BitmapRef, Flush, Operation, Request, Via
from model.outcome import Outcome
from model.program import StorageRequest
from model.schedule import Complete, Start

_UNITS: Final = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k"))
_NEARLY: Final = 64
"""So few bytes below a whole k are written as ``64k-1`` rather than as ``63k+1023``."""

_SUBJECTS: Final = ("node", "job")
"""The fields that say what an operation is done to."""


def size(count: int) -> str:
    """A number of bytes: ``0``, ``512``, ``64k``, ``1M+512``, ``64k-1``."""
    if count < 0:
        return f"-{size(-count)}"
    rest = count % 1024
    if rest == 0 or count < 1024 - _NEARLY:
        return _whole(count)
    if rest >= 1024 - _NEARLY:
        return f"{_whole(count - rest + 1024)}-{1024 - rest}"
    return f"{_whole(count - rest)}+{rest}"


def _whole(count: int) -> str:
    for unit, letter in _UNITS:
        if count and count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def counted(count: int, what: str) -> str:
    """So many of what has an s for its plural: ``1 step``, ``0 steps``, ``2 steps``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def span(start: int, end: int) -> str:
    """A half-open range of bytes: ``64k..128k``."""
    return f"{size(start)}..{size(end)}"


def spans(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges of bytes, or ``none``."""
    return ", ".join(span(start, end) for start, end in ranges) or "none"


def error_name(number: int | None) -> str:
    """An errno as ``EINVAL (22)``; None: ``success``."""
    if number is None:
        return "success"
    return f"{errno.errorcode.get(number, 'unknown errno')} ({number})"


def answer(what: Answer) -> str:
    """What a system answered: ``ok``, ``64k read``, ``EINVAL (22)``, ``refused: …``."""
    if what.disconnected:
        return "disconnected"
    if what.refused is not None:
        return f"refused: {what.refused}"
    if what.error is not None:
        return error_name(what.error)
    if what.extents is not None:
        return ", ".join(f"{size(length)}={flags}" for length, flags in what.extents)
    length = len(what.data) if what.data is not None else None
    return _read(length, what.denied)


def outcome(what: Outcome, error: int | None) -> str:
    """What the model says that the answer must be, in the words of :func:`answer`; ``error`` is
    the errno's number as the channel shows it."""
    if what.disconnected:
        return "disconnected"
    if what.refused is not None:
        return f"refused: {what.refused}"
    if error is not None:
        return error_name(error)
    if what.extents is not None:
        return ", ".join(f"{size(each.length)}={'|'.join(map(str, sorted(each.allowed)))}"
                         for each in what.extents)
    return _read(None if what.content is None else what.content.size, what.denied)


def _read(length: int | None, denied: Iterable[tuple[int, int]]) -> str:
    without = f", denied {spans(denied)}" if denied else ""
    return "ok" if length is None else f"{size(length)} read{without}"


def operation(what: Operation) -> str:
    """An operation in a line: ``read snap 0 192k via nbd-df``; fields at their default are out."""
    if isinstance(what, Start):
        return f"start {operation(what.request)}"
    if isinstance(what, Complete):
        verb = "complete" if what.error is None else f"fail with {what.error}"
        which = f" (number {what.younger + 1} of those alike)" if what.younger else ""
        return f"{verb}: {storage_request(what.asked)}{which}"
    words = [what.name, *_subject(what)]
    said = _said(what)
    for field in dataclasses.fields(what):
        value = getattr(what, field.name)
        if field.name not in said and value != field.default:
            words.append(_option(field.name.replace("_", "-"), value))
    if isinstance(what, Request) and what.via is not Via.NBD:
        words.append(f"via {what.via.value}")
    return " ".join(words)


def _subject(what: Operation) -> list[str]:
    if isinstance(what, BitmapOperation):
        return [f"{what.node}/{what.bitmap}"]
    words = [getattr(what, name) for name in _SUBJECTS if hasattr(what, name)]
    if isinstance(what, Request) and (not isinstance(what, Flush) or what.offset or what.length):
        words += [size(what.offset), size(what.length)]
    return words


def _said(what: Operation) -> set[str]:
    """The fields that :func:`operation` writes in their own way."""
    if isinstance(what, Request):
        return {"node", "offset", "length", "via"}
    return {"node", "bitmap"} if isinstance(what, BitmapOperation) else set(_SUBJECTS)


def _option(name: str, value: Any) -> str:
    if value is True:
        return name
    if value is False:
        return f"no-{name}"
    return f"{name}={_value(name, value)}"


def _value(name: str, value: Any) -> str:
    if isinstance(value, BitmapRef):
        return f"{value.node}/{value.name}"
    if isinstance(value, tuple):
        return ",".join(_value(name, each) for each in value) or "none"
    if isinstance(value, Operation):
        return f"({operation(value)})"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int) and ("size" in name or "granularity" in name):
        return size(value)
    return "none" if value is None else str(value)


def numbers(allowed: range) -> str:
    """The numbers that may be: ``3``, ``3 to 5``."""
    return " to ".join(map(str, sorted({allowed[0], allowed[-1]})))


def storage_request(what: StorageRequest) -> str:
    """A request to an image's storage in words: ``write tmp 64k..128k``."""
    if what.kind is RequestKind.FLUSH:
        return f"{what.kind.value} {what.node}"
    where = span(what.offset, what.offset + what.length)
    return f"{what.kind.value} {what.node} {where}{' unmap' if what.unmap else ''}"


def image(what: Image) -> str:
    """An image in a line: ``src: 1M qcow2, backing=base, data in 0..64k``."""
    over = "" if what.protocol is Protocol.FILE else f" over {what.protocol.value}"
    if what.tells_status:
        over += " with block status"
    words = [f"{what.node}: {size(what.size)} {what.format.value}{over}"]
    if what.cluster_size is not None:
        words.append(f"cluster-size={size(what.cluster_size)}")
    if what.subclusters:
        words.append("subclusters")
    if what.preallocation is not None:
        words.append(f"preallocation={what.preallocation}")
    if what.backing is not None:
        words.append(f"backing={what.backing}")
    if what.request_alignment is not None:
        words.append(f"request-alignment={size(what.request_alignment)}")
    if what.max_transfer is not None:
        words.append(f"max-transfer={size(what.max_transfer)}")
    if what.max_discard is not None:
        words.append(f"max-discard={size(what.max_discard)}")
    if what.fails_first is not None:
        words.append(f"first write of data fails with {what.fails_first}")
    if what.detect_zeroes is not None:
        words.append(f"detect-zeroes={what.detect_zeroes}")
    if not what.discard:
        words.append("no-discard")
    if what.filled:
        words.append("data in " + spans((start, start + length) for start, length in what.filled))
    words += [_fault(fault) for fault in what.faults]
    return ", ".join(words)


def _fault(what: Fault) -> str:
    often = "the first" if what.once else "every"
    return f"{what.errno} for {often} {what.kind.value} at {size(what.offset)}"


def configuration(what: Configuration) -> list[str]:
    """A line for each image, and one if exports run in an I/O thread."""
    threaded = ["exports in an I/O thread"] if what.iothread else []
    return [*(image(each) for each in what.images), *threaded]


def rule(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """The text of a rule in lines of that width, a table in it as it is; ``first`` and ``rest``
    are what lines begin with."""
    lines: list[str] = []
    for part in text.split("\n\n") if "===" in text else [text]:
        if lines:
            lines.append("")
        if "===" in part:
            lines += [rest + line for line in part.splitlines()]
        else:
            lines += wrap(" ".join(part.split()), width, subsequent_indent=rest,
                          initial_indent=rest if lines else first)
    return lines
