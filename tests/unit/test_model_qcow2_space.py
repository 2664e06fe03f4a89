# SPDX-License-Identifier: GPL-2.0-or-later
"""Clusters of a qcow2 with subclusters that have space in the file: where they lie in it cannot be
seen, and what depends on that is undecided."""

from __future__ import annotations

import pytest

from model.capabilities import Capabilities
from model.configuration import Configuration, Format, Image
from model.machine import Impossible, Machine
from model.operations import (
    AddCopyOnRead,
    AddFilter,
    AddOverlay,
    AddSnapshot,
    Export,
    Operation,
    Read,
    RemoveNode,
    Status,
    Unexport,
    Via,
    Write,
    Zero,
)
from tests.unit.fleecing import CLUSTER

_FINE = CLUSTER // 32
_SPACES = (0, 2 * CLUSTER - _FINE)
_READ = (_FINE, 2 * CLUSTER - 2 * _FINE)


def _with_space(*rest: Operation, capabilities: Capabilities | None = None,
                filled: tuple[tuple[int, int], ...] = ((0, 2 * CLUSTER),)) -> Machine:
    """A disk and an overlay of its snapshot, both with subclusters, and space in two clusters,
    which may lie side by side in the file or not."""
    machine = Machine(Configuration((
        Image("base", 2 * CLUSTER, filled=filled),
        Image("src", 2 * CLUSTER, Format.QCOW2, subclusters=True, backing="base"),
        Image("tmp", 2 * CLUSTER),
        Image("over", 2 * CLUSTER, Format.QCOW2, subclusters=True))), capabilities)
    for number, operation in enumerate((
            Export("src"), *(Write("src", place, _FINE) for place in _SPACES), Unexport("src"),
            AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), RemoveNode("over"),
            AddOverlay("over", "snap"), Export("over"),
            *(Write("over", place, _FINE) for place in _SPACES), *rest), start=1):
        machine.apply(number, operation)
    return machine


@pytest.mark.parametrize("filled", [((0, CLUSTER),), ((CLUSTER, CLUSTER),)])
def test_what_may_be_kept_apart_is_undecided_if_a_part_is_zero(
        filled: tuple[tuple[int, int], ...]) -> None:
    copier = (AddCopyOnRead("cor", "cbw"), Export("cor"))
    with pytest.raises(Impossible, match="whether zeroes are kept"):
        _with_space(*copier, Read("cor", *_READ, Via.NBD_DF), filled=filled)
    _with_space(*copier, Read("cor", *_READ, Via.NBD_DF))
    _with_space(*copier, Read("cor", _FINE, CLUSTER - _FINE, Via.NBD_DF), filled=filled)


def test_what_may_be_read_apart_is_undecided_where_that_shows() -> None:
    """On a build that is mistaken about where what is done ends."""
    old = Capabilities(snapshot_reads_source_before_done_run_ends=True)
    changed = (Export("cbw"), Write("cbw", 0, CLUSTER))
    for change in (Read("over", *_READ, Via.NBD_DF),
                   Write("over", CLUSTER - _FINE - 512, 2 * _FINE + 1024)):
        with pytest.raises(Impossible, match="at once"):
            _with_space(*changed, change, capabilities=old)
        _with_space(change, capabilities=old)
        _with_space(*changed, change)


def test_what_may_be_told_apart_is_undecided_where_that_shows() -> None:
    old = Capabilities(snapshot_reads_source_before_done_run_ends=True)
    changed = (Export("cbw"), Zero("cbw", 0, CLUSTER))
    look = Status("over", *_READ)
    with pytest.raises(Impossible, match="told at once"):
        _with_space(*changed, look, capabilities=old)
    _with_space(look, capabilities=old)
    _with_space(*changed, look)


def test_how_much_is_filled_of_cells_smaller_than_blocks_is_undecided() -> None:
    images = Configuration((
        Image("base", CLUSTER),
        Image("src", CLUSTER, Format.QCOW2, cluster_size=512, request_alignment=4096,
              backing="base")))
    machine = Machine(images)
    machine.apply(1, Export("src"))
    with pytest.raises(Impossible, match="smaller than the blocks"):
        machine.apply(2, Write("src", 512, 512))
