# SPDX-License-Identifier: GPL-2.0-or-later
"""Many processes for one run of exploration.

Each worker has a pipe to the parent: numbers of traces go one way, reports come back.  A worker
that dies loses nothing but the time: its traces are given to another.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol, TypeVar

from harness.errors import EnvironmentProblem, HarnessError

Report = TypeVar("Report", covariant=True)

BATCH: Final = 8
"""Traces that a worker does before it reports."""
DEATHS: Final = 3
"""So many workers dead with no report between them end the run."""


class Means(Protocol[Report]):
    """One process's means to do traces."""

    def explore(self, numbers: Sequence[int], deadline: float | None = None) -> Report:
        """Do these traces; none is begun after the deadline, by ``time.monotonic``, which is the
        same clock in all processes."""

    def close(self) -> None:
        """Clean up."""


class Work(Protocol[Report]):
    """What there is to do; must survive pickling."""

    @property
    def numbers(self) -> Iterable[int]:
        """The numbers of all traces."""

    def begin(self) -> Means[Report]:
        """The means of this process."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    batch: list[int]

    def stop(self) -> None:
        """End the process, which may be in the middle of things: its keeper cleans up."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def batches(work: Work[Report], deadline: float | None, workers: int) -> Generator[Report]:
    """The reports of batches as they come, perhaps for ever; close it to stop the workers."""
    todo = _batches(work.numbers)
    crew: list[_Worker] = []
    deaths = 0
    try:
        crew += [_start(work, deadline, batch) for batch in itertools.islice(todo, workers)]
        while crew:
            ready = wait([worker.connection for worker in crew])
            for worker in [each for each in crew if each.connection in ready]:
                try:
                    report = worker.connection.recv()
                except EOFError:
                    deaths += 1
                    worker.stop()
                    crew.remove(worker)
                    if deaths >= DEATHS:
                        raise EnvironmentProblem(
                            f"{deaths} workers died one after the other; the last one's exit "
                            f"status is {worker.process.exitcode}") from None
                    crew.append(_start(work, deadline, worker.batch))
                    continue
                if isinstance(report, str):
                    raise EnvironmentProblem(report)
                deaths = 0
                batch = next(todo, None)
                if batch is None:
                    worker.stop()
                    crew.remove(worker)
                else:
                    worker.batch = batch
                    worker.connection.send(batch)
                yield report
    finally:
        for worker in crew:
            worker.stop()


def _batches(numbers: Iterable[int]) -> Iterator[list[int]]:
    """The numbers, so many at a time."""
    left = iter(numbers)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch


def _start(work: Work[Any], deadline: float | None, batch: list[int]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, work, deadline), daemon=True)
    # A Ctrl-C is the parent's to handle, also while the worker has not yet come to ignore it.  The
    # tracker, begun with the first worker, would lift the mask.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    theirs.close()
    ours.send(batch)
    return _Worker(process, ours, batch)


def _work(connection: Connection, work: Work[Any], deadline: float | None) -> None:
    """In the worker: do batches until the parent hangs up or ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_parent, daemon=True).start()
    means = work.begin()
    try:
        while True:
            batch = connection.recv()
            try:
                report: object = means.explore(batch, deadline)
            except HarnessError as why:
                report = str(why)
            connection.send(report)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        means.close()


def _die_with_parent() -> None:
    """Nobody asks for the rest of a batch if the parent was killed; our keeper cleans up."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
