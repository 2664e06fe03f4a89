# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules forgotten: those by which requests wait for each other, and by which failures are handled.

A rule is taken out of one filter of the model, which then is a system that forgot it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from model.bitmap import align_down, align_up
from model.block_copy import CopyCall, CopyLimits, CopyTask
from model.configuration import KIB
from model.copy_before_write import CopyBeforeWrite
from model.errors import Errno, RequestFailed
from model.program import Program, Wait
from model.readings import Reading


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


def _wake_one(filter_: CopyBeforeWrite) -> None:
    wait = filter_._wait_for_frozen
    queues: dict[Reading, list[object]] = {}

    def queued(start: int, end: int) -> Program[None]:
        for step in wait(start, end):
            assert isinstance(step, Wait)
            assert isinstance(step.condition, partial)
            read, me = step.condition.args[0], object()
            queue = queues.setdefault(read, [])
            queue.append(me)
            yield replace(step, condition=partial(_is_first, filter_, read, me, queue))

    filter_._wait_for_frozen = queued  # type: ignore[method-assign]


def _is_first(filter_: CopyBeforeWrite, read: Reading, me: object,
              queue: Collection[object]) -> bool:
    return read not in filter_.frozen and me is next(iter(queue))


def _frozen_first_cluster(filter_: CopyBeforeWrite) -> None:
    freezing = filter_._freezing

    def freeze(start: int, end: int, look: Program[Any]) -> Program[Any]:
        return freezing(start, min(end, start + filter_.cluster_size), look)

    filter_._freezing = freeze  # type: ignore[method-assign]


def _freeze_always(filter_: CopyBeforeWrite) -> None:
    read = filter_.snapshot_read

    def freeze(start: int, end: int) -> Program[Any]:
        return filter_._freezing(start, end, read(start, end))

    filter_.snapshot_read = freeze  # type: ignore[method-assign]


def _copy_waits(filter_: CopyBeforeWrite) -> None:
    copy = filter_._copy_in_time

    def after_reads(start: int, end: int) -> Program[None]:
        yield from filter_._wait_for_frozen(start, end)
        yield from copy(start, end)

    filter_._copy_in_time = after_reads  # type: ignore[method-assign]


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


def _back_in_part(filter_: CopyBeforeWrite) -> None:
    block_copy = filter_.block_copy

    def put_back(task: CopyTask) -> None:
        block_copy.copy_bitmap.set(task.start, task.start + filter_.cluster_size)
        block_copy._end(task)

    block_copy._put_back = put_back  # type: ignore[method-assign]


def _unclaimed(filter_: CopyBeforeWrite) -> None:
    block_copy = filter_.block_copy
    begin, end = block_copy._begin, block_copy._end

    def begin_(start: int, stop: int) -> CopyTask:
        task = begin(start, stop)
        block_copy.copy_bitmap.set(start, stop)
        return task

    def end_(task: CopyTask) -> None:
        block_copy.copy_bitmap.reset(task.start, task.end)
        end(task)

    block_copy._begin = begin_  # type: ignore[method-assign, assignment]
    block_copy._end = end_  # type: ignore[method-assign]


def _own_tasks_alone(filter_: CopyBeforeWrite) -> None:
    dirty = filter_.block_copy._copy_dirty

    def hasty(start: int, end: int, call: CopyCall) -> Program[bool]:
        program = dirty(start, end, call)
        failure: RequestFailed | None = None
        while True:
            try:
                step = next(program) if failure is None else program.throw(failure)
            except StopIteration as stop:
                return bool(stop.value)
            failure = None
            if not (isinstance(step, Wait) and step.reason == "own copy tasks to end"):
                try:
                    yield step
                except RequestFailed as why:
                    failure = why

    filter_.block_copy._copy_dirty = hasty  # type: ignore[method-assign]


def _limited_by(limits: CopyLimits) -> Callable[[CopyBeforeWrite], None]:
    def limit(filter_: CopyBeforeWrite) -> None:
        dirty = filter_.block_copy._copy_dirty

        def limited(start: int, end: int, call: CopyCall) -> Program[bool]:
            call.limits = limits
            return dirty(start, end, call)

        filter_.block_copy._copy_dirty = limited  # type: ignore[method-assign]

    return limit


def _unbroken(filter_: CopyBeforeWrite) -> None:
    def forgive(error: object) -> None:
        filter_.fired["cbw.failed-copy"] += 1

    filter_._copy_failed = forgive  # type: ignore[method-assign]


def _copies_when_broken(filter_: CopyBeforeWrite) -> None:
    def before_change(start: int, end: int) -> Program[None]:
        start, end = align_down(start, filter_.cluster_size), align_up(end, filter_.cluster_size)
        try:
            yield from filter_._copy_in_time(start, end)
        except RequestFailed as why:
            filter_._copy_failed(why.error)
        else:
            filter_.done.set(start, end)
        yield from filter_._wait_for_frozen(start, end)

    filter_._before_change = before_change  # type: ignore[method-assign]


