# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step grain when QEMU ends and starts again, with requests under way."""

from __future__ import annotations

import pytest

from model.machine import Impossible
from model.operations import Export, Kill, Restart, Status, Write, Zero
from model.outcome import Allocation
from model.schedule import Back, Cut, Gone, Start
from tests.unit.fleecing import CLUSTER
from tests.unit.held_lab import SIZE, Held, Telling, extents, guest_write, write


@pytest.mark.parametrize("landed", [False, True])
def test_what_is_pending_when_qemu_is_killed_has_taken_effect_or_not(landed: bool) -> None:
    held = Held()
    cut_off, done = held.do(write(0, CLUSTER)), held.do(write(1, CLUSTER))
    for _ in range(4):
        held.complete(-1)
    assert held.pending() == [("tmp", "write", 0)]
    held.do(Kill(landed=landed))
    stored = held.machine.stored()
    assert [stored["src"].at(place * CLUSTER) for place in (0, 1)] == [-1, done]
    assert stored["tmp"].at(0) == (-1 if landed else 0)
    assert not held.machine.busy
    assert set(held.machine.nodes) == {"src", "tmp"}
    assert done in held.answers
    assert cut_off not in held.answers


def test_changes_of_one_place_do_not_land_together() -> None:
    held = Held(Export("src"))
    for _ in range(2):
        held.do(guest_write(0))
    with pytest.raises(Impossible, match="changes of one place"):
        held.do(Kill(landed=True))
    assert len(held.pending()) == 2
    held.do(Kill())
    assert held.pending() == []


def test_a_killed_qemu_does_not_wait_for_a_server_that_is_gone() -> None:
    held = Held()
    held.do(Gone("tmp"))
    with pytest.raises(Impossible, match="with nothing pending"):
        held.do(Cut("tmp"))
    held.do(Kill())
    assert held.machine.away == []
    with pytest.raises(Impossible, match="is not gone"):
        held.do(Back("tmp"))


def test_qemu_starts_anew_over_storage_that_is_held() -> None:
    held = Held()
    held.do(write(0))
    with pytest.raises(Impossible, match="while requests are under way"):
        held.do(Restart())
    for _ in range(3):
        held.complete()
    held.do(Restart())
    assert held.machine.stored()["src"].at(0) == 5


def test_the_next_qemu_asks_storage_that_remembers_what_was_written() -> None:
    held = Telling(Export("src"))
    held.do(Start(Zero("src", 0, CLUSTER, unmap=True)))
    held.complete()
    held.do(Start(Write("src", 2 * CLUSTER, CLUSTER)))
    held.do(Kill(landed=True))
    held.do(Export("src"))
    asker = held.do(Start(Status("src", 0, SIZE)))
    while held.machine.pending():
        held.complete()
    assert held.answers[asker].extents == extents(
        (1, Allocation.HOLE | Allocation.ZERO), (3, Allocation.DATA))
