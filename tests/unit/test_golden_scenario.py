# SPDX-License-Identifier: GPL-2.0-or-later
"""A scenario under way: two logs, what is not sent, what happens without a system."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from harness.golden.scenario import Scenario
from harness.golden.sides import model_text
from harness.golden.verdict import Verdict
from harness.lockstep.trace import SystemKind
from harness.systems.lies import FORGOTTEN_WHEN_STEERED, catalogue
from harness.systems.lies.forgotten import FORGOTTEN
from model.capabilities import Capabilities
from model.configuration import KIB, Image, Protocol, RequestKind
from model.job_operations import Backup, JobPause, OnError, Sync
from model.operations import Export, Read, Via, Write
from model.schedule import Start
from tests.unit.golden_lab import C, SimulatedHost, everything

SOURCE = Image("src", 4 * C, filled=((0, 4 * C),))
TEMPORARY = Image("tmp", 4 * C)
OLD = dataclasses.replace(
    Capabilities(), snapshot_discard_rounds_inwards=False, unaligned_snapshot_discard_aborts=True)


def texts(scenario: Scenario) -> tuple[str, str | None]:
    witnesses = scenario.witnesses(None)
    return witnesses.model, witnesses.qemu


def test_remarks_and_headings() -> None:
    scenario = Scenario(SimulatedHost())
    scenario.comment("A text\n\nof its own.")
    scenario.images(SOURCE)
    scenario.section("Part")
    scenario.comment("goes with what follows")
    scenario.bitmaps("src")
    model, system = texts(scenario)
    assert model == system
    assert model.startswith("# A text\n#\n# of its own.\n\nqemu-img create -f raw src.raw 256k\n")
    assert model.endswith("\n\n=== Part ===\n\n# goes with what follows\n{\n  \"src\": []\n}\n")


def test_what_would_kill_the_build_is_written_down_and_not_sent() -> None:
    host = SimulatedHost(OLD)
    scenario = Scenario(host)
    scenario.images(SOURCE, TEMPORARY)
    scenario.fleecing("src", "tmp")
    scenario.discard("acc", 512, 512)
    scenario.content("acc")
    model, system = texts(scenario)
    assert model == system
    assert ('qemu-io -c "discard 512 512" nbd:///acc\n'
            "not sent: known defect unaligned-snapshot-discard-aborts\n") in model
    assert "Permission denied" not in model


def test_the_script_can_be_played_as_another_build() -> None:
    scenario = Scenario(SimulatedHost())
    everything(scenario)
    model, _ = texts(scenario)
    assert model_text(scenario.script, Capabilities()) == model
    other = dataclasses.replace(Capabilities(), copy_bitmap_on_filter=False)
    assert model_text(scenario.script, other) != model


def test_without_a_system_the_model_goes_on() -> None:
    scenario = Scenario(SimulatedHost(absent="no QEMU here"))
    scenario.images(SOURCE)
    scenario.export("src")
    assert scenario.read("src", 0, C).content is not None
    assert scenario.absent == "no QEMU here"
    assert texts(scenario)[1] is None
    assert scenario.witnesses(None).verdict() is Verdict.MISSING_UNCONFIRMED


def test_a_channel_that_is_not_there_ends_the_asking() -> None:
    class Narrow(SimulatedHost):
        def start(self, kind: SystemKind, configuration: object) -> object:  # type: ignore[override]
            system = super().start(kind, configuration)  # type: ignore[arg-type]
            system._channels = frozenset({Via.NBD})  # type: ignore[attr-defined]
            return system

    scenario = Scenario(Narrow())
    scenario.images(SOURCE)
    scenario.export("src")
    scenario.read("src", 0, C)
    assert scenario.absent is None
    scenario.read("src", 0, C, Via.NBD_DF)
    assert scenario.absent == "requests by nbd-df are not possible here"
    assert texts(scenario)[1] is None


def test_the_trace_begins_with_the_images_of_the_first_difference() -> None:
    scenario = Scenario(SimulatedHost(lie=catalogue()["stale-data"]))
    scenario.images(Image("other", 64 * KIB))
    scenario.export("other")
    scenario.images(SOURCE, TEMPORARY)
    scenario.fleecing("src", "tmp")
    scenario.write("cbw", 0, C)
    scenario.read("cbw", 0, C)
    scenario.read("cbw", 0, C)
    scenario.images(Image("later", 64 * KIB))
    scenario.export("later")
    trace = scenario.trace()
    assert [image.node for image in trace.configuration.images] == ["src", "tmp"]
    assert [step.operation.name for step in trace.steps] == [
        "add-filter", "add-snapshot", "export", "export", "write", "read"]
    assert scenario.failure is not None
    assert scenario.failure.summary.startswith("diverges at operation 7 (read cbw 0 64k)")


def test_a_lasting_difference_of_bitmaps_is_told_once() -> None:
    scenario = Scenario(SimulatedHost(lie=catalogue()["extra-bitmap"]))
    everything(scenario)
    _, system = texts(scenario)
    assert system is not None
    told = [line for line in system.splitlines() if line.startswith("*** bitmaps of node")]
    assert 0 < len(told) < 10, "only when it becomes another one"


RULES = {each.name: each for each in FORGOTTEN}
RULES_OF_JOBS = {each.name: each for each in FORGOTTEN_WHEN_STEERED}


@pytest.mark.parametrize("forgotten", [
    None, "no-wait", "copy-waits", "no-freeze", "wait-for-one-read"])
def test_requests_that_overlap(forgotten: str | None) -> None:
    """Who waits for whom is in both logs; a filter that keeps no such rule is caught."""
    scenario = Scenario(SimulatedHost(forgotten=RULES[forgotten] if forgotten else None))
    scenario.images(replace(SOURCE, protocol=Protocol.HELD), TEMPORARY)
    scenario.fleecing("src", "tmp")
    scenario.start(Read("acc", 0, C // 2))
    scenario.start(Write("cbw", 0, C))
    scenario.complete("src", RequestKind.READ, 0, C)
    scenario.start(Read("acc", C // 2, C // 2))
    scenario.complete("src", RequestKind.READ, 0, C // 2)
    if forgotten is None:
        scenario.complete("src", RequestKind.WRITE, 0, C)
    model, system = texts(scenario)
    assert system is not None
    assert 'qemu-io -c "write -P 1 0 64k" nbd:///cbw &  # [6]\n' in model
    assert "pending: read src 0..32k, read src 0..64k\ncomplete: read src 0..64k\n" in model
    honest = forgotten in (None, "wait-for-one-read")  # there is only one to wait for
    assert (model == system) == (scenario.failure is None) == honest
    if forgotten is None:
        assert model.endswith("[6] wrote 65536/65536 bytes at offset 0\npending: nothing\n")


@pytest.mark.parametrize("forgotten", [None, "paused-at-once", "not-paused"])
def test_commands_that_a_job_is_given_meanwhile(forgotten: str | None) -> None:
    """A command is answered when the job rests; a job that keeps no such rule is caught."""
    scenario = Scenario(SimulatedHost(
        forgotten_by_jobs=RULES_OF_JOBS[forgotten] if forgotten else None))
    held = replace(SOURCE, protocol=Protocol.HELD)
    scenario.images(held, replace(TEMPORARY, protocol=Protocol.HELD))
    scenario.do(Export("src"))
    scenario.do(Start(Backup(
        "job", "src", "tmp", Sync.FULL, max_workers=1, max_chunk=C, auto_finalize=False,
        on_source_error=OnError.STOP, on_target_error=OnError.STOP)))
    scenario.start(Write("src", 3 * C, C))
    scenario.do(Start(JobPause("job")))
    for cluster in (0, 1):
        scenario.complete("src", RequestKind.READ, cluster * C, C)
        scenario.complete("tmp", RequestKind.WRITE, cluster * C, C)
    model, system = texts(scenario)
    assert system is not None
    assert 'qemu-io -c "write -P 1 192k 64k" nbd:///src &  # [3]\n' in model
    assert '{"execute": "job-pause", "arguments": {"id": "job"}} &  # [4]\npending: read' in model
    assert '[2] {"return": {}}\n[4] {"return": {}}\npending: read src 192k..256k\n' in model
    assert (model == system) == (scenario.failure is None) == (forgotten is None)
