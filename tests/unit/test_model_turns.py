# SPDX-License-Identifier: GPL-2.0-or-later
"""More than QEMU sends to storage at a time: whose turn is next, and where that is not known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, Image, Protocol, RequestKind
from model.machine import Impossible
from model.operations import (
    AddFilter,
    AddSnapshot,
    Discard,
    Export,
    Flush,
    Operation,
    Read,
    Status,
    Via,
    Write,
    Zero,
)
from model.program import StorageRequest
from model.schedule import Complete, Expire, Start
from model.turns import MOST_IN_FLIGHT
from tests.unit.fleecing import CLUSTER
from tests.unit.saying import said_if

SIZE = 20 * CLUSTER
KEEPS = AddFilter("cbw", "src", "tmp")
BREAKS = AddFilter("cbw", "src", "tmp", on_cbw_error="break-snapshot")


class Busy:
    """A source, with a first request under way, of which more is asked than is sent at a time."""

    def __init__(self, first: Operation, *until: Complete, tells: bool = False,
                 alignment: int | None = None, put_up: AddFilter = KEEPS) -> None:
        self.number = 0
        self.machine = ConcurrentMachine(Configuration((
            Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),), tells_status=tells,
                  request_alignment=alignment),
            Image("tmp", SIZE, protocol=Protocol.HELD))))
        self.do(put_up, AddSnapshot("snap", "cbw"), Export("cbw"), Export("snap"), Start(first),
                *until)
        self.do(*(Start(Write("cbw", cluster * CLUSTER, CLUSTER))
                  for cluster in range(2, 2 + MOST_IN_FLIGHT)))

    def do(self, *operations: Operation) -> None:
        for operation in operations:
            self.number += 1
            self.machine.apply(self.number, operation)


def done(kind: RequestKind, node: str = "src", length: int = CLUSTER,
         error: str | None = None) -> Complete:
    return Complete.of(StorageRequest(node, kind, 0, length), error)


COPIED = (done(RequestKind.READ), done(RequestKind.WRITE, "tmp"))


@pytest.mark.parametrize(("busy", "complete"), [
    (Busy(Read("snap", 0, 2 * CLUSTER, Via.NBD_DF)), done(RequestKind.READ, length=2 * CLUSTER)),
    (Busy(Status("cbw", 0, CLUSTER), tells=True), done(RequestKind.STATUS)),
    (Busy(Write("cbw", 0, CLUSTER), tells=True), done(RequestKind.STATUS)),
    (Busy(Write("cbw", 0, CLUSTER, fua=True), *COPIED), done(RequestKind.WRITE)),
    (Busy(Zero("cbw", 0, CLUSTER, fua=True), *COPIED), done(RequestKind.ZERO)),
    (Busy(Discard("cbw", 0, CLUSTER, fua=True), *COPIED), done(RequestKind.DISCARD)),
    (Busy(Write("cbw", 0, CLUSTER), put_up=BREAKS), done(RequestKind.READ, error="EIO")),
    (Busy(Write("cbw", 0, 1), *COPIED, alignment=512), done(RequestKind.READ, length=512)),
    (Busy(Flush("cbw"), alignment=512), done(RequestKind.FLUSH, length=0))],
    ids=["reader", "status of a reader", "status of a copy", "durable write", "durable zeroes",
         "durable discard", "copy that breaks the snapshot", "write that is widened",
         "flush through blkdebug"])
def test_who_asks_again_at_once_may_go_before_those_who_wait(
        busy: Busy, complete: Complete) -> None:
    with pytest.raises(Impossible, match="asks the same storage again"):
        busy.do(complete)


@pytest.mark.parametrize(("busy", "complete"), [
    (Busy(Write("cbw", 0, CLUSTER)), done(RequestKind.READ)),
    (Busy(Write("cbw", 0, CLUSTER)), done(RequestKind.READ, error="EIO")),
    (Busy(Write("cbw", 0, CLUSTER), put_up=BREAKS), done(RequestKind.READ)),
    (Busy(Write("cbw", 0, CLUSTER), *COPIED), done(RequestKind.WRITE)),
    (Busy(Flush("cbw")), done(RequestKind.FLUSH, length=0))],
    ids=["copy", "copy that fails", "copy that might break the snapshot", "write", "flush"])
def test_who_does_not_leaves_the_turn_to_who_waits(busy: Busy, complete: Complete) -> None:
    last = StorageRequest("src", RequestKind.READ, (1 + MOST_IN_FLIGHT) * CLUSTER, CLUSTER)
    assert last not in busy.machine.pending()
    busy.do(complete)
    assert last in busy.machine.pending()


@pytest.mark.parametrize("defect", [True, False])
def test_a_copy_from_a_snapshot_asks_the_source_again_where_a_build_reads_it_for_the_target(
        defect: bool) -> None:
    """The first cluster of a copy is done while block status is asked of both."""
    machine = ConcurrentMachine(Configuration((
        Image("src", SIZE, protocol=Protocol.HELD, filled=((0, SIZE),), tells_status=True),
        *(Image(node, SIZE, protocol=Protocol.HELD) for node in ("tmp", "tmp2")))),
        Capabilities(snapshot_reads_source_before_done_run_ends=defect))
    status = StorageRequest("src", RequestKind.STATUS, 0, 2 * CLUSTER)
    for number, operation in enumerate((
            KEEPS, AddSnapshot("snap", "cbw"), AddFilter("cbw2", "snap", "tmp2"), Export("cbw"),
            Export("cbw2"), Start(Discard("cbw2", 0, 2 * CLUSTER)),
            Start(Write("cbw", 0, CLUSTER)), done(RequestKind.STATUS), *COPIED,
            Complete.of(status), *(Start(Read("cbw", cluster * CLUSTER, CLUSTER, Via.NBD_DF))
                                   for cluster in range(2, 2 + MOST_IN_FLIGHT)))):
        machine.apply(number, operation)
    first = machine.pending()[0]
    assert first.node == ("src" if defect else "tmp")
    with said_if(not defect, "asks the same storage again"):
        machine.apply(99, Complete.of(first))


def test_a_flush_that_waits_for_another_is_behind_all_that_waits_by_then() -> None:
    busy = Busy(Flush("cbw"))
    second = busy.number + 1
    busy.do(Start(Flush("cbw")), Start(Flush("cbw")))
    busy.do(done(RequestKind.FLUSH, length=0))
    assert not [each for each in busy.machine.pending() if each.kind is RequestKind.FLUSH]
    busy.do(Complete.of(busy.machine.pending()[-1]), done(RequestKind.FLUSH, length=0))
    assert second in busy.machine.answers()
    assert second + 1 in busy.machine.unanswered()


def _timed(upper: str, *operations: Operation) -> Sequence[int]:
    """A filter over a filter, both with time-outs; in which operations those began that run."""
    machine = ConcurrentMachine(Configuration(tuple(
        Image(node, CLUSTER, protocol=Protocol.HELD) for node in ("src", "tmp", "tmp2"))))
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp", cbw_timeout=1),
            AddFilter("cbw2", "cbw", "tmp2", cbw_timeout=1, on_cbw_error=upper),
            Export("cbw2"), Start(Write("cbw2", 0, CLUSTER)), *operations), start=1):
        machine.apply(number, operation)
    return machine.expirable()


def test_a_time_out_begins_in_the_operation_that_begins_its_copy() -> None:
    upper = (done(RequestKind.READ), done(RequestKind.WRITE, "tmp2"))
    assert _timed("break-guest-write") == [4]
    assert _timed("break-guest-write", upper[0]) == [4]
    assert _timed("break-guest-write", *upper) == [6]
    assert _timed("break-guest-write", *upper, *COPIED) == []
    assert _timed("break-snapshot", Expire()) == [5]
