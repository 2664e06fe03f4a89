# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes tell builds apart, and tell a known defect from a regression and from nonsense."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.builds import STORAGE_DAEMON, Build, Schema, Tool, find
from harness.errors import EnvironmentProblem
from harness.processes.exit import Exit
from harness.systems import capabilities, probes
from harness.systems.base import System
from harness.systems.capabilities import Profile, ask_all, by_schema, find_profile, judge
from harness.systems.failure import SystemCrashed
from harness.systems.known_defects import KNOWN
from harness.systems.lies import catalogue
from harness.systems.probes import Found, Probe, Start
from harness.systems.simulated import Simulated
from harness.systems.starting import starter
from model.capabilities import Capabilities
from model.configuration import Configuration
from model.machine import Machine

TODAY = Capabilities()
OLD = Capabilities(
    min_cluster_size=False, discard_source=False, job_on_cbw_error=False,
    copy_bitmap_on_filter=False, snapshot_discard_rounds_inwards=False,
    snapshot_reads_source_before_done_run_ends=True)
GENTLE = [probe for probe in probes.PROBES if probe.kills is None]
DEADLY = [probe for probe in probes.PROBES if probe.kills is not None]


def _simulated(what: Capabilities, lie: str | None = None, truthful_for: int = 0) -> Start:
    def start(configuration: Configuration) -> System:
        told = catalogue()[lie] if lie else None
        return Simulated(Machine(configuration, what), told, truthful_for=truthful_for)

    return start


def _name(probe: Probe) -> str:
    return probe.capability


def test_what_a_build_has_that_nobody_could_try_is_said():
    command = {"name": "block-dirty-bitmap-populate", "meta-type": "command"}
    assert capabilities.unmodelled(Schema.parse([command])) != ()
    assert capabilities.unmodelled(Schema({})) == ()


@pytest.mark.parametrize("probe", GENTLE, ids=_name)
@pytest.mark.parametrize("build", [TODAY, OLD], ids=["today", "old"])
def test_a_probe_tells_whether_the_capability_is_there(probe: Probe, build: Capabilities) -> None:
    for present in (True, False):
        what = dataclasses.replace(build, **{probe.capability: present})
        assert probe.ask(_simulated(what), build) == Found(probe.capability, present)


@pytest.mark.parametrize("probe", GENTLE, ids=_name)
@pytest.mark.parametrize("lie", ["wrong-granularity", "refused", "garbage"])
def test_an_answer_of_no_known_build_is_strange(probe: Probe, lie: str) -> None:
    assert probe.ask(_simulated(TODAY, lie), TODAY).strange


def test_wrong_data_in_a_probe_is_strange() -> None:
    probe = next(each for each in GENTLE if "done_run" in each.capability)
    found = probe.ask(_simulated(TODAY, "wrong-byte"), TODAY)
    assert found.strange
    assert "read" in found.strange


class _Dies(Simulated):
    """Dies at the operation of that number."""

    def __init__(self, configuration: Configuration, number: int, stderr: str) -> None:
        super().__init__(Machine(configuration))
        self._last = number
        self._stderr = stderr

    def apply(self, number: int, operation):  # type: ignore[no-untyped-def]
        if number == self._last:
            raise SystemCrashed(Exit(None, "SIGABRT", self._stderr))
        return super().apply(number, operation)


@pytest.mark.parametrize("probe", DEADLY, ids=_name)
def test_a_known_death_is_told_from_another(probe: Probe) -> None:
    last = len(probe.operations)
    assert probe.kills is not None
    known = f"qemu: x.c:1: f: Assertion `{probe.kills}' failed."
    other = "qemu: x.c:1: f: Assertion `all is well' failed."
    assert probe.ask(lambda it: _Dies(it, last, known), TODAY) == Found(probe.capability, True)
    strange = probe.ask(lambda it: _Dies(it, last, other), TODAY)
    assert not strange.present
    assert "all is well" in (strange.strange or "")
    early = probe.ask(lambda it: _Dies(it, 1, known), TODAY)
    assert (early.strange is None) is (last == 1)
    assert probe.ask(_simulated(TODAY), TODAY) == Found(
        probe.capability, KNOWN[probe.capability].races)


def test_old_defects_are_excused_on_old_builds_only() -> None:
    name = "snapshot_reads_source_before_done_run_ends"
    answer = Found(name, True)
    old = judge(OLD, [answer])
    assert old.defects == (name,)
    assert old.divergences == ()
    assert old.capabilities.snapshot_reads_source_before_done_run_ends
    new = judge(TODAY, [answer])
    assert new.defects == ()
    assert not new.capabilities.snapshot_reads_source_before_done_run_ends
    (divergence,) = new.divergences
    assert "mended in 9.1" in str(divergence.strange)
    assert "min-cluster-size" in str(divergence.strange)


