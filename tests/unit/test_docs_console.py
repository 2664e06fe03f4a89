# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of the documents are run, and the outputs shown are those that come.

All of it on the QEMU that an output names, but for times; on another one, but for numbers and for
what depends on a build.  A line that begins with … stands for lines that are left out.
test_docs_blocks.py names the commands that are not run here, and why.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import user_cache
from harness.builds import find
from harness.cli.load import AREA, growth_unseen
from harness.cli.results import Result
from harness.cli.summary import show
from harness.clients.libnbd import libnbd_available
from harness.errors import HarnessError
from harness.exploration.kills import Kills
from harness.exploration.load import Load
from harness.exploration.subjects import subject_of
from harness.golden.mode import mode
from harness.golden.scenario import Scenario
from harness.golden.session import golden_store
from harness.golden.settle import settle
from harness.golden.verdict import Verdict
from harness.invocation import program
from harness.lockstep.trace import SystemKind
from harness.systems.base import Answer, System
from harness.systems.simulated import Simulated
from model.bitmap import align_down
from model.configuration import Configuration
from model.machine import Machine
from model.operations import Operation
from tests.iotests import test_6xx_images as images
from tests.unit.cli_lab import ROOT, harness
from tests.unit.docs_lab import Block, Command, blocks, fenced, text
from tests.unit.golden_lab import SimulatedHost
from tests.unit.test_docs_blocks import is_listed

RUN = {block: found for block in blocks()
       if (found := [each for each in block.commands() if not is_listed(block, each.line)])}
LYING, = (each for found in RUN.values() for each in found
          if "--simulated no-freeze" in each.line)
SUITES = re.compile(r"debian:[\w-]+")
VERSION = re.compile(r"\b\d+\.\d+\.\d+\b(?: \(Debian \S+\))?")


def timeless(told: str) -> str:
    """The text without what differs from run to run, and without how many rules and directed
    checks there are, which each new one of them would make untrue."""
    told = told.replace(program(), "python -m harness")
    told = re.sub(r"of \d+ (?=rules)|\d+ of \d+ (?=directed checks)", "", told)
    return re.sub(r"\d+\.\d+ s\b|\b\d+ steps/s|in \d+\.\d+s", "TIME", told)


def shows(said: str, told: str) -> bool:
    """Whether the text is what is shown, with other lines where that has a line with …"""
    parts = re.split(r"^ *….*\n", said, flags=re.MULTILINE)
    return re.fullmatch(r"(?:.*\n)*?".join(map(re.escape, parts)), told) is not None


@pytest.mark.parametrize(("said", "told", "same"), [
    ("a 1\nb\n", "a 1\nb\n", True), ("a 1\nb\n", "a 2\nb\n", False), ("a\n", "a\nb\n", False),
    ("a\n  … and so on …\nc\n", "a\nb\nb\nc\n", True), ("a\n…\nc\n", "a\nc\n", True),
    ("a\n…\n", "a\nb\n", True), ("a\n…\nc\n", "a\nc\nb\n", False), ("a\n…\nb\n", "ab\n", False)])
def test_what_is_left_out_is_whole_lines(said: str, told: str, same: bool) -> None:
    assert shows(said, told) is same


def test_only_times_are_no_matter() -> None:
    was = "7 steps in 2 traces, in 0.7 s, 521 steps/s; seed 1\n1 passed in 1.42s\n"
    assert timeless(was) == timeless(was.replace("0.7", "31.0").replace("521", "9"))
    assert timeless(was) != timeless(was.replace("7 steps", "8 steps"))


def masked(told: str) -> list[str]:
    """The lines without what differs between builds too: numbers, and versions."""
    told = re.sub(r"\(Debian \S+\)", "(VERSION)", timeless(told))
    told = re.sub(r"\b(\d+\.\d+\.\d+) \(VERSION\)", "VERSION", told)
    return [re.sub(r"\d+(\.\d+)?", "N", line).rstrip() for line in told.splitlines()]


def shapes(told: str) -> list[str]:
    """The lines of a summary without what depends on build and traces: names of known defects, in
    which operations a divergence shows, whether there is a second one; what was not checked."""
    told = re.sub(r"^not checked:\n(  .*\n)*", "", told, flags=re.MULTILINE)
    told = re.sub(r"^divergence 2 .*?(?=^DIVERGES)", "", told, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in masked(told) if not re.match("    |  …|  [a-z-]+(, |,?$)", line)]
    return list(dict.fromkeys(re.match(r" *\S+ ?\S*", line)[0]  # type: ignore[index]
                              for line in lines if line))


