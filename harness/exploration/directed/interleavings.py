# SPDX-License-Identifier: GPL-2.0-or-later
"""Small configurations of which every interleaving can be walked.

An interleaving is an order of the starts of client requests and of the completions of storage
requests, some of which may fail; the model says what may come next.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from harness.exploration.building import Check, Plan
from harness.exploration.directed.script import if_possible
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.exploration.schedules import Schedule
from harness.lockstep.trace import Trace
from model import operations as ops
from model.bitmap import divide_up
from model.concurrent_machine import ConcurrentMachine
from model.configuration import KIB, Configuration, Image, Protocol
from model.job_operations import Backup, JobFinalize, JobResume, OnError, Sync
from model.operations import Operation, Request, Via
from model.schedule import Complete, Start

CLUSTER: Final = 64 * KIB
BREAK: Final = ops.OnCbwError.BREAK_SNAPSHOT.value


@dataclass(frozen=True, slots=True)
class Small:
    """A few requests to a fleecing graph over a disk of a few clusters."""

    name: str
    count: int
    """How many interleavings there are in today's QEMU, and at most in any."""
    clusters: int
    requests: tuple[Request, ...]
    failures: int = 0
    """How many storage requests may fail, with EIO; any of them."""
    on_cbw_error: str | None = None
    job: Backup | None = None
    """Begins first; the requests are then to its disk."""
    tells: bool = False
    """The images tell block status, and of several clusters the last one reads as zero."""

    @property
    def breaks(self) -> bool:
        """Whether an interleaving may leave a broken filter behind."""
        return self.on_cbw_error == BREAK

    def configuration(self, times: int) -> Configuration:
        """The images, with room for so many interleavings; a job always has all of the disk."""
        room = self.clusters * CLUSTER
        size = room * (times if self.job is None else 1)
        filled: tuple[tuple[int, int], ...] = ((0, size),)
        if self.tells and self.clusters > 1:
            filled = tuple((place, room - CLUSTER) for place in range(0, size, room))
        return Configuration((
            Image(SOURCE, size, protocol=Protocol.HELD, filled=filled, tells_status=self.tells),
            Image(TARGET, size, protocol=Protocol.HELD, tells_status=self.tells)))


def _write(cluster: float, count: float = 1) -> Request:
    return ops.Write(FILTER, int(cluster * CLUSTER), int(count * CLUSTER))


def _discard(cluster: float, count: float = 1) -> Request:
    return ops.Discard(FILTER, int(cluster * CLUSTER), int(count * CLUSTER))


def _read(cluster: float, count: float = 1) -> Request:
    return ops.Read(SNAPSHOT, int(cluster * CLUSTER), int(count * CLUSTER), Via.NBD_DF)


def _read_sparse(cluster: float, count: float = 1) -> Request:
    return ops.Read(SNAPSHOT, int(cluster * CLUSTER), int(count * CLUSTER), Via.NBD)


def _ask(cluster: float, count: float = 1) -> Request:
    return ops.Status(SNAPSHOT, int(cluster * CLUSTER), int(count * CLUSTER))


def _below(request: Request) -> Request:
    """The same, of the disk of a job."""
    return replace(request, node=SOURCE)


def _job(workers: int, on_error: OnError = OnError.STOP) -> Backup:
    return Backup("job", SOURCE, TARGET, Sync.FULL, filter_node="job-filter",
                  auto_finalize=False, max_workers=workers, max_chunk=CLUSTER,
                  on_source_error=on_error, on_target_error=on_error)


def _give_up(cluster: float, count: float = 1) -> Request:
    return ops.Discard(SNAPSHOT, int(cluster * CLUSTER), int(count * CLUSTER))


SMALL: Final = (
    Small("write-read", 12, 1, (_write(0), _read(0))),
    Small("write-read-read", 416, 2, (_write(1), _read(0, 2), _read(0.5))),
    Small("write-write", 14, 1, (_write(0, 0.5), _write(0.5, 0.5))),
    Small("write-write-read", 2582, 3, (_write(0, 2), _write(1, 2), _read(0, 3))),
    Small("write-give-up-read", 234, 2, (_write(0, 2), _give_up(0), _read(0))),
    Small("discard-give-up", 15, 2, (_discard(0, 2), _give_up(1))),
    Small("write-discard-read", 1254, 2, (_write(0, 2), _discard(0), _read(1))),
    Small("write-failing", 52, 1, (_write(0), _read(0)), 1),
    Small("write-failing-snapshot", 54, 1, (_write(0), _read(0)), 1, BREAK),
    Small("write-write-failing", 160, 2, (_write(0, 1.5), _write(1)), 1),
    Small("write-write-failing-snapshot", 248, 2, (_write(0, 1.5), _write(1)), 1, BREAK),
    Small("writes-apart-failing-snapshot", 412, 2, (_write(0), _write(1)), 1, BREAK),
    Small("write-give-up-failing", 48, 1, (_write(0), _give_up(0)), 1),
    Small("job-write", 5, 2, (_below(_write(1)),), job=_job(1)),
    Small("job-write-write", 630, 2, (_below(_write(0)), _below(_write(1, 0.5))), job=_job(2)),
    Small("job-write-failing", 11, 1, (_below(_write(0)),), 1, job=_job(1)),
    Small("job-write-failing-again", 48, 1, (_below(_write(0)),), 2,
          job=_job(1, OnError.IGNORE)),
    Small("write-status", 14, 1, (_write(0), _ask(0)), tells=True),
    Small("write-status-failing", 77, 1, (_write(0), _ask(0)), 1, tells=True),
    Small("write-sparse-read", 95, 2, (_write(0), _read_sparse(0, 2)), tells=True),
    Small("write-write-telling", 147, 2, (_write(0, 2), _write(1)), tells=True),
)
"""The named ones."""


