# SPDX-License-Identifier: GPL-2.0-or-later
"""Where all is said to be here, a test that is skipped for want of something fails."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = """
import pytest

def test_one():
    pytest.skip("no browser (Debian: browser)")

@pytest.mark.skipif(True, reason="no gdb")
def test_two(): ...

def test_three():
    pytest.skip("nothing is said of QEMU 99")

@pytest.mark.xfail
def test_four():
    assert False
"""


@pytest.mark.parametrize(("insist", "outcomes"), [
    ("", {"skipped": 3, "xfailed": 1}),
    ("1", {"failed": 1, "errors": 1, "skipped": 1, "xfailed": 1})])
def test_what_is_missing(insist: str, outcomes: dict[str, int], pytester: pytest.Pytester,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LOCKSTEP_INSIST", insist)
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(TESTS)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(**outcomes)
