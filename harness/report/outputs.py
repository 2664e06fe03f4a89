# SPDX-License-Identifier: GPL-2.0-or-later
"""Results for the machines that run them: JUnit XML, TAP, GitHub annotations, GitLab's report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree


@dataclass(frozen=True)
class Case:
    """One test case; it passed unless ``failures`` says otherwise."""

    name: str
    kind: str = "verify"
    failures: tuple[Failure, ...] = ()
    skipped: str = ""
    """Why it was not done."""

    @property
    def ok(self) -> bool:
        """Nothing was wrong."""
        return not self.failures


@dataclass(frozen=True)
class Failure:
    """Something wrong: one line, more lines, and the file that shows it."""

    message: str
    detail: str = ""
    verdict: str = "divergence"
    file: str = ""
    line: int = 1


@dataclass(frozen=True)
class Suite:
    """The cases of one build, and what else there is to say about it."""

    name: str
    cases: tuple[Case, ...]
    elapsed: float = 0.0
    properties: tuple[tuple[str, str], ...] = field(default=())


def junit(suites: Sequence[Suite]) -> str:
    """JUnit XML: a test suite for each build."""
    root = ElementTree.Element("testsuites", name="cbw-lockstep")
    for suite in suites:
        element = ElementTree.SubElement(
            root, "testsuite", name=suite.name, tests=str(len(suite.cases)),
            failures=str(sum(not case.ok for case in suite.cases)), errors="0",
            skipped=str(sum(bool(case.skipped) for case in suite.cases)),
            time=f"{suite.elapsed:.3f}")
        properties = ElementTree.SubElement(element, "properties")
        for name, value in suite.properties:
            ElementTree.SubElement(properties, "property", name=name, value=printable(value))
        for case in suite.cases:
            _junit_case(element, case)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ElementTree.Element, case: Case) -> None:
    element = ElementTree.SubElement(suite, "testcase", classname=case.kind, name=case.name)
    if case.skipped:
        ElementTree.SubElement(element, "skipped", message=printable(case.skipped))
    if case.failures:
        first = case.failures[0]
        failure = ElementTree.SubElement(
            element, "failure", type=first.verdict, message=printable(first.message))
        failure.text = printable("\n\n".join(
            "\n".join(filter(None, (each.message, each.detail))) for each in case.failures))


def tap(suites: Sequence[Suite]) -> str:
    """The Test Anything Protocol, version 13, as meson reads it."""
    lines = ["TAP version 13", f"1..{sum(len(suite.cases) for suite in suites)}"]
    number = 0
    for suite in suites:
        lines.append(f"# {_one_line(suite.name)}")
        for case in suite.cases:
            number += 1
            skipped = f" # SKIP {_one_line(case.skipped)}" if case.skipped else ""
            lines.append(f"{'ok' if case.ok else 'not ok'} {number} - "
                         f"{case.kind} {_one_line(case.name).replace('#', '')}{skipped}")
            for failure in case.failures:
                lines += [f"# {_one_line(line)}" for line in
                          (failure.message, *failure.detail.splitlines())]
    return "\n".join(lines) + "\n"


def github(suites: Sequence[Suite]) -> str:
    """Workflow commands that GitHub shows as annotations; nothing if all is well."""
    lines = []
    for suite, case, failure in _failures(suites):
        where = f"file={_property(failure.file)},line={failure.line}," if failure.file else ""
        title = _property(f"{suite.name}: {case.kind} {case.name}")
        text = _data("\n".join(filter(None, (failure.message, failure.detail))))
        lines.append(f"::error {where}title={title}::{text}")
    return "".join(f"{line}\n" for line in lines)


def code_quality(suites: Sequence[Suite]) -> str:
    """GitLab's code quality report."""
    found = []
    for suite, case, failure in _failures(suites):
        description = f"{suite.name}: {failure.message}"
        unique = f"{case.kind}\0{case.name}\0{description}"
        found.append({
            "description": printable(description), "check_name": f"{case.kind}/{case.name}",
            "fingerprint": hashlib.sha256(unique.encode()).hexdigest(),
            "severity": "blocker" if failure.verdict in ("crash", "hang") else "critical",
            "location": {"path": failure.file or case.name, "lines": {"begin": failure.line}},
        })
    return json.dumps(found, indent=2) + "\n"


def _failures(suites: Sequence[Suite]) -> Iterator[tuple[Suite, Case, Failure]]:
    for suite in suites:
        for case in suite.cases:
            for failure in case.failures:
                yield suite, case, failure


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Without what XML cannot say; QEMU's stderr may hold anything."""
    return "".join(char if char in "\n\t" or char.isprintable() else "?" for char in text)
