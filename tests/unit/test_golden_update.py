# SPDX-License-Identifier: GPL-2.0-or-later
"""``golden update`` and its kin, as the command line does them, on a QEMU that is the model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cli import golden as command
from harness.cli.main import main
from harness.golden.store import Store
from tests.unit.test_golden_session import root  # noqa: F401

LIE = "count-off"
WITHOUT = re.compile(r'    \{"busy": false, "count": 65536.*\n', re.MULTILINE)


@pytest.fixture
def store(root: Path, monkeypatch: pytest.MonkeyPatch) -> Store:  # noqa: F811
    """A project whose golden outputs were written, and then lost a bitmap."""
    monkeypatch.setattr(command, "ROOT", root)
    assert main(["golden", "update", "--yes"]) == 0
    store = Store(root / "golden")
    assert store.names() == ["101-write", "102-bitmap"]
    text = store.read("101-write") or ""
    assert WITHOUT.search(text)
    store.write("101-write", WITHOUT.sub("", text))
    return store


def answer(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    answers = iter(words)
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))


def test_what_changes_is_told_in_words_and_written(
        store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "update", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "changed: 101-write\n    node cbw shows one more bitmap\n--- 101-write.out\n" in shown
    assert "1 golden output would be written; what changes:\n" in shown
    assert "accepted: 101-write" in shown
    assert store.pending() == []
    assert main(["golden", "check"]) == 0
    assert main(["golden", "update"]) == 0, "nothing to ask"


@pytest.mark.parametrize(("words", "code", "waits"), [
    (["what", "n"], 1, ["101-write"]), (["y"], 0, []), (["r", "a"], 0, []),
    (["r", "r"], 0, []), (["r", "s"], 1, ["101-write"])])
def test_the_user_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch, words: list[str],
                           code: int, waits: list[str]) -> None:
    before = store.read("101-write")
    answer(monkeypatch, *words)
    assert main(["golden", "update"]) == code
    assert store.pending() == waits
    assert (store.read("101-write") != before) == (words in (["y"], ["r", "a"]))


def test_nobody_is_there_to_answer(store: Store, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert main(["golden", "update"]) == 2
    assert "--yes writes it without asking" in capsys.readouterr().err
    assert store.pending() == ["101-write"]


def test_nothing_is_written_where_model_and_qemu_differ(
        store: Store, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TEST_LIE", LIE)
    before = store.read("101-write")
    assert main(["golden", "update", "--yes"]) == 1
    assert "golden update --trust qemu writes it all the same" in capsys.readouterr().out
    assert (store.read("101-write"), store.pending()) == (before, [])


def test_who_trusts_qemu_is_told_what_the_model_lacks(
        store: Store, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TEST_LIE", LIE)
    assert main(["golden", "update", "--yes", "--trust", "qemu"]) == 1
    shown = capsys.readouterr().out
    assert "the model lacks what QEMU does here:\n    " in shown
    assert "accepted: 101-write" in shown
    assert "***" not in (store.read("101-write") or "")
    assert main(["golden", "check", "101"]) == 1
    assert "the model is wrong or lacks a capability" in capsys.readouterr().out


def test_a_qemu_that_dies_is_not_trusted(store: Store, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TEST_LIE", "crash")
    before = store.read("101-write")
    assert main(["golden", "update", "--yes", "--trust", "qemu"]) == 1
    assert "QEMU did not come to the end of the scenario" in capsys.readouterr().out
    assert (store.read("101-write"), store.pending()) == (before, [])


def test_under_ci_it_says_why_nothing_is_written(
        store: Store, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CI", "true")
    before = store.read("101-write")
    assert main(["golden", "update", "--yes"]) == 1
    said = capsys.readouterr()
    assert said.err == "nothing is written: CI is set\n"
    assert said.out.count("--- 101-write.out") == 1, "no difference is shown twice"
    assert (store.read("101-write"), store.pending()) == (before, [])


def test_a_variant_that_nobody_could_confirm_still_waits(
        store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    other = "101-write@no-copy-bitmap-on-filter"
    assert main(["golden", "update", "--yes"]) == 0
    store.write(other, "something else\n")
    capsys.readouterr()
    assert main(["golden", "update", "--yes"]) == 1
    said = capsys.readouterr()
    assert f"still waits, as no QEMU of its kind was asked: {other}\n" in said.out
    assert said.err == "nothing is written\n"
    assert store.pending() == [other]


def test_logs_of_one_qemu_are_compared_with_those_of_another(
        store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs"
    main(["golden", "check", "--save-logs", str(logs)])
    assert Store(logs).names() == ["101-write", "102-bitmap"]
    assert main(["golden", "diff", "--against", str(logs)]) == 0
    (logs / "102-bitmap.out").unlink()
    monkeypatch.setenv("TEST_FLIPPED", "copy_bitmap_on_filter")
    capsys.readouterr()
    assert main(["golden", "diff", "--against", str(logs)]) == 1
    shown = capsys.readouterr().out
    assert "    node cbw shows one bitmap less\n    node src shows one more bitmap\n" in shown
    assert f"102-bitmap: there is no such log in {logs}" in shown
    *_, summary = shown.partition("= golden outputs =")
    assert summary.splitlines()[1:-1] == [
        f"0 logs of QEMU 0.0 are as in {logs}", "differs: 101-write", "not there: 102-bitmap",
        "in all, QEMU 0.0 differs by this:", "    node cbw shows one bitmap less",
        "    node src shows one more bitmap"]
