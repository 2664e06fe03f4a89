# SPDX-License-Identifier: GPL-2.0-or-later
"""The data file of known defects: what it has, and what it may not have."""

from __future__ import annotations

import inspect

import pytest

from harness.exploration import load
from harness.systems.known_defects import FILE, KNOWN, mended, read, recognised
from model import concurrent_machine, defects, transactions
from model.capabilities import Capabilities

ENTRY = """
[{name}]
text = "it kills"
effect = "abort"
trigger = "always"
shows = "is_well"
reference = "nowhere"
{more}
"""


def entry(name: str = "short-target-aborts", more: str = "") -> str:
    return ENTRY.format(name=name, more=more)


def test_an_entry() -> None:
    (defect,) = read(entry(more='needs = "min-cluster-size"\nraces = true')).values()
    assert defect.name == "short_target_aborts"
    assert defect.needs == "min_cluster_size"
    assert defect.races
    assert defect.deadly
    assert not defect.mended


@pytest.mark.parametrize(("text", "problem"), [
    (entry("moon-is-full"), "moon-is-full: the model knows no such deviation"),
    (entry("min-cluster-size"), "min-cluster-size: the model knows no such deviation"),
    (entry(more='needs = "moon"'), "no feature is called 'moon'"),
    (entry(more='brings = "moon"'), "no feature is called 'moon'"),
    (entry(more='mended = "9.1"'), "'mended' and 'settled-by' go together"),
    (entry(more='colour = "red"'), "no field is called 'colour'"),
    (entry(more="capability = false"), "the model has a capability for it"),
    (entry(more="races = 1"), "races is missing or not a bool"),
    (entry().replace('text = "it kills"', ""), "text is missing"),
    (entry().replace("abort", "headache", 3), "headache"),
    (entry().replace('effect = "abort"', 'effect = "hang"'), "'shows' is for aborts"),
    (entry().replace('shows = "is_well"', ""), "'shows' is for aborts"),
    (entry() + entry(), "Cannot declare"),
])
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(text)


def test_what_a_build_could_do_without_its_defects() -> None:
    has = Capabilities(unaligned_snapshot_discard_aborts=True, empty_merge_crashes=True,
                       snapshot_discard_rounds_inwards=False, min_cluster_size=False)
    assert mended(has, ["unaligned_snapshot_discard_aborts"]) == Capabilities(
        empty_merge_crashes=True, min_cluster_size=False)
    assert mended(has, []) == has


def test_the_file_has_one_line_for_each_text() -> None:
    text = FILE.read_text(encoding="utf-8")
    everything = read(text)
    assert {name: each for name, each in everything.items() if each.capability} == KNOWN
    for each in everything.values():
        assert "\n" not in each.text + each.trigger + each.reference


def test_each_that_is_deadly_is_stepped_around() -> None:
    """By a trigger in the model or, of what no operation of the model does, by the load."""
    source = "".join(map(inspect.getsource, (defects, transactions, concurrent_machine)))
    for each in KNOWN.values():
        if each.deadly:
            assert f'"{each.name}"' in source or (
                f"capabilities.{each.name}" in inspect.getsource(load)), each.name


def test_an_assertion_is_recognised_and_a_signal_is_not() -> None:
    (found,) = recognised("block.c:1: f: Assertion `old_bs != new_bs' failed.")
    assert found.name == "attaching_again_aborts"
    (found,) = recognised("block/io.c:64: bdrv_parent_drained_end_single_no_poll: Assertion "
                          "`c->parent_quiesce_counter > 0' failed.")
    assert found.name == "reopening_back_aborts"
    (found,) = recognised("block/blkdebug.c:732: blkdebug_co_pdiscard: Assertion "
                          "`QEMU_IS_ALIGNED(offset, bs->bl.request_alignment)' failed.")
    assert found.name == "blkdebug_unaligned_discard_aborts"
    assert recognised("SIGSEGV") == []
    assert recognised("block.c:1: f: Assertion `all is well' failed.") == []
