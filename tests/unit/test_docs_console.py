# SPDX-License-Identifier: GPL-2.0-or-later
"""The outputs that the documents show are those that come, but for numbers.

What takes a minute is not run: the summary of ``verify`` is printed for a made-up result of the
QEMU at hand, and of ``compare`` nothing is tested here.
What a QEMU printed that was changed on purpose cannot be had here.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.builds import find
from harness.cli.load import AREA, growth_unseen
from harness.cli.results import Result
from harness.cli.summary import show
from harness.clients.libnbd import libnbd_available
from harness.errors import HarnessError
from harness.exploration.kills import Kills
from harness.exploration.load import Load
from harness.exploration.subjects import subject_of
from harness.invocation import program
from tests.unit.cli_lab import ROOT, harness

DOCUMENTS = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))
                            if path.name != "iotests.md"))
"""The iotest that docs/iotests.md writes is none of ours; test_golden_plugin.py runs it."""
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JSON = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DONE_ELSEWHERE = {
    "python -m harness golden check 603 --qemu-build ~/qemu/build",  # a QEMU changed on purpose
    "python -m harness verify --seed 1 --workers 2",  # see below
}
MINUTES = "python -m harness compare "
"""It also needs builds that somebody has fetched."""


def shown() -> dict[str, tuple[str, str]]:
    """Each command whose output is shown, with its document and the output."""
    found = {}
    for name in DOCUMENTS:
        for body in CONSOLE.findall((ROOT / name).read_text(encoding="utf-8")):
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, said = part.partition("\n")
                if said:
                    found[command] = name, said
    return found


SHOWN = shown()


def masked(text: str) -> list[str]:
    """The lines without what differs between runs and builds: numbers, and versions."""
    text = text.replace(program(), "python -m harness")
    text = re.sub(r"\(Debian \S+\)", "(VERSION)", text)
    text = re.sub(r"\b(\d+\.\d+\.\d+) \(VERSION\)", "VERSION", text)
    return [re.sub(r"\d+(\.\d+)?", "N", line).rstrip() for line in text.splitlines()]


def shapes(text: str) -> list[str]:
    """The lines of a summary without what depends on build and traces: names of known defects, in
    which operations a divergence shows, whether there is a second one; what was not checked."""
    text = re.sub(r"^not checked:\n(  .*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^divergence 2 .*?(?=^DIVERGES)", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in masked(text) if not re.match("    |  …|  [a-z-]+(, |,?$)", line)]
    return list(dict.fromkeys(re.match(r" *\S+ ?\S*", line)[0]  # type: ignore[index]
                              for line in lines if line))


@pytest.fixture
def qemu() -> None:
    try:
        find(None)
    except HarnessError as why:
        pytest.skip(str(why))
    if not libnbd_available():
        pytest.skip("no libnbd")


@pytest.mark.parametrize("command", [
    each for each in SHOWN if each not in DONE_ELSEWHERE and not each.startswith(MINUTES)])
def test_what_is_shown_is_what_comes(command: str, qemu: None, tmp_path: Path) -> None:
    document, said = SHOWN[command]
    for word in re.findall(r"\S+\.jsonl", command):
        trace, = JSON.findall((ROOT / document).read_text(encoding="utf-8"))
        (tmp_path / word).write_text(trace, encoding="utf-8")
    if "report lockstep-output" in command:
        harness(*LYING, cwd=tmp_path)
    words = shlex.split(command.replace("--qemu-build ~/qemu/build", ""))
    assert words[:3] == ["python", "-m", "harness"]
    done = harness(*words[3:], cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    if words[3] == "verify":
        assert shapes(done.stdout) == shapes(said)
    else:
        assert masked(done.stdout) == masked(said)


LYING, = (shlex.split(each)[3:] for each in SHOWN if "verify --simulated" in each)


def test_the_summary_of_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    said = SHOWN["python -m harness verify --seed 1 --workers 2"][1]
    try:
        subject = subject_of(find(None))
    except HarnessError as why:
        pytest.skip(str(why))
    version = subject.build.version
    if f"QEMU {version}: " not in said or subject.not_checked:
        pytest.skip(f"nothing is said of QEMU {version}")
    left = "1 of 2 directed checks: the budget was spent before they were done"
    result = Result(subject.build, subject.profile, 1, (AREA,), elapsed=1.0, load=Load(),
                    kills=Kills())
    result.not_checked = [*growth_unseen(result, subject.grounds, 1.0), left]
    show(result)
    assert masked(capsys.readouterr().out) == masked(said)


def test_the_story_is_told_so(tmp_path: Path) -> None:
    """That of the readme's divergence: its parts, each with lines of that kind."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    story, = re.findall(r"^```text\n(Divergence at .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    harness(*LYING, cwd=tmp_path)
    told, = (path.read_text(encoding="utf-8")
             for path in (tmp_path / "lockstep-output").glob("1-*.txt"))
    parts = [line.split(":")[0] for line in masked(told) if line[:1].strip()]
    assert [line.split(":")[0] for line in masked(story) if line[:1].strip()] == parts[:-1]
    assert parts[-1] == "What the model holds about the last operation"


def test_golden_numbers_are_explained() -> None:
    told = (ROOT / "docs/iotests.md").read_text(encoding="utf-8")
    for path in (ROOT / "tests/iotests").glob("test_*xx_*.py"):
        number = path.name.split("_")[1]
        assert f"{number} " in told.replace("\n", " "), number
