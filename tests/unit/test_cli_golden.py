# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m harness golden``."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import golden as command
from harness.cli.golden import ask
from harness.cli.main import main
from harness.cli.parser import UsageError, parse
from harness.errors import EnvironmentProblem
from harness.golden.review import Choice, Pending
from harness.golden.store import Change, Store

CHANGE = Pending(("101-a", "101-a@no-x"), Change.CHANGED, "--- a\n+++ b\n-old\n+new\n")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A project's golden outputs, two of which wait for review."""
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "tests/iotests").mkdir(parents=True)
    store = Store(tmp_path / "golden")
    store.write("101-a", "old\n")
    store.write_pending("101-a", "new\n")
    store.write_pending("102-b", "other\n")
    return store


def test_accepting_and_rejecting_in_bulk(store: Store,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "accept", "101"]) == 0
    assert main(["golden", "reject"]) == 0
    assert capsys.readouterr().out == "accepted: 101-a\nrejected: 102-b\n"
    assert store.read("101-a") == "new\n"
    assert store.names() == ["101-a"]
    assert store.pending() == []
    assert main(["golden", "accept"]) == 0
    assert capsys.readouterr().err == "nothing waits for review\n"


def test_reviewing(store: Store, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["?", "a", "s"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert main(["golden", "review"]) == 1, "something still waits"
    shown = capsys.readouterr().out
    assert "changed: 101-a\n    instead of: old, there is: new\n--- 101-a.out\n" in shown
    assert shown.endswith("accepted: 101-a\nstill waits: 102-b\n")


@pytest.mark.parametrize(("words", "said"), [
    (["check", "--yes"], "--yes has no meaning for golden check, only for update"),
    (["check", "--trust", "qemu"], "--trust has no meaning for golden check"),
    (["check", "--variants", "today", "today"], "--variants has no meaning for golden check"),
    (["update", "--against", "logs"], "--against has no meaning for golden update, only for "
                                      "check, diff"),
    (["update", "--save-logs", "logs"], "--save-logs has no meaning for golden update"),
    (["accept", "--qemu-build", "here"], "--qemu-build has no meaning for golden accept"),
    (["review", "--json", "out.json"], "--json has no meaning for golden review"),
    (["diff", "--variants", "today", "today", "--code-quality", "out.json"],
     "--code-quality has no meaning with --variants"),
    (["prune", "101"], "golden prune takes no names"),
    (["diff", "--against", "/nonexist"], "there are no logs in /nonexist: "),
    (["check", "--save-logs", "/dev/null"], "cannot write to /dev/null: it is not a folder; "
                                            "--save-logs chooses another place"),
])
def test_what_has_no_meaning_is_refused(words: list[str], said: str, store: Store,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"harness: {said}")
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert store.pending() == ["101-a", "102-b"]


@pytest.mark.parametrize(("words", "said"), [
    (["diff", "nosuch", "--variants", "today", "today"], "no golden output has the name 'nosuch'"),
    (["accept", "nosuch"], "no golden output has the name 'nosuch'"),
    (["reject", "101", "nosuch"], "no golden output has the name 'nosuch'"),
    (["review", "nosuch"], "no golden output has the name 'nosuch'"),
])
def test_a_golden_output_that_is_none(words: list[str], said: str, store: Store,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", *words]) == 2
    assert capsys.readouterr().err.startswith(f"harness: {said}")
    assert store.pending() == ["101-a", "102-b"]


def test_nobody_there_to_answer(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(prompt: str) -> str:
        raise EOFError

    with pytest.raises(EnvironmentProblem, match="nobody is there to answer"):
        ask(CHANGE, nobody)
    assert ask(CHANGE, lambda prompt: "R") is Choice.REJECT_ALL
    assert "changed: 101-a (2 variants)\n" in capsys.readouterr().out


def test_without_scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    assert main(["golden", "check"]) == 2
    assert "golden outputs need a source checkout" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ["update", "101", "102", "--qemu-build", "here"],
    ["update", "--qemu-build", "here", "101", "102"],
    ["update", "101", "--qemu-build", "here", "102"],
])
def test_tests_before_and_after_options(words: list[str]) -> None:
    options = parse(["golden", *words])
    assert (options.action, options.tests, options.qemu_build) == (
        "update", ["101", "102"], ["here"])


@pytest.mark.parametrize("words", [
    ["golden", "renew"], ["golden"], ["golden", "check", "--often"],
    ["verify", "--seconds", "1", "more"]])
def test_what_is_not_understood(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)
