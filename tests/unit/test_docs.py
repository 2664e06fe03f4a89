# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents: what can be executed in them is, what is generated is up to date, links lead
somewhere, and nothing in them is about one machine."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness.builds import find
from harness.cli import parser
from harness.cli.markdown import CHAPTERS, semantics
from harness.clients.libnbd import libnbd_available
from harness.errors import HarnessError
from harness.exploration.building import Plan
from harness.exploration.grounds import Ground, SimulatedGround
from harness.exploration.subjects import subject_of
from harness.golden.store import variants
from harness.lockstep.replay import replay
from harness.lockstep.trace import SystemKind, Trace, parse
from harness.lockstep.verdict import Conforms
from harness.systems.capabilities import SETTLED_BY, until
from harness.systems.known_defects import KNOWN
from harness.systems.probes import PROBES
from model.capabilities import Capabilities
from model.operations import Via
from model.rules import RULES
from tests.unit.docs_lab import DOCUMENTS, ROOT, blocks, by_name, fenced, prose, text


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


# Every document


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_files_that_are_named_exist(document: Path) -> None:
    for name in re.findall(r"`((?:model|harness|tests|golden|docs)/[\w./-]*)`", prose(document)):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_nothing_is_about_one_machine(document: Path) -> None:
    written = document.read_text(encoding="utf-8")
    strange = re.findall(r"/(?:work|root|mnt|srv|opt|tmp|home/\w+)/\S*", written)
    assert not strange


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_commands_are_understood(document: Path) -> None:
    """Each `python -m harness …` has options that there are, also what calls it through tox."""
    written = document.read_text("utf-8").replace("tox -e verify --", "python -m harness verify")
    written = written.replace("tox -e harness --", "python -m harness")
    for command in re.findall(r"python -m harness ([^`\n]*)", written):
        words = shlex.split(command.split(" > ")[0].split(";")[0].split("#")[0])
        if not words or not words[0].isalpha() or re.search(r"[…\[|]", command):
            continue
        parser.parse([word.replace("WORD", "access") for word in words])


def test_the_readme_leads_to_every_document() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        assert f"docs/{document.name}" in text("README.md"), document.name


def test_the_readme_names_every_command() -> None:
    done = subprocess.run([sys.executable, "-m", "harness", "--help"], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    for command in re.findall(r"^    (\w+) ", done.stdout, re.MULTILINE):
        assert f"`{command}" in text("README.md"), command


def test_the_readme_installs_what_ci_installs() -> None:
    listed = re.search(r"packages=\((.*?)\)", text(".ci/run"))
    assert listed is not None
    for package in listed[1].split():
        assert package in fenced("README.md", "sh")[0], package


def test_every_dependency_has_a_reason() -> None:
    told = text("docs/dependencies.md").lower()
    for name in re.findall(r"^    ([\w.-]+)>=", text("tox.ini"), re.MULTILINE):
        assert name.lower() in told, name


# Generated, or bound to code


def test_the_semantics_are_those_of_the_rules() -> None:
    same = text("docs/semantics.md") == semantics()
    assert same, "run: python -m harness rules --markdown > docs/semantics.md"


def test_every_rule_is_in_a_chapter() -> None:
    assert {each.where.split(".")[1] for each in RULES.values()} <= set(CHAPTERS)


def rows(name: str) -> dict[str, list[str]]:
    """The rows of a document's tables whose first cell is a name in backticks."""
    found = {}
    for line in text(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"`[\w-]+`", cells[0]):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_capabilities_are_those_of_the_model() -> None:
    told = rows("docs/capabilities.md")
    fields = dataclasses.fields(Capabilities)
    assert set(told) == {each.name.replace("_", "-") for each in fields}
    probed = {each.capability for each in PROBES}
    for each in fields:
        since, found_by = told[each.name.replace("_", "-")][:2]
        assert since == (each.metadata["since"] if "since" in each.metadata
                         else until(each.name)), each.name
        assert found_by.startswith("probe") or each.name not in probed, each.name
        assert each.name not in SETTLED_BY or since, each.name


def test_capabilities_are_those_of_the_build_at_hand() -> None:
    try:
        subject = subject_of(find(None))
    except HarnessError as why:
        pytest.skip(str(why))
    if not libnbd_available() or len(subject.grounds) < 2:
        pytest.skip("not everything can be probed here")
    heading = re.search(r"^\| name \| since .*$", text("docs/capabilities.md"), re.MULTILINE)
    assert heading is not None
    versions = [cell.strip() for cell in heading[0].strip("|").split("|")][1:]
    version = subject.build.version.split()[0]
    if version not in versions:
        pytest.skip(f"nothing is said of QEMU {version}")
    for name, cells in rows("docs/capabilities.md").items():
        has = getattr(subject.profile.capabilities, name.replace("-", "_"))
        assert cells[versions.index(version)] == ("yes" if has else "no"), name


def test_every_defect_is_described() -> None:
    written = text("docs/defects.md")
    for each in KNOWN.values():
        assert each.name.replace("_", "-") in written, each.name
        for document in re.findall(r"docs/[\w./-]+\.md", each.reference):
            assert (ROOT / document).exists(), each.name


def test_the_variants_of_the_documents_are_real() -> None:
    for name in re.findall(r"NAME@([\w+-]+)\.out", text("docs/golden.md")):
        mark = name.removeprefix("no-").replace("-", "_")
        assert f"x@{name}" in variants("x", [mark])


def traces() -> list[Trace]:
    return [parse(each.body, each.document) for each in blocks() if each.kind == "json"]


@pytest.mark.parametrize("trace", traces(), ids=lambda trace: str(len(trace.steps)))
def test_the_traces_of_the_documents_conform(trace: Trace) -> None:
    plan = Plan(SystemKind.SIMULATED, Capabilities(), tuple(Via))
    grounds: list[Ground] = [SimulatedGround(plan)]
    with suppress(HarnessError):
        grounds += [each for each in subject_of(find(None)).grounds
                    if each.plan.system is SystemKind.QSD and libnbd_available()]
    for ground in grounds:
        with ground.open() as stand:
            assert isinstance(replay(trace, stand), Conforms)
