# SPDX-License-Identifier: GPL-2.0-or-later
"""``verify``: verdicts, exit codes, files, on simulated builds that tell the truth or lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.cli import results, verify
from harness.cli.main import main
from harness.exploration import investigate
from harness.exploration.building import Plan
from harness.exploration.explorer import Mission
from harness.exploration.grounds import SimulatedGround
from harness.exploration.tally import Find, Tally
from harness.exploration.traces import TraceSource
from harness.invocation import command
from harness.lockstep.trace import Header, Step, SystemKind, Trace, load
from harness.systems.known_defects import KNOWN
from harness.systems.probes import Found
from model.configuration import Configuration, Image
from model.operations import Read
from tests.unit.cli_lab import FULL, fake_build, simulate


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _verify(*arguments: str) -> int:
    return main(["verify", "--workers", "1", "--seed", "1", *arguments])


def test_a_truthful_build_conforms(monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    simulate(monkeypatch)
    assert _verify("--steps", "12000", "--area", "everything") == 0
    said = capsys.readouterr()
    assert "CONFORMS\n" in said.out
    assert "seed 1" in said.out
    assert "what simulations lack" in said.out
    assert list(tmp_path.iterdir()) == [], "nothing was found, so nothing is written"
    assert "\x1b" not in said.out + said.err, "no colours where there is no terminal"


def test_a_lying_build_diverges(monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, "wrong-byte", truthful_for=6)
    monkeypatch.setattr(verify, "SHRINKING", 1.0)
    assert _verify("--steps", "300", "--area", "access", "--no-directed") == 1
    said = capsys.readouterr().out
    assert "DIVERGES: " in said
    traces = sorted(Path("lockstep-output").glob("*-access.jsonl"))
    shrunk = sorted(Path("lockstep-output").glob("*-access.shrunk.jsonl"))
    stories = sorted(Path("lockstep-output").glob("*-access.txt"))
    assert traces
    assert shrunk
    assert stories
    assert len(load(shrunk[0]).steps) <= len(load(traces[0]).steps)
    assert command(f"replay {shrunk[0]}") in said
    # The trace shows it again.
    assert main(["replay", str(shrunk[0])]) in (0, 1)


@pytest.mark.parametrize("lie", ["wrong-byte", "crash"])
def test_a_full_disk_is_no_divergence(lie: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, lie, truthful_for=6)
    monkeypatch.setattr("shutil.disk_usage", lambda path: FULL)
    assert _verify("--steps", "300", "--area", "access", "--no-directed") == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("harness: only 1023 KiB are free in ")
    assert "TMPDIR chooses another place" in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lie", ["crash", "hang", "hang-up", "garbage", "damage", "exit"])
def test_a_build_that_gives_no_answer_diverges(lie: str, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, lie, truthful_for=3)
    monkeypatch.setattr(verify, "SHRINKING", 1.0)
    assert _verify("--steps", "50", "--area", "tails", "--json", "out.json") == 1
    (divergence, *_) = json.loads(Path("out.json").read_text())["divergences"]
    expected = {"exit": "crash"}.get(lie, lie)
    assert divergence["verdict"] == expected
    assert expected in divergence["summary"]
    capsys.readouterr()


def test_json_has_the_fields_of_the_contract(monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, "count-off", truthful_for=4, defects=("cbw_timeout_wraps",))
    monkeypatch.setattr(verify, "SHRINKING", 1.0)
    assert _verify("--steps", "100", "--area", "tails,zeroes", "--json", "out.json") == 1
    result = json.loads(Path("out.json").read_text())
    assert set(result) >= {"build", "seed", "elapsed_s", "steps", "operations", "rules",
                           "divergences", "known_defects", "not_checked"}
    assert set(result["build"]) >= {"path", "version", "capabilities"}
    assert result["seed"] == 1
    assert result["steps"] == sum(result["operations"].values()) >= 100
    assert result["build"]["capabilities"]["snapshot-access"] is True
    assert result["known_defects"] == [{
        "name": "cbw-timeout-wraps", "mended_in": "9.1",
        "text": "cbw-timeout is taken modulo 2^32 nanoseconds (4.29 s)",
        "effect": "wrong answer",
        "reference": "docs/findings/cbw-timeout-wraps.md; qemu-devel, 2024-04-29"}]
    for divergence in result["divergences"]:
        assert set(divergence) >= {"area", "summary", "step", "trace", "shrunk_length",
                                   "reproducer"}
        assert divergence["area"] in ("tails", "zeroes")
        assert Path(divergence["trace"]).exists()
        if divergence["shrunk_length"] is not None:  # only the first few are shrunk
            assert divergence["shrunk_length"] == len(load(Path(divergence["trace"])).steps)
    assert result["divergences"][0]["shrunk_length"]
    assert "  cbw-timeout-wraps\n" in capsys.readouterr().out
    assert _verify("--steps", "10", "--area", "tails", "-v") == 1
    said = capsys.readouterr().out
    assert "cbw-timeout-wraps: cbw-timeout is taken modulo" in said
    assert "(mended in 9.1)" in said


def test_several_builds_are_a_list(monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    assert _verify("--steps", "60", "--no-directed", "--qemu-build", "a", "--qemu-build", "b",
                   "--json", "out.json", "--junit", "out.xml") == 0
    builds = json.loads(Path("out.json").read_text())["builds"]
    assert [each["build"]["name"] for each in builds] == ["a", "b"]
    assert len(ElementTree.parse("out.xml").getroot()) == 2
    capsys.readouterr()


def test_junit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, "count-off", truthful_for=4)
    monkeypatch.setattr(verify, "SHRINKING", 0.5)
    assert _verify("--steps", "100", "--area", "tails,zeroes", "--junit", "out.xml") == 1
    suite = ElementTree.parse("out.xml").getroot()[0]
    assert suite.get("name") == "QEMU 99.0 (simulated)"
    assert int(suite.get("failures", "0")) >= 1
    failed = [case for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed
    assert "diverges" in str(failed[0].find("failure").get("message"))  # type: ignore[union-attr]
    capsys.readouterr()


def test_a_regression_seen_by_a_probe_diverges(monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    strange = Found("snapshot_discard_rounds_inwards", False, "a build does not do this any more")
    simulate(monkeypatch, strange=(strange,))
    assert _verify("--steps", "30", "--no-directed", "--json", "out.json") == 1
    (divergence,) = json.loads(Path("out.json").read_text())["divergences"]
    assert divergence["area"] == "probes"
    assert len(load(Path(divergence["trace"])).steps) == divergence["shrunk_length"]
    capsys.readouterr()


def test_directed_checks_that_were_cut_short_are_named(monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    assert _verify("--seconds", "0.01") == 0
    assert "directed checks: the budget was spent" in capsys.readouterr().out


def test_traces_that_the_model_takes_back_are_told(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    apart = Trace(Header(Configuration((Image("src", 512),))), (Step(1, Read("src", 0, 512)),))
    monkeypatch.setattr(TraceSource, "trace", lambda *which: apart)
    assert _verify("--seconds", "0.2", "--area", "access", "--no-directed") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "lets be drawn and not be done, a defect of its own: node 'src' has no" in said


def test_without_a_seed_one_is_drawn_and_printed(monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch)
    arguments = ["verify", "--steps", "10", "--workers", "1", "--no-directed"]
    assert main([*arguments]) == 0
    first = capsys.readouterr().out.split("seed ")[1].split()[0]
    assert main([*arguments]) == 0
    assert capsys.readouterr().out.split("seed ")[1].split()[0] != first


def test_interrupted_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, "wrong-byte", truthful_for=6)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "look_into", interrupt)
    assert _verify("--steps", "300", "--area", "access", "--no-directed") == 130
    said = capsys.readouterr()
    assert "INTERRUPTED: " in said.out
    for number, trace in enumerate(sorted(Path("lockstep-output").glob("*.jsonl")), start=1):
        assert f"harness: divergence {number}, {trace}: diverges at operation" in said.err, \
            "it is told when it is found"
    assert number


def test_the_fake_build_is_none_that_exists() -> None:
    assert not fake_build().path.exists()


def test_known_defects_are_reported_or_fail_or_are_avoided(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, defects=("empty_merge_crashes", "aborted_group_hangs"))
    arguments = ("--steps", "30", "--no-directed", "--json", "out.json")
    assert _verify(*arguments) == 0
    assert "CONFORMS, but for 2 known defects" in capsys.readouterr().out
    assert _verify(*arguments, "--known-defects=fail") == 1
    assert "DIVERGES: 2 divergences" in capsys.readouterr().out
    first, second = json.loads(Path("out.json").read_text())["divergences"]
    assert first["summary"].startswith("probe empty-merge-crashes: has the known defect: ")
    assert load(Path(first["trace"])).steps[-1].operation.name == "bitmap-merge"
    assert load(Path(second["trace"])).header.unexcused == ("aborted-group-hangs",)
    assert second["verdict"] == "hang"
    assert _verify(*arguments, "--known-defects=avoid") == 0
    assert "what kills" in capsys.readouterr().out
    assert _verify(*arguments, "--known-defects=ignore") == 2
    assert "expected one of report, fail, avoid, not 'ignore'" in capsys.readouterr().err


def test_a_crash_that_looks_like_a_known_defect_says_so(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(monkeypatch, "crash", truthful_for=3)
    monkeypatch.setattr(verify, "SHRINKING", 0.5)
    monkeypatch.setattr(results, "recognised", lambda cause: [
        KNOWN["short_target_aborts"]] if "truthful" in cause else [])
    assert _verify("--steps", "20", "--area", "tails", "--no-directed") == 1
    assert "(looks like short-target-aborts)" in capsys.readouterr().out


def test_a_find_survives_a_shrinker_that_stumbles(monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    def stumble(*arguments: object, **options: object) -> None:
        raise ValueError("oops")

    simulate(monkeypatch, "wrong-byte", truthful_for=6)
    monkeypatch.setattr(investigate, "shrink", stumble)
    assert _verify("--steps", "300", "--area", "access", "--no-directed") == 1
    said = capsys.readouterr()
    assert "not shrunk, by a defect of the harness: oops" in said.out
    assert "Traceback" in said.err


def test_finds_that_are_the_same_when_small_leave_the_files_of_the_first(tmp_path: Path) -> None:
    trace = Trace(Header(Configuration((Image("src", 1 << 16),)), SystemKind.SIMULATED))
    found = Find("jobs", 0, trace, ("diverges",), "wrong")
    kept = [replace(investigate.keep(found, number, tmp_path), steps=("the same",))
            for number in (1, 2)]
    for name in ("1-jobs.sh", "2-jobs.sh", "2-jobs.shrunk.jsonl", "2-jobs-other.sh"):
        (tmp_path / name).touch()
    mission = Mission((SimulatedGround(Plan(SystemKind.SIMULATED)),), (1,), ("jobs",), 1)
    (divergence,) = verify._divergences(kept, mission, Tally())
    assert (divergence.times, divergence.trace) == (2, tmp_path / "1-jobs.jsonl")
    assert {each.name for each in tmp_path.iterdir()} == {
        "1-jobs.jsonl", "1-jobs.sh", "2-jobs-other.sh"}
