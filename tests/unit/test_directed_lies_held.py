# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of requests that overlap catch a system without the rule that they are about."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from harness.exploration.building import Plan
from harness.exploration.directed import failing, others, serialising, tasks, telling
from harness.exploration.images import SOURCE
from harness.exploration.openings import FILTER
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Diverges
from harness.systems.flights import TOGETHER
from harness.systems.held_simulated import SimulatedHeld
from model import block_copy, copy_before_write, flushing, held_image, links, requests, tracking
from model.backup_job import BackupJob
from model.block_copy import BlockCopy, CopyCall, CopyTask
from model.concurrent_machine import machine_for
from model.configuration import MIB
from model.content import Content
from model.copy_before_write import CopyBeforeWrite, Timer
from model.copy_on_read import CopyOnRead
from model.errors import Errno, RequestFailed
from model.graph import Graph
from model.held_image import ZERO_DATA, HeldImage
from model.image import Image
from model.job_life import JobLife
from model.nbd_export import NbdExport
from model.node import DATA, Node, Status, Zeroing
from model.operations import Discard, Request
from model.permissions import Permission
from model.program import Ended, Program, Wait
from model.qcow2 import Qcow2
from model.readings import _has_ended
from model.snapshot_access import SnapshotAccess
from model.tracking import Filling, Tracked
from tests.unit.lacking_lab import CHECKS, ForgetfulHeld, Lacking, forgetful

_change = requests._change
_begin = BlockCopy._begin
_copy_dirty = BlockCopy._copy_dirty
_copy_in_time = CopyBeforeWrite._copy_in_time
_write = Node.write
_alone = Node.alone
_blocks_beside = Node._blocks_beside
_flush = Image._flush
_flush_twice = HeldImage._flush_twice
_put_back = BlockCopy._put_back
_write_zeroes = HeldImage._write_zeroes
_below = Qcow2._below
_wait_for_readers = BlockCopy._wait_for_readers
_zero = Node.write_zeroes
_choose_clusters = BackupJob._choose_clusters
_told = HeldImage._told
_read = SnapshotAccess._read


def _counts_failures(copy: BlockCopy, task: CopyTask) -> None:
    if copy.progress is not None:
        copy.progress.done += task.end - task.start
    _put_back(copy, task)


def _not_durable(node: Node, start: int, end: int, how: Zeroing, *,
                 durable: bool = False) -> Program[None]:
    del durable
    yield from _zero(node, start, end, how)


def _counts_the_bitmap(job: BackupJob) -> Program[None]:
    yield from _choose_clusters(job)
    assert job.sync_bitmap is not None
    job.progress.set_remaining(job.sync_bitmap.bitmap.count)


def _asks_past_its_end(image: Qcow2, start: int, end: int) -> Program[Content]:
    assert image.backing is not None
    yield from image.backing.read(min(start, image.backing.size), min(end, image.backing.size))
    return (yield from _below(image, start, end))


def _frees_nothing(image: Image, start: int, end: int) -> Program[None]:
    return image._write_zeroes(start, end, Zeroing())


def _remembers_zeroed(image: HeldImage, start: int, end: int, how: Zeroing) -> Program[None]:
    known = image._known_data
    yield from _write_zeroes(image, start, end, how)
    image._known_data = known


def _waits_for_neighbours(copy: BlockCopy, start: int, end: int) -> Program[None]:
    yield from _wait_for_readers(copy, max(start - 1, 0), end + 1)


def _is_the_oldest(copy: BlockCopy, start: int, end: int) -> CopyTask:
    task = _begin(copy, start, end)
    copy.in_flight.remove(task)
    copy.in_flight.append(task)
    return task


def _looks_no_more(copy: BlockCopy, start: int, end: int, call: CopyCall) -> Program[bool]:
    yield from _copy_dirty(copy, start, end, call)
    return False


def _fails_by_time_only(node: CopyBeforeWrite, start: int, end: int) -> Program[None]:
    try:
        yield from _copy_in_time(node, start, end)
    except RequestFailed as why:
        if why.error is Errno.ETIMEDOUT:
            raise


def _keeps_nothing_of_nothing(node: Node, start: int, content: Content, *,
                              durable: bool = False) -> Program[None]:
    if content.size:
        yield from _write(node, start, content, durable=durable)


def _waits_for_the_oldest(node: CopyBeforeWrite, start: int, end: int) -> Program[None]:
    while reads := [each for each in node.frozen if each.start < end and start < each.end]:
        yield Wait(functools.partial(_has_ended, reads[-1], node.frozen), "")


