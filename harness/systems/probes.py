# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes: what a build does where builds differ and no schema tells.

A probe is asked in a throw-away system.  Most are a few operations, the answers to which the model
foretells both ways: with a capability and without it.  An answer that is neither is a divergence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeAlias

from harness.systems.base import Answer, System
from harness.systems.failure import SystemCrashed, SystemFailed
from harness.systems.known_defects import KNOWN, KnownDefect
from harness.systems.simulated import rendered
from model import operations as ops
from model.capabilities import Capabilities
from model.configuration import KIB, MIB, Configuration, Fault, Format, Image, RequestKind
from model.errors import Errno
from model.job_operations import (
    Abort,
    Backup,
    BitmapMode,
    JobCancel,
    Sync,
    Transaction,
)
from model.machine import Machine
from model.operations import Context, Operation, Via
from model.outcome import Observation

Start: TypeAlias = Callable[[Configuration], System]
"""Starts a system with these images."""

CLUSTER: Final = 64 * KIB


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found: whether the build has the capability.

    ``strange``: the build did neither what a build with it does nor what one without it does.
    ``assumed``: it could not be asked; this is what builds of its time do.
    """

    capability: str
    present: bool
    strange: str | None = None
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Operations whose answers tell whether a build has a capability.

    With a deviation that is deadly, the last operation kills QEMU.  ``by_libnbd``: qemu-io cannot
    ask it.  ``by_device``: only a qemu-system can be asked.
    """

    capability: str
    configuration: Configuration
    operations: tuple[Operation, ...]
    by_libnbd: bool = False
    by_device: bool = False

    @property
    def defect(self) -> KnownDefect | None:
        """What is known of the capability if it is a defect."""
        return KNOWN.get(self.capability)

    @property
    def kills(self) -> str | None:
        """A part of the assertion, or the signal, with which the last operation kills QEMU."""
        return self.defect.shows or None if self.defect else None

    @property
    def needs(self) -> str | None:
        """The capability without which there is nothing to ask."""
        return self.defect.needs or None if self.defect else None

    def can_ask(self, known: Capabilities) -> bool:
        """Whether a build with what is known so far has what the probe asks about."""
        makes_filters = any(isinstance(each, (ops.AddFilter, ops.AddSnapshot))
                            for each in self.operations)
        return (known.snapshot_access or not makes_filters) and (
            self.needs is None or bool(getattr(known, self.needs)))

    def ask(self, start: Start, capabilities: Capabilities) -> Found:
        """Ask a throw-away system; ``capabilities``: what is known of the build so far.

        A channel that the system lacks is replaced, as everywhere.
        """
        seen: list[_Look] = []
        try:
            with closing(start(self.configuration)) as system:
                for number, operation in enumerate(self.operations, start=1):
                    answer = system.apply(number, operation)
                    named = [ops.BitmapRef(each.node, each.bitmap) for each in self.operations
                             if isinstance(each, ops.BitmapAdd)]
                    seen.append((answer, system.observe(named)))
        except SystemFailed as why:
            return self._failed(why, len(seen) + 1)
        if self.kills is not None and self.defect is not None and not self.defect.mended:
            # How a mended QEMU answers, nobody knows yet; to win a race once is no mending.
            return Found(self.capability, self.defect.races)
        if self.kills is None and seen == _foretold(self, dataclasses.replace(
                capabilities, **{self.capability: True})):
            return Found(self.capability, True)
        without = _foretold(self, dataclasses.replace(capabilities, **{self.capability: False}))
        if seen == without:
            return Found(self.capability, False)
        return Found(self.capability, False, self._neither(seen, without))

    def _failed(self, why: SystemFailed, number: int) -> Found:
        known = (self.kills is not None and isinstance(why, SystemCrashed)
                 and self.kills in (why.assertion or why.signal or "")
                 and number == len(self.operations))
        strange = None if known else f"{self.operations[number - 1].name}: {why}"
        return Found(self.capability, known, strange)

    def _neither(self, seen: Sequence[_Look], without: Sequence[_Look]) -> str:
        """What is odd about the answers, in one line."""
        for operation, found, expected in zip(self.operations, seen, without, strict=True):
            if found[0] != expected[0]:
                return f"{operation.name}: answers {_short(found[0])}, not {_short(expected[0])}"
            if found[1] != expected[1]:
                return (f"{operation.name}: leaves bitmaps {dict(found[1].bitmaps)}, not "
                        f"{dict(expected[1].bitmaps)}")
        return "answers as no known build does"


_Look: TypeAlias = tuple[Answer, Observation]


def _foretold(probe: Probe, capabilities: Capabilities) -> list[_Look]:
    machine = Machine(probe.configuration, capabilities)
    looks: list[_Look] = []
    for number, operation in enumerate(probe.operations, start=1):
        outcome = machine.apply(number, operation)
        looks.append((rendered(operation, outcome), machine.observe()))
    return looks


