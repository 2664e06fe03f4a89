# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules written by hand: what a person would try, one step after the other.

The model says what is pending, so that a script names a storage request by node and kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from harness.exploration.building import Make, Plan
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.exploration.schedules import Schedule, possible
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, Format, Image, Protocol, RequestKind
from model.job_operations import Backup, OnError, Sync
from model.operations import OnCbwError, Operation, Request, Via
from model.program import StorageRequest
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start
from model.turns import MOST_IN_FLIGHT

CLUSTER: Final = 64 * KIB
_EXPORTED: Final = (ops.AddSnapshot(SNAPSHOT, FILTER), ops.Export(FILTER), ops.Export(SNAPSHOT))
CLOSING: Final = (ops.Unexport(FILTER), ops.Unexport(SNAPSHOT), ops.RemoveNode(SNAPSHOT),
                  ops.RemoveNode(FILTER))
"""Takes down what :meth:`Script.fleecing` puts up."""


ROOM: Final = 4
"""Clusters of each of several scripts on one disk."""


class Broken(Exception):
    """The script is wrong: the model does not let it go on."""


def disks(clusters: float, *more: str) -> Configuration:
    """A full source and empty targets on held storage."""
    size = int(clusters * CLUSTER)
    return Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=((0, size),)),
        *(Image(node, size, protocol=Protocol.HELD) for node in (TARGET, *more))))


def overlays(clusters: float, *between: str) -> Configuration:
    """A full source on held storage, and a target that shows it where nothing is copied yet, also
    through overlays ``between`` the two."""
    size = int(clusters * CLUSTER)
    chain = itertools.pairwise((SOURCE, *between, TARGET))
    return Configuration((
        Image(SOURCE, size, protocol=Protocol.HELD, filled=((0, size),)),
        *(Image(node, size, Format.QCOW2, backing=below) for below, node in chain)))


JOB: Final = Backup(
    "job", SOURCE, TARGET, Sync.FULL, filter_node="filter", auto_finalize=False,
    on_source_error=OnError.STOP, on_target_error=OnError.STOP)
"""One that may be started beside requests, or with other options."""


