# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of jobs that compress: what is compressed is counted when QEMU has ended."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.exploration.directed.fleecing import statuses
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Format, Image
from model.job_operations import Backup, JobCancel, Sync
from model.node import SECTOR

CLUSTER: Final = 64 * KIB
_SIZE: Final = 7 * CLUSTER + CLUSTER // 2
_FILLED: Final = ((0, CLUSTER), (CLUSTER, CLUSTER // 2), (3 * CLUSTER, CLUSTER - SECTOR),
                  (4 * CLUSTER, CLUSTER // 4), (5 * CLUSTER, 2 * CLUSTER + CLUSTER // 2))
"""Clusters that compress and clusters that do not, zero ones, one that nearly does not, and at the
end a half."""
_SHAPES: Final[tuple[dict[str, int | bool], ...]] = (
    {}, {"cluster_size": SECTOR}, {"cluster_size": 4 * KIB}, {"cluster_size": 16 * CLUSTER},
    {"subclusters": True})
_JOB: Final = Backup("job", "src", "tmp", Sync.FULL, compress=True)


def checks() -> Iterator[Check]:
    """Each in area ``jobs``."""
    for shape in _SHAPES:
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shape.items())
        yield Check("jobs", f"copies compressed: {words or 'as usual'}", functools.partial(
            _full, replace(Image("tmp", _SIZE, Format.QCOW2), **shape)))  # type: ignore[arg-type]
    yield Check("jobs", "copies before writes compressed", _before_writes)
    yield Check("jobs", "copies of a raw disk compressed", _raw)
    yield Check("jobs", "copies compressed beside another's data", _beside)
    yield Check("jobs", "copies compressed by a job that may leave copying to storage", _left)
    yield Check("jobs", "a last cluster that was compressed, and grows", _grown)


def _builder(plan: Plan, source: Image, *targets: Image) -> Builder:
    return Builder(plan, Configuration((source, *targets)))


def _source(image_format: Format = Format.QCOW2) -> Image:
    return Image("src", _SIZE, image_format, filled=_FILLED)


def _full(target: Image, plan: Plan) -> Trace:
    """All of a disk; then each cluster is changed in its own way.  Another job is not asked to
    compress, and a third copies what is compressed."""
    builder = _builder(plan, _source(), target, *(
        replace(target, node=node) for node in ("plain", "again")))
    builder.add_all((
        _JOB, replace(_JOB, target="plain", compress=False),
        ops.Restart(), ops.Inspect("tmp"), ops.Export("tmp"),
        *(ops.Status("tmp", 0, _SIZE, context=context) for context in ops.Context),
        ops.Write("tmp", CLUSTER + CLUSTER // 2, 512), ops.Restart(), ops.Export("tmp"),
        ops.Zero("tmp", 4 * CLUSTER, CLUSTER), ops.Status("tmp", 0, _SIZE), ops.Restart(),
        replace(_JOB, device="tmp", target="again"), ops.Export("tmp"),
        ops.Discard("tmp", 5 * CLUSTER, _SIZE - 5 * CLUSTER), ops.Status("tmp", 0, _SIZE),
        ops.Restart(), *map(ops.Inspect, ("tmp", "plain", "again"))))
    return builder.trace()


def _before_writes(plan: Plan) -> Trace:
    """What the guest is about to change, the job copying nothing by itself."""
    builder = _builder(plan, _source(), Image("tmp", _SIZE, Format.QCOW2))
    builder.add_all((
        ops.Export("src"), replace(_JOB, sync=Sync.NONE), ops.Write("src", CLUSTER, 512),
        ops.Write("src", 0, 512), ops.Zero("src", 4 * CLUSTER, CLUSTER),
        ops.Discard("src", 7 * CLUSTER, CLUSTER // 2), JobCancel("job"), ops.Inspect("tmp"),
        ops.Restart(), ops.Inspect("tmp")))
    return builder.trace()


def _raw(plan: Plan) -> Trace:
    """Whose zeroes may be holes, and are compressed if they are not; a target that detects zeroes
    has none to compress."""
    builder = _builder(plan, _source(Format.RAW), Image("tmp", _SIZE, Format.QCOW2), Image(
        "detecting", _SIZE, Format.QCOW2, detect_zeroes="on"))
    builder.add_all((
        _JOB, replace(_JOB, target="detecting"), ops.Restart(), ops.Export("tmp"),
        ops.Zero("tmp", 2 * CLUSTER, CLUSTER), ops.Restart(), ops.Inspect("tmp"),
        ops.Inspect("detecting")))
    return builder.trace()


def _beside(plan: Plan) -> Trace:
    """Others may write to the target, too, a client or the copies of a filter, as long as it is
    not where the job does."""
    builder = _builder(plan, _source(), Image("tmp", _SIZE, Format.QCOW2), Image(
        "other", _SIZE, filled=((0, _SIZE),)))
    builder.add_all((
        ops.Export("src"), ops.Export("tmp"), ops.Write("tmp", 3 * CLUSTER, 512),
        replace(_JOB, sync=Sync.NONE), ops.AddFilter("cbw", "other", "tmp"), ops.Export("cbw"),
        ops.Write("src", CLUSTER, 512), ops.Write("cbw", 0, 512), ops.Write("tmp", CLUSTER, 512),
        ops.Write("src", 4 * CLUSTER, 512), JobCancel("job"), ops.Inspect("tmp"),
        ops.Restart(), ops.Inspect("tmp")))
    return builder.trace()


def _left(plan: Plan) -> Trace:
    """Storage does not compress."""
    builder = _builder(plan, _source(Format.RAW), Image("tmp", _SIZE, Format.QCOW2))
    builder.add_all((replace(_JOB, use_copy_range=True), ops.Restart(), ops.Inspect("tmp")))
    return builder.trace()


def _grown(plan: Plan) -> Trace:
    """All of a cluster is compressed, also what of it is past the end of the disk; so when a part
    is written to, and the disk then grows, all of it is data."""
    size = CLUSTER + 20 * KIB
    builder = _builder(plan, Image("src", size, Format.QCOW2, filled=((0, size - 16 * KIB),)), *(
        Image(name, size, Format.QCOW2, subclusters=fine)
        for name, fine in (("tmp", False), ("fine", True))))
    builder.add_all((ops.Export("src"), ops.Zero("src", CLUSTER + 4 * KIB, 16 * KIB),
                     ops.Unexport("src"), _JOB, replace(_JOB, target="fine")))
    for node in ("tmp", "fine"):
        builder.add_all((
            ops.Export(node), ops.Write(node, CLUSTER, 512), ops.Unexport(node),
            ops.Resize(node, 3 * CLUSTER), ops.Export(node, allocation_depth=True),
            *statuses(node, 3 * CLUSTER)))
    builder.add_all((ops.Restart(), *map(ops.Inspect, ("tmp", "fine"))))
    return builder.trace()
