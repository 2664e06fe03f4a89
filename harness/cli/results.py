# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a run, as JSON and as JUnit XML.

The fields of the JSON object are a contract with those who read it: see README.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from harness.builds import Build
from harness.cli.files import write
from harness.exploration.load import Load
from harness.exploration.tally import Tally
from harness.systems.capabilities import Profile, describe, until
from harness.systems.known_defects import KNOWN, spelled


@dataclass(frozen=True)
class Divergence:
    """Something that the build does otherwise than the model."""

    area: str
    summary: str
    step: int | None = None
    """Number of the operation at which it shows."""
    trace: Path | None = None
    """The shortest trace that shows it."""
    shrunk_length: int | None = None
    """How many operations that has."""
    reproducer: Path | None = None
    verdict: str = "divergence"
    system: str = ""
    times: int = 1
    """In so many traces of the run."""
    original: Path | None = None
    story: Path | None = None
    again: str = ""
    lines: tuple[str, ...] = ()


@dataclass
class Result:
    """What a run has to say about one build."""

    build: Build
    profile: Profile
    seed: int
    areas: tuple[str, ...]
    tally: Tally = field(default_factory=Tally)
    elapsed: float = 0.0
    divergences: list[Divergence] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    load: Load | None = None
    """What free-running load came to, if any was put."""

    @property
    def conforms(self) -> bool:
        """No divergence was found."""
        return not self.divergences

    def to_json(self) -> dict[str, Any]:
        """As the contract has it."""
        return {
            "build": {
                "name": self.build.name,
                "path": str(self.build.path),
                "version": self.build.version,
                "capabilities": {spelled(name): has for name, has in dataclasses.asdict(
                    self.profile.capabilities).items()},
            },
            "seed": self.seed,
            "elapsed_s": round(self.elapsed, 3),
            "traces": self.tally.traces,
            "steps": self.tally.steps,
            "operations": dict(self.tally.operations.most_common()),
            "rules": dict(self.tally.rules.most_common()),
            "divergences": [_divergence(each) for each in self.divergences],
            "known_defects": [known_defect(name) for name in self.profile.defects],
            "not_checked": self.not_checked,
            "load": None if self.load is None else {
                "requests": self.load.requests, "elapsed_s": round(self.load.seconds, 3),
                "fleecing_reads": self.load.fleecing, "denied": self.load.denied},
        }


def known_defect(name: str) -> dict[str, str]:
    """A known defect for readers of JSON."""
    return {"name": spelled(name), "text": describe(name), "mended_in": until(name),
            "effect": KNOWN[name].effect, "reference": KNOWN[name].reference}


def _divergence(each: Divergence) -> dict[str, Any]:
    def path(file: Path | None) -> str | None:
        return None if file is None else str(file)

    return {
        "area": each.area, "verdict": each.verdict, "system": each.system,
        "summary": each.summary, "step": each.step, "times": each.times,
        "trace": path(each.trace), "shrunk_length": each.shrunk_length,
        "reproducer": path(each.reproducer), "original_trace": path(each.original),
        "story": path(each.story),
    }


def write_json(file: Path, results: Sequence[Result]) -> None:
    """One object for one build; for several, an object with the list of them in ``builds``."""
    objects = [each.to_json() for each in results]
    whole = objects[0] if len(objects) == 1 else {"builds": objects}
    write(file, json.dumps(whole, indent=2) + "\n")


def write_junit(file: Path, results: Sequence[Result]) -> None:
    """A test suite for each build, a test case for each area."""
    root = ElementTree.Element("testsuites", name="cbw-lockstep")
    for result in results:
        _suite(root, result)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
    write(file, text + "\n")


def _suite(root: ElementTree.Element, result: Result) -> None:
    areas = dict.fromkeys((*result.areas, *result.tally.areas,
                           *(each.area for each in result.divergences)))
    failed = {each.area for each in result.divergences}
    suite = ElementTree.SubElement(
        root, "testsuite", name=f"QEMU {result.build.version}", tests=str(len(areas)),
        failures=str(len(failed)), errors="0", skipped="0", time=f"{result.elapsed:.3f}")
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("build", str(result.build.path)), ("seed", str(result.seed)),
                        ("steps", str(result.tally.steps)),
                        *(("known_defect", spelled(name)) for name in result.profile.defects),
                        *(("not_checked", text) for text in result.not_checked)):
        ElementTree.SubElement(properties, "property", name=name, value=_printable(value))
    for area in areas:
        case = ElementTree.SubElement(suite, "testcase", classname="verify", name=area)
        found = [each for each in result.divergences if each.area == area]
        if found:
            failure = ElementTree.SubElement(
                case, "failure", type=found[0].verdict, message=_printable(found[0].summary))
            failure.text = _printable("\n\n".join(
                "\n".join((each.summary, *each.lines)) for each in found))


def _printable(text: str) -> str:
    """Without what XML cannot say; QEMU's stderr may hold anything."""
    return "".join(char if char in "\n\t" or char.isprintable() else "?" for char in text)