def test_a_feature_that_is_gone_again_is_a_divergence() -> None:
    profile = judge(TODAY, [Found("snapshot_discard_rounds_inwards", False)])
    assert profile.capabilities.snapshot_discard_rounds_inwards
    assert "does not do this any more" in str(profile.divergences[0].strange)
    assert not judge(OLD, [Found("copy_bitmap_on_filter", False)]).divergences


def test_a_defect_that_nobody_has_mended_is_excused_everywhere() -> None:
    profile = judge(TODAY, [Found("huge_min_cluster_size_aborts", True)])
    assert profile.defects == ("huge_min_cluster_size_aborts",)
    assert profile.divergences == ()


def test_a_strange_answer_is_a_divergence_even_on_an_old_build() -> None:
    profile = judge(OLD, [Found("copy_bitmap_on_filter", False, "odd")])
    assert profile.divergences[0].strange == "odd"


def test_every_deviation_is_probed_and_described() -> None:
    asked = {probe.capability for probe in probes.PROBES} | {
        "overlapping_snapshot_reads_abort", "cbw_timeout_wraps", "aborted_group_hangs",
        "threaded_client_aborts", "failed_status_goes_on"}
    deviations = {each.name for each in dataclasses.fields(Capabilities)
                  if each.metadata["deviation"]}
    assert deviations <= asked
    assert all(capabilities.describe(name) for name in deviations)
    assert set(KNOWN) == deviations
    assert {name for name in deviations if not capabilities.until(name)} == (
        deviations - set(capabilities.SETTLED_BY))


def test_nothing_is_known_of_an_empty_schema() -> None:
    assert not by_schema(Schema({})).snapshot_access


# Real builds, where there are any.


@pytest.fixture(scope="module")
def build() -> Build:
    try:
        found = find()
    except EnvironmentProblem as why:
        pytest.skip(str(why))
    if not found.has(STORAGE_DAEMON):
        pytest.skip("no qemu-storage-daemon")
    return found


def _profile(build: Build, **options: bool) -> Profile:
    with starter(build, STORAGE_DAEMON) as start:
        return find_profile(build, start, **options)


def test_a_real_build_answers_every_probe_as_a_known_one(build: Build) -> None:
    profile = _profile(build, cache=False)
    assert profile.divergences == ()
    assert profile.capabilities.snapshot_access


def test_answers_are_kept_and_used_again(build: Build, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[int] = []

    def counted(*arguments: Any, **options: bool) -> list[Found]:
        asked.append(1)
        return ask_all(*arguments, **options)

    monkeypatch.setattr(capabilities, "ask_all", counted)
    first = _profile(build)
    assert _profile(build) == first
    assert len(asked) == 1
    _profile(build, cache=False)
    assert len(asked) == 2
    for file in tmp_path.rglob("*.json"):
        file.write_text("not json")
    assert _profile(build) == first
    assert len(asked) == 3


def test_nothing_deadly_is_asked_if_so_told() -> None:
    started: list[Configuration] = []

    def start(configuration: Configuration) -> System:
        started.append(configuration)
        return _simulated(TODAY)(configuration)

    known = dataclasses.replace(TODAY, on_cbw_error=False)  # its probe needs a real QEMU
    found = {each.capability: each for each in ask_all(start, known, start, deadly=False)}
    assert len(started) == len(GENTLE) + 3  # and three that are more than operations
    assert found["empty_merge_crashes"] == Found("empty_merge_crashes", True, assumed=True)
    mended = "unaligned_snapshot_discard_aborts"
    assert found[mended] == Found(mended, False, assumed=True), "min-cluster-size is there"
    assert judge(known, list(found.values())).capabilities.empty_merge_crashes


def test_a_cache_that_cannot_be_written_is_none(build: Build, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert _profile(build).capabilities.snapshot_access


def test_a_build_without_snapshot_access_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool(STORAGE_DAEMON, Path("/nowhere/qsd"), ("/nowhere/qsd",), "5.2.0")
    monkeypatch.setattr(capabilities, "query_schema", lambda tool: Schema({}))
    ancient = Build("old", Path("/nowhere"), "5.2.0", {STORAGE_DAEMON: tool})
    with pytest.raises(capabilities.NothingToVerify, match=r"5\.2\.0\) has no snapshot-access"):
        find_profile(ancient, _simulated(TODAY))
