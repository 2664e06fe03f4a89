# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on three texts, and the differences that explain it."""

from __future__ import annotations

import random
import time

import pytest

from harness.golden.differences import difference, first_difference
from harness.golden.mode import Action, mode
from harness.golden.verdict import Verdict, Witnesses

A, B, X = "a\n", "b\n", "x\n"


@pytest.mark.parametrize(("golden", "model", "qemu", "verdict"), [
    (A, A, A, Verdict.PASS),
    (A, A, B, Verdict.QEMU_DEVIATES),
    (B, A, A, Verdict.GOLDEN_STALE),
    (A, B, A, Verdict.MODEL_WRONG),
    (A, B, X, Verdict.NO_TWO_AGREE),
    (A, A, None, Verdict.PASS_UNCONFIRMED),
    (A, B, None, Verdict.UNCONFIRMED),
    (None, A, A, Verdict.MISSING),
    (None, A, B, Verdict.MISSING_DIVERGES),
    (None, A, None, Verdict.MISSING_UNCONFIRMED),
])
def test_every_row_of_the_table(golden: str | None, model: str, qemu: str | None,
                                verdict: Verdict) -> None:
    witnesses = Witnesses(golden, model, qemu)
    assert witnesses.verdict() is verdict
    assert verdict.passes == (golden == model and qemu in (None, model))
    assert verdict.diverges == (qemu is not None and qemu != model)
    assert verdict.confirmed == (qemu == model)
    assert bool(witnesses.explain("t.out")) == (not verdict.passes)


def test_who_stands_against_whom() -> None:
    assert Witnesses(A, A, B).explain("t.out") == (
        "--- t.out, model\n+++ QEMU\n@@ -1,1 +1,1 @@\n-a\n+b\n")
    assert "--- t.out, QEMU\n+++ model\n" in Witnesses(A, B, A).explain("t.out")
    assert "--- t.out\n+++ model, QEMU\n" in Witnesses(B, A, A).explain("t.out")
    three = Witnesses(A, B, X).explain("t.out")
    assert "--- model\n+++ QEMU\n" in three
    assert "--- t.out\n+++ model\n" in three


def text(*lines: str) -> str:
    return "".join(line + "\n" for line in lines)


def test_a_difference_names_its_section_and_has_context() -> None:
    before = text("=== One ===", "", "1", "2", "3", "4", "5", "=== Two ===", "6")
    after = text("=== One ===", "", "1", "2", "3", "4", "five", "=== Two ===", "6")
    assert difference(before, after, ("x", "y")) == text(
        "--- x", "+++ y", "@@ -4,6 +4,6 @@ One", " 2", " 3", " 4", "-5", "+five",
        " === Two ===", " 6")


@pytest.mark.parametrize(("before", "after", "hunk"), [
    ("", "1\n", ["@@ -1,0 +1,1 @@", "+1"]),
    ("1\n", "", ["@@ -1,1 +1,0 @@", "-1"]),
    ("1\n2\n", "1\n", ["@@ -1,2 +1,1 @@", " 1", "-2"]),
    ("2\n", "1\n2\n", ["@@ -1,1 +1,2 @@", "+1", " 2"]),
])
def test_ends(before: str, after: str, hunk: list[str]) -> None:
    assert difference(before, after, ("x", "y")) == text("--- x", "+++ y", *hunk)


def test_equal_texts_have_no_difference() -> None:
    assert difference("1\n2\n", "1\n2\n", ("x", "y")) == ""
    assert first_difference(["1"], ["1"]) is None
    assert first_difference(["1"], ["1", "2"]) == 1


def test_the_first_difference_is_shown_even_if_it_is_over_the_limit() -> None:
    before = text(*map(str, range(100)))
    after = text(*(f"new {n}" for n in range(100)))
    shown = difference(before, after, ("x", "y"), limit=10).splitlines()
    assert shown[:4] == ["--- x", "+++ y", "@@ -1,100 +1,100 @@", "-0"]
    assert len(shown) == 13
    assert shown[-1] == "... 191 more lines of differences"


def applied(before: list[str], lines: list[str]) -> list[str]:
    """What becomes of ``before`` by a unified difference: the check that it says all."""
    after: list[str] = []
    at = 0
    for line in lines[2:]:
        if line.startswith("@@"):
            start = int(line.split()[1][1:].split(",")[0]) - 1
            after += before[at:start]
            at = start
        elif line.startswith("+"):
            after.append(line[1:])
        else:
            assert before[at] == line[1:]
            if line.startswith(" "):
                after.append(line[1:])
            at += 1
    return after + before[at:]


@pytest.mark.parametrize("seed", range(20))
def test_a_difference_says_all(seed: int) -> None:
    chance = random.Random(seed)
    before = ['{"return": {}}' if n % 2 else f"read {chance.randrange(20)}" for n in range(200)]
    after = list(before)
    for _ in range(chance.randrange(1, 30)):
        at = chance.randrange(len(after))
        if chance.random() < 0.5:
            del after[at]
        else:
            after.insert(at, f"new {chance.randrange(5)}")
    lines = difference(text(*before), text(*after), ("x", "y")).splitlines()
    assert applied(before, lines) == after


def test_long_logs_full_of_equal_lines_take_no_time() -> None:
    """difflib alone takes minutes for these."""
    chance = random.Random(1)
    before = ['{"return": {}}' if n % 2 else f"read {chance.randrange(300)}"
              for n in range(20_000)]
    after = list(before)
    for n in range(300):
        after.insert(chance.randrange(len(after)), f"new {n}")
        del after[chance.randrange(len(after))]
    began = time.process_time()
    lines = difference(text(*before), text(*after), ("x", "y")).splitlines()
    assert time.process_time() - began < 10
    assert applied(before, lines) == after
    assert sum(line[0] in "+-" for line in lines) < 1000


@pytest.mark.parametrize(("asked", "environment", "action", "read_only"), [
    (None, {}, Action.CHECK, False),
    ("diff", {}, Action.DIFF, True),
    ("update", {}, Action.UPDATE, False),
    (None, {"QEMU_TEST_REGENERATE": "1"}, Action.UPDATE, False),
    (None, {"QEMU_TEST_REGENERATE": "0"}, Action.CHECK, False),
    (None, {"QEMU_IOTESTS_REGEN": "1"}, Action.UPDATE, False),
    ("check", {"QEMU_IOTESTS_REGEN": "1"}, Action.CHECK, False),
    ("update", {"CI": "true"}, Action.CHECK, True),
    (None, {"CI": "1", "QEMU_TEST_REGENERATE": "1"}, Action.CHECK, True),
    ("update", {"CI": "false"}, Action.UPDATE, False),
    ("diff", {"CI": "true"}, Action.DIFF, True),
])
def test_modes(asked: str | None, environment: dict[str, str], action: Action,
               read_only: bool) -> None:
    found = mode(asked, environment)
    assert (found.action, found.read_only) == (action, read_only)
    assert bool(found.note) == ("CI" in environment and action is Action.CHECK and read_only)
