# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/findings: each is complete and in its place, and its commands show it on a real QEMU."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.builds import Build, find
from harness.errors import HarnessError
from harness.systems.known_defects import (
    FILE,
    KNOWN,
    KnownDefect,
    read,
    recognised,
    spelled,
)

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS / "findings/README.md"
FINDINGS = sorted(each for each in (DOCS / "findings").glob("*.md") if each != README)
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VERSIONS = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Reproducer:
    """Commands, the lines that show the defect, and the versions said to have it or not."""

    name: str
    commands: str
    shown: tuple[str, ...]
    has: tuple[str, ...]
    has_not: tuple[str, ...]
    cannot: tuple[str, ...]


def reproducers(finding: Path) -> list[Reproducer]:
    found = []
    parts = re.split(r"^Has it: ", finding.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for index, part in enumerate(parts):
        builds = part.split("\n", 1)[0].split("  Mended")[0]
        has, has_not, cannot = (
            tuple(VERSIONS.findall("".join(re.findall(rf"{words}([\d., ]+)", builds))))
            for words in ("^", "Has not: ", "Cannot: "))
        (shell, commands), (plain_text, shown) = FENCED.findall(part)
        assert (shell, plain_text) == ("sh", "text")
        found.append(Reproducer(f"{finding.stem}-{index}" if index else finding.stem, commands,
                                tuple(shown.splitlines()), has, has_not, cannot))
    return found


def title(finding: Path) -> str:
    return finding.read_text(encoding="utf-8").split("\n", 1)[0]


def entries() -> dict[str, KnownDefect]:
    """What defects.toml has of them, also without a capability."""
    return {spelled(name): each for name, each in read(FILE.read_text(encoding="utf-8")).items()}


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: path.stem)
def test_a_finding_says_why_and_how_it_was_found(finding: Path) -> None:
    written = finding.read_text(encoding="utf-8")
    assert title(finding).startswith(f"# {finding.stem}: ")
    assert "\n*A defect because* " in written
    assert "\n*Found* " in written
    assert ("No capability" in written) != (finding.stem in map(spelled, KNOWN))
    assert reproducers(finding)
    for each in reproducers(finding):
        assert sorted(each.has + each.has_not + each.cannot) == sorted(versions()), each.name


def test_an_entry_shows_in_what_its_finding_prints() -> None:
    for name, each in entries().items():
        finding = DOCS / f"findings/{name}.md"
        if each.effect == "abort" and finding.exists():
            printed = "\n".join(line for case in reproducers(finding) for line in case.shown)
            assert name in [spelled(found.name) for found in recognised(printed)], name


def versions() -> list[str]:
    heading = re.search(r"^\| defect .*$", (DOCS / "defects.md").read_text("utf-8"), re.MULTILINE)
    assert heading is not None
    return VERSIONS.findall(heading[0])


def index() -> dict[str, str]:
    """The findings of the index, in its order, and under which heading they are."""
    found = {}
    for section in re.split(r"^### ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for name, words in re.findall(r"^- \[[\w-]+\]\(([\w-]+)\.md\): (.*)$", section,
                                      re.MULTILINE):
            assert title(DOCS / f"findings/{name}.md") == f"# {name}: {words}"
            found[name] = section.split("\n", 1)[0]
    return found


def test_the_index_has_them_all() -> None:
    assert sorted(index()) == [each.stem for each in FINDINGS]
    newest = versions()[-1]
    for name, heading in index().items():
        lives = any(newest in each.has for each in reproducers(DOCS / f"findings/{name}.md"))
        assert lives != (heading == f"Not in {newest}"), name