def _goes_on_to_what_changes(graph: Graph, name: str) -> bool:
    return graph.is_required(Permission.WRITE, graph.nodes[name])


def _in_turn(condition: Callable[[], bool], reason: str, last: bool = False) -> Wait:
    return Wait(condition, reason)


def _writes_back(number: int, request: Request, export: NbdExport) -> Program[None]:
    export.writethrough = False
    return _change(number, request, export)


def _is_only_advised(number: int, request: Request, export: NbdExport) -> Program[None]:
    return _change(number, replace(request, fua=False) if isinstance(request, Discard)
                   else request, export)


def _alone_in_its_bytes(node: Node, start: int, end: int, unit: int,
                        program: Program[Any]) -> Program[Any]:
    return _alone(node, start, end, 1, program)


def _alone_in_pairs_of_bytes(node: Node, start: int, end: int, unit: int,
                             program: Program[Any]) -> Program[Any]:
    return _alone(node, start, end, max(unit, 2), program)


def _ends_in_silence(program: Program[Any], end: Callable[[], None]) -> Program[Any]:
    """If it fails, nobody is woken for that alone."""
    try:
        result = yield from program
    finally:
        end()
    yield Ended()
    return result


def _in_the_way_of_all(requests: Sequence[Tracked], tracked: Tracked) -> Tracked | None:
    return next((each for each in requests if each is not tracked
                 and (each.alone or tracked.alone)
                 and each.start < tracked.end and tracked.start < each.end), None)


def _block_by_block(node: Node, start: int, end: int) -> Program[dict[int, Content]]:
    unit, blocks = node.request_alignment, {}
    for edge in (start, end):
        if edge % unit:
            blocks |= yield from _blocks_beside(node, edge, edge + 1)
    return blocks


def _flushes_what_ends_meanwhile(image: HeldImage, changes: int) -> Program[None]:
    yield from _flush_twice(image, changes)
    image._flushed = image.changes


def _in_time_once(node: CopyBeforeWrite, start: int, end: int) -> Program[None]:
    if start == 0:
        yield from _copy_in_time(node, start, end)
        return
    timer = Timer(start, end)
    node.timers.append(timer)
    yield from node.block_copy.copy(start, end, CopyCall())
    node.timers.remove(timer)


