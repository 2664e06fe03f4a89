# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers at the limits of 32 and 64 bits, and names: refused in QEMU's words, or not at all."""

from __future__ import annotations

import pytest

from model import arguments
from model.configuration import KIB, Configuration, Fault, Image, RequestKind
from model.errors import CommandRefused, Errno
from model.machine import Impossible, Machine
from model.operations import (
    AddFilter,
    AddSnapshot,
    Export,
    Inspect,
    Read,
    RemoveNode,
    Via,
    Write,
    Zero,
)


@pytest.mark.parametrize(("check", "largest", "smallest"), [
    (arguments.check_int64, (1 << 63) - 1, -1 << 63),
    (arguments.check_uint64, (1 << 64) - 1, -1 << 63),
    (arguments.check_uint32, (1 << 32) - 1, 0)])
def test_numbers_are_checked_at_their_limits(check, largest, smallest):
    for fits in (None, largest, smallest, 0):
        check("n", fits)
    for wrong in (largest + 1, smallest - 1, 1 << 64, -1 << 64):
        with pytest.raises(CommandRefused, match="'n'"):
            check("n", wrong)


def test_the_way_to_a_number_is_told_unless_it_is_narrowed():
    for number, told in ((1 << 64, "'a.n' expects uint64"), (1 << 32, "'n' expects uint32_t")):
        with pytest.raises(CommandRefused, match=told):
            arguments.check_uint32("n", number, "a.")


def test_what_an_image_is_made_of_has_names_that_are_taken_and_nothing_is_said_of_it():
    fault = Fault(RequestKind.READ, 0)
    machine = Machine(Configuration((
        Image("src", 64 * KIB, faults=(fault,)), Image("tmp", 64 * KIB))))
    for name in ("src-file", "src-format", "tmp-file"):
        outcome = machine.apply(1, AddSnapshot(name, "src"))
        assert outcome.refused is not None
        assert outcome.refused.desc == f"Duplicate nodes with node-name='{name}'"
        for operation in (Export(name), RemoveNode(name), Inspect(name),
                          AddFilter("cbw", "src", name)):
            with pytest.raises(Impossible, match="part of an image"):
                machine.apply(2, operation)
    assert machine.apply(3, AddSnapshot("tmp-format", "src")).refused is None


@pytest.mark.parametrize("change", [Write("src", 4 * KIB + 512, 512), Zero("src", 0, 5 * KIB)])
def test_what_is_beside_a_change_is_read_first_and_nothing_is_said_if_that_fails(
        change: Write | Zero) -> None:
    fault = Fault(RequestKind.READ, 7 * KIB, once=True)
    machine = Machine(Configuration((
        Image("src", 64 * KIB, faults=(fault,), request_alignment=4 * KIB),)))
    machine.apply(1, Export("src"))
    with pytest.raises(Impossible, match="beside what cannot be read"):
        machine.apply(2, change)
    assert machine.apply(3, Read("src", 7 * KIB, 512, Via.NBD_DF)).error is Errno.EIO
    assert machine.apply(4, change).error is None
