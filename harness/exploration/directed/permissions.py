# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of who may use a node beside whom, and of who is named where that may not be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.exploration.directed.fleecing import CLUSTER
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import Configuration, Format, Image
from model.job_operations import Backup, JobCancel, JobFinalize, Sync

SIZE: Final = 4 * CLUSTER
JOB: Final = Backup("job", "src", "tmp", Sync.NONE, filter_node="filter")


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("graph", "jobs that have no place for their filters", _no_place)
    yield Check("graph", "users that a job moves to its filter and back", _moved)
    yield Check("graph", "filters that several users deny their target", _several)
    yield Check("graph", "what a job that discards its source does not share", _discarding)
    yield Check("graph", "filters of two jobs of one name, which QEMU names itself", _namesakes)
    yield Check("graph", "a job and an overlay that hold the same node", _held)


def _held(plan: Plan) -> Trace:
    """The one that came last says why the node may not be touched."""
    builder = Builder(plan, Configuration((*_raw("src", "tmp", "tmp2").images, Image(
        "over", SIZE, Format.QCOW2))))
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
                     ops.RemoveNode("over")))
    two = (replace(JOB, device="tmp2", target="snap", max_workers=1),
           ops.AddOverlay("over", "snap"))
    for each in (two, two[::-1]):
        builder.add_all((*each, ops.Resize("snap", SIZE), ops.RemoveNode("snap"),
                         JobCancel("job"), ops.RemoveNode("over")))
    return builder.trace()


def _namesakes(plan: Plan) -> Trace:
    """That a job's name is taken is found out when there is a filter for it; what does not allow
    that filter comes first."""
    builder = Builder(plan, _raw("src", "tmp", "tmp2"))
    job = replace(JOB, filter_node=None)
    builder.add_all((
        ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"), ops.Export("cbw"),
        replace(job, device="tmp", target="tmp2"), replace(job, device="snap", target="tmp"),
        replace(job, job="job2", device="snap", target="tmp"),
        replace(job, device="snap", target="src"), replace(job, device="snap", target="tmp2")))
    return builder.trace()


def _raw(*names: str) -> Configuration:
    return Configuration(tuple(Image(name, SIZE, filled=((0, SIZE),)) for name in names))


def _no_place(plan: Plan) -> Trace:
    """A filter denies others to write to its source, as soon as somebody uses it: when another
    is opened over it, when it takes the place of its source, or when its job holds it."""
    builder = Builder(plan, _raw("src", "tmp", "tmp2"))
    builder.add_all((
        ops.Export("src"), ops.AddFilter("cbw", "src", "tmp"),
        replace(JOB, device="cbw", target="tmp2"), ops.Unexport("src"),
        replace(JOB, device="cbw", target="tmp2"), JobCancel("job"), ops.RemoveNode("cbw"),
        ops.AddFilter("cbw", "tmp", "src"), replace(JOB, target="cbw"),
        ops.Export("src", writable=False), replace(JOB, target="cbw"), ops.Unexport("src"),
        ops.RemoveNode("cbw"), ops.AddFilter("cbw", "src", "src"), ops.Resize("cbw", SIZE),
        ops.AddFilter("cbw2", "cbw", "src"), ops.RemoveNode("cbw")))
    return builder.trace()


def _moved(plan: Plan) -> Trace:
    """Of two users that write, a refusal names the newer one; whoever moves becomes a new user.
    An overlay moves, too."""
    builder = Builder(plan, Configuration((*_raw("src", "tmp", "tmp2", "other").images, Image(
        "over", SIZE, Format.QCOW2, backing="src"))))

    def ask(node: str) -> None:
        builder.add_all((ops.AddFilter("cbw2", node, "tmp2"), ops.AddSnapshot("snap", "cbw2"),
                         ops.RemoveNode("cbw2"), ops.Resize(node, SIZE), ops.RemoveNode(node)))

    users = (ops.Export("src"), ops.AddFilter("cbw", "other", "src"))
    for two in (users, users[::-1]):
        builder.add_all(two)
        ask("src")
        builder.add(JOB)
        ask("src")
        ask("filter")
        builder.add(JobCancel("job"))
        ask("src")
        builder.add_all((ops.Unexport("src"), ops.RemoveNode("cbw")))
    return builder.trace()


def _several(plan: Plan) -> Trace:
    """Of several conflicts, a refusal names that on the node which is the target itself."""
    builder = Builder(plan, _raw("src", "tmp", "tmp2", "tmp3"))
    builder.add_all((
        ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
        ops.AddFilter("cbw2", "src", "tmp2"), ops.AddFilter("cbw3", "cbw2", "tmp3"),
        ops.AddSnapshot("snap3", "cbw3"), ops.AddFilter("cbw4", "cbw", "cbw2")))
    return builder.trace()


def _discarding(plan: Plan) -> Trace:
    """Only a job that discards what it has copied writes to its source by itself."""
    builder = Builder(plan, _raw("src", "tmp"))
    read_only, writable = (ops.Reopen("src", read_only=each) for each in (True, False))
    for discards in (False, True):
        job = replace(JOB, sync=Sync.FULL, discard_source=discards, auto_finalize=False)
        builder.add_all((job, read_only, writable, JobFinalize("job"), read_only, job,
                         JobCancel("job"), ops.Export("src", writable=False), job,
                         JobCancel("job"), ops.Unexport("src"), writable))
    return builder.trace()
