# SPDX-License-Identifier: GPL-2.0-or-later
"""Many processes for one run of exploration.

Each worker has a pipe to the parent: numbers of traces go one way, reports come back.  A worker
that dies loses nothing but the time: its traces are given to another.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol, TypeVar

from harness.errors import EnvironmentProblem, HarnessError
from harness.exploration.batches import Batch, Course, Queue
from harness.processes.keeper import keeper, keeps_traces

Report = TypeVar("Report", covariant=True)

DEATHS: Final = 3
"""So many workers dead with no report between them end the run."""


class Means(Protocol[Report]):
    """One process's means to do traces."""

    def explore(self, numbers: Sequence[int], deadline: float | None = None,
                course: Course | None = None) -> Report:
        """Do these traces; none is begun after the deadline, by ``time.monotonic``, which is the
        same clock in all processes.  ``course`` may steer what is drawn, and then takes on what
        that does."""

    def close(self) -> None:
        """Clean up."""


class Work(Protocol[Report]):
    """What there is to do; must survive pickling."""

    def queue(self, deadline: float | None) -> Queue:
        """All traces, in batches until the deadline."""

    def begin(self) -> Means[Report]:
        """The means of this process."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    orders: Connection
    """To the thread that ends it."""
    batch: Batch | None = None
    """What it is at."""

    def give(self, batch: Batch) -> None:
        """Have it do the batch."""
        self.batch = batch
        # It may have died meanwhile, which shows when it is waited for.
        with suppress(BrokenPipeError):
            self.connection.send(batch)

    def stop(self) -> None:
        """End the process, which may be in the middle of things: its keeper cleans up, and keeps
        its trace if we are told to end ourselves."""
        with suppress(BrokenPipeError):  # it is dead
            self.orders.send(keeps_traces())
        self.process.join()
        # Not before: it would take that for the end of its work, and leave nothing to keep.
        self.connection.close()


def batches(work: Work[Report], deadline: float | None, workers: int) -> Generator[Report]:
    """The reports of batches as they come, perhaps for ever; close it to stop the workers.  At
    the deadline each worker ends the trace that it is at, and reports."""
    queue = work.queue(deadline)
    crew: list[_Worker] = []
    deaths = 0
    try:
        while True:
            for place in range(workers):
                if place < len(crew) and crew[place].batch is not None:
                    continue
                if (batch := queue.take()) is None:
                    break
                if place == len(crew):
                    crew.append(_start(work, deadline))
                crew[place].give(batch)
            busy = [(worker, worker.batch) for worker in crew if worker.batch is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker, _ in busy])
            for worker, batch in busy:
                if worker.connection not in ready:
                    continue
                try:
                    report = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    deaths += 1
                    worker.stop()
                    if deaths >= DEATHS:
                        raise EnvironmentProblem(
                            f"{deaths} workers died one after the other; the last one's exit "
                            f"status is {worker.process.exitcode}") from None
                    crew[crew.index(worker)] = successor = _start(work, deadline)
                    successor.give(batch)
                    continue
                if isinstance(report, str):
                    raise EnvironmentProblem(report)
                deaths = 0
                done, course = report
                queue.report(batch, course)
                worker.batch = None
                yield done
    finally:
        for worker in crew:
            worker.stop()


def _start(work: Work[Any], deadline: float | None) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    obeyed, orders = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, obeyed, work, deadline), daemon=True)
    # A Ctrl-C is the parent's to handle, also while the worker has not yet come to ignore it.  The
    # tracker, begun with the first worker, would lift the mask.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    theirs.close()
    obeyed.close()
    return _Worker(process, ours, orders)


def _work(connection: Connection, orders: Connection, work: Work[Any],
          deadline: float | None) -> None:
    """In the worker: do batches until the parent hangs up or ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end, args=(orders,), daemon=True).start()
    means = work.begin()
    try:
        while True:
            batch: Batch = connection.recv()
            course = batch.course()
            try:
                report: object = means.explore(batch.numbers, deadline, course), course
            except HarnessError as why:
                report = str(why)
            connection.send(report)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        means.close()


def _end(orders: Connection) -> None:
    """End this process when the parent orders it, or dies: nobody asks for the rest of a batch.
    Our keeper cleans up, and keeps the trace that we are at if that is ordered, or nothing."""
    try:
        keeps = orders.recv()
    except EOFError:
        keeps = True
    if not keeps:
        keeper().dismiss()
    os.kill(os.getpid(), signal.SIGTERM)