def _short(answer: Answer) -> str:
    if answer.data is not None:
        return f"{len(answer.data)} bytes"
    if answer.refused is not None:
        return str(answer.refused)
    return "success" if answer.error is None else Errno(answer.error).name


# The probes


def images(source: Image, target: Image | None = None) -> Configuration:
    """The source and a temporary image, raw and of the same size if none is given."""
    return Configuration((source, target or Image("tmp", source.size)))


FILLED: Final = Image("src", 8 * CLUSTER, filled=((0, 8 * CLUSTER),))
_WITH_TAIL: Final = Image("src", 3 * CLUSTER + 512, filled=((0, 3 * CLUSTER + 512),))
_STRIPED: Final = Image("src", 16 * CLUSTER + 4 * KIB,
                        filled=tuple((2 * each * CLUSTER, CLUSTER) for each in range(8)))
GRAPH: Final[tuple[Operation, ...]] = (
    ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"), ops.Export("cbw"),
    ops.Export("snap"))
"""The simplest set-up for fleecing: the guest writes to cbw, the backup client reads snap."""

_BACKUP_ALWAYS: Final = Backup("job", "src", "tmp", Sync.FULL, "b0", BitmapMode.ALWAYS)

PROBES: Final = (
    Probe("concluded_job_query_crashes", images(FILLED),
          (Backup("job", "src", "tmp", Sync.FULL, auto_dismiss=False),)),
    Probe("copy_bitmap_on_filter", images(FILLED),
          (Backup("job", "src", "tmp", Sync.NONE, filter_node="filter"),)),
    Probe("unaligned_snapshot_discard_aborts", images(FILLED),
          (*GRAPH, ops.Discard("snap", 512, 512))),
    Probe("snapshot_discard_rounds_inwards", images(_WITH_TAIL),
          (*GRAPH, ops.Discard("snap", 3 * CLUSTER, 512))),
    Probe("snapshot_reads_source_before_done_run_ends", images(FILLED),
          (*GRAPH, ops.Write("cbw", 0, CLUSTER),
           ops.Read("snap", 0, 2 * CLUSTER, Via.NBD_DF)), by_libnbd=True),
    Probe("completion_mode_checked_first", images(FILLED),
          (ops.BitmapAdd("src", "b0"),
           Transaction((ops.BitmapClear("src", "b0"),), grouped=True))),
    Probe("preallocated_status_aborts",
          images(Image("src", 8 * CLUSTER, Format.QCOW2, preallocation="metadata")),
          (*GRAPH, ops.Status("snap", 0, 8 * CLUSTER)),
          by_libnbd=True),
    Probe("large_cluster_aborts", images(FILLED),
          (ops.AddFilter("cbw", "src", "tmp", min_cluster_size=1 << 28), ops.Export("cbw"),
           ops.Write("cbw", 0, 512))),
    Probe("huge_min_cluster_size_aborts", images(FILLED),
          (ops.AddFilter("cbw", "src", "tmp", min_cluster_size=1 << 32),)),
    Probe("short_target_aborts", images(FILLED, Image("tmp", 4 * CLUSTER)),
          (ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"),
           ops.Write("cbw", 4 * CLUSTER, 512))),
    Probe("busy_bitmap_removal_aborts", images(FILLED),
          (GRAPH[0], ops.BitmapAdd("cbw", "b0"),
           ops.Export("src", bitmaps=(ops.BitmapRef("cbw", "b0"),)), ops.RemoveNode("cbw"))),
    Probe("busy_bitmap_resize_aborts", images(FILLED),
          (ops.BitmapAdd("tmp", "b0"),
           ops.Export("src", bitmaps=(ops.BitmapRef("tmp", "b0"),)), ops.Resize("tmp", CLUSTER))),
    Probe("resized_filter_snapshot_aborts", images(FILLED),
          (*GRAPH[:2], ops.Export("snap"), ops.Resize("cbw", CLUSTER),
           ops.Read("snap", 0, 2 * CLUSTER))),
    Probe("shrunk_source_aborts", images(FILLED),
          (GRAPH[0], ops.Resize("src", CLUSTER), ops.Export("cbw"),
           ops.Write("cbw", CLUSTER, 512))),
    Probe("empty_filter_growth_aborts", images(FILLED),
          (GRAPH[0], ops.Resize("cbw", 0), ops.Resize("cbw", 513))),
    Probe("resize_names_blocker", images(FILLED),
          (Backup("job", "src", "tmp", Sync.NONE), ops.Resize("tmp", CLUSTER))),
    Probe("qed_parallel_allocation_aborts",
          images(_STRIPED, Image("tmp", _STRIPED.size, Format.QED)),
          (GRAPH[0], ops.Export("cbw"), ops.Write("cbw", 0, _STRIPED.size))),
    Probe("empty_merge_crashes", images(FILLED),
          (ops.BitmapAdd("src", "b0"), ops.BitmapMerge("src", "b0"))),
    Probe("attaching_again_aborts", images(FILLED),
          (ops.Attach("src"), ops.Attach("src")), by_device=True),
    Probe("disk_on_backing_file",
          images(Image("src", CLUSTER), Image("tmp", CLUSTER, Format.QCOW2, backing="src")),
          (ops.BitmapAdd("src", "b0"), ops.Attach("src")), by_device=True),
    Probe("unallocated_copy_status_aborts",
          images(Image("src", MIB, Format.QCOW2), Image("tmp", MIB, Format.PARALLELS)),
          (*GRAPH, ops.Write("cbw", 0, MIB), ops.Read("snap", 0, MIB))),
    Probe("uncopied_status_aborts",
          images(Image("src", MIB, Format.QCOW2), Image("tmp", MIB, Format.QCOW2)),
          (ops.Export("src"),
           Backup("job", "src", "tmp", Sync.TOP, filter_node="cbw", auto_finalize=False),
           ops.Write("src", 0, MIB), *GRAPH[1:2], ops.Export("snap"),
           ops.Read("snap", 0, MIB))),
    Probe("failed_target_status_aborts",
          images(FILLED, Image("tmp", 8 * CLUSTER, faults=(
              Fault(RequestKind.STATUS, 0, "ENOSPC"),))),
          (*GRAPH, ops.Write("cbw", 0, CLUSTER), ops.Read("snap", 0, CLUSTER))),
    Probe("copy_on_read_by_subclusters",
          images(FILLED, Image("cow", FILLED.size, Format.QCOW2, subclusters=True, backing="src")),
          (ops.BitmapAdd("cow", "b0", 512), ops.AddCopyOnRead("below", "cow"),
           ops.AddCopyOnRead("top", "below"), ops.Export("top"), ops.Read("top", 0, 512))),
    Probe("uneven_copy_on_read_aborts",
          images(FILLED, Image("cow", FILLED.size, Format.QCOW2, subclusters=True, backing="src",
                               filled=((0, 2 * KIB),))),
          (ops.AddCopyOnRead("top", "cow"), ops.Export("top"),
           ops.Read("top", CLUSTER // 2, 512))),
    Probe("empty_copy_on_read_aborts",
          images(FILLED, Image("cow", CLUSTER + 512, Format.QCOW2)),
          (ops.AddCopyOnRead("top", "cow"), ops.Export("top"),
           ops.Read("top", CLUSTER + 512, 0))),
    Probe("persistent_needs_writable", images(Image("src", CLUSTER, Format.QCOW2)),
          (ops.Restart(("src",)), ops.BitmapAdd("tmp", "b1"),
           ops.BitmapAdd("src", "b0", persistent=True))),
    Probe("refused_readonly_reopen_blocks_writes", images(Image("src", CLUSTER, Format.QCOW2)),
          (ops.BitmapAdd("src", "b0", persistent=True), ops.Export("src"),
           ops.Reopen("src", read_only=True), ops.Write("src", 0, 512))),
    Probe("filtered_job_filter_aborts", images(FILLED),
          (Backup("job", "src", "tmp", Sync.NONE, filter_node="below"),
           ops.AddFilter("cbw", "below", "tmp"), JobCancel("job"))),
    Probe("refused_enable_crashes", images(FILLED),
          (Transaction((ops.BitmapEnable("src", "b0"),)),)),
    Probe("refused_enable_disables", images(FILLED),
          (ops.BitmapAdd("src", "b0"),
           Transaction((ops.BitmapRemove("src", "b0"), ops.BitmapEnable("src", "b0"))))),
    Probe("aborted_backup_dirties_bitmap", images(FILLED),
          (ops.BitmapAdd("src", "b0"), Transaction((_BACKUP_ALWAYS, Abort())))),
)
"""In the order in which they are asked: a later one may need what an earlier one found."""


_JOB: Final = Backup("job0", "src", "tmp", Sync.FULL)
ABORTED_GROUP: Final = Probe(
    "aborted_group_hangs",
    Configuration((FILLED, Image("src2", FILLED.size), Image("tmp", FILLED.size),
                   Image("tmp2", FILLED.size))),
    (Transaction((_JOB, Backup("job1", "src2", "tmp2", Sync.FULL), _JOB), grouped=True),))
"""A grouped transaction that is refused when two jobs have been made."""
_TELL_TWO: Final = (ops.Status("snap", 0, CLUSTER, others=(Context.DEPTH,)),
                    ops.Status("snap", CLUSTER, CLUSTER, others=(Context.DEPTH,)))
FAILED_STATUS: Final = Probe(
    "failed_status_goes_on", images(FILLED),
    (*GRAPH[:2], ops.Export("snap", allocation_depth=True), ops.Discard("snap", 0, CLUSTER),
     *_TELL_TWO))
"""Block status in two contexts, where nothing may be told, and then where it may."""
