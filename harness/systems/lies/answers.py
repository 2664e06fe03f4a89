# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies told in the answers to requests, commands and inspections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from harness import stamps
from harness.systems.base import Answer
from harness.systems.lies.lie import Chance, Lie, Oracle
from model.content import ZERO, Stamp, initial_stamp
from model.errors import Errno, QmpError
from model.operations import Context, Inspect, Read, Request, Status
from model.runs import Run

# Data: a run of the true content that somebody wrote is shown otherwise.


def _forge_run(chance: Chance, forge: Callable[[Run[Stamp], int], bytes]) -> Answer | None:
    """The answer with its last written run as ``forge(run, offset on disk)`` makes it."""
    content, data = chance.outcome.content, chance.answer.data
    if content is None or data is None or not isinstance(chance.operation, Read):
        return None
    start = chance.operation.offset
    for run in reversed(list(content.runs())):
        if run.value != ZERO:
            wrong = forge(run, start + run.start)
            forged = data[:run.start] + wrong + data[run.start + len(wrong):]
            return replace(chance.answer, data=forged) if forged != data else None
    return None


def _earlier(stamp: Stamp) -> Stamp:
    return initial_stamp(0) if stamp > 0 else stamp - 1


def _wrong_byte(chance: Chance) -> Answer | None:
    data = chance.answer.data
    if not data or not isinstance(chance.operation, Read):
        return None
    return replace(chance.answer, data=data[:-1] + bytes([data[-1] ^ 1]))


def _short(chance: Chance) -> Answer | None:
    data = chance.answer.data
    if not data or not isinstance(chance.operation, Read):
        return None
    return replace(chance.answer, data=data[:-1])


def _stale(run: Run[Stamp], offset: int) -> bytes:
    return stamps.data(_earlier(run.value), offset, run.length)


def _newer(run: Run[Stamp], offset: int) -> bytes:
    return stamps.data(abs(run.value) + 1, offset, run.length)


def _shifted(run: Run[Stamp], offset: int) -> bytes:
    return stamps.data(run.value, offset + stamps.CHUNK, run.length)


def _mixed(run: Run[Stamp], offset: int) -> bytes:
    half = (run.length + 1) // 2
    return stamps.data(_earlier(run.value), offset, half)


def _zeroed(run: Run[Stamp], _: int) -> bytes:
    return bytes(run.length)


def _data(name: str, text: str, forge: Callable[[Run[Stamp], int], bytes]) -> Lie:
    return Lie(name, text, Oracle.DATA, answer=lambda chance: _forge_run(chance, forge))


_ABOUT_DATA: Final = (
    Lie("wrong-byte", "the last byte of a read differs by a bit", Oracle.DATA,
        answer=_wrong_byte),
    Lie("short-read", "a read gives a byte less than asked for", Oracle.DATA, answer=_short),
    _data("stale-data", "a read gives what was there before the last write", _stale),
    _data("newer-data", "a read gives what a later operation wrote", _newer),
    _data("shifted-data", "a read gives the right writer's data of another place", _shifted),
    _data("mixed-data", "half of what a read gives is older than the rest", _mixed),
    _data("zeroed-data", "a read gives zeroes where data was written", _zeroed),
)


# Inspections.


def _inspected(chance: Chance) -> bool:
    return isinstance(chance.operation, Inspect) and bool(chance.answer.data)


def _wrong_tail(chance: Chance) -> Answer | None:
    data = chance.answer.data
    if data is None or not _inspected(chance):
        return None
    return replace(chance.answer, data=data[:-1] + bytes([data[-1] ^ 0x80]))


def _extra_data(chance: Chance) -> Answer | None:
    content, data = chance.outcome.content, chance.answer.data
    if content is None or data is None or not _inspected(chance):
        return None
    for run in content.runs():
        if run.value == ZERO and not any(start < run.end and run.start < end
                                         for start, end in chance.answer.denied):
            extra = stamps.data(initial_stamp(0), run.start, run.length)
            return replace(chance.answer, data=data[:run.start] + extra + data[run.end:])
    return None


def _truncated(chance: Chance) -> Answer | None:
    data = chance.answer.data
    if data is None or len(data) <= 512 or not _inspected(chance):
        return None
    return replace(chance.answer, data=data[:-512])


def _nothing_denied(chance: Chance) -> Answer | None:
    return replace(chance.answer, denied=()) if chance.answer.denied else None


def _more_denied(chance: Chance) -> Answer | None:
    data = chance.answer.data
    if data is None or not _inspected(chance) or chance.answer.denied:
        return None
    return replace(chance.answer, denied=((0, len(data)),), data=bytes(len(data)))


_ABOUT_INSPECTIONS: Final = (
    Lie("wrong-tail", "the last byte of a disk is wrong", Oracle.INSPECTION, answer=_wrong_tail),
    Lie("extra-data", "an image holds data that nobody put there", Oracle.INSPECTION,
        answer=_extra_data),
    Lie("truncated", "a disk is a sector shorter", Oracle.INSPECTION, answer=_truncated),
    Lie("all-accessible", "a snapshot can be read where it must not be", Oracle.INSPECTION,
        answer=_nothing_denied),
    Lie("all-denied", "a snapshot cannot be read where it must be", Oracle.INSPECTION,
        answer=_more_denied),
)


