# SPDX-License-Identifier: GPL-2.0-or-later
"""Reproducers fail where the defect is, pass where it is not, and need nothing of the harness."""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, SYSTEM, Build, Tool, find
from harness.errors import EnvironmentProblem
from harness.exploration.subjects import Subject, subject_of
from harness.lockstep.differences import CompressedDiffers, Difference, EventsDiffer
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import SystemKind, Trace
from harness.lockstep.verdict import Conforms, Diverges, Failure
from harness.reproducers.attempt import AS_EXPECTED, CANNOT, Attempt, attempt, by_hand
from harness.reproducers.compile import NoReproducer, Words, compiled
from harness.reproducers.handover import write_reproducers
from harness.reproducers.iotest import iotest
from harness.reproducers.python_source import WIDTH, Name, call
from harness.reproducers.schedule import schedule
from harness.reproducers.script import Piece, Script
from harness.reproducers.shell import disk_lines, shell
from harness.reproducers.unheld import unheld
from harness.systems.lies import catalogue
from harness.systems.probes import PROBES, Probe
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, Fault, Image, Protocol, RequestKind
from model.machine import Machine
from model.operations import AddFilter, Export, Operation, Write
from model.outcome import JobEvent
from model.schedule import Complete, Start
from tests.unit.report_lab import SCHEDULE
from tests.unit.reproducers_lab import (
    BY_MONITOR,
    KILLED,
    THOROUGH,
    in_the_end,
    trace,
)

WORDS = (Words(qemu_io=True), Words(qemu_io=False))
Model = Callable[[Configuration], Machine]


@pytest.fixture(scope="module")
def subject() -> Subject:
    try:
        return subject_of(find())
    except EnvironmentProblem as why:
        pytest.skip(str(why))


def model_of(capabilities: Capabilities) -> Model:
    return lambda images: Machine(images, capabilities)


def script_of(what: Trace, words: Words = WORDS[0],
              capabilities: Capabilities | None = None) -> Script:
    return compiled(what, in_the_end(what), model_of(capabilities or Capabilities()), "99", words)


# The truth


@pytest.mark.parametrize("words", WORDS, ids=["qemu-io", "libnbd"])
@pytest.mark.parametrize(("operations", "tool"), [
    (THOROUGH, STORAGE_DAEMON), (KILLED, STORAGE_DAEMON), (BY_MONITOR, SYSTEM)])
def test_a_qemu_that_does_as_the_model_says_passes(
        words: Words, operations: tuple[Operation, ...], tool: str, subject: Subject) -> None:
    build = subject.build
    if not build.has(tool):
        pytest.skip(f"no {tool}")
    kind = SystemKind.QSD if tool == STORAGE_DAEMON else SystemKind.QEMU_SYSTEM
    script = script_of(trace(operations, kind), words, subject.profile.capabilities)
    assert attempt(shell(script, "x.sh"), build) == Attempt(AS_EXPECTED, "AS EXPECTED")


# Defects


def _probe(name: str) -> Probe:
    return next(each for each in PROBES if each.capability == name)


DEFECTS = [pytest.param(probe, id=probe.capability, marks=() if probe.capability in (
    "empty_merge_crashes", "refused_enable_disables",
    "snapshot_reads_source_before_done_run_ends") else pytest.mark.slow)
    for probe in PROBES if probe.capability not in (
        # The model has nothing to say of such a build, or QEMU may win the race.
        "unaligned_snapshot_discard_aborts", "qed_parallel_allocation_aborts")]


@pytest.mark.parametrize("probe", DEFECTS)
def test_a_defect_of_the_build_is_shown(probe: Probe, subject: Subject, tmp_path: Path) -> None:
    """The model is told that the build has none of it."""
    kind = SystemKind.QEMU_SYSTEM if probe.by_device else SystemKind.QSD
    ground = next((each for each in subject.grounds if each.plan.system is kind), None)
    if probe.capability not in subject.profile.defects or ground is None:
        pytest.skip("this build does not have it")
    believed = dataclasses.replace(subject.profile.capabilities, **{probe.capability: False})
    what = trace(probe.operations, kind, probe.configuration)
    with ground.open() as real:
        stand = Stand(real.start, model_of(believed))
        failure = replay(what, stand)
        assert not isinstance(failure, Conforms)
        made = write_reproducers(what, failure, stand, subject.build, tmp_path / "found")
    assert made.note.startswith(f"tried: NOT AS EXPECTED at operation {failure.step.number} ")
    assert made.shell == tmp_path / "found.sh"
    assert made.iotest == tmp_path / "found.iotest"
    ast.parse(made.iotest.read_text())


