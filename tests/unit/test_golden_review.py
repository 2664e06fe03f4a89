# SPDX-License-Identifier: GPL-2.0-or-later
"""What waits for review, and how it is settled."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.golden.review import Choice, Pending, chosen, pending, review, settle_all
from harness.golden.store import Change, Store

OLD = "".join(f"line {n}\n" for n in range(20))
VARIANT = "of another QEMU\n" + OLD
NEW = OLD.replace("line 10\n", "line ten\n")
NEW_VARIANT = VARIANT.replace("line 10\n", "line ten\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One change in two variants, another change, and a new output."""
    store = Store(tmp_path)
    for name, old, new in (("101-a", OLD, NEW), ("101-a@no-x", VARIANT, NEW_VARIANT),
                           ("102-b.raw", OLD, OLD + "more\n")):
        store.write(name, old)
        store.write_pending(name, new)
    store.write_pending("103-c", "all new\n")
    return store


def test_one_change_is_shown_once(store: Store) -> None:
    waiting = pending(store)
    assert [each.names for each in waiting] == [
        ("101-a", "101-a@no-x"), ("102-b.raw",), ("103-c",)]
    assert [each.change for each in waiting] == [Change.CHANGED, Change.CHANGED, Change.CREATED]
    assert "--- 101-a.out\n+++ 101-a.out.new\n" in waiting[0].difference
    assert "-line 10\n+line ten\n" in waiting[0].difference


def test_what_has_been_settled_otherwise_waits_no_more(store: Store) -> None:
    store.write_pending("102-b.raw", OLD)
    assert ("102-b.raw",) not in [each.names for each in pending(store)]
    assert "102-b.raw" not in store.pending()


@pytest.mark.parametrize(("only", "names"), [
    (["101"], {"101-a", "101-a@no-x"}),
    (["101-a@no-x"], {"101-a@no-x"}),
    (["102-b", "103-c"], {"102-b.raw", "103-c"}),
    (["*c"], {"103-c"}),
    (["nothing"], set()),
])
def test_choosing(store: Store, only: list[str], names: set[str]) -> None:
    assert {name for name in store.pending() if chosen(name, only)} == names


def test_reviewing_one_by_one(store: Store) -> None:
    answers = iter([Choice.ACCEPT, Choice.REJECT, Choice.SKIP])
    result = review(store, lambda _: next(answers))
    assert result.accepted == ("101-a", "101-a@no-x")
    assert result.rejected == ("102-b.raw",)
    assert result.skipped == ("103-c",)
    assert store.read("101-a@no-x") == NEW_VARIANT
    assert store.read("102-b.raw") == OLD
    assert store.pending() == ["103-c"]


def test_a_capital_letter_is_for_all_that_follow(store: Store) -> None:
    asked: list[Pending] = []

    def ask(each: Pending) -> Choice:
        asked.append(each)
        return Choice.REJECT if len(asked) == 1 else Choice.ACCEPT_ALL

    result = review(store, ask)
    assert len(asked) == 2
    assert result.accepted == ("102-b.raw", "103-c")
    assert store.read("103-c") == "all new\n"


def test_in_bulk(store: Store) -> None:
    assert settle_all(store, Choice.ACCEPT, ["101"]).accepted == ("101-a", "101-a@no-x")
    assert settle_all(store, Choice.REJECT).rejected == ("102-b.raw", "103-c")
    assert store.pending() == []
    assert store.read("103-c") is None
