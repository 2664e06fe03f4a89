# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of writes that change nothing: what a copy-on-read node above a filter does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Format, Image
from model.operations import Via

CLUSTER: Final = 64 * KIB
SIZE: Final = 9 * CLUSTER + 512


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("access", "a copy-on-read node above a filter", _above_a_filter)


def _above_a_filter(plan: Plan) -> Trace:
    """Reads of what only the backing file has put it into the disk, and are no reason to copy."""
    builder = Builder(plan, Configuration((
        Image("base", SIZE - CLUSTER, filled=((0, 5 * CLUSTER),)),
        Image("src", SIZE, Format.QCOW2, backing="base", filled=((2 * CLUSTER, CLUSTER),)),
        Image("tmp", SIZE))))
    builder.add_all((
        ops.BitmapAdd("src", "dirty", 4 * KIB), ops.AddFilter("cbw", "src", "tmp"),
        ops.BitmapAdd("cbw", "above", 4 * KIB), ops.AddSnapshot("snap", "cbw"),
        ops.AddCopyOnRead("cor", "cbw"), ops.AddCopyOnRead("cor", "src"), ops.Export("snap"),
        ops.Export("cor"), _read(512, 512), _read(CLUSTER + 1, 2 * CLUSTER),
        _read(6 * CLUSTER + 512, CLUSTER), ops.Write("cor", 4 * CLUSTER - 512, 1024),
        _read(3 * CLUSTER, 2 * CLUSTER), ops.Zero("cor", 0, 512),
        _read(SIZE - 512, 512), ops.Read("snap", 0, 4 * CLUSTER), ops.Flush("cor"),
        ops.RemoveNode("cbw"), ops.Unexport("cor"), ops.RemoveNode("cor"), ops.Export("src"),
        ops.Status("src", 0, SIZE), ops.Inspect("src"), ops.Inspect("snap"),
        ops.Inspect("tmp")))
    return builder.trace()


def _read(offset: int, length: int) -> ops.Read:
    """Read all of it, not only what block status says is no hole."""
    return ops.Read("cor", offset, length, Via.NBD_DF)