# What QEMU leaves behind.


def _one_more_compressed(chance: Chance) -> Answer | None:
    if not chance.outcome.compressed:
        return None
    node, numbers = max(chance.outcome.compressed.items())
    return replace(chance.answer, compressed={
        **(chance.answer.compressed or {}), node: numbers[-1] + 1})


_ABOUT_ENDS: Final = (
    Lie("compressed-unasked", "a cluster is compressed that nobody asked to compress",
        Oracle.COMPRESSION, answer=_one_more_compressed),
)


# Errors of requests.


def _wrong_errno(chance: Chance) -> Answer | None:
    if chance.answer.error is None:
        return None
    wrong = Errno.EIO if chance.answer.error != Errno.EIO else Errno.ENOSPC
    return replace(chance.answer, error=int(wrong))


def _no_error(chance: Chance) -> Answer | None:
    operation = chance.operation
    if chance.answer.error is None or not isinstance(operation, Request):
        return None
    data = bytes(operation.length) if isinstance(operation, Read) else None
    return replace(chance.answer, error=None, data=data)


def _needless_error(chance: Chance) -> Answer | None:
    if chance.answer.error is not None or not isinstance(chance.operation, Request):
        return None
    return Answer(error=int(Errno.EINVAL))


_ABOUT_ERRORS: Final = (
    Lie("wrong-errno", "a request fails with another error", Oracle.ERRNO, answer=_wrong_errno),
    Lie("no-error", "a request succeeds that must be refused, a fleecing read for one",
        Oracle.ERRNO, answer=_no_error),
    Lie("needless-error", "a request is refused that must succeed", Oracle.ERRNO,
        answer=_needless_error),
)


# Block status.


def _wrong_flags(chance: Chance) -> Answer | None:
    said, true = chance.answer.extents, chance.outcome.extents
    if not said or not true:
        return None
    for index, extent in enumerate(true):
        wrong = next((flags for flags in range(4) if flags not in extent.allowed), None)
        if wrong is not None:
            return replace(chance.answer, extents=(
                *said[:index], (said[index][0], wrong), *said[index + 1:]))
    return None


def _wrong_length(chance: Chance) -> Answer | None:
    said = chance.answer.extents
    if said is None or len(said) < 2 or said[0][0] <= 512:
        return None
    (first, flags), (second, others), *rest = said
    return replace(chance.answer,
                   extents=((first - 512, flags), (second + 512, others), *rest))


def _missing_extent(chance: Chance) -> Answer | None:
    said = chance.answer.extents
    return replace(chance.answer, extents=said[:-1]) if said else None


def _only_first_context(chance: Chance) -> Answer | None:
    asked = chance.operation
    if chance.answer.extents and isinstance(asked, Status) and asked.others and (
            asked.context != Context.ALLOCATION):
        return replace(chance.answer, extents=())
    return None


_ABOUT_EXTENTS: Final = (
    Lie("wrong-flags", "an extent's flags say what it is not", Oracle.EXTENTS,
        answer=_wrong_flags),
    Lie("wrong-extent-length", "an extent ends a sector early", Oracle.EXTENTS,
        answer=_wrong_length),
    Lie("only-first-context", "of several metadata contexts only the first is told of",
        Oracle.EXTENTS, answer=_only_first_context),
    Lie("missing-extent", "the last extent is left out", Oracle.EXTENTS, answer=_missing_extent),
)


# QMP commands.


def _accepted(chance: Chance) -> Answer | None:
    return Answer() if chance.answer.refused is not None else None


def _refused(chance: Chance) -> Answer | None:
    if (isinstance(chance.operation, (Request, Inspect))
            or chance.answer.refused is not None):
        return None
    return Answer(refused=QmpError("Permission denied"))


def _wrong_text(chance: Chance) -> Answer | None:
    refused = chance.answer.refused
    if refused is None:
        return None
    return replace(chance.answer, refused=replace(refused, desc=refused.desc + "."))


def _wrong_class(chance: Chance) -> Answer | None:
    refused = chance.answer.refused
    if refused is None:
        return None
    return replace(chance.answer, refused=replace(refused, error_class="DeviceNotFound"))


_ABOUT_QMP: Final = (
    Lie("accepted", "a command is carried out that must be refused", Oracle.QMP,
        answer=_accepted),
    Lie("refused", "a command is refused that must be carried out", Oracle.QMP, answer=_refused),
    Lie("wrong-text", "a command is refused in other words", Oracle.QMP, answer=_wrong_text),
    Lie("wrong-class", "a command is refused with another error class", Oracle.QMP,
        answer=_wrong_class),
)


ANSWERS: Final = (*_ABOUT_DATA, *_ABOUT_INSPECTIONS, *_ABOUT_ENDS, *_ABOUT_ERRORS,
                  *_ABOUT_EXTENTS, *_ABOUT_QMP)
"""All of them."""
