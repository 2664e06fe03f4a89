# SPDX-License-Identifier: GPL-2.0-or-later
"""No interrupt is lost, wherever in Python's own machinery it comes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator

import pytest

from harness.cli import interrupts
from harness.cli.interrupts import heed_interrupts


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "keep_traces", lambda: None)
    monkeypatch.setattr(warnings, "filterwarnings", lambda *_: None)
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    yield
    sys.unraisablehook = hook
    signal.signal(signal.SIGTERM, handler)


class Thing:
    """What a weak reference can be made to."""


class Finalized:
    """What is told to end while it ends."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def in_a_collection() -> None:
    def callback(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGTERM)

    gc.callbacks.append(callback)
    gc.collect()


def in_a_finalizer() -> None:
    Finalized()


def of_a_weak_reference() -> None:
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    del thing
    assert reference() is None


@pytest.mark.parametrize("lose", [in_a_collection, in_a_finalizer, of_a_weak_reference])
def test_an_interrupt_that_python_throws_away_comes_again(
        lose: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        lose()
        threading.Event().wait(10)

    heed_interrupts()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert capsys.readouterr().err == ""


def test_other_errors_in_finalizers_are_still_told_of() -> None:
    told = []
    sys.unraisablehook = lambda lost: told.append(lost.exc_type)
    heed_interrupts()

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    Broken()
    assert told == [ValueError]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    Broken()
    assert told == [ValueError], "of an interrupt, one line is said"
    heed_interrupts()
