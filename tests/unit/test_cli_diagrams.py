# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures of rules: each is of its rule, and says what the model says."""

from __future__ import annotations

import pytest

from harness.cli import diagrams
from harness.cli.diagrams import diagram, fires
from harness.cli.drawing import table
from harness.cli.scenarios import SCENARIOS
from model.rules import RULES


@pytest.mark.parametrize("rule", SCENARIOS)
def test_what_is_shown_fires_the_rule(rule: str) -> None:
    assert fires(rule)
    lines = diagram(rule).splitlines()
    assert all(len(line) <= 99 for line in lines)
    assert sum(line.startswith("> ") for line in lines) == SCENARIOS[rule].shown


def test_a_picture_of_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"cbw.timeout": SCENARIOS["cbw.reads-pass"]}
    monkeypatch.setattr(diagrams, "SCENARIOS", other)
    assert not fires("cbw.timeout")


def test_every_rule_has_a_picture() -> None:
    assert SCENARIOS.keys() == RULES.keys()


def test_a_picture() -> None:
    assert diagram("cbw.copies-before-change").splitlines() == [
        "        access  done  copy  src   tmp",
        "before  ####    ....  ####  ssss  ----",
        "> write cbw 64k+512 64k of A",
        "after   ####    .##.  #..#  s**s  -ss-",
    ]


def test_a_picture_of_requests_under_way() -> None:
    assert diagram("block-copy.waits-for-others").splitlines()[2:] == [
        "write cbw 64k 512 waits for read src 64k..128k",
        "> start write cbw 64k+512 512 of B",
        "after   ####    ....  #.##  ssss  ----",
        "write cbw 64k 512 waits for read src 64k..128k",
        "write cbw 64k+512 512 waits for somebody else's copy to end",
    ]


def test_what_comes_later_or_goes_has_a_column_too() -> None:
    assert table([("a", {"x": "1"}), ("bb", {"y": "2", "x": "3"})]) == [
        "    y     x", "a   none  1", "bb  2     3"]
