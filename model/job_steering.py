# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands about a job: what each has it do, and which can be given while requests are under way.

The latter is over storage that is held.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from . import backup_commands, unsaid_jobs
from .backup_job import BackupJob
from .copy_before_write import CopyBeforeWrite
from .errors import CommandRefused
from .graph import Graph
from .job_operations import (
    JobCancel,
    JobDismiss,
    JobFinalize,
    JobOperation,
    JobPause,
    JobResume,
    JobSetSpeed,
)
from .jobs import JobStatus
from .operations import Request
from .outcome import Outcome
from .permissions import parents_first
from .program import Program
from .requests import CHANGES, overlap
from .unsaid import Impossible

UNLIMITED: Final = 1 << 40
"""Bytes a second, or more: a limit that no job comes to."""


def until_rest(graph: Graph, job: BackupJob, program: Program[None]) -> Program[Outcome]:
    """The program, and then what the job does until it rests."""
    yield from job.steered(program)
    backup_commands.forget_ended(graph)
    return Outcome()


def steer(graph: Graph, command: JobOperation) -> Program[Outcome]:
    """What a command has a job do, until it rests, in small steps; or that it is refused."""
    try:
        job = backup_commands.find(graph, command)
        return (yield from until_rest(graph, job, obey(job, command, lambda job: job.run())))
    except CommandRefused as why:
        return Outcome(refused=why.error)


def obey(job: BackupJob, command: JobOperation,
         go_on: Callable[[BackupJob], Program[None]]) -> Program[None]:
    """What the job does on a command; ``go_on`` is how it runs on from where it rested."""
    match command:
        case JobPause():
            job.pause()
        case JobResume():
            was_paused = job.status is JobStatus.PAUSED
            job.resume()
            if was_paused:
                yield from go_on(job)
        case JobSetSpeed(speed=speed):
            if job.set_speed(speed):
                yield from go_on(job)
        case JobDismiss():
            job.dismiss()
        case JobFinalize():
            yield from job.finalize()
        case JobCancel():
            yield from job.cancel()


# Beside requests that are under way


def check(graph: Graph, command: JobOperation) -> None:
    """Refuse what depends on time, and on what cannot be seen."""
    if not graph.capabilities.x_perf:
        raise Impossible("how a build without x-perf stops copying nobody has found out")
    if any(job.chooses for job in graph.jobs.values()):
        raise Impossible("a job that has yet to find out what it has to copy")
    if isinstance(command, JobSetSpeed) and 0 < command.speed < UNLIMITED:
        raise Impossible("what a limit of speed does depends on time")
    if isinstance(command, JobCancel):
        unsaid_jobs.check_cancel(graph)
    if isinstance(command, (JobCancel, JobFinalize)):
        _check_end(graph, *graph.under_way.values())


def check_client(graph: Graph, request: Request) -> None:
    """Refuse a request beside a job that is about to end, unless the job waits for it."""
    if any(job.is_cancelled for job in graph.jobs.values()):
        _check_end(graph, request, *graph.under_way.values())


def _check_end(graph: Graph, *requests: Request) -> None:
    """Refuse to end a job beside these requests, if they are not waited for, or which of them
    comes first at the storage, when several go on together, makes a difference."""
    if requests and not _all_wait(graph):
        raise Impossible("a job ends beside requests that do not go through its filter")
    for one, other in itertools.combinations(requests, 2):
        if (isinstance(one, CHANGES) or isinstance(other, CHANGES)) and overlap(one, other):
            raise Impossible("a job ends beside a change that overlaps another request")


def _all_wait(graph: Graph) -> bool:
    """Whether all clients' requests, and what they leave behind, are of those that a job waits
    for when it ends, on any build: QEMU 7.2 waits for those through its filter only."""
    filters = [node for node in graph.nodes.values() if isinstance(node, CopyBeforeWrite)]
    return not any(node.options.timeout for node in filters) and all(
        job.filter in parents_first([export.node])
        for export in graph.exports.values() for job in graph.jobs.values() if job.is_active)
