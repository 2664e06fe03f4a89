# SPDX-License-Identifier: GPL-2.0-or-later
"""What the difference of two logs means, in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.golden import session
from harness.golden.between import UnknownVariant, between
from harness.golden.meaning import meaning, says_all, sentences
from harness.golden.scenario import Scenario
from harness.golden.store import Store
from model.capabilities import Capabilities
from tests.unit.golden_lab import SimulatedHost, everything

LOG = """\
# What it is about.

=== The guest writes ===

{"execute": "block-dirty-bitmap-add", "arguments": {"name": "dirty", "node": "src"}}
{"return": {}}
qemu-io -c "write -P 1 128k 64k" nbd:///src
wrote 65536/65536 bytes at offset 131072
{
  "cbw": [
    {"busy": false, "count": 0, "granularity": 65536, "persistent": false, "recording": false}
  ],
  "src": [
    {"busy": false, "count": 65536, "granularity": 65536, "name": "dirty", "recording": true}
  ]
}
{"execute": "job-cancel", "arguments": {"id": "job"}}
{"return": {}}
{"data": {"device": "job", "len": 5}, "event": "BLOCK_JOB_CANCELLED", "timestamp": {}}
{"execute": "query-jobs", "arguments": {}}
{
  "return": [
    {"current-progress": 5, "id": "job", "status": "concluded"}
  ]
}
content of tmp:
    0x0..0x20000 zeroes
"""


@pytest.mark.parametrize(("old", "new", "said"), [
    ("What it", "Who it", "instead of: # What it is about., there is: # Who it is about."),
    ('"cbw": [\n', '"cbw": [\n    {"busy": false, "count": 1, "granularity": 65536},\n',
     "node cbw shows one more bitmap"),
    ('"count": 65536', '"count": 0', "node src shows bitmap dirty with count 0, not 65536"),
    ('"count": 0', '"count": 1', "node cbw shows a bitmap without name with count 1, not 0"),
    ('"name": "dirty", "node"', '"disabled": true, "name": "dirty", "node"',
     "block-dirty-bitmap-add is sent with disabled"),
    ('{"return": {}}\nqemu', '{"error": {"desc": "no"}}\nqemu',
     "block-dirty-bitmap-add is refused (no), where it is accepted"),
    ("wrote 65536/65536 bytes at offset 131072", "write failed: Permission denied",
     "write of src says: write failed: Permission denied, not: wrote 65536/65536 bytes at offset "
     "131072"),
    ('"len": 5', '"len": 6', "event BLOCK_JOB_CANCELLED comes with len 6, not 5"),
    ("BLOCK_JOB_CANCELLED", "BLOCK_JOB_COMPLETED", "event BLOCK_JOB_COMPLETED comes, and did not"),
    ('"concluded"', '"null"', "job job is shown with status null, not concluded"),
    ("0x20000 zeroes", "0x20000 -P 1", "the content of tmp is other data"),
    ("content of tmp:\n    0x0..0x20000 zeroes\n", "", "a step is gone: content of tmp"),
    ("===\n\n", "===\n\n\n", "the wording differs"),
])
def test_each_change_has_its_sentence(old: str, new: str, said: str) -> None:
    assert old in LOG
    assert said in meaning(LOG, LOG.replace(old, new, 1))


def test_equal_logs_differ_in_nothing() -> None:
    assert not meaning(LOG, LOG)
    assert not says_all(meaning(LOG, LOG))


def test_what_words_leave_open_is_not_said_to_be_the_same() -> None:
    assert says_all(meaning(LOG, LOG.replace('"len": 5', '"len": 6')))
    assert not says_all(meaning(LOG, LOG.replace("0x20000 zeroes", "0x20000 -P 1")))


def text(capabilities: Capabilities) -> str:
    scenario = Scenario(SimulatedHost(capabilities))
    everything(scenario)
    return scenario.witnesses(None).model


def test_the_marks_of_a_build_are_told_and_counted() -> None:
    today, before = text(Capabilities()), text(Capabilities(copy_bitmap_on_filter=False))
    assert sentences(meaning(before, today)) == [
        "node cbw shows one more bitmap", "node src shows one bitmap less"]
    assert sentences(meaning(before * 3, today * 3))[0] == (
        "node cbw shows one more bitmap, in 3 places")


def test_between_two_kinds_of_builds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for test in ("101-a", "102-b"):
        store.write(test, text(Capabilities()))
    store.write("101-a@no-copy-bitmap-on-filter", text(Capabilities(copy_bitmap_on_filter=False)))
    assert list(between(store, "no-copy-bitmap-on-filter", "today", without_snapshots=())) == [
        "101-a: from no-copy-bitmap-on-filter to today",
        "    node cbw shows one more bitmap", "    node src shows one bitmap less",
        "in all, from no-copy-bitmap-on-filter to today:",
        "    node cbw shows one more bitmap", "    node src shows one bitmap less"]
    assert list(between(store, "no-copy-bitmap-on-filter", "today", only=["102"],
                        without_snapshots=()))[-1] == "    nothing differs"


def test_a_mark_that_no_golden_output_has(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("101-a@no-x+no-y", "")
    with pytest.raises(UnknownVariant, match="mark 'no-z'; there are: today, no-x, no-y"):
        list(between(store, "today", "no-x+no-z", without_snapshots=()))


def test_what_other_marks_mean_is_told_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("101-a", LOG)
    store.write("101-a@no-disabled+no-snapshot-access", LOG.replace('"count": 0', '"count": 1')
                .replace('"name": "dirty", "node"', '"disabled": true, "name": "dirty", "node"'))
    store.write("102-b", LOG)
    store.write("102-b@no-copy", LOG.replace('"count": 0', '"count": 1'))
    assert list(between(store, "no-snapshot-access", "no-copy", without_snapshots=["101-a"])) == [
        "101-a: from no-disabled+no-snapshot-access to today",
        "    node cbw shows a bitmap without name with count 0, not 1",
        "    by no-disabled, in which they differ too:",
        "        block-dirty-bitmap-add is sent without disabled",
        "in all, from no-snapshot-access to no-copy:",
        "    node cbw shows a bitmap without name with count 0, not 1",
        "by no-disabled, in which they differ too:",
        "    block-dirty-bitmap-add is sent without disabled",
        "left out: 1 test, which builds without snapshot-access do not run"]


def test_the_commit_that_brought_snapshots_is_told_by_the_variants() -> None:
    """Commit af5bcd775f31: two more bitmaps now live in the copy-before-write filter.  All golden
    outputs together say that, and nothing else but that later builds know x-perf."""
    store = Store(Path(__file__).parents[2] / "golden")
    told = list(between(store, "no-snapshot-access", "no-copy-bitmap-on-filter",
                        without_snapshots=session.collected().without_snapshots))
    *said, other, apart, left = told[told.index(
        "in all, from no-snapshot-access to no-copy-bitmap-on-filter:") + 1:]
    assert said
    for each in said:
        assert re.fullmatch(r"    node \S+ shows two more bitmaps, in \d+ places", each)
    assert other == "by no-x-perf, in which they differ too:"
    assert apart.startswith("    blockdev-backup is sent with x-perf, in ")
    assert left.endswith(" tests, which builds without snapshot-access do not run")
