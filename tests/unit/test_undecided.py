# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever storage decides, the model says nothing that depends on it."""

from __future__ import annotations

from unittest import mock

import pytest

from harness.exploration.areas import named
from harness.exploration.building import Plan
from harness.exploration.traces import GROUP, TraceSource
from harness.lockstep.verdict import Conforms, Diverges
from model import unsaid_jobs
from model.capabilities import Capabilities
from model.configuration import Configuration, Image
from model.job_operations import Backup, Sync
from model.operations import AddSnapshot, BitmapAdd, Export, Status, Zero
from tests.undecided.judging import verdict
from tests.undecided.storage import Deciding, Storage
from tests.unit.fleecing import CLUSTER
from tests.unit.lockstep_lab import trace_of

DISKS = Configuration(tuple(
    Image(name, 3 * CLUSTER, filled=((0, 3 * CLUSTER),)) for name in ("src", "tmp")))


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize("area", ["status", "zeroes", "copy-on-read", "jobs"])
def test_drawn_traces_conform_over_any_storage(area: str, storage: Storage) -> None:
    source = TraceSource(Plan(), named(area))
    for index in range(GROUP):
        trace = source.trace(1, index)
        assert trace is not None
        judged = verdict(trace, storage, Capabilities())
        assert isinstance(judged, Conforms), judged.summary


@pytest.mark.parametrize(("storage", "zeroes"), [
    (Storage.FULL, 512), (Storage.PAGED, 3 * CLUSTER)])
def test_a_model_that_says_too_much_is_caught(storage: Storage, zeroes: int) -> None:
    """How much of a job a snapshot refuses at once, which its bitmap tells."""
    trace = trace_of(Export("src"), Zero("src", 0, zeroes), AddSnapshot("snap", "tmp"),
                     BitmapAdd("snap", "b0", 512),
                     Backup("job", "src", "snap", Sync.FULL, max_workers=1), configuration=DISKS)
    with mock.patch.object(unsaid_jobs, "_shows_what_failed", return_value=False):
        judged = verdict(trace, storage, Capabilities())
    assert isinstance(judged, Diverges), judged.summary


def test_storage_decides() -> None:
    """What it tells is one of the things that the model allows, and not the same of each."""
    trace = trace_of(Export("src"), Zero("src", 0, CLUSTER), Status("src", 0, 3 * CLUSTER),
                     configuration=DISKS)
    told = set()
    for storage in Storage:
        assert isinstance(verdict(trace, storage, Capabilities()), Conforms)
        machine = Deciding(storage, DISKS)
        for step in trace.steps:
            outcome = machine.apply(step.number, step.operation)
        told.add(outcome.extents)
    assert len(told) == len(Storage)
