# SPDX-License-Identifier: GPL-2.0-or-later
"""Many processes for one run of exploration.

Each worker has a pipe to the parent: numbers of traces go one way, tallies come back.  A worker
that dies loses nothing but the time: its traces are given to another.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from harness.errors import EnvironmentProblem, HarnessError
from harness.exploration.explorer import Explorer, Mission
from harness.exploration.tally import Tally

BATCH: Final = 8
"""Traces that a worker does before it reports."""
DEATHS: Final = 3
"""So many workers dead with no report between them end the run."""


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


def batches(mission: Mission, deadline: float | None, workers: int) -> Generator[Tally]:
    """The tallies of batches as they come, perhaps for ever; close it to stop the workers."""
    todo = _batches(mission.numbers)
    crew: list[_Worker] = []
    deaths = 0
    try:
        crew += [_start(mission, deadline, batch) for batch in itertools.islice(todo, workers)]
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
                    crew.append(_start(mission, deadline, worker.batch))
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


def _start(mission: Mission, deadline: float | None, batch: list[int]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, mission, deadline), daemon=True)
    process.start()
    theirs.close()
    ours.send(batch)
    return _Worker(process, ours, batch)


def _work(connection: Connection, mission: Mission, deadline: float | None) -> None:
    """In the worker: do batches until the parent hangs up or ends this process."""
    # A Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    explorer = Explorer(mission)
    try:
        while True:
            batch = connection.recv()
            try:
                report: Tally | str = explorer.explore(batch, deadline)
            except HarnessError as why:
                report = str(why)
            connection.send(report)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        explorer.close()


def _die_with_parent() -> None:
    """Nobody asks for the rest of a batch if the parent was killed; our keeper cleans up."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
