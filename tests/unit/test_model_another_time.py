# SPDX-License-Identifier: GPL-2.0-or-later
"""What follows from a snapshot that tells of another time than it shows: who copies it, or keeps
it, may do either.  No trace for such a build has that."""

from __future__ import annotations

import pytest

from model.capabilities import Capabilities
from model.configuration import Configuration, Fault, Format, Image, RequestKind
from model.errors import Errno
from model.job_operations import Backup, Sync
from model.machine import Impossible, Machine
from model.operations import (
    AddFilter,
    AddOverlay,
    AddSnapshot,
    Export,
    RemoveNode,
    Write,
    Zero,
)
from tests.unit.fleecing import CLUSTER
from tests.unit.saying import said_if

ANOTHER_TIME = Capabilities(snapshot_reads_source_before_done_run_ends=True)
"""A build whose snapshot tells of more than it would read of at once, and so tells of what the
source has now."""


def test_a_job_copies_what_a_snapshot_tells_of_another_time() -> None:
    """Storage may tell that the source has a hole where the guest has zeroed; if it does not, the
    job reads what was there before."""
    machine = Machine(Configuration(tuple(
        Image(name, 2 * CLUSTER, filled=((0, 2 * CLUSTER),)) for name in ("src", "tmp", "tmp2"))),
        ANOTHER_TIME)
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("cbw"),
            Zero("cbw", 0, CLUSTER), AddFilter("cbw2", "snap", "tmp2"), Export("cbw2"))):
        assert machine.apply(number, operation).refused is None
    before = machine.content_of("tmp2")
    for copying in (Backup("job", "snap", "tmp2", Sync.FULL), Write("cbw2", 0, 2 * CLUSTER)):
        with pytest.raises(Impossible, match="of another time"):
            machine.apply(8, copying)
    assert machine.content_of("tmp2") == before
    assert machine.apply(9, Write("cbw2", 0, CLUSTER)).error is Errno.ENOTSUP


@pytest.mark.parametrize("done", [False, True])
def test_what_a_snapshot_tells_of_each_side_of_a_write_need_not_be_what_it_shows_of_both(
        done: bool) -> None:
    machine = Machine(Configuration((
        Image("src", 2 * CLUSTER), Image("tmp", 2 * CLUSTER, Format.QCOW2),
        Image("over", 2 * CLUSTER, Format.QCOW2, cluster_size=2 * CLUSTER))), ANOTHER_TIME)
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), RemoveNode("over"),
            AddOverlay("over", "snap"), Export("cbw"), Export("over"),
            Write("cbw", 0, CLUSTER))):
        assert machine.apply(number, operation).refused is None
    if done:
        machine.apply(8, Write("cbw", CLUSTER, CLUSTER))
    with said_if(done, "read as something else"):
        assert machine.apply(9, Write("over", CLUSTER - 512, 1024)).error is None


def test_what_a_job_is_told_of_a_piece_of_a_snapshot_may_be_undecided() -> None:
    """Though of all of it something else is told, by a build that looks at another time then."""
    full = ((0, 2 * CLUSTER),)
    machine = Machine(Configuration((
        Image("src", 2 * CLUSTER, filled=full), Image("tmp", 2 * CLUSTER),
        Image("tmp2", 2 * CLUSTER, faults=(Fault(RequestKind.ZERO, 0),)))), ANOTHER_TIME)
    for number, operation in enumerate((
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("cbw"),
            Write("cbw", 0, CLUSTER), Export("tmp"), Zero("tmp", 0, CLUSTER))):
        assert machine.apply(number, operation).error is None
    with pytest.raises(Impossible, match="may be told to be zero"):
        machine.apply(6, Backup("job", "snap", "tmp2", Sync.FULL, max_workers=1,
                                max_chunk=CLUSTER))
