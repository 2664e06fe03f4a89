# SPDX-License-Identifier: GPL-2.0-or-later
"""Results for machines: JUnit XML, TAP, GitHub annotations, GitLab's code quality report."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.cli.main import main
from harness.report.outputs import Case, Failure, Suite, code_quality, github, junit, tap
from tests.unit.cli_lab import simulate

SUITES = [
    Suite("QEMU 9.9 (a)", (
        Case("access"),
        Case("tails", failures=(
            Failure("diverges, 100%: at x\nline", "one\ntwo", file="out/1,a.jsonl", line=3),
            Failure("crash", verdict="crash"))),
        Case("zeroes", skipped="no time #1")), 1.5, (("seed", "7"),)),
    Suite("golden", (Case("101 # a", "golden"),)),
]


def test_junit() -> None:
    root = ElementTree.fromstring(junit(SUITES))
    first = root[0]
    assert (first.get("tests"), first.get("failures"), first.get("skipped")) == ("3", "1", "1")
    assert first.find("testcase[@name='zeroes']/skipped") is not None
    assert first.find("properties/property[@name='seed']") is not None


def test_tap_has_a_line_for_each_case() -> None:
    assert tap(SUITES).splitlines() == [
        "TAP version 13", "1..4", "# QEMU 9.9 (a)", "ok 1 - verify access",
        "not ok 2 - verify tails", "# diverges, 100%: at x line", "# one", "# two", "# crash",
        "ok 3 - verify zeroes # SKIP no time #1", "# golden", "ok 4 - golden 101  a"]


def test_github_annotations_are_one_line_each() -> None:
    assert github(SUITES).splitlines() == [
        "::error file=out/1%2Ca.jsonl,line=3,title=QEMU 9.9 (a)%3A verify tails::"
        "diverges, 100%25: at x%0Aline%0Aone%0Atwo",
        "::error title=QEMU 9.9 (a)%3A verify tails::crash"]
    assert github([Suite("x", (Case("a"),))]) == ""


def test_code_quality_has_what_gitlab_asks_for() -> None:
    found = json.loads(code_quality(SUITES))
    assert [each["severity"] for each in found] == ["critical", "blocker"]
    assert found[0]["location"] == {"path": "out/1,a.jsonl", "lines": {"begin": 3}}
    assert len({each["fingerprint"] for each in found}) == 2
    assert all(each["description"] and each["check_name"] for each in found)
    assert json.loads(code_quality([])) == []


def test_verify_writes_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    simulate(monkeypatch)
    assert main(["verify", "--workers", "1", "--seed", "1", "--steps", "60", "--no-directed",
                 "--area", "access,zeroes,tails", "--tap", "-", "--junit", "out.xml",
                 "--code-quality", "quality.json", "--github", "--report", "out.html"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == ["TAP version 13", "1..3"]
    assert all(line.startswith(("ok ", "#", "1..", "TAP ")) for line in said.out.splitlines())
    assert "CONFORMS" in said.err, "what is for people gives way"
    assert json.loads(Path("quality.json").read_text()) == []
    assert ElementTree.parse("out.xml").getroot()[0].get("failures") == "0"
    assert "CONFORMS" in Path("out.html").read_text()
    assert "SKIP no trace of this area" in said.out or said.out.count("\nok ") == 3


def test_a_file_that_cannot_be_written_is_told_before_the_run(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    simulate(monkeypatch)
    for option in ("--tap", "--code-quality", "--junit", "--json", "--report"):
        assert main(["verify", "--steps", "10", option, "nowhere/x"]) == 2
        assert "cannot write to nowhere/x" in capsys.readouterr().err
