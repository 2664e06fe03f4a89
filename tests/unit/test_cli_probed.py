# SPDX-License-Identifier: GPL-2.0-or-later
"""Known defects that are to fail: what is handed over of each, on the QEMU that is found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, find
from harness.cli.main import main
from harness.cli.probed import by_probes
from harness.cli.results import Divergence
from harness.cli.values import KnownDefects
from harness.exploration.subjects import Subject, subject_of
from harness.lockstep.trace import load
from harness.reproducers.attempt import DIVERGES, attempt
from harness.systems.known_defects import KNOWN, spelled
from tests.unit.real_lab import real_build


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(real_build(STORAGE_DAEMON))


def handed_over(name: str, subject: Subject, folder: Path) -> Divergence:
    if name not in subject.profile.defects:
        pytest.skip("this build does not have it")
    one = dataclasses.replace(subject, profile=dataclasses.replace(
        subject.profile, defects=(name,)))
    (found,) = by_probes(one, folder, KnownDefects.FAIL)
    return found


@pytest.mark.parametrize(("name", "verdict"), [
    ("empty_merge_crashes", "crash"), ("refused_enable_disables", "divergence"),
    ("unaligned_snapshot_discard_aborts", "crash")])
def test_it_can_be_done_again(name: str, verdict: str, subject: Subject, tmp_path: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    found = handed_over(name, subject, tmp_path)
    assert found.verdict == verdict
    assert found.summary == f"probe {spelled(name)}: has the known defect: {KNOWN[name].text}"
    assert found.trace is not None
    assert load(found.trace).header.unexcused == (spelled(name),)
    assert main(["replay", str(found.trace)]) == 1
    assert "DIVERGES: " in capsys.readouterr().out
    assert found.reproducer is not None
    assert found.tried.startswith("tried: NOT AS EXPECTED")
    assert attempt(found.reproducer.read_text(), find()).status == DIVERGES
    assert found.iotest is not None


def test_without_the_words_in_its_header_the_trace_would_kill(
        subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = handed_over("empty_merge_crashes", subject, tmp_path)
    assert found.trace is not None
    excused = tmp_path / "excused.jsonl"
    excused.write_text(found.trace.read_text().replace(
        ', "unexcused": ["empty-merge-crashes"]', ""))
    assert main(["replay", str(excused)]) == 2
    assert "would kill a build with the defect empty-merge-crashes" in capsys.readouterr().err


def test_what_more_than_operations_shows_says_where_to_read(subject: Subject,
                                                            tmp_path: Path) -> None:
    found = handed_over("cbw_timeout_wraps", subject, tmp_path)
    assert found.trace is None
    assert found.tried == ("no trace: more than operations shows it; see "
                           f"{KNOWN['cbw_timeout_wraps'].reference}")
    assert list(tmp_path.iterdir()) == []