# Lies


def _lying(what: Trace, lie: str) -> tuple[Failure, Stand]:
    def start(images: Configuration) -> Simulated:
        return Simulated(Machine(images), catalogue()[lie], truthful_for=len(what.steps) - 1)

    stand = Stand(start, Machine)
    failure = replay(what, stand)
    assert not isinstance(failure, Conforms)
    return failure, stand


@pytest.mark.parametrize(("lie", "count"), [
    ("wrong-byte", 6), ("needless-error", 7), ("no-error", 15), ("all-denied", 17),
    ("wrong-flags", 11), ("count-off", 9), ("wrong-digest", 13), ("refused", 12),
    ("accepted", 13), ("crash", 7), ("hang", 7)])
def test_what_a_simulation_lied_about_is_true_of_a_real_one(
        lie: str, count: int, subject: Subject, tmp_path: Path) -> None:
    """Written of a simulation, untried; a QEMU that does as the model says passes it."""
    what = trace(THOROUGH[:count])
    failure, stand = _lying(what, lie)
    told = Stand(stand.start, model_of(subject.profile.capabilities))
    made = write_reproducers(what, failure, told, None, tmp_path / "found")
    assert made.note == "not tried: there is no build"
    assert made.shell is not None
    assert attempt(made.shell.read_text(), subject.build).status == AS_EXPECTED


@pytest.mark.parametrize("difference", [
    EventsDiffer((), (JobEvent("X", ()),)), CompressedDiffers("tmp", range(1, 2), 0)])
def test_what_no_reproducer_looks_at_has_none(difference: Difference) -> None:
    what = trace(THOROUGH[-2:-1])
    failure = Diverges(0, what.steps[0], (difference,))
    with pytest.raises(NoReproducer, match="replay the trace"):
        compiled(what, failure, Machine, "99", WORDS[0])


# What cannot be judged, or not here


def test_a_build_that_lacks_what_it_takes_cannot_be_judged(subject: Subject) -> None:
    what = trace((AddFilter("cbw", "src", "tmp", min_cluster_size=1 << 17), Export("cbw")))
    script = script_of(what)
    text = shell(script, "x.sh")
    tried = attempt(text.replace('"min-cluster-size"', '"no-such-option"'), subject.build)
    assert tried.status == CANNOT
    assert "is refused" in tried.said


def test_without_qemu_nothing_can_be_judged(tmp_path: Path) -> None:
    file = tmp_path / "x.sh"
    file.write_text(shell(script_of(trace(THOROUGH[:5])), "x.sh"))
    done = subprocess.run(["sh", file], env={"PATH": str(tmp_path), "QSD": "/nowhere/qsd"},
                          executable=shutil.which("sh"), check=False, capture_output=True,
                          text=True)
    assert done.returncode == CANNOT
    assert "this does not run: /nowhere/qsd" in done.stdout


@pytest.mark.parametrize(("folder", "said"), [
    ("nowhere", "nowhere is no folder"), (".", "no QEMU in .")])
