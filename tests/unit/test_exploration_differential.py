# SPDX-License-Identifier: GPL-2.0-or-later
"""Two builds compared: capabilities explain what they explain, and nothing else is hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON
from harness.cli import compare as command
from harness.cli.main import main
from harness.cli.release_note import Side, differences, release_note
from harness.errors import EnvironmentProblem
from harness.exploration import campaign
from harness.exploration.building import Plan
from harness.exploration.contrast import Aspect, Look, contrast, foretold
from harness.exploration.differential import (
    Comparison,
    Explained,
    contest,
    why,
)
from harness.exploration.grounds import SimulatedGround, model_of
from harness.exploration.subjects import Subject, subject_of
from harness.exploration.telling import Pair, common_plan, telling
from harness.lockstep.replay import Stand
from harness.lockstep.run import Done
from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.processes import Exit
from harness.systems.base import Answer
from harness.systems.capabilities import Profile
from harness.systems.failure import SystemCrashed
from harness.systems.simulated import Simulated, rendered
from model.capabilities import Capabilities
from model.configuration import Configuration, Image
from model.content import initial_stamp, stamped
from model.machine import Machine
from model.operations import AddFilter, Operation, Read, Write
from model.outcome import Observation, Outcome
from tests.unit.cli_lab import fake_build
from tests.unit.real_lab import real_build

TODAY = Capabilities()
OLD = Capabilities(min_cluster_size=False, copy_bitmap_on_filter=False,
                   snapshot_discard_rounds_inwards=False,
                   snapshot_reads_source_before_done_run_ends=True,
                   unaligned_snapshot_discard_aborts=True)


class _Dying(Simulated):
    """A simulated build that has its deadly defects."""

    def apply(self, number: int, operation: Operation) -> Answer:
        assert isinstance(self._machine, Machine)
        if self._machine.deadly(operation):
            raise SystemCrashed(Exit.of(-6, "qsd: x.c:1: f: Assertion `aligned' failed.\n"))
        return super().apply(number, operation)


class _MortalGround(SimulatedGround):
    @contextmanager
    def open(self) -> Iterator[Stand]:
        model = model_of(self.plan.capabilities)
        yield Stand(lambda configuration: _Dying(model(configuration)), model)


def _ground(capabilities: Capabilities = TODAY, lie: str | None = None,
            truthful_for: int = 0) -> SimulatedGround:
    return SimulatedGround(Plan(capabilities=capabilities), lie, truthful_for)


def _compared(first: SimulatedGround, second: SimulatedGround, traces: int = 10,
              areas: tuple[str, ...] = ("access", "options"), workers: int = 1) -> Comparison:
    found = Comparison()
    with closing(campaign.batches(contest([first], [second], areas, 1), None, workers)) as coming:
        for each in coming:
            found.add(each)
            if found.traces >= traces:
                break
    return found


def _alone(found: Comparison) -> dict[str, Explained]:
    """What one capability explains."""
    return {names[0]: each for names, each in found.explained.items() if len(names) == 1}


def test_equal_builds_do_not_differ() -> None:
    found = _compared(_ground(), _ground())
    assert (found.explained, found.unexplained) == ({}, {})
    assert found.steps > 100
    assert found.directed


def test_a_real_build_does_not_differ_from_itself() -> None:
    grounds = subject_of(real_build(STORAGE_DAEMON)).grounds
    held = contest(grounds, grounds, ("access",), 1)
    assert [pair.plan.system for pair in held.pairs] == [each.plan.system for each in grounds]
    with closing(held.begin()) as means:
        found = means.explore(range(4))
    assert (found.explained, found.unexplained) == ({}, {})
    assert found.traces == 4
    assert list(held.deadly()) == []


def test_capabilities_explain_differences() -> None:
    found = _compared(_ground(OLD), _ground())
    assert found.unexplained == {}
    seen = _alone(found)
    assert {"copy_bitmap_on_filter", "min_cluster_size", "snapshot_discard_rounds_inwards",
            "snapshot_reads_source_before_done_run_ends"} <= set(seen)
    assert "add-filter" in seen["min_cluster_size"].operations
    assert seen["min_cluster_size"].answers == (
        "refused: GenericError: Parameter 'min-cluster-size' is unexpected", "ok")


def test_requests_that_overlap_are_compared_too() -> None:
    """Schedules need the model in its small steps."""
    found = _compared(_ground(Capabilities(copy_bitmap_on_filter=False)), _ground(),
                      traces=8, areas=("concurrency",))
    assert found.unexplained == {}
    assert set(found.explained) == {("copy_bitmap_on_filter",)}
    assert "start" in found.explained["copy_bitmap_on_filter",].operations


def test_many_processes_find_the_same() -> None:
    found = _compared(_ground(OLD), _ground(), workers=2)
    assert "copy_bitmap_on_filter" in _alone(found)
    assert found.unexplained == {}


@pytest.mark.parametrize("side", [0, 1])
def test_the_one_that_lies_is_named(side: int) -> None:
    grounds = [_ground(), _ground()]
    grounds[side] = _ground(lie="wrong-byte", truthful_for=10)
    found = _compared(*grounds)
    assert found.unexplained
    for each in found.unexplained.values():
        assert each.side == side
        assert each.other == "conforms"
        assert not each.alike
        assert "diverges" in each.find.summary


def test_what_both_do_wrong_is_no_difference() -> None:
    lying = _ground(lie="wrong-byte", truthful_for=10)
    found = _compared(lying, lying)
    assert found.unexplained
    assert all(each.alike for each in found.unexplained.values())


def test_no_trace_kills_either() -> None:
    plan = common_plan(Plan(), Plan(capabilities=OLD))
    assert plan.capabilities.unaligned_snapshot_discard_aborts
    assert plan.capabilities.min_cluster_size, "that of the two that can be given more"
    assert plan == common_plan(Plan(capabilities=OLD), Plan())
    pair = Pair((_ground(OLD), _ground()), plan)
    for trace in telling(pair):
        assert len(list(foretold(trace, OLD))) == len(trace.steps)


def test_what_only_one_survives_is_shown_on_both() -> None:
    held = contest([_MortalGround(Plan(capabilities=OLD))], [_MortalGround(Plan())],
                   ("access",), 1)
    shown, = held.deadly()
    assert shown.capabilities == ("unaligned_snapshot_discard_aborts",)
    assert "discard snap 512 512" in shown.example
    assert shown.answers[0].startswith("crash: ")
    assert "aligned" in shown.answers[0]
    assert shown.answers[1] == "ok"
    note = _note(Comparison(explained={shown.capabilities: shown}), OLD, TODAY)
    heading = next(index for index, line in enumerate(note) if line.startswith("mended: "))
    assert "unaligned-snapshot-discard-aborts" in note[heading + 1]
    assert note[heading + 4] == "       2.0: ok"


def test_builds_without_a_kind_in_common_cannot_be_compared() -> None:
    daemon, system = (SimulatedGround(Plan(kind)) for kind in (SystemKind.QSD,
                                                               SystemKind.QEMU_SYSTEM))
    with pytest.raises(EnvironmentProblem, match="nothing can be compared"):
        contest([daemon], [system], ("access",), 1)


def test_data_that_differs_is_told_by_whose_it_is() -> None:
    """Of a request that is answered at once, and of one that overlaps with others."""
    read = Read("snap", 0, 65536)
    trace = Trace(Header(Configuration((Image("src", 65536), Image("tmp", 65536)))), (
        Step(1, Write("cbw", 0, 4096)), Step(2, read)))
    contents = stamped(65536, 1), stamped(65536, initial_stamp(0))
    words = "at 0 the data of write cbw 0 4k", "at 0 the first data of src"

    def differing(*looks: Look) -> dict[Aspect, tuple[str, str]]:
        one, other = (Done(1, trace.steps[1], look.outcome, rendered(read, look.outcome),
                           look.observation, look.observation, ()) for look in looks)
        return contrast(trace, (one, other), (looks[0], looks[1]))

    at_once = [Look(Outcome(content=each), Observation({}, {})) for each in contents]
    assert differing(*at_once) == {
        Aspect.ANSWER: (f"64k read: {words[0]}", f"64k read: {words[1]}")}
    later = [Look(Outcome(), Observation({}, {}), answers={2: (read, Outcome(content=each))})
             for each in contents]
    assert differing(*later) == {Aspect.REQUESTS: (
        f"request 2: 64k read: {words[0]}", f"request 2: 64k read: {words[1]}")}
    waits = Look(Outcome(), Observation({}, {}))
    assert differing(waits, later[0])[Aspect.REQUESTS][0] == "request 2: no answer yet"
    assert differing(waits, waits) == {}


def test_a_package_without_a_qemu_system_has_mended_nothing() -> None:
    daemon_only = Capabilities(human_monitor=False)
    whole = Capabilities(attaching_again_aborts=True)
    assert _note(Comparison(), whole, daemon_only) == ["1.0 → 2.0: no observable differences"]
    assert len(_note(Comparison(), whole, TODAY)) == 6


def _note(found: Comparison, first: Capabilities, second: Capabilities) -> list[str]:
    return list(release_note(differences(found, first, second), [],
                             [Side("1.0", first, fake_build()),
                              Side("2.0", second, fake_build())]))


def test_the_note_tells_what_became_of_each_capability() -> None:
    """What no operation met is told as well, and under the same headings."""
    there = [line.split(":")[0] for line in _note(Comparison(), OLD, TODAY)
             if not line.startswith(" ")]
    assert there == ["1.0 → 2.0", "mended", "new", "changed"]
    back = [line.split(":")[0] for line in _note(Comparison(), TODAY, OLD)
            if not line.startswith(" ")]
    assert back == ["1.0 → 2.0", "new defects", "gone", "changed"]
    assert _note(Comparison(), TODAY, TODAY) == ["1.0 → 2.0: no observable differences"]
    assert "     told by the QMP schema, or by how each build answered its probe" in _note(
        Comparison(), OLD, TODAY)


def test_a_line_of_the_note_stays_short_however_much_was_seen() -> None:
    names = frozenset(f"operation-{number}" for number in range(20))
    seen = Explained(("min_cluster_size",), "add-filter", ("refused", "ok"), operations=names)
    note = _note(Comparison(explained={seen.capabilities: seen}), OLD, TODAY)
    assert "     seen in operation-0, operation-1, operation-10, operation-11 and 16 more" in note


def test_only_capabilities_that_are_needed_are_blamed() -> None:
    trace = Trace(Header(Configuration((Image("src", 65536), Image("tmp", 65536)))), (
        Step(1, AddFilter("cbw", "src", "tmp", min_cluster_size=1 << 17)),))
    reasons = why(trace, OLD, TODAY, Aspect.OBSERVATION)
    assert ("snapshot_discard_rounds_inwards",) not in reasons
    assert why(trace, OLD, TODAY, Aspect.ANSWER) == [("min_cluster_size",)]


@pytest.mark.parametrize(("lie", "code"), [(None, 0), ("count-off", 1)])
def test_the_command(lie: str | None, code: int, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def subject_of(build: object) -> Subject:
        old = str(build).startswith("Build(name='old'")
        plan = Plan(capabilities=OLD if old else TODAY)
        ground = _MortalGround(plan) if old else SimulatedGround(plan, lie, 5)
        build = fake_build("old" if old else "new")
        return Subject(build, Profile(plan.capabilities), (ground,), ())  # type: ignore

    monkeypatch.setattr(command, "find", fake_build)
    monkeypatch.setattr(command, "subject_of", subject_of)
    file = tmp_path / "out.json"
    assert main(["compare", "old", "new", "--steps", "600", "--seed", "1", "--area",
                 "options,access", "--json", str(file), "--workers", "1", "--output",
                 str(tmp_path / "found")]) == code
    said = capsys.readouterr().out
    assert re.match(r"99\.0 of old → 99\.0 of new: \d+ observable differences\n", said)
    assert "copy-bitmap-on-filter (only 99.0 of new): " in said
    assert ("the model sides with 99.0 of old" in said) is bool(code)
    result = json.loads(file.read_text())
    output = tmp_path / "found"
    assert output.exists() is bool(code)
    for index, each in enumerate(result["unexplained"]):
        assert Path(each["trace"]).exists()
        if index < command.MOST_SHRUNK:  # further ones are saved as they are
            assert Path(each["story"]).exists()
            assert each["reproducer_tried"]
    if code:
        assert main(["report", str(output)]) == 0
        page = output.with_suffix(".html").read_text()
        assert "99.0 deviates from the model" in page
        assert 'data-show="0"' in page, "the cluster map"
    assert "copy-bitmap-on-filter" in [each["capability"] for each in result["explained"]]
    assert bool(result["unexplained"]) is bool(code)




def test_what_was_found_before_ctrl_c_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    grounds = {"old": _ground(), "new": _ground(lie="wrong-byte", truthful_for=10)}
    monkeypatch.setattr(command, "find", fake_build)
    monkeypatch.setattr(command, "subject_of", lambda build: Subject(
        build, Profile(TODAY), (grounds[build.name],), ()))  # type: ignore
    monkeypatch.setattr(command, "investigate", interrupted)
    output = tmp_path / "found"
    assert main(["compare", "old", "new", "--steps", "300", "--seed", "1", "--area", "access",
                 "--workers", "1", "--output", str(output)]) == 130
    said = capsys.readouterr().out
    assert "99.0 of new deviates, the model sides with 99.0 of old" in said
    assert ".jsonl --qemu-build new\n" in said, "not on PATH's QEMU"
    assert "INTERRUPTED" in said
    assert list(output.glob("1-*.jsonl"))
