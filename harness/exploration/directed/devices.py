# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of what only a qemu-system has: the guest's device, seen while jobs run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Image
from model.job_operations import Backup, BitmapMode, JobCancel, JobFinalize, Sync
from model.operations import Via

CLUSTER: Final = 64 * KIB
SIZE: Final = 8 * CLUSTER + 512


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("jobs", "a job below the guest's device", _below_the_device)


def _below_the_device(plan: Plan) -> Trace:
    """The device moves to a job's filter, named or not, and back; so do its bitmaps."""
    builder = Builder(plan, Configuration((
        Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE), Image("tmp2", SIZE))))
    write = ops.Write("src", CLUSTER + 512, CLUSTER, Via.DEVICE)
    builder.add_all((ops.BitmapAdd("src", "dirty"), ops.Attach("src"), write))
    for filter_node in (None, "filter"):
        for command in (
                Backup("job", "src", "tmp", Sync.NONE, filter_node=filter_node),
                Backup("job", "src", "tmp", Sync.BITMAP, "dirty", BitmapMode.ALWAYS,
                       filter_node=filter_node, auto_finalize=False)):
            builder.add_all((command, *(
                ops.Write(node, CLUSTER * place, 512, Via.DEVICE)
                for place in (1, 3) for node in ("src", "filter", "#block(job)")),
                ops.Attach("tmp2"), JobFinalize("job"), JobCancel("job"), ops.Attach("src"),
                write, ops.Inspect("tmp")))
    builder.add_all((
        ops.AddFilter("cbw", "src", "tmp"), ops.Attach("cbw"), write,
        Backup("job", "cbw", "tmp2", Sync.NONE), ops.Write("cbw", 0, 1, Via.DEVICE),
        JobCancel("job"), ops.Attach("src"), ops.RemoveNode("cbw"), ops.Inspect("tmp2")))
    return builder.trace()