class Script(Schedule):
    """A schedule being written.  Places are clusters, counted from :attr:`base`."""

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        self.base = 0
        self.guest = FILTER
        """The node that the guest's requests go to."""
        self._lenient = False
        """Whether a request was left out since it would kill this build by a known defect."""

    def fleecing(self, *, breaks: bool = False, timeout: int | None = None) -> None:
        """Put up the filter and the snapshot."""
        policy = OnCbwError.BREAK_SNAPSHOT.value if breaks else None
        self.must(ops.AddFilter(FILTER, SOURCE, TARGET, on_cbw_error=policy,
                                cbw_timeout=timeout), *_EXPORTED)

    def must(self, *operations: Operation) -> None:
        """Append operations; raises Broken for one that cannot be."""
        for operation in operations:
            if not self.add(operation):
                raise Broken(str(operation))

    # Requests

    def ask(self, cluster: float, count: float = 1, node: str = SNAPSHOT) -> None:
        """The client, or somebody else, asks block status."""
        self.start(ops.Status(node, int(cluster * CLUSTER), int(count * CLUSTER)))

    def start(self, request: Request) -> None:
        """Start a request, unless it would kill this build by a known defect."""
        moved = replace(request, offset=request.offset + self.base * CLUSTER)
        if self.held.deadly(Start(moved)) is not None:
            self._lenient = True
        else:
            self.must(Start(moved))

    def write(self, cluster: float, count: float = 1, *, fua: bool = False) -> None:
        """The guest writes."""
        self.start(ops.Write(self.guest, int(cluster * CLUSTER), int(count * CLUSTER), fua=fua))

    def discard(self, cluster: float, count: float = 1) -> None:
        """The guest discards."""
        self.start(ops.Discard(self.guest, int(cluster * CLUSTER), int(count * CLUSTER)))

    def zero(self, cluster: float, count: float = 1, *, unmap: bool = False,
             fua: bool = False) -> None:
        """The guest writes zeroes."""
        self.start(ops.Zero(self.guest, int(cluster * CLUSTER), int(count * CLUSTER),
                            unmap=unmap, fua=fua))

    def read(self, cluster: float, count: float = 1, node: str = SNAPSHOT, *,
             via: Via = Via.NBD_DF) -> None:
        """The client, or somebody else, reads; ``via`` NBD, the server asks block status first."""
        self.start(ops.Read(node, int(cluster * CLUSTER), int(count * CLUSTER), via))

    def give_up(self, cluster: float, count: float = 1) -> None:
        """The client discards what it has backed up."""
        self.start(ops.Discard(SNAPSHOT, int(cluster * CLUSTER), int(count * CLUSTER)))

    def flush(self) -> None:
        """The guest flushes."""
        self.must(Start(ops.Flush(self.guest)))

    # Storage

    def done(self, kind: RequestKind, node: str, cluster: float | None = None, *, nth: int = 0,
             error: str | None = None) -> None:
        """Complete the ``nth`` pending request of that kind to that node's storage that begins
        in the cluster, the oldest being 0 and the latest -1."""
        alike = [each for each in self.held.pending() if (each.kind, each.node) == (kind, node)
                 and (cluster is None or self._is_in(each, cluster))]
        if alike and -len(alike) <= nth < len(alike):
            self._complete(alike[nth], alike[:nth % len(alike)].count(alike[nth]), error)
        elif not self._lenient:
            raise Broken(f"no {kind} of {node} is pending at {cluster}: {self.held.pending()}")

    def _is_in(self, request: StorageRequest, cluster: float) -> bool:
        return request.offset // CLUSTER == int(self.base + cluster)

    def _complete(self, asked: StorageRequest, younger: int, error: str | None = None) -> None:
        self.must(Complete.of(asked, error, younger))

    def copy(self, cluster: float, target: str = TARGET, *, nth: int = 0) -> None:
        """A copy of the cluster, with its read and its write, ends; ``nth`` of the reads."""
        self.done(RequestKind.READ, SOURCE, cluster, nth=nth)
        self.done(RequestKind.WRITE, target, cluster)

    def finish(self, *, latest: bool = False) -> None:
        """Complete all that is pending and all that then comes, in order or the latest first."""
        while self.held.busy:
            pending = self.held.pending()
            if not pending:
                self.must(Expire())
                continue
            asked = pending[-1] if latest else pending[0]
            if self.held.silent:
                self.must(CompleteAll(asked.node))
                continue
            crowd = [each for each in pending if each.node == asked.node]
            if len(crowd) >= MOST_IN_FLIGHT:
                asked = crowd[-1]  # see HeldDaemon: of so many only the latest may be completed
            last = latest or len(crowd) >= MOST_IN_FLIGHT
            self._complete(asked, pending.count(asked) - 1 if last else 0)
        self._lenient = False

    def cut(self, node: str) -> None:
        """The connection to a node's storage is lost, and made again."""
        self.must(Cut(node))

    def gone(self, node: str) -> None:
        """A node's storage has no server, until it is :meth:`back`."""
        self.must(Gone(node))

    def back(self, node: str) -> None:
        """A node's storage has a server again."""
        self.must(Back(node))

    def expire(self) -> None:
        """All time-outs that are running run out."""
        self.must(Expire())


Play: TypeAlias = Callable[[Script], None]


def side_by_side(plan: Plan, plays: Sequence[Play], images: Configuration | None = None) -> Trace:
    """Scripts over one fleecing graph, whose source records what is written to it."""
    script = Script(plan, images or disks(ROOM * len(plays)))
    script.must(ops.BitmapAdd(SOURCE, "b0", CLUSTER))
    script.fleecing()
    for index, play in enumerate(plays):
        script.base = index * ROOM
        play(script)
        script.finish()
    look(script)
    return script.trace()


def if_possible(make: Make, plan: Plan) -> Trace:
    """A build without snapshot-access has no filters but those of jobs."""
    fits = possible(plan) and plan.capabilities.snapshot_access
    return make(plan) if fits else Script(plan, Configuration()).trace()


def look(script: Script) -> None:
    """Inspect all that a fleecing graph has."""
    script.add_all(ops.Inspect(node) for node in (SOURCE, TARGET, SNAPSHOT))
