# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of ``report``: what is in them, without a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.exploration.directed.catalogue import checks
from harness.exploration.grounds import simulated
from harness.lockstep import recording
from harness.lockstep.recording import Recording
from harness.lockstep.trace import Header, Step, SystemKind, Trace, TraceError, save
from harness.report.campaign import campaign_page
from harness.report.comparison import comparison_page
from harness.report.goldens import golden_page
from harness.report.traces import Told, trace_page
from harness.systems.probes import PROBES
from model.capabilities import Capabilities
from model.machine import Machine
from model.operations import AddFilter, Export, Resize, Write
from tests.unit.cli_lab import harness, simulate
from tests.unit.lockstep_lab import SIZE, THOROUGH, K, trace_of
from tests.unit.report_lab import (
    COMPARED,
    COPIED,
    GOLDEN,
    RUN,
    forgotten,
    lied,
    long_trace,
    page_data,
)


def rebuilt(grid: dict[str, Any]) -> dict[tuple[int, int], int]:
    """The state of a grid at the end, from its changes: (which, cluster) to value."""
    state: dict[tuple[int, int], int] = {}
    for _, which, first, last, value in grid["events"]:
        for cluster in range(grid["columns"][first], grid["columns"][last]):
            state[which, cluster] = value
    return state


BEFORE_THE_END = replace(THOROUGH, steps=THOROUGH.steps[:-1])
"""Then QEMU quits, and has no filter any more."""


@pytest.mark.parametrize("trace", [COPIED, BEFORE_THE_END, long_trace(200)],
                         ids=["copied", "thorough", "long"])
def test_the_changes_of_a_grid_add_up_to_the_model(trace: Any) -> None:
    timeline = page_data(Told(trace))["timeline"]
    machine = Machine(trace.configuration)
    for step in trace.steps:
        machine.apply(step.number, step.operation)
    view, = machine.filters()
    grid = next(each for each in timeline["grids"] if each["kind"] == "filter")
    state = rebuilt(grid)
    for which, bitmap in enumerate((view.access, view.done, view.copy)):
        for cluster in range(bitmap.bits.size):
            assert state.get((which, cluster), 0) == bitmap.bits.at(cluster), (which, cluster)
    for image in ("src", "tmp"):
        grid = next(each for each in timeline["grids"] if each["name"] == image)
        content = machine.content_of(image)
        held: dict[int, int] = {}
        for _, start, end, stamp in grid["data"]:
            held.update(dict.fromkeys(range(start, end, 4), stamp))
        for place in range(0, content.size, 4):
            assert held.get(place, 0) == content.at(place), (image, place)


@pytest.mark.parametrize("on_filter", [True, False])
def test_a_disk_may_be_resized(on_filter: bool) -> None:
    """Below a filter that nobody uses, and its own size may follow or not: the bitmaps of a filter
    are then of several sizes."""
    capabilities = Capabilities(copy_bitmap_on_filter=on_filter)
    trace = trace_of(
        Resize("tmp", 2 * SIZE), AddFilter("cbw", "src", "tmp"), Resize("src", 2 * SIZE),
        Resize("src", 128 * K), Export("tmp"), Write("tmp", SIZE, 4 * K), Resize("src", SIZE))
    trace = replace(trace, header=replace(trace.header, capabilities=capabilities))
    timeline = page_data(Told(trace))["timeline"]
    grids = {grid["name"]: grid for grid in timeline["grids"]}
    assert len(timeline["rows"]) == len(trace.steps), "to the end"
    assert grids["src"]["size"] == grids["tmp"]["size"] == 2 * SIZE
    assert (SIZE, SIZE + 4 * K, 6) in [tuple(each[1:]) for each in grids["tmp"]["data"]]
    assert rebuilt(grids["cbw"])


def test_a_page_is_self_contained_and_cannot_be_broken_out_of() -> None:
    page = trace_page(lied())
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket", page)
    assert page.count("</script>") == 2, "the reproducer's own is escaped"
    assert "&lt;/script&gt;" in page
    assert lied().recording is not None


