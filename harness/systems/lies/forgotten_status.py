# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules forgotten: those of block status that storage is asked for, and that takes its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from harness.systems.lies.forgotten import Forgotten
from model.bitmap import align_up
from model.block_copy import CopyTask
from model.content import Content
from model.copy_before_write import CopyBeforeWrite
from model.errors import Errno, RequestFailed
from model.held_image import HeldImage
from model.node import DATA, Status
from model.program import Program, Wait

_Asking: TypeAlias = Callable[[int, int], Program[tuple[int, Status]]]


# Who waits for whom


def _no_freeze(filter_: CopyBeforeWrite) -> None:
    def look(start: int, end: int) -> Program[tuple[int, Status]]:
        filter_._may_access(start, end)
        done, stop = filter_._run_of_done(start, end)
        return (filter_.target if done else filter_.source).own_status(start, stop)

    filter_.snapshot_status = look  # type: ignore[method-assign]


def _frozen(filter_: CopyBeforeWrite, status: _Asking) -> _Asking:
    def freeze(start: int, end: int) -> Program[tuple[int, Status]]:
        return filter_._freezing(start, end, status(start, end))

    return freeze


def _freeze_always(filter_: CopyBeforeWrite) -> None:
    filter_.snapshot_status = _frozen(  # type: ignore[method-assign, assignment]
        filter_, filter_.snapshot_status)


def _guest_freezes(filter_: CopyBeforeWrite) -> None:
    filter_._block_status = _frozen(  # type: ignore[method-assign, assignment]
        filter_, filter_._block_status)


# What a copy makes of it


def _heard(hear: Callable[[int, int, Status], tuple[int, Status]],
           ) -> Callable[[CopyBeforeWrite], None]:
    """Copies take a run and its status for what ``hear`` makes of them."""

    def forget(filter_: CopyBeforeWrite) -> None:
        status = filter_.block_copy._status

        def heard(start: int, end: int) -> Program[tuple[int, Status]]:
            stop, found = yield from status(start, end)
            return hear(stop, align_up(stop, filter_.cluster_size), found)

        filter_.block_copy._status = heard  # type: ignore[method-assign]

    return forget


def _unknown_is_data(filter_: CopyBeforeWrite) -> None:
    status = filter_.block_copy._status

    def patient(start: int, end: int) -> Program[tuple[int, Status]]:
        try:
            return (yield from status(start, end))
        except RequestFailed:
            return end, DATA

    filter_.block_copy._status = patient  # type: ignore[method-assign]


def _unknown_fails(filter_: CopyBeforeWrite) -> None:
    copy = filter_.block_copy
    status, read = copy._status, copy._read
    failed: dict[int, Errno] = {}

    def failing(start: int, end: int) -> Program[tuple[int, Status]]:
        try:
            return (yield from status(start, end))
        except RequestFailed as why:
            failed[start] = why.error
            raise

    def reading(start: int, end: int) -> Program[Content]:
        if start in failed:
            raise RequestFailed(failed.pop(start))
        return (yield from read(start, end))

    copy._status, copy._read = failing, reading  # type: ignore[method-assign]


def _rest_is_lost(filter_: CopyBeforeWrite) -> None:
    copy = filter_.block_copy
    cut = copy._shrink_to_status

    def losing(task: CopyTask, *, follows: bool) -> Program[bool | None]:
        end = task.end
        is_zero = yield from cut(task, follows=follows)
        copy.copy_bitmap.reset(task.end, end)
        return is_zero

    copy._shrink_to_status = losing  # type: ignore[method-assign]


def _cut_is_not_noticed(filter_: CopyBeforeWrite) -> None:
    copy = filter_.block_copy

    def wait(other: CopyTask) -> Wait:
        return Wait(lambda: other not in copy.in_flight, "somebody else's copy to end")

    copy._end_of = wait  # type: ignore[method-assign]


# What is asked, and when it is true


def _held(forget: Callable[[HeldImage], None]) -> Callable[[CopyBeforeWrite], None]:
    def of_images(filter_: CopyBeforeWrite) -> None:
        for image in (filter_.source, filter_.target):
            if isinstance(image, HeldImage):
                forget(image)

    return of_images


def _told_early(image: HeldImage) -> None:
    ask = image._ask

    def asking(start: int, end: int) -> Program[tuple[int, Status]]:
        early = image._told(start, end)
        yield from ask(start, end)
        return early

    if image.spec.tells_status:
        image._ask = asking  # type: ignore[method-assign]


def _asked_again(image: HeldImage) -> None:
    image._block_status = image._ask  # type: ignore[method-assign]


def _never_forgotten(image: HeldImage) -> None:
    def keep(start: int, end: int) -> None:
        return

    image._forget = keep  # type: ignore[method-assign]


FORGOTTEN_OF_STATUS: Final = (
    Forgotten("status-freezes-nothing", "a fleecing block status holds up nobody", _no_freeze),
    Forgotten("status-freezes-always", "a fleecing block status of the temporary image holds up "
              "guest writes", _freeze_always),
    Forgotten("guest-status-freezes", "a guest's block status holds up guest writes",
              _guest_freezes),
    Forgotten("zeroes-are-data", "what block status says is zero is read and copied as data",
              _heard(lambda stop, _, status: (stop, DATA))),
    Forgotten("zeroes-to-the-end", "a cluster of which the beginning is zero is copied as zeroes",
              _heard(lambda stop, end, status: (end if status.is_zero else stop, status))),
    Forgotten("unknown-is-data", "where block status fails, all of a task is copied as data",
              _unknown_is_data),
    Forgotten("unknown-fails", "a copy fails if its block status does", _unknown_fails),
    Forgotten("rest-is-lost", "what is cut off from a task is not to be copied any more",
              _rest_is_lost),
    Forgotten("cut-is-not-noticed", "who waits for a copy does not look again when it is cut",
              _cut_is_not_noticed),
    Forgotten("told-early", "block status is what it was when it was asked for",
              _held(_told_early)),
    Forgotten("asked-again", "block status is asked for each time", _held(_asked_again)),
    Forgotten("never-forgotten", "what was data counts as data when it was discarded",
              _held(_never_forgotten)),
)
"""All of them."""
