# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU opens, or leaves open, aside of the nodes that there are: where the model does not
follow that, no trace goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.configuration import Configuration, Format, Image
from model.job_operations import DriveBackup, JobFinalize, NewImage, Sync
from model.machine import Impossible, Machine
from model.operations import AddFilter, AddOverlay, AddSnapshot, RemoveNode, Restart
from tests.unit.fleecing import CLUSTER
from tests.unit.saying import said_if


@pytest.mark.parametrize(("backing", "possible"), [("src", False), (None, True)])
def test_a_format_without_its_instrument_would_hold_its_backing_file(
        backing: str | None, possible: bool) -> None:
    machine = Machine(Configuration((Image("src", CLUSTER), Image(
        "tmp", CLUSTER, Format.QCOW2, backing=backing, request_alignment=512))))
    with said_if(possible, "holds its backing file"):
        assert machine.apply(1, RemoveNode("tmp")).refused is None


@pytest.mark.parametrize("mode", [None, NewImage.EXISTING])
def test_a_file_is_not_used_again_that_a_job_has_written(mode: str | None) -> None:
    """Its node, opened before, takes it to be as long as it was then; another QEMU does not."""
    machine = Machine(Configuration((
        Image("src", CLUSTER), Image("tmp", CLUSTER), Image("over", CLUSTER, Format.QCOW2))))
    opened = AddOverlay("over", "snap")
    begin = (AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), RemoveNode("over"))
    job = DriveBackup("job", "src", "over", Sync.FULL, format="qcow2", mode=mode)
    for number, operation in enumerate((*begin, opened, RemoveNode("over"), job)):
        assert machine.apply(number, operation).refused is None
    with pytest.raises(Impossible, match="how long"):
        machine.apply(7, opened)
    for number, operation in enumerate((Restart(), *begin, opened), 8):
        assert machine.apply(number, operation).refused is None


@pytest.mark.parametrize("mode", [None, NewImage.EXISTING])
def test_a_job_whose_name_is_taken_opens_its_target_beside_that_of_the_other(
        mode: str | None) -> None:
    machine = Machine(Configuration((
        Image("src", CLUSTER), Image("qcow", CLUSTER, Format.QCOW2), Image("raw", CLUSTER))))
    first = DriveBackup("job", "src", "qcow", Sync.FULL, format="qcow2", mode="existing",
                        auto_finalize=False)
    for number, operation in enumerate((RemoveNode("qcow"), RemoveNode("raw"), first)):
        assert machine.apply(number, operation).refused is None
    second = replace(first, target="raw", format="raw", mode=mode)
    assert "already in use" in str(machine.apply(4, second).refused)
    assert machine.apply(5, JobFinalize("job")).refused is None
    assert machine.apply(6, Restart()).refused is None