def test_the_qemu_of_path_is_not_taken_for_that_of_a_folder(
        folder: str, said: str, tmp_path: Path, subject: Subject) -> None:
    """A good verdict on it would mislead git bisect."""
    for number, text in enumerate((
            shell(script_of(trace(THOROUGH[:5])), "x.sh"),
            schedule(SCHEDULE, in_the_end(SCHEDULE), ConcurrentMachine, "99", "x.sh"))):
        file = tmp_path / f"{number}.sh"
        file.write_text(text)
        done = subprocess.run(["sh", file, folder], cwd=tmp_path, check=False,
                              capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (CANNOT, f"cannot be judged: {said}\n")


def test_another_answer_earlier_is_not_taken_for_the_divergence() -> None:
    assert Attempt(1, "NOT AS EXPECTED at operation 5 (read): expected ok, got x").shows(5)
    assert not Attempt(1, "NOT AS EXPECTED at operation 5 (read): expected ok, got x").shows(6)
    assert not Attempt(0, "AS EXPECTED").shows(5)


def test_a_reproducer_that_shows_nothing_is_not_handed_over(subject: Subject,
                                                            tmp_path: Path) -> None:
    what = trace(THOROUGH[:6])
    failure, stand = _lying(what, "wrong-byte")
    told = Stand(stand.start, model_of(subject.profile.capabilities))
    made = write_reproducers(what, failure, told, subject.build, tmp_path / "found")
    assert made.note == "no reproducer: alone it says: AS EXPECTED"
    assert list(tmp_path.iterdir()) == []


# Schedules


def test_a_schedule_without_overlap_is_done_over_files() -> None:
    held = Configuration((Image("src", 1 << 16, protocol=Protocol.HELD),
                          Image("tmp", 1 << 16, protocol=Protocol.HELD)))
    alone = unheld(trace((
        AddFilter("cbw", "src", "tmp"), Export("cbw"), Start(Write("cbw", 0, 512)),
        Complete("src", "read", 0, 1 << 16), Complete("tmp", "write", 0, 1 << 16, "EIO"),
    ), images=held))
    assert [step.number for step in alone.steps] == [1, 2, 3]
    assert alone.steps[-1].operation == Write("cbw", 0, 512)
    assert alone.configuration.images == (
        Image("src", 1 << 16, filled=((0, 1 << 16),)),
        Image("tmp", 1 << 16, filled=((0, 1 << 16),),
              faults=(Fault(RequestKind.WRITE, 0, "EIO", once=True),)))


def test_what_tells_block_status_is_filled_as_it_was() -> None:
    held = Image("src", 1 << 17, protocol=Protocol.HELD, filled=((0, 512),), tells_status=True)
    alone = unheld(trace((), images=Configuration((held,))))
    assert alone.configuration.images == (Image("src", 1 << 17, filled=((0, 512),)),)


def test_overlap_alone_has_no_reproducer() -> None:
    held = Configuration((Image("src", 1 << 16, protocol=Protocol.HELD),))
    with pytest.raises(NoReproducer, match="replay the trace"):
        script_of(trace((Export("src"),), images=held))


@pytest.mark.parametrize("name", ["", "an odd name", "\u00e9"])
def test_names_to_be_quoted_have_no_reproducer(name: str) -> None:
    with pytest.raises(NoReproducer, match="a shell would have to quote"):
        script_of(trace((Export("src", called=name),)))


def test_a_long_trace_may_take_longer(subject: Subject) -> None:
    """Each request is a qemu-io of its own: on a busy machine those of a long trace need more
    than is granted for a hang, and its end would be taken for one."""
    script = script_of(trace(THOROUGH), capabilities=subject.profile.capabilities)
    life, = re.findall(r"^life=.*", shell(script, "x.sh"), re.MULTILINE)
    done = subprocess.run(["sh", "-c", f"patience=60\n{life}\necho $life"], check=True,
                          capture_output=True, text=True)
    assert int(done.stdout) == 60 + 2 * len(THOROUGH)
    assert f"Timeout({60 + 2 * len(THOROUGH)}, " in iotest(script)


def test_a_bad_end_is_asked_for(subject: Subject) -> None:
    what = trace(THOROUGH[:6])
    failure = dataclasses.replace(in_the_end(what), observing=False, ending=True)
    script = compiled(what, failure, model_of(subject.profile.capabilities), "99", WORDS[0])
    text = shell(script, "x.sh")
    assert attempt(text, subject.build) == Attempt(AS_EXPECTED, "AS EXPECTED")
    deaf = text.replace('{"execute": "quit"}', '{"execute": "query-version"}')
    tried = attempt(deaf, subject.build, patience=3)
    assert tried.shows(6)
    assert tried.said.endswith("no answer in 3 s")
    with pytest.raises(NoReproducer, match="how QEMU ends"):
        iotest(script)


# Form


@pytest.mark.parametrize("words", WORDS, ids=["qemu-io", "libnbd"])
@pytest.mark.parametrize("operations", [THOROUGH, BY_MONITOR, KILLED])
def test_the_test_for_qemu_is_as_upstream_writes_python(
        words: Words, operations: tuple[Operation, ...]) -> None:
    kind = SystemKind.QEMU_SYSTEM if operations is BY_MONITOR else SystemKind.QSD
    text = iotest(script_of(trace(operations, kind), words))
    tree = ast.parse(text)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert text.startswith("#!/usr/bin/env python3\n# group: ")
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names}
    assert imported <= {"os", "errno", "re", "time", "iotests", "nbd"}
    for name in imported - {"nbd"}:
        assert re.search(rf"\b{name}[.,]", text), f"{name} is imported and not used"
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
              and isinstance(node.value, ast.Name) and node.value.id == "self"}
    made = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    known = {"qsd", "vm", "raw", "said", "assertIn", "assertEqual", "assertTrue", "assertFalse",
             "assertNotIn"}
    assert called - made <= known
    assert made - called <= {"setUp", "tearDown", "test_reproducer", "take"}


