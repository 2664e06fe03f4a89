# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies about requests that overlap.

A system can forget one of the rules by which requests wait for each other or by which failures
are handled, or misreport what is pending and who was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from harness.systems.base import Answer
from harness.systems.concurrent import Standing
from model.copy_before_write import CopyBeforeWrite
from model.errors import RequestFailed
from model.program import Program, StorageRequest

# Rules forgotten


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A rule that a filter does not keep; ``forget`` changes that filter alone."""

    name: str
    text: str
    forget: Callable[[Any], None]


def _nothing(*_: object, **__: object) -> Program[None]:
    return
    yield  # makes this a program


def _no_wait(filter_: CopyBeforeWrite) -> None:
    filter_._wait_for_frozen = _nothing  # type: ignore[method-assign]


def _wait_for_one_cluster(filter_: CopyBeforeWrite) -> None:
    wait = filter_._wait_for_frozen

    def first(start: int, end: int) -> Program[None]:
        return wait(start, start + filter_.cluster_size)

    filter_._wait_for_frozen = first  # type: ignore[method-assign]


def _wait_for_one_read(filter_: CopyBeforeWrite) -> None:
    wait = filter_._wait_for_frozen

    def once(start: int, end: int) -> Program[None]:
        for step in wait(start, end):
            yield step
            return

    filter_._wait_for_frozen = once  # type: ignore[method-assign]


def _no_freeze(filter_: CopyBeforeWrite) -> None:
    def look(start: int, end: int, look: Program[Any]) -> Program[Any]:
        return look

    filter_._freezing = look  # type: ignore[method-assign]


def _freeze_for_ever(filter_: CopyBeforeWrite) -> None:
    freezing = filter_._freezing

    def freeze(start: int, end: int, look: Program[Any]) -> Program[Any]:
        try:
            return (yield from freezing(start, end, look))
        except RequestFailed:
            filter_.frozen.insert(0, type("Leaked", (), {"start": start, "end": end})())
            raise

    filter_._freezing = freeze  # type: ignore[method-assign]


def _no_wait_for_copies(filter_: CopyBeforeWrite) -> None:
    def none(start: int, end: int) -> Program[bool]:
        return False
        yield  # makes this a program

    filter_.block_copy._wait_for_others = none  # type: ignore[method-assign]


def _no_second_try(filter_: CopyBeforeWrite) -> None:
    wait = filter_.block_copy._wait_for_others

    def once(start: int, end: int) -> Program[bool]:
        yield from wait(start, end)
        return False

    filter_.block_copy._wait_for_others = once  # type: ignore[method-assign]


def _done_early(filter_: CopyBeforeWrite) -> None:
    copy = filter_._copy_in_time

    def early(start: int, end: int) -> Program[None]:
        filter_.done.set(start, end)
        return copy(start, end)

    filter_._copy_in_time = early  # type: ignore[method-assign]


def _done_anyway(filter_: CopyBeforeWrite) -> None:
    copy = filter_._copy_in_time

    def anyway(start: int, end: int) -> Program[None]:
        try:
            yield from copy(start, end)
        except RequestFailed:
            filter_.done.set(start, end)
            raise

    filter_._copy_in_time = anyway  # type: ignore[method-assign]


def _copied_once_only(filter_: CopyBeforeWrite) -> None:
    block_copy = filter_.block_copy
    block_copy._put_back = block_copy._end  # type: ignore[method-assign]


def _unbroken(filter_: CopyBeforeWrite) -> None:
    def forgive(error: object) -> None:
        filter_.fired["cbw.failed-copy"] += 1

    filter_._copy_failed = forgive  # type: ignore[method-assign]


def _copy_bit_kept(filter_: CopyBeforeWrite) -> None:
    def keep(start: int, end: int) -> None:
        return

    filter_.block_copy.forget = keep  # type: ignore[method-assign]


def _readers_ignored(filter_: CopyBeforeWrite) -> None:
    filter_.block_copy.serialising = False


FORGOTTEN: Final = (
    Forgotten("no-wait", "a guest write does not wait for fleecing reads", _no_wait),
    Forgotten("wait-for-one-cluster", "a guest write waits for reads of its first cluster only",
              _wait_for_one_cluster),
    Forgotten("wait-for-one-read", "a guest write waits for one fleecing read of several",
              _wait_for_one_read),
    Forgotten("no-freeze", "a fleecing read holds up nobody", _no_freeze),
    Forgotten("frozen-for-ever", "a fleecing read that failed holds up guest writes for ever",
              _freeze_for_ever),
    Forgotten("no-wait-for-copies", "a guest write does not wait for the copy that another "
              "makes of its clusters", _no_wait_for_copies),
    Forgotten("no-second-try", "what another failed to copy is not tried again",
              _no_second_try),
    Forgotten("done-early", "clusters are done before they are copied", _done_early),
    Forgotten("done-anyway", "clusters are done even if their copy failed", _done_anyway),
    Forgotten("copied-once-only", "what failed to be copied is not to be copied any more",
              _copied_once_only),
    Forgotten("unbroken", "a failed copy breaks neither the guest's request nor the snapshot",
              _unbroken),
    Forgotten("copy-bit-kept", "what the client gave up is still copied", _copy_bit_kept),
    Forgotten("readers-ignored", "a copy to a target that shows the source does not wait for "
              "the target's readers", _readers_ignored),
)
"""All of them."""


# What stands is misreported


@dataclass(frozen=True, slots=True)
class Misreport:
    """A way to misreport how things stand; None from it: no chance here."""

    name: str
    text: str
    forge: Callable[[Standing], Standing | None]


def _lost_request(seen: Standing) -> Standing | None:
    return replace(seen, pending=seen.pending[:-1]) if seen.pending else None


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


MISREPORTS: Final = (
    Misreport("lost-request", "a storage request is not made", _lost_request),
    Misreport("extra-request", "a storage request is made twice", _extra_request),
    Misreport("request-elsewhere", "a storage request is for another place", _elsewhere),
    Misreport("longer-request", "a storage request is a sector longer", _longer),
    Misreport("lost-answer", "a request is never answered", _lost_answer),
    Misreport("failed-answer", "a request fails that must succeed", _failed_answer),
    Misreport("hung-up", "the connection is closed instead of an answer", _hung_up),
)
"""All of them."""