PER_TRACE: Final = 64
"""So many interleavings in a trace, each in clusters of its own."""

Path = tuple[Operation, ...]
"""The starts and completions of one interleaving."""


def paths(small: Small, plan: Plan) -> Iterator[Path]:
    """Every interleaving, always in the same order."""
    configuration = small.configuration(1)
    beginning = opening(small)
    todo: list[Path] = [()]
    while todo:
        done = todo.pop()
        machine = ConcurrentMachine(configuration, plan.capabilities)
        for number, step in enumerate((*beginning, *done), start=1):
            machine.apply(number, step)
        # One way to go on is gone with this machine, the others later with machines of their own.
        while after := list(_next(small, machine, done)):
            todo.extend((*done, step) for step in reversed(after[1:]))
            done = (*done, after[0])
            machine.apply(len(beginning) + len(done), after[0])
        yield done


def _next(small: Small, machine: ConcurrentMachine, done: Path) -> Iterator[Operation]:
    """What may come next."""
    if small.job is not None and not done:
        yield Start(small.job)
        return
    started = [step.request for step in done if isinstance(step, Start)]
    for request in small.requests:
        if request not in started and machine.deadly(Start(request)) is None:
            yield Start(request)
    failed = sum(isinstance(step, Complete) and step.error is not None for step in done)
    pending = machine.pending()
    for index, asked in enumerate(pending):
        complete = Complete.of(asked, younger=pending[:index].count(asked))
        yield complete
        if failed < small.failures:
            yield replace(complete, error="EIO")


@functools.cache
def _all_paths(small: Small, plan: Plan) -> tuple[Path, ...]:
    return tuple(paths(small, plan))


def bundles(small: Small) -> int:
    """How many traces hold all interleavings."""
    return divide_up(small.count, PER_TRACE)


def bundle(small: Small, plan: Plan, number: int) -> Trace:
    """Trace ``number``, from 0: interleavings one after the other and side by side on the disk,
    and a look at everything in the end.  What begins alike is spread over all traces."""
    chosen = _all_paths(small, plan)[number::bundles(small)]
    building = Schedule(plan, small.configuration(max(1, len(chosen))))
    building.add_all(opening(small))
    for index, path in enumerate(chosen):
        if index and small.breaks:
            building.add_all((*_closing(), *opening(small)))
        place = index * small.clusters * CLUSTER
        for step in path:
            moved = step if small.job else _moved(step, place)
            if not building.add(moved):
                raise AssertionError("what is possible in one place is so in another")
        if small.breaks:
            building.add(ops.Read(SNAPSHOT, place, small.clusters * CLUSTER, Via.NBD_DF))
        if small.job is not None:
            building.add_all((JobResume(small.job.job), JobFinalize(small.job.job)))
    building.add_all(ops.Inspect(node) for node in (SOURCE, TARGET, SNAPSHOT))
    return building.trace()


def checks() -> Iterator[Check]:
    """Every interleaving of every configuration: some of each first, those of few before."""
    numbered = [(number, small) for small in SMALL for number in range(bundles(small))]
    for number, small in sorted(numbered, key=lambda each: (each[0], each[1].count)):
        area = "failures" if small.failures else "concurrency"
        yield Check(area, f"every interleaving of {small.name}, {number + 1} of "
                    f"{bundles(small)}", functools.partial(
                        if_possible, functools.partial(bundle, small, number=number)))


def _moved(step: Operation, distance: int) -> Operation:
    if isinstance(step, Start):
        return Start(replace(step.sent, offset=step.sent.offset + distance))
    assert isinstance(step, Complete)
    return replace(step, offset=step.offset + distance)


def opening(small: Small) -> tuple[Operation, ...]:
    """The graph."""
    if small.job is not None:
        return (ops.Export(SOURCE),)
    return (ops.AddFilter(FILTER, SOURCE, TARGET, on_cbw_error=small.on_cbw_error),
            ops.AddSnapshot(SNAPSHOT, FILTER), ops.Export(FILTER), ops.Export(SNAPSHOT))


def _closing() -> tuple[Operation, ...]:
    return (ops.Unexport(FILTER), ops.Unexport(SNAPSHOT), ops.RemoveNode(SNAPSHOT),
            ops.RemoveNode(FILTER))