def test_the_shell_form_needs_no_bash() -> None:
    for operations in (THOROUGH, KILLED):
        text = shell(script_of(trace(operations)), "x.sh")
        done = subprocess.run(["sh", "-n"], input=text, check=False, capture_output=True,
                              text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "needs: qemu-storage-daemon, qemu-img, qemu-io" in text


@pytest.mark.parametrize("operations", [THOROUGH, KILLED])
def test_nothing_of_this_machine_is_in_it(operations: tuple[Operation, ...]) -> None:
    script = script_of(trace(operations))
    for text in (shell(script, "x.sh"), iotest(script)):
        assert sys.prefix not in text
        assert str(Path.cwd()) not in text


def test_what_a_disk_is_filled_with_is_a_loop(tmp_path: Path) -> None:
    """Not two lines for each of 64 blocks."""
    script = script_of(trace(THOROUGH))
    assert "    for value in range(1, 65):\n" in iotest(script)
    disk = script.disks[0]
    assert len(disk.pieces) == 64
    lines = list(disk_lines(disk))
    assert "\n".join(lines).count("\n") < 6
    odd = dataclasses.replace(disk, pieces=(
        Piece(512, 1024, 7), *disk.pieces[1:3], Piece(64 * 1024, 64 * 1024 + 512, 255),
        Piece(64 * 1024 + 512, 65 * 1024, 0)))
    for each in (disk, odd):
        subprocess.run(["sh", "-ec", "\n".join(disk_lines(each))], cwd=tmp_path, check=True)
        data = bytearray(each.image.size)
        for piece in each.pieces:
            data[piece.start:piece.end] = bytes([piece.pattern]) * piece.length
        assert (tmp_path / disk.file).read_bytes() == data
        (tmp_path / disk.file).unlink()


def test_calls_are_wrapped() -> None:
    assert call("f", [1, "a", Name("b")], 8) == ["f(1, 'a', b)"]
    long = call("self.accepted", ["blockdev-add", {"driver": "raw", "file": "x" * 50}], 8)
    assert long == ["self.accepted('blockdev-add', {", "    'driver': 'raw',",
                    f"    'file': '{'x' * 50}',", "})"]
    for line in call("f", [["y" * 200], {"key": ["z" * 30] * 5}], 8):
        assert len(line) <= WIDTH - 8
    assert eval("\n".join(call("dict", [], 8, {"a": ("y" * 200,)}))) == {"a": ("y" * 200,)}


def tool(path: str, name: str = "", *, argv: tuple[str, ...] = (), borrowed: bool = False) -> Tool:
    return Tool(name or Path(path).name, Path(path), argv or (path,), "1.0", borrowed=borrowed)


@pytest.mark.parametrize(("tools", "command"), [
    ((tool("/b/storage-daemon/qemu-storage-daemon"), tool("/b/qemu-img"),
      tool("/usr/bin/qemu-io", borrowed=True)), "sh 'a b.sh' /b"),
    ((tool("/c d/qemu-storage-daemon"),), "sh 'a b.sh' '/c d'"),
    ((tool("/usr/libexec/qemu-kvm", SYSTEM), tool("/usr/bin/qemu-img", borrowed=True)),
     "QEMU_SYSTEM=/usr/libexec/qemu-kvm sh 'a b.sh'"),
    ((tool("/d/usr/bin/qemu-storage-daemon", argv=("/d/lib/ld.so", "/d/…")),),
     "sh 'a b.sh' FOLDER, of a QEMU that is installed: the programs of spec need the harness to "
     "run"),
])
def test_the_command_by_hand_names_the_programs(tools: tuple[Tool, ...], command: str) -> None:
    build = Build("spec", Path("/spec"), "1.0", {each.name: each for each in tools})
    assert by_hand(Path("a b.sh"), build) == command
    assert by_hand(Path("a.sh"), dataclasses.replace(build, name="PATH")) == "sh a.sh"