def test_the_table_of_builds_says_the_same() -> None:
    rows = re.findall(r"^\| \[([\w-]+)\]\(findings/\1\.md\)( \*)? \| [^|]+ \| (.*) \|$",
                      (DOCS / "defects.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(index())
    for name, star, cells in rows:
        cases = reproducers(DOCS / f"findings/{name}.md")
        told = ["●" if any(version in each.has for each in cases)
                else "–" if any(version in each.has_not for each in cases) else "·"
                for version in versions()]
        assert cells.split(" | ") == told, name
        assert bool(star) == (name not in map(spelled, KNOWN)), name


# On the QEMU at hand


@pytest.fixture(scope="session")
def qemu() -> Build:
    try:
        build = find(None)
    except HarnessError as why:
        pytest.skip(str(why))
    if build.missing():
        pytest.skip("reproducers need all tools")
    return build


def put_on_path(build: Build, folder: Path) -> str:
    """A PATH on which the build's tools are the first to be found, however they are run."""
    folder.mkdir()
    for name, tool in build.tools.items():
        words = [*(f"{key}={value}" for key, value in tool.env.items()), *tool.argv]
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec env {shlex.join(words)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return os.pathsep.join((str(folder), os.environ["PATH"]))


def plain(line: str) -> str:
    """Without line numbers of QEMU's sources, which differ between versions."""
    return re.sub(r"(?:\.\./)*([\w./-]+\.c):\d+:", r"\1:", line)


def follow(lines: list[str], printed: list[str]) -> bool:
    """Whether the lines are among those printed, in their order."""
    rest = iter(printed)
    return all(line in rest for line in lines)


@pytest.mark.parametrize(("lines", "expected"), [
    (["a", "b"], True), (["a", "c"], True), (["b", "a"], False), (["c", "c"], False)])
def test_lines_that_are_shown_come_in_their_order(lines: list[str], expected: bool) -> None:
    assert follow(lines, ["a", "b", "c"]) is expected


RACES = {"qed-parallel-allocation-aborts"}
"""Two requests must meet: not every run of such a reproducer shows the defect."""
SLOW = {"aborted-group-hangs", "client-that-does-not-read-hangs", "client-while-draining-hangs",
        "ignored-error-hangs", "ignored-error-hangs-1", "luks-creation-keeps-payload",
        "mirror-of-compress-filter-hangs", "read-only-server-hangs",
        "shorter-overlay-truncates-backup-2", "threaded-export-removal-hangs",
        "unreachable-bottom-hangs"}
"""They wait until a QEMU that hangs is killed, or has made the key of a LUKS image."""
MOUNTS = {"busy-bitmap-resize-aborts-3", "resize-above-job-truncates-backup-1",
          "snapshot-status-hides-backing-data-4"}
"""They export by FUSE."""
_SYS_ADMIN = 21


def may_mount() -> bool:
    """Whether QEMU, which we run, can mount a FUSE export."""
    effective = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text("utf-8"),
                          re.MULTILINE)
    return (effective is not None and bool(int(effective[1], 16) >> _SYS_ADMIN & 1)
            and os.access("/dev/fuse", os.R_OK | os.W_OK))


CASES = [pytest.param(each, id=each.name, marks=[pytest.mark.slow] if each.name in SLOW else [])
         for finding in FINDINGS for each in reproducers(finding) if each.name not in RACES]


@pytest.mark.parametrize("case", CASES)
def test_reproducers_show_their_defects(case: Reproducer, qemu: Build, tmp_path: Path) -> None:
    version = qemu.version.split()[0]
    if version not in case.has + case.has_not:
        pytest.skip(f"QEMU {version} cannot, or nothing is said of it")
    if case.name in MOUNTS and not may_mount():
        pytest.skip("nothing can be mounted here")
    path = put_on_path(qemu, tmp_path / "bin")
    (_, prelude), = FENCED.findall(README.read_text(encoding="utf-8"))
    done = subprocess.run(["sh", "-c", prelude + case.commands], cwd=tmp_path, text=True,
                          env={**os.environ, "PATH": path}, check=False, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    shows = follow([plain(line) for line in case.shown],
                   [plain(line) for line in done.stdout.splitlines()])
    assert shows == (version in case.has), done.stdout