def test_a_page_tells_of_the_difference() -> None:
    told = lied()
    page, data = trace_page(told), page_data(told)
    assert "DIVERGES" in page
    assert data["verdict"]["number"] == 6
    assert data["verdict"]["differences"][0]["places"] == [[196607, 196608]]
    assert data["timeline"]["rows"][-1][0] == 6, "what comes after it is not known"
    assert "cbw.point-in-time" in page


def test_what_qemu_counts_is_beside_what_the_model_counts() -> None:
    data = page_data(lied(lie="count-off"))["timeline"]
    grid = data["grids"][0]
    assert grid["counts"], "QEMU was asked"
    assert any(theirs is not None and theirs != mine for _, _, mine, theirs in data["bitmaps"])


def test_a_page_of_the_model_alone_says_so() -> None:
    page = trace_page(Told(COPIED))
    assert "as the model does them" in page
    assert page_data(Told(COPIED))["timeline"]["recorded"] is False


def test_what_the_model_has_nothing_to_say_of_ends_the_map() -> None:
    """A probe of a known defect, for one: the model does not do what kills the build."""
    probe = next(each for each in PROBES if each.capability == "empty_merge_crashes")
    header = Header(probe.configuration, SystemKind.QSD,
                    capabilities=Capabilities(empty_merge_crashes=True))
    steps = tuple(Step(number, each) for number, each in enumerate(probe.operations, start=1))
    told = Told(Trace(header, steps), Recording("qsd", "crash", "it died", len(steps)))
    timeline = page_data(told)["timeline"]
    assert "nothing: " in timeline["texts"][timeline["rows"][-1][6]]
    assert "it died" in trace_page(told)


def test_a_schedule_has_its_requests_with_what_they_wait_for() -> None:
    told = forgotten()
    data = page_data(told)
    assert data["verdict"]["differences"][0]["storage"] == [
        {"extra": True, "node": "src", "text": "write src 0..64k"}]
    clients = data["timeline"]["sequence"]["clients"]
    assert [bar["lane"] for bar in clients] == ["client", "guest"]
    assert clients[1]["waits"][-1][1] == "a fleecing read of the source to end"
    flights = data["timeline"]["grids"][0]["flights"]
    assert {kind for _, kind, _ in flights} == {"frozen", "copying"}
    assert "waits for a fleecing read" in trace_page(told)


def test_a_recording_is_kept_and_read_again(tmp_path: Path) -> None:
    for told in (lied(), forgotten(), lied(lie="crash"), lied(lie="count-off")):
        assert told.recording is not None
        recording.save(tmp_path / "seen.json", told.recording)
        assert recording.load(tmp_path / "seen.json") == told.recording


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cbw-lockstep-seen": 1, "system": 3}'])
def test_a_bad_recording_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "seen.json").write_text(text)
    with pytest.raises(TraceError) as caught:
        recording.load(tmp_path / "seen.json")
    assert "\n" not in str(caught.value)


# The command


