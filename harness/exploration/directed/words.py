# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks of bitmaps of many words: what is taken away inside, over and between words.

A bitmap is kept in levels, a bit of one for each word of the next: a run that is taken away has
to leave the bits around it, and the levels above, as they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harness.exploration.building import Builder, Check, Plan
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Fault, Format, Image, RequestKind
from model.job_operations import Backup, BitmapMode, JobFinalize, JobResume, OnError, Sync
from model.operations import BitmapRef, Via

CLUSTER: Final = 64 * KIB
WORD: Final = 64
"""Bits of a word of a bitmap."""


def checks() -> Iterator[Check]:
    """All of them."""
    yield Check("bitmaps", "copy and access bitmaps of many words", _many_words)
    yield Check("jobs", "jobs over bitmaps of many words", _jobs_of_many_words)
    yield Check("jobs", "a job over bitmaps of many words of words", _huge_job)
    yield Check("jobs", "allocated and unallocated runs of many words", _top_of_many_words)


def _many_words(plan: Plan) -> Trace:
    """Runs of clusters given up and written, that begin and end in and between words."""
    clusters = 8 * WORD + 3
    size = clusters * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),)), Image("tmp", size))))
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
                     ops.Export("cbw"), ops.Export("snap")))
    for start, end in _RUNS:
        builder.add(ops.Discard("snap", start * CLUSTER, (end - start) * CLUSTER))
    for start, end in _RUNS:
        builder.add_all((
            ops.Read("snap", (start - 1) * CLUSTER, CLUSTER, Via.NBD_DF),
            ops.Read("snap", end * CLUSTER, CLUSTER, Via.NBD_DF),
            ops.Write("cbw", (start - 1) * CLUSTER, 512), ops.Write("cbw", end * CLUSTER, 512)))
    kept = [end for _, end in _RUNS]
    builder.add_all(ops.Read("snap", start * CLUSTER, (end - start) * CLUSTER, Via.NBD_DF)
                    for start, (end, _) in zip(kept, _RUNS[1:], strict=False))
    third = size // 3 // CLUSTER * CLUSTER
    builder.add_all(ops.Write("cbw", start, third) for start in (0, third, 2 * third))
    builder.add_all((ops.Inspect("snap"), ops.Inspect("tmp")))
    return builder.trace()


def _jobs_of_many_words(plan: Plan) -> Trace:
    """A job stopped at its first cluster; the guest takes clusters away in the middle, at the
    ends and over the borders of words, some words whole; then the job copies what is left."""
    clusters = 8 * WORD + 3
    size = clusters * CLUSTER
    fault = Fault(RequestKind.READ, 0, once=True)
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, size),), faults=(fault,) * 3), Image("tmp", size))))
    builder.add_all((ops.BitmapAdd("src", "dirty", CLUSTER), ops.BitmapAdd("src", "fine", 512),
                     ops.Export("src"), ops.Write("src", 0, 1)))
    builder.add_all(ops.Write("src", cluster * CLUSTER, CLUSTER)
                    for cluster in range(3, clusters, 3))
    job = Backup("job", "src", "tmp", Sync.FULL, "dirty", BitmapMode.ALWAYS, max_workers=1,
                 filter_node="filter", on_source_error=OnError.STOP, auto_finalize=False)
    for sync, discards in ((Sync.FULL, False), (Sync.BITMAP, False), (Sync.FULL, True)):
        builder.add_all((replace(job, sync=sync), ops.AddSnapshot("snap", "filter"),
                         ops.Export("snap")))
        for start, end in _RUNS:
            how = ops.Discard("snap") if discards else ops.Write("src")
            builder.add(replace(how, offset=start * CLUSTER, length=(end - start) * CLUSTER))
        builder.add_all((JobResume("job"), JobFinalize("job"), ops.Inspect("tmp"),
                         ops.Unexport("snap"), ops.RemoveNode("snap")))
    builder.add_all((ops.BitmapMerge("src", "fine", (BitmapRef("src", "dirty"),)),
                     ops.Unexport("src"),
                     ops.Export("src", bitmaps=(BitmapRef("src", "fine"),)),
                     ops.Status("src", 0, size, context="qemu:dirty-bitmap:fine")))
    return builder.trace()


def _top_of_many_words(plan: Plan) -> Trace:
    """What is not allocated in the topmost image need not be copied: runs of all kinds."""
    clusters = 8 * WORD + 3
    size = clusters * CLUSTER
    kept = ((0, 0), *_RUNS, (clusters, clusters))
    allocated = tuple((end * CLUSTER, (start - end) * CLUSTER) for (_, end), (start, _)
                      in itertools.pairwise(kept) if end < start)
    builder = Builder(plan, Configuration((
        Image("base", size), Image("src", size, Format.QCOW2, backing="base", filled=allocated),
        Image("tmp", size))))
    job = Backup("job", "src", "tmp", Sync.TOP, auto_finalize=False, filter_node="filter")
    builder.add_all((ops.Export("src"), job, ops.Write("src", 0, 512), JobFinalize("job"),
                     ops.Inspect("tmp")))
    return builder.trace()


def _huge_job(plan: Plan) -> Trace:
    """The same with so many clusters that words are grouped twice; most of the disk is a hole."""
    clusters = (WORD + 3) * WORD + 5
    size = clusters * CLUSTER
    builder = Builder(plan, Configuration((
        Image("src", size, filled=((0, CLUSTER),), faults=(
            Fault(RequestKind.READ, 0, once=True),)), Image("tmp", size))))
    builder.add_all((
        ops.BitmapAdd("src", "dirty", CLUSTER), ops.Export("src"),
        Backup("job", "src", "tmp", Sync.FULL, max_workers=1, filter_node="filter",
               on_source_error=OnError.STOP, auto_finalize=False)))
    for base in (0, (WORD - 1) * WORD, WORD * WORD):
        for start, end in _RUNS[:5]:
            builder.add(ops.Write("src", (base + start) * CLUSTER, (end - start) * CLUSTER))
    builder.add_all((JobResume("job"), JobFinalize("job"), Backup(
        "job", "src", "tmp", Sync.BITMAP, "dirty", BitmapMode.ON_SUCCESS, max_workers=1)))
    return builder.trace()


_RUNS: Final = (
    (3, 4), (WORD - 1, WORD), (WORD, WORD + 1), (WORD + 30, WORD + 33),
    (2 * WORD - 2, 2 * WORD + 2), (2 * WORD + 20, 3 * WORD - 1), (3 * WORD + 1, 4 * WORD),
    (4 * WORD + 10, 6 * WORD + 10), (6 * WORD + 12, 6 * WORD + 13), (7 * WORD, 7 * WORD + 60))
"""Runs of clusters: inside of words, from word to word, and over whole words."""
