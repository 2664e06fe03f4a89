# SPDX-License-Identifier: GPL-2.0-or-later
"""From what went wrong to an exit code."""

from __future__ import annotations

import io
import runpy
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.cli import main as command_line
from harness.cli import single
from harness.errors import EnvironmentProblem
from harness.processes import Exit
from harness.systems.failure import SystemCrashed


@pytest.mark.parametrize(("error", "code", "said"), [
    (EnvironmentProblem("no disk"), 2, "harness: no disk\n"),
    (SystemCrashed(Exit(None, "SIGABRT", "")), 1, "harness: DIVERGES: QEMU came to its end"),
    (KeyboardInterrupt(), 130, "harness: interrupted\n"),
    (ValueError("oops"), 2, "a defect of the harness itself"),
    (ModuleNotFoundError(name="harness.nothing"), 2, "a defect of the harness itself"),
    (ModuleNotFoundError(name="rich.console"), 2,
     "has no rich.console; tox brings it: tox -e harness -- replay x\n"),
])
def test_exit_codes(error: BaseException, code: int, said: str,
                    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr(single, "replay", fail)
    assert command_line.main(["replay", "x"]) == code
    assert said in capsys.readouterr().err


@pytest.fixture
def _heeds_interrupts() -> Iterator[None]:
    """Tests that run in the background of a script ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeds_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_an_interrupt_was_made_of_is_an_interrupt(
        number: signal.Signals, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Python's compiler, while it reads our modules, makes a SystemError of it."""
    def fail(options: object) -> int:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(single, "replay", fail)
    assert command_line.main(["replay", "x"]) == 130
    assert capsys.readouterr().err == "harness: interrupted\n"
    monkeypatch.setattr(single, "replay", lambda options: 1 // 0)
    assert command_line.main(["replay", "x"]) == 2, "that was another run"


def test_an_interrupt_may_come_while_modules_are_read(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "harness.cli.main":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "harness.cli.main")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("harness", run_name="__main__")
    assert end.value.code == 130
    assert capsys.readouterr().err == "harness: interrupted\n"


def test_what_cannot_be_spelled_or_heard_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(options: object) -> int:
        print("10.0 \N{RIGHTWARDS ARROW} 11.1")
        return 0

    monkeypatch.setattr(single, "replay", speak)
    heard = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(heard, encoding="ascii"))
    assert command_line.main(["replay", "x"]) == 0
    assert heard.getvalue() == b"10.0 ? 11.1\n"
    monkeypatch.setattr(sys, "stdout", None)  # as of a process that was started with >&-
    assert command_line.main(["replay", "x"]) == 0


def test_a_current_folder_that_is_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert command_line.main(["replay", "x"]) == 2
    assert capsys.readouterr().err.startswith("harness: the current folder is no more: ")