@pytest.fixture
def diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
             capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder that a run left in which something diverged."""
    from harness.cli import verify
    monkeypatch.chdir(tmp_path)
    simulate(monkeypatch, "wrong-byte", truthful_for=6)
    monkeypatch.setattr(verify, "SHRINKING", 0.5)
    assert main(["verify", "--workers", "1", "--seed", "1", "--steps", "300", "--area", "access",
                 "--no-directed", "--report", "run.html", "--json", "run.json"]) == 1
    capsys.readouterr()
    return tmp_path / "lockstep-output"


def test_the_folder_of_a_run_has_its_page(diverged: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "lockstep-output"]) == 0
    assert "lockstep-output.html" in capsys.readouterr().out
    page = Path("lockstep-output.html").read_text()
    assert "What was exercised" in page
    assert "Operations by alignment" in page
    assert 'data-trace="0"' in page
    assert page == Path("run.html").read_text(), "verify --report makes the same"
    assert main(["report", "run.json", "--to", "again.html"]) == 0
    assert Path("again.html").read_text() == page


def test_what_does_it_again_names_the_build(diverged: Path) -> None:
    for seen in diverged.glob("*.seen.json"):
        seen.unlink()
    plain = json.loads(Path("run.json").read_text())
    plain["build"]["name"] = "/my/build"
    for each in plain["divergences"]:
        each["system"] = "qsd"
    Path("run.json").write_text(json.dumps(plain))
    assert main(["report", "run.json", "--to", "page.html"]) == 0
    trace = plain["divergences"][0]["trace"]
    assert f"replay {trace} --qemu-build /my/build<" in Path("page.html").read_text()


def test_a_trace_of_a_run_needs_no_qemu_for_its_page(diverged: Path, tmp_path: Path) -> None:
    trace = next(diverged.glob("*.shrunk.jsonl"))
    done = harness("report", trace, "--to", "one.html", cwd=tmp_path, PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "DIVERGES" in (tmp_path / "one.html").read_text()


def test_a_folder_that_was_moved_still_has_its_traces(diverged: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    moved = diverged.rename(tmp_path / "artifacts")
    assert main(["report", str(moved), "--to", "moved.html"]) == 0
    assert 'data-trace="0"' in Path("moved.html").read_text()
    capsys.readouterr()


def test_a_trace_is_done_on_the_model_if_asked(tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "t.jsonl", COPIED)
    assert main(["report", str(tmp_path / "t.jsonl"), "--simulated"]) == 0
    assert "CONFORMS" in (tmp_path / "t.html").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(("name", "text"), [
    ("absent", None), ("x.json", "{"), ("x.json", "[]"), ("x.json", '{"steps": 1}'),
    ("x.json", '{"explained": 1}'), ("x.json", '{"golden": [{}]}'), ("x.jsonl", "{}")])
def test_bad_input_is_one_line(name: str, text: str | None, tmp_path: Path,
                               capsys: pytest.CaptureFixture[str]) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("*.html"))


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--to", str(tmp_path / "x.html")]) == 2
    assert "no run.json in it" in capsys.readouterr().err


# Other results


def test_two_builds_are_side_by_side() -> None:
    page = comparison_page(COMPARED)
    assert "QEMU 7.2.1 beside QEMU 9.9.9" in page
    assert "can do &lt;x&gt;" in page
    assert re.search(r'<td data-of="7.2.1">EINVAL \(22\)</td>\s*<td data-of="9.9.9">ok</td>', page)
    assert re.search(r"<td[^>]*>no</td>\s*<td[^>]*>yes</td>", page)
    assert "9.9.9 deviates from the model" in page
    assert "7.2.1 conforms" in page


def test_three_witnesses_that_differ_are_side_by_side() -> None:
    page = golden_page(GOLDEN)
    assert "1 of 2 differ" in page
    assert "golden = model" in page
    assert "node cbw shows two more bitmaps</p>" in page
    assert "+++ QEMU" not in page, "the lines stand side by side"
    assert page.count('class="odd"') == 2
    assert "line 20" in page
    assert "line 5<" not in page, "what all agree on is left out"


def test_a_run_page_has_load_kills_and_when_divergences_were_found() -> None:
    page = campaign_page([RUN], [])
    assert "<b>24,000</b><span>requests under load in 3 s" in page
    assert "<b>11</b><span>kills under load in 12 rounds" in page
    assert "<title>after 20 s: strange &lt;x&gt;</title><path d=\"M310.0 0" in page
    assert page.count('class="find"') == 1, "the other one was not found by exploring"


def test_a_job_that_is_started_is_in_the_diagram() -> None:
    check = next(each for each in checks(SystemKind.SIMULATED)
                 if each.name == "schedule: a job and guest writes")
    made = check.make(simulated(Capabilities()).plan)
    sequence = page_data(Told(made))["timeline"]["sequence"]
    assert {"guest", "job"} <= {bar["lane"] for bar in sequence["clients"]}


def test_a_run_page_needs_the_fields_of_the_contract() -> None:
    with pytest.raises(KeyError):
        campaign_page([{"divergences": []}], [])
