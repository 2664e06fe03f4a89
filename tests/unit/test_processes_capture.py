# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import threading

import pytest

from harness.processes import Capture, Exit


def test_positions_and_bound() -> None:
    capture = Capture(10)
    capture.append(b"0123456789")
    assert capture.since(4) == b"456789"
    capture.append(b"abcdefghij")
    assert capture.since() == b"0123456789abcdefghij"  # up to twice the limit
    capture.append(b"k")
    assert capture.position == 21
    assert capture.since() == b"bcdefghijk"
    assert capture.since(19) == b"jk"
    assert capture.since(21) == b""


def test_forgetting_keeps_the_positions() -> None:
    capture = Capture(10)
    capture.append(b"old")
    capture.forget()
    capture.append(b"new")
    assert (capture.position, capture.since()) == (6, b"new")
    assert capture.since(4) == b"ew"


def test_wait_sees_what_comes_later() -> None:
    capture = Capture(100)
    capture.append(b"old done\n")
    position = capture.position
    threading.Timer(0.05, capture.append, (b"new done\n",)).start()
    assert capture.wait(lambda data: b"done" in data, position) == b"new done\n"


def test_wait_gives_up() -> None:
    capture = Capture(100)
    assert capture.wait(bool, timeout=0.01) is None
    threading.Timer(0.05, capture.end).start()
    assert capture.wait(bool) is None
    capture.append(b"x")
    assert capture.wait(bool) == b"x"


def test_status_and_signal_are_told_apart() -> None:
    assert Exit.of(0, "") == Exit(0, None, "")
    assert Exit.of(6, "") == Exit(6, None, "")
    assert Exit.of(-6, "") == Exit(None, "SIGABRT", "")
    assert Exit.of(-40, "").signal == "signal 40"


@pytest.mark.parametrize(
    "line",
    [
        "qemu-storage-daemon: ../block/x.c:12: f: Assertion `a == b' failed.",
        "ERROR:../block/x.c:12:f: assertion failed: (a == b)",
        "ERROR:../block/x.c:12:f: code should not be reached",
        "Unexpected error in f() at ../block/x.c:12:",
        "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x1",
        "../block/x.c:12:3: runtime error: shift exponent 64 is too large",
    ],
)
def test_assertion_is_found(line: str) -> None:
    end = Exit.of(-6, f"a warning\n{line}\nwhat follows\n")
    assert end.assertion == line
    assert str(end) == f"killed by SIGABRT: {line}"


def test_no_assertion() -> None:
    end = Exit.of(1, "qemu-img: one\nqemu-img: Could not open 'x'\n")
    assert end.assertion is None
    assert str(end) == "exit status 1: qemu-img: Could not open 'x'"
    assert str(Exit.of(0, "")) == "exit status 0"
