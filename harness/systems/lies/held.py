# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies about requests that overlap: what is pending and who was answered is misreported, what a
kill leaves is other than it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from harness.systems.base import Answer
from harness.systems.concurrent import Standing
from model import bitmap_directory
from model.concurrent_machine import ConcurrentMachine
from model.configuration import RequestKind
from model.operations import Kill, Operation
from model.program import StorageRequest
from model.qcow2 import Qcow2


@dataclass(frozen=True, slots=True)
class Misreport:
    """A way to misreport how things stand; None from it: no chance here."""

    name: str
    text: str
    forge: Callable[[Standing], Standing | None]


def _lost_request(seen: Standing) -> Standing | None:
    return replace(seen, pending=seen.pending[:-1]) if seen.pending else None


def _not_on_the_way(seen: Standing) -> Standing | None:
    return replace(seen, passed=seen.passed[1:]) if seen.passed else None


def _extra_request(seen: Standing) -> Standing | None:
    if not seen.pending:
        return None
    return replace(seen, pending=(*seen.pending, seen.pending[-1]))


def _elsewhere(seen: Standing) -> Standing | None:
    if not seen.pending:
        return None
    last = seen.pending[-1]
    moved = StorageRequest(last.node, last.kind, last.offset + 512, last.length)
    return replace(seen, pending=(*seen.pending[:-1], moved))


def _longer(seen: Standing) -> Standing | None:
    if not seen.pending:
        return None
    last = seen.pending[-1]
    longer = StorageRequest(last.node, last.kind, last.offset, last.length + 512)
    return replace(seen, pending=(*seen.pending[:-1], longer))


def _other_zeroes(seen: Standing) -> Standing | None:
    for index, each in enumerate(seen.pending):
        if each.kind is RequestKind.ZERO:
            other = replace(each, unmap=not each.unmap)
            return replace(seen, pending=(*seen.pending[:index], other,
                                          *seen.pending[index + 1:]))
    return None


def _lost_answer(seen: Standing) -> Standing | None:
    return replace(seen, answers={}) if seen.answers else None


def _failed_answer(seen: Standing) -> Standing | None:
    for number, answer in seen.answers.items():
        if answer.error is None:
            return replace(seen, answers={**seen.answers, number: Answer(error=5)})
    return None


def _hung_up(seen: Standing) -> Standing | None:
    for number in seen.answers:
        return replace(seen, answers={**seen.answers, number: Answer(disconnected=True)})
    return None


def _not_silent(seen: Standing) -> Standing | None:
    return replace(seen, silent=False) if seen.silent else None


@dataclass(frozen=True, slots=True)
class Misdeed:
    """A way to do something else than was asked for; None from it: no chance here."""

    name: str
    text: str
    deed: Callable[[ConcurrentMachine, Operation], Operation | None]
    """Does what is to come before, and gives what is done in the operation's place."""


def _landed_or_not(machine: ConcurrentMachine, operation: Operation) -> Operation | None:
    if not isinstance(operation, Kill):
        return None
    return replace(operation, landed=not operation.landed)


def _volatile(machine: ConcurrentMachine, operation: Operation) -> Operation | None:
    if not isinstance(operation, Kill):
        return None
    fresh = ConcurrentMachine(machine.configuration).stored()
    for node, content in machine.stored().items():
        content.paste(0, fresh[node])
    return operation


def _bitmaps_stored(machine: ConcurrentMachine, operation: Operation) -> Operation | None:
    if not isinstance(operation, Kill):
        return None
    for node in machine.nodes.values():
        if isinstance(node, Qcow2):
            bitmap_directory.store(node)
    return operation


MISDEEDS: Final = (
    Misdeed("landed-or-not", "storage requests of a killed QEMU that were lost have taken effect, "
            "or the reverse", _landed_or_not),
    Misdeed("volatile-storage", "what was written is lost with a killed QEMU", _volatile),
    Misdeed("stored-by-the-kill", "a killed QEMU has stored its persistent bitmaps",
            _bitmaps_stored),
)
"""All of them."""

MISREPORTS: Final = (
    Misreport("lost-request", "a storage request is not made", _lost_request),
    Misreport("not-on-the-way", "a storage request that would complete as it comes is not made",
              _not_on_the_way),
    Misreport("extra-request", "a storage request is made twice", _extra_request),
    Misreport("request-elsewhere", "a storage request is for another place", _elsewhere),
    Misreport("longer-request", "a storage request is a sector longer", _longer),
    Misreport("other-zeroes", "zeroes free space that must not, or the reverse", _other_zeroes),
    Misreport("lost-answer", "a request is never answered", _lost_answer),
    Misreport("failed-answer", "a request fails that must succeed", _failed_answer),
    Misreport("hung-up", "the connection is closed instead of an answer", _hung_up),
    Misreport("not-silent", "a command is answered while a job that ends waits for requests",
              _not_silent),
)
"""All of them."""
