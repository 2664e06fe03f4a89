# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of merges: of bitmaps of every granularity, empty ones too."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.exploration.directed.fleecing import CLUSTER
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Image
from model.job_operations import Transaction
from model.operations import BitmapRef

SIZE: Final = 16 * CLUSTER + 512
UNITS: Final = (512, CLUSTER, 256 * KIB)


def checks() -> Iterator[Check]:
    """One for each granularity of the bitmap that is merged into."""
    for unit in UNITS:
        yield Check("bitmaps", f"merges into a bitmap of granularity {unit // 512} sectors",
                    functools.partial(_merged, unit))
    yield Check("bitmaps", "merges of bitmaps that are given by their names alone", _local)


def _merged(unit: int, plan: Plan) -> Trace:
    """What is merged is added to what was there, whichever of both is empty."""
    builder = Builder(plan, Configuration((Image("src", SIZE), Image("other", SIZE))))
    builder.add_all(ops.BitmapAdd(node, f"{node}-{each}", each, disabled=node == "src")
                    for node in ("src", "other") for each in UNITS)
    builder.add_all((ops.Export("src"), ops.Export("other"),
                     *(ops.Write("other", place, 512) for place in (0, 2 * CLUSTER, SIZE - 512))))
    empty, full = ([BitmapRef(node, f"{node}-{each}") for each in UNITS]
                   for node in ("src", "other"))
    for filled, sources in itertools.product((True, False), (
            *((each,) for each in (*empty, *full)), (empty[0], full[1]), (full[0], empty[1]),
            (full[2], empty[2], full[0]))):
        builder.add_all((
            ops.BitmapAdd("src", "to", unit),
            *((ops.Write("src", 5 * CLUSTER - 512, 1024),) if filled else ()),
            ops.BitmapMerge("src", "to", sources), ops.BitmapRemove("src", "to")))
    return builder.trace()


def _local(plan: Plan) -> Trace:
    """A name alone is that of a bitmap of the same node, also beside others, and if another node
    has the same."""
    builder = Builder(plan, Configuration((Image("src", SIZE), Image("other", SIZE))))
    own, same, of_other = (BitmapRef("src", "b"), BitmapRef("other", "b"), BitmapRef("other", "c"))
    builder.add_all((
        *(ops.BitmapAdd(each.node, each.name) for each in (own, same, of_other)),
        ops.BitmapAdd("src", "d", 512), ops.Export("src"), ops.Export("other"),
        ops.Write("src", CLUSTER, 512), ops.Write("other", 4 * CLUSTER, 512),
        ops.BitmapDisable("src", "b")))
    nothing = BitmapRef("src", "nope")
    for number, sources in enumerate((
            (own,), (own, same), (of_other, own), (nothing,), (own, nothing), (same, nothing),
            (BitmapRef("src", "c"),), (BitmapRef("src", "to-0"), own), (BitmapRef("src", ""),))):
        to = f"to-{number}"
        merge = ops.BitmapMerge("src", to, sources, local=True)
        builder.add_all((ops.BitmapAdd("src", to), merge, merge))
        builder.add(Transaction((ops.BitmapClear("src", "d"), merge)))
    return builder.trace()