def _waits_for_two(node: Any, start: int, end: int) -> Program[Content]:
    """With all the room of a connection taken, it takes two requests that end to have any."""
    yield Wait(lambda: len(node.file.frozen) < TOGETHER // 2, "")
    return (yield from _read(node, start, end))


def _tells_space(image: HeldImage, start: int, end: int) -> tuple[int, Status]:
    stop, status = _told(image, start, end)
    return stop, DATA if status == ZERO_DATA else status


HELD = (
    (serialising.blocks, Lacking(Node, "alone", lambda node, start, end, unit, program: program)),
    (serialising.blocks, Lacking(Node, "alone", _alone_in_its_bytes)),
    (serialising.blocks, Lacking(tracking, "_in_the_way", _in_the_way_of_all)),
    (serialising.blocks, Lacking(Node, "_blocks_beside", _block_by_block)),
    (serialising.kept, Lacking(Node, "alone", lambda node, start, end, unit, program: program)),
    (serialising.kept, Lacking(Node, "alone", _alone_in_its_bytes)),
    (serialising.filled, Lacking(Filling, "wait", lambda filling, start, end: iter(()))),
    (serialising.overtaken, Lacking(HeldImage, "_flush_twice", _flushes_what_ends_meanwhile)),
    (partial(serialising.ordered, SOURCE),
     Lacking(held_image, "in_order", lambda turns, program: program)),
    (partial(serialising.ordered, FILTER),
     Lacking(CopyBeforeWrite, "_flush", lambda node: node.source.flush())),
    (serialising.overtaken, Lacking(HeldImage, "_flush_through", lambda image: _flush(image))),
    (serialising.again, Lacking(CopyBeforeWrite, "_copy_in_time", _in_time_once)),
    (CHECKS["schedule: guest writes and fleecing reads"].make,
     Lacking(Node, "write_zeroes", _not_durable)),
    (telling.failing, Lacking(BlockCopy, "_failed", BlockCopy._end)),
    (CHECKS["schedule: a job is cancelled in the middle, bitmap mode never"].make,
     Lacking(BackupJob, "_choose_clusters", _counts_the_bitmap)),
    (others.given_up, Lacking(BlockCopy, "forget", lambda copy, start, end: (
        copy.copy_bitmap.reset(start, end)))),
    (others.cancelled, Lacking(BackupJob, "_stop_copying", lambda job: None)),
    (CHECKS["schedule: a job that is paused when it is cancelled already"].make,
     Lacking(JobLife, "resume", JobLife._wake)),
    *((telling.kept, Lacking(kind, "is_allocated", Node.is_allocated))
      for kind in (CopyOnRead, CopyBeforeWrite)),
    (others.apart, Lacking(block_copy, "_shows_through", lambda source, target: True)),
    (CHECKS["schedule: tasks that wait for memory"].make,
     Lacking(block_copy, "MEMORY", 129 * MIB)),
    *((CHECKS[f"schedule: discards over a {name}"].make, Lacking(kind, "discard_alignment", 1))
      for name, kind in (("snapshot", SnapshotAccess), ("copy-on-read node", CopyOnRead))),
    (failing.failing, Lacking(BlockCopy, "_begin", _is_the_oldest)),
    (failing.failing, Lacking(BlockCopy, "_copy_dirty", _looks_no_more)),
    (failing.late, Lacking(CopyBeforeWrite, "_copy_in_time", _fails_by_time_only)),
    (CHECKS["schedule: guest writes and fleecing reads"].make,
     Lacking(Node, "write", _keeps_nothing_of_nothing)),
    (others.zeroes_shown,
     Lacking(BlockCopy, "_wait_for_readers", lambda copy, start, end: iter(()))),
    (telling.telling, Lacking(HeldImage, "_write_zeroes", _remembers_zeroed)),
    (others.job, Lacking(BlockCopy, "_wait_for_readers", lambda copy, start, end: iter(()))),
    (others.failing, Lacking(BlockCopy, "_put_back", _counts_failures)),
    (others.beyond, Lacking(Qcow2, "_below", _asks_past_its_end)),
    (others.detecting, Lacking(Image, "_changed_by", Node._changed_by)),
    (others.detecting, Lacking(Image, "_detected", _frees_nothing)),
    (others.crowded, Lacking(SnapshotAccess, "_read", _waits_for_two)),
    (others.durable, Lacking(requests, "_change", _writes_back)),
    (others.durable, Lacking(requests, "_change", _is_only_advised)),
    (others.keeping, Lacking(Image, "_may_unmap", lambda node, how: True)),
    *((others.flushing, Lacking(flushing, "reaches_storage", goes_on)) for goes_on in (
        lambda graph, name: True, _goes_on_to_what_changes)),
    (CHECKS["schedule: the source shows through two overlays"].make,
     Lacking(block_copy, "_shows_through",
             lambda source, target: links.filtered_or_backing(target) is source)),
    (CHECKS["schedule: the source shows through the target"].make,
     Lacking(BlockCopy, "_wait_for_readers", _waits_for_neighbours)),
    (CHECKS["schedule: filters over filters"].make,
     Lacking(CopyBeforeWrite, "_wait_for_frozen", _waits_for_the_oldest)),
    *((CHECKS[f"schedule: {name}"].make, Lacking(block_copy, "Wait", _in_turn))
      for name in ("filters over filters", "a job and a guest that wait for memory")),
    (CHECKS["schedule: filters over filters, none out of time"].make,
     Lacking(copy_before_write, "Wait", _in_turn)),
    (telling.spaced, Lacking(HeldImage, "_told", _tells_space)),
    (serialising.unkept, Lacking(Node, "alone", _alone_in_pairs_of_bytes)),
    (CHECKS["schedule: two that wait for one fleecing read that fails"].make,
     Lacking(tracking, "ending", _ends_in_silence)),
    (tasks.flushes, Lacking(tracking, "Wait", lambda condition, reason: Wait(
        lambda: True, reason))),
)


@pytest.mark.parametrize(("make", "lacking"), HELD, ids=lambda each: getattr(each, "name", ""))
def test_who_lacks_the_rule_where_requests_overlap_is_caught(
        make: Callable[[Plan], Trace], lacking: Lacking) -> None:
    verdict = replay(make(Plan()), Stand(
        lambda images: SimulatedHeld(forgetful(ForgetfulHeld, lacking, images)), machine_for))
    assert isinstance(verdict, Diverges), verdict.summary