def at_hand(*suites: str) -> set[str]:
    """The versions of the QEMU at hand and of those that were fetched, with and without what
    Debian calls them; or no test."""
    try:
        found = [find(None).version]
    except HarnessError as why:
        pytest.skip(str(why))
    if not libnbd_available():
        pytest.skip("no libnbd")
    try:
        found += [find(suite).version for suite in suites]
    except HarnessError as why:
        pytest.skip(f"{why} (-m network)")
    return {*found, *(version.split()[0] for version in found)}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this user's runs have found is not done first."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "cbw-lockstep").mkdir()
    for name in ("builds", "probes"):
        (cache / "cbw-lockstep" / name).symlink_to(user_cache.place(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the readme's divergence was found."""
    folder = tmp_path_factory.mktemp("diverged")
    done = harness(*shlex.split(LYING.line)[3:], "--json", "result.json", cwd=folder)
    assert timeless(done.stdout) == timeless(LYING.said)
    return folder


def test_the_divergence_of_the_readme(diverged: Path) -> None:
    """Its summary is as shown, which the fixture sees to, and its story begins so."""
    story, = fenced("README.md", "text")
    assert (diverged / "lockstep-output/1-concurrency.txt").read_text("utf-8").startswith(story)


def test_the_fields_of_a_run_are_told(diverged: Path) -> None:
    told = text("README.md").split("`verify --json FILE` writes one object")[1].split("\n\n")[0]
    written = json.loads((diverged / "result.json").read_text("utf-8"))
    assert set(re.findall(r"`(\w+)`", told)) >= set(written)


@pytest.mark.parametrize("block", [each for each in RUN if LYING not in RUN[each]],
                         ids=lambda block: RUN[block][0].line[18:])
def test_what_is_shown_is_what_comes(block: Block, diverged: Path, tmp_path: Path) -> None:
    """The commands of a block, one after the other, where a run has left its divergence."""
    folder = tmp_path / "home"
    shutil.copytree(diverged, folder)
    for body in fenced(block.document, "json"):
        for name in re.findall(r"replay (\w+\.jsonl)", block.body):
            (folder / name).write_text(body, encoding="utf-8")
    for command in RUN[block]:
        check(command, folder)


def check(command: Command, folder: Path) -> None:
    here = set() if "--simulated" in command.line else at_hand(*SUITES.findall(command.line))
    words = shlex.split(command.line.replace("--qemu-build ~/qemu/build", ""))
    assert words[:3] == ["python", "-m", "harness"]
    done = harness(*words[3:], cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    told = done.stdout.replace(str(folder), "~")
    if not command.said:
        return
    if set(VERSION.findall(command.said)) <= here:
        assert shows(timeless(command.said), timeless(told)), told
    elif " verify " in command.line:
        assert shapes(told) == shapes(command.said)
    elif "…" in command.said or SUITES.search(command.line):
        pytest.skip(f"nothing is said of QEMU {', '.join(sorted(here))}")
    else:
        assert masked(told) == masked(command.said)


def test_the_summary_of_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    said = next(each.said for block in blocks() for each in block.commands()
                if each.line == "python -m harness verify --seed 1 --workers 2")
    at_hand()
    subject = subject_of(find(None))
    version = subject.build.version
    if f"QEMU {version}: " not in said or subject.not_checked:
        pytest.skip(f"nothing is said of QEMU {version}")
    left = "1 of 2 directed checks: the budget was spent before they were done"
    result = Result(subject.build, subject.profile, 1, (AREA,), elapsed=1.0, load=Load(),
                    kills=Kills())
    result.not_checked = [*growth_unseen(result, subject.grounds, 1.0), left]
    show(result)
    assert masked(capsys.readouterr().out) == masked(said)


class TailNeverDone(Simulated):
    """A QEMU that never sets the done bit of a last cluster that is no whole one."""

    def apply(self, number: int, operation: Operation) -> Answer:
        answer = super().apply(number, operation)
        assert isinstance(self._machine, Machine)
        for view in self._machine.filters():
            tail = align_down(view.done.size, view.cluster_size)
            view.done.reset(tail, view.done.size)
        return answer


class TailHost(SimulatedHost):
    def start(self, kind: SystemKind, configuration: Configuration) -> System:
        return TailNeverDone(Machine(configuration, self.capabilities()))


def test_a_difference_of_golden_outputs() -> None:
    """That of docs/golden.md, where a QEMU was changed; here the model is, in the same way."""
    said, = (each.said for block in blocks() for each in block.commands()
             if "golden check 603" in each.line)
    scenario = Scenario(TailHost())
    scenario.comment(inspect.getdoc(images.test_603_unaligned_tail) or "")
    images.test_603_unaligned_tail(scenario)
    scenario.close()
    settled = next(settle(scenario, "603-unaligned-tail", [images.COPY_BITMAP], golden_store(),
                          mode("diff", {})))
    assert settled.verdict is Verdict.QEMU_DEVIATES
    assert shows(said, settled.text)


def test_golden_numbers_are_explained() -> None:
    told = text("docs/iotests.md")
    for path in (ROOT / "tests/iotests").glob("test_*xx_*.py"):
        number = path.name.split("_")[1]
        assert f"{number} " in told.replace("\n", " "), number
