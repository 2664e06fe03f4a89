# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step model over held storage, and requests to it."""

from __future__ import annotations

from typing import ClassVar

from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, Image, Protocol
from model.job_operations import Backup, OnError, Sync
from model.operations import AddFilter, AddSnapshot, Export, Operation, Read, Status, Via, Write
from model.outcome import Extent, Outcome
from model.schedule import Complete, Start
from tests.unit.fleecing import CLUSTER

SIZE = 4 * CLUSTER


class Held:
    """A fleecing set-up whose source and temporary image complete nothing by themselves."""

    images: ClassVar = Configuration((
        Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),)),
        Image("tmp", SIZE, protocol=Protocol.HELD)))

    def __init__(self, *graph: Operation, **options: str | int) -> None:
        self.machine = ConcurrentMachine(self.images)
        self.number = 0
        self.answers: dict[int, Outcome] = {}
        for operation in graph or (
                AddFilter("cbw", "src", "tmp", **options),  # type: ignore[arg-type]
                AddSnapshot("snap", "cbw"), Export("cbw"), Export("snap")):
            self.do(operation)

    def do(self, operation: Operation) -> int:
        self.number += 1
        assert self.machine.apply(self.number, operation).refused is None
        self.answers |= self.machine.answers()
        return self.number

    def complete(self, index: int = 0, error: str | None = None) -> None:
        request = self.machine.pending()[index]
        self.do(Complete.of(request, error))

    def pending(self) -> list[tuple[str, str, int]]:
        return [(request.node, request.kind.value, request.offset // CLUSTER)
                for request in self.machine.pending()]

    def bits(self, which: str) -> list[int]:
        bits = getattr(self.machine.filters()[0], which).bits
        return [place for place in range(bits.size) if bits.at(place)]


def write(cluster: int, length: int = 512) -> Start:
    return Start(Write("cbw", cluster * CLUSTER, length))


def read(cluster: int) -> Start:
    """A fleecing read of a part of the cluster, so that it looks different from a copy."""
    return Start(Read("snap", cluster * CLUSTER, 512, Via.NBD_DF))


JOB = Backup("job", "src", "tmp", Sync.FULL, filter_node="filter", auto_finalize=False,
             on_source_error=OnError.STOP, on_target_error=OnError.IGNORE, max_workers=1,
             max_chunk=CLUSTER)


def guest_write(cluster: int) -> Start:
    return Start(Write("src", cluster * CLUSTER, 512))


class Telling(Held):
    """The same over storage that tells block status; the third cluster reads as zero."""

    images: ClassVar = Configuration((
        Image("src", SIZE, protocol=Protocol.HELD, tells_status=True,
              filled=((0, 2 * CLUSTER), (3 * CLUSTER, CLUSTER))),
        Image("tmp", SIZE, protocol=Protocol.HELD, tells_status=True)))


def status(cluster: int, clusters: int, node: str = "snap") -> Start:
    return Start(Status(node, cluster * CLUSTER, clusters * CLUSTER))


def extents(*runs: tuple[int, int]) -> tuple[Extent, ...]:
    return tuple(Extent(clusters * CLUSTER, frozenset({flags})) for clusters, flags in runs)