def _reads_when_broken(filter_: CopyBeforeWrite) -> None:
    def may(start: int, end: int) -> None:
        if not filter_.access.all_dirty(start, end):
            raise RequestFailed(Errno.EACCES)

    filter_._may_access = may  # type: ignore[method-assign]


def _mended(filter_: CopyBeforeWrite) -> None:
    copy = filter_._copy_in_time

    def mend(start: int, end: int) -> Program[None]:
        yield from copy(start, end)
        filter_.snapshot_error = None

    filter_._copy_in_time = mend  # type: ignore[method-assign]


# Time-outs


def _endless(filter_: CopyBeforeWrite) -> None:
    def patient(start: int, end: int) -> Program[None]:
        return filter_.block_copy.copy(start, end, CopyCall())

    filter_._copy_in_time = patient  # type: ignore[method-assign]


def _late_is_well(filter_: CopyBeforeWrite) -> None:
    copy = filter_._copy_in_time

    def forgiving(start: int, end: int) -> Program[None]:
        try:
            yield from copy(start, end)
        except RequestFailed as why:
            if why.error is not Errno.ETIMEDOUT:
                raise

    filter_._copy_in_time = forgiving  # type: ignore[method-assign]


def _not_cancelled(filter_: CopyBeforeWrite) -> None:
    copy = filter_.block_copy.copy

    def stubborn(start: int, end: int, call: CopyCall) -> Program[None]:
        return copy(start, end, CopyCall(call.limits))

    filter_.block_copy.copy = stubborn  # type: ignore[method-assign]


def _late_failure_is_lost(filter_: CopyBeforeWrite) -> None:
    block_copy = filter_.block_copy
    run, put_back = block_copy._run, block_copy._put_back
    calls: list[tuple[CopyTask, CopyCall]] = []

    def running(task: CopyTask, is_zero: bool | None, call: CopyCall) -> Program[None]:
        calls.append((task, call))
        return run(task, is_zero, call)

    def lost(task: CopyTask) -> None:
        late = any(each is task and call.cancelled for each, call in calls)
        (block_copy._end if late else put_back)(task)

    block_copy._run, block_copy._put_back = running, lost  # type: ignore[method-assign]


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
    Forgotten("wake-one", "of the guest writes that wait for a fleecing read only the first goes "
              "on when it ends", _wake_one),
    Forgotten("copy-waits", "not only the guest write but also its copy waits for fleecing reads",
              _copy_waits),
    Forgotten("freeze-first-cluster", "a fleecing read holds up writes to its first cluster only",
              _frozen_first_cluster),
    Forgotten("freeze-always", "a fleecing read of the temporary image holds up guest writes",
              _freeze_always),
    Forgotten("no-freeze", "a fleecing read holds up nobody", _no_freeze),
    Forgotten("frozen-for-ever", "a fleecing read that failed holds up guest writes for ever",
              _freeze_for_ever),
    Forgotten("no-wait-for-copies", "a guest write does not wait for the copy that another "
              "makes of its clusters", _no_wait_for_copies),
    Forgotten("unclaimed", "a cluster that is being copied is copied by others, too", _unclaimed),
    Forgotten("own-tasks-alone", "a guest write does not wait for its own copy tasks, so that it "
              "hears of no failure", _own_tasks_alone),
    Forgotten("one-task-at-a-time", "a copy has one task under way at a time",
              _limited_by(CopyLimits(tasks=1))),
    Forgotten("too-many-tasks", "a copy has any number of tasks under way",
              _limited_by(CopyLimits(tasks=1 << 30))),
    Forgotten("small-tasks", "a task copies one cluster", _limited_by(CopyLimits(chunk=64 * KIB))),
    Forgotten("no-second-try", "what another failed to copy is not tried again",
              _no_second_try),
    Forgotten("done-early", "clusters are done before they are copied", _done_early),
    Forgotten("done-anyway", "clusters are done even if their copy failed", _done_anyway),
    Forgotten("copied-once-only", "what failed to be copied is not to be copied any more",
              _copied_once_only),
    Forgotten("back-in-part", "of what failed to be copied only the first cluster is to be copied "
              "again", _back_in_part),
    Forgotten("unbroken", "a failed copy breaks neither the guest's request nor the snapshot",
              _unbroken),
    Forgotten("copies-when-broken", "guest writes go on to be copied when the snapshot is broken",
              _copies_when_broken),
    Forgotten("reads-when-broken", "a broken snapshot can be read", _reads_when_broken),
    Forgotten("mended", "a copy that succeeds mends a snapshot that another one broke", _mended),
    Forgotten("endless", "a copy may take any time", _endless),
    Forgotten("late-is-well", "a copy that is out of time counts as made", _late_is_well),
    Forgotten("not-cancelled", "a copy that is out of time still begins new tasks",
              _not_cancelled),
    Forgotten("late-failure-is-lost", "what a copy that is out of time then fails to copy is not "
              "to be copied any more", _late_failure_is_lost),
    Forgotten("copy-bit-kept", "what the client gave up is still copied", _copy_bit_kept),
    Forgotten("readers-ignored", "a copy to a target that shows the source does not wait for "
              "the target's readers", _readers_ignored),
)
"""All of them but those of block status."""
