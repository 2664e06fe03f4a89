# SPDX-License-Identifier: GPL-2.0-or-later
"""Each block of the documents is run or compared by a test, or is named here with the reason why
it is not.

test_docs_console.py runs every command that is not named here; test_docs.py does every trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pytest

from tests.unit.docs_lab import ROOT, Block, blocks

WHOLE: Final = ""
"""In place of a command or a first line: all that is in the document."""
RUN_ELSEWHERE: Final[Mapping[tuple[str, str], str]] = MappingProxyType({
    ("README.md", "python -m harness verify --seed 1 --workers 2"):
        "test_docs_console.py::test_the_summary_of_a_minute",
    ("README.md", "Divergence at operation 9: complete: write tmp 0..64k"):
        "test_docs_console.py::test_the_divergence_of_the_readme",
    ("docs/golden.md", "python -m harness golden check 603 --qemu-build ~/qemu/build"):
        "test_docs_console.py::test_a_difference_of_golden_outputs",
    ("docs/iotests.md", WHOLE):
        "test_golden_plugin.py::test_the_worked_example_of_the_documents",
    ("docs/semantics.md", WHOLE): "test_docs.py::test_the_semantics_are_those_of_the_rules",
})
"""By document and command, or first line of a text: the test that runs or compares it."""
FINDINGS: Final = "test_findings.py::test_reproducers_show_their_defects"
TREE: Final = ("needs a QEMU tree and its build; test_reproducers_iotest.py runs such tests "
               "without")
OURS: Final = "is what runs these tests"
MACHINES: Final = "takes eight machines an hour"
NOT_RUN: Final[Mapping[tuple[str, str], str]] = MappingProxyType({
    ("README.md", "apt-get update && apt-get install -y --no-install-recommends tox "
     "python3-libnbd qemu-system-x86 qemu-utils && tox -e verify"):
        "needs root and a network; .ci/run does the same",
    ("README.md", "tox"): OURS,
    ("README.md", "tox -e verify -- --qemu-build ~/qemu/build --seconds 600"):
        "takes ten minutes; test_examples.py verifies a build tree in two seconds",
    ("README.md", "QEMU_BUILD=~/qemu/build tox"): OURS,
    ("README.md", "tox -e harness -- builds fetch debian:trixie-backports"):
        "needs a network; test_builds_fetch.py does it where there is one",
    ("README.md", "tox -e verify -- --qemu-build debian:trixie-backports"):
        "takes two minutes; .ci/run does it",
    ("docs/architecture.md", "            operations: what a guest, a backup client or a QMP "
     "client can do"): "is a drawing",
    ("docs/contributing.md", WHOLE): OURS,
    ("docs/exploration.md", "python -m harness verify --seed 7 --seconds 3600 --part 2/8 "
     "--corpus /shared/corpus --json part-2.json"): MACHINES,
    ("docs/exploration.md", "jq -s '{builds: .}' part-*.json > all.json && "
     "python -m harness report all.json"): MACHINES,
    ("docs/mutants.md", WHOLE):
        "takes a quarter of an hour; test_mutants.py judges mutants by a short recording",
    ("docs/reproducers.md", "cp 1-access.iotest ~/qemu/tests/qemu-iotests/tests/cbw-1"): TREE,
    ("docs/reproducers.md", "cp 1-access.iotest.out ~/qemu/tests/qemu-iotests/tests/cbw-1.out"):
        TREE,
    ("docs/reproducers.md", "cd ~/qemu/build/tests/qemu-iotests && ./check -raw cbw-1"): TREE,
    ("golden/README.md", WHOLE): "is what runs all golden tests; test_golden_plugin.py has two",
})
"""By document and command, or first line of a text: why nothing runs it."""
LISTED: Final = {*RUN_ELSEWHERE, *NOT_RUN}


def is_listed(block: Block, line: str) -> bool:
    """Whether a command, or a text that begins so, is named here; findings have their own test."""
    return block.document.startswith("docs/findings/") or not LISTED.isdisjoint(
        {(block.document, line), (block.document, WHOLE)})


def forgotten(block: Block) -> bool:
    """Whether nobody runs or compares the block, or says why not: as every command is run, and
    every trace, that is any other text that is not named."""
    first = block.body.split("\n", 1)[0]
    return block.kind not in ("console", "sh", "json") and not is_listed(block, first)


@pytest.mark.parametrize("block", list(blocks()), ids=lambda block: block.document)
def test_a_block_is_run_or_there_is_a_reason(block: Block) -> None:
    assert not forgotten(block)


@pytest.mark.parametrize("block", [
    Block("README.md", "text", "what came once\n"), Block("docs/golden.md", "", "$ ls\n"),
    Block("docs/ci.md", "yaml", "job:\n")])
def test_a_block_that_nobody_knows_is_seen(block: Block) -> None:
    assert forgotten(block)


def test_a_command_that_nobody_knows_is_run() -> None:
    block = Block("README.md", "console", "$ python -m harness rules\nnone\n")
    assert [(each.line, each.said) for each in block.commands()] == [
        ("python -m harness rules", "none\n")]
    assert not is_listed(block, "python -m harness rules")


def test_what_is_named_is_there() -> None:
    there = {(each.document, line) for each in blocks()
             for line in (WHOLE, each.body.split("\n", 1)[0],
                          *(command.line for command in each.commands()))}
    assert there >= LISTED


@pytest.mark.parametrize("test", [*RUN_ELSEWHERE.values(), FINDINGS])
def test_the_tests_that_are_named_are_there(test: str) -> None:
    file, name = test.split("::")
    assert f"\ndef {name}(" in (ROOT / "tests/unit" / file).read_text(encoding="utf-8")


def test_reasons_name_files_that_are_there() -> None:
    for reason in NOT_RUN.values():
        for name in re.findall(r"\w+\.py|\.ci/run", reason):
            assert (ROOT / name).exists() or (ROOT / "tests/unit" / name).exists(), name
