# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a run, as JSON and as a test suite.

The fields of the JSON object are a contract with those who read it: see README.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.builds import Build
from harness.exploration.batches import Part
from harness.exploration.coverage import Reached
from harness.exploration.investigate import Investigated
from harness.exploration.kills import Kills
from harness.exploration.load import Load
from harness.exploration.tally import Find, Tally
from harness.report.outputs import Case, Failure, Suite
from harness.systems.capabilities import Profile, describe, until
from harness.systems.known_defects import KNOWN, recognised, spelled

NO_TIME: Final = "no trace of this area was done: more --seconds have time for it"


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
    """A shell script that shows it without this project."""
    iotest: Path | None = None
    """The same as a test for QEMU's tree."""
    tried: str = ""
    """How the reproducer was tried, or why there is none, in one line."""
    verdict: str = "divergence"
    system: str = ""
    times: int = 1
    """In so many traces of the run."""
    elapsed: float | None = None
    """Seconds of exploration until it was found first."""
    original: Path | None = None
    story: Path | None = None
    again: str = ""
    lines: tuple[str, ...] = ()
    repeat: str = ""
    """The command that does it again, if it takes more than the trace: that only leads there."""


@dataclass
class Result:
    """What a run has to say about one build."""

    build: Build
    profile: Profile
    seed: int
    areas: tuple[str, ...]
    part: Part = field(default_factory=Part)
    scope: str = ""
    """What was done in place of the traces of the seed."""
    tally: Tally = field(default_factory=Tally)
    elapsed: float = 0.0
    divergences: list[Divergence] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    load: Load | None = None
    """What free-running load came to, if any was put."""
    coverage: Mapping[str, Reached] | None = None
    """Lines of QEMU that were executed, if that was asked for."""
    kills: Kills | None = None
    """What kills under load came to, if there were any."""

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
            "part": f"{self.part.number}/{self.part.of}",
            "elapsed_s": round(self.elapsed, 3),
            "traces": self.tally.traces,
            "sequences": self.tally.sequences,
            "steps": self.tally.steps,
            "operations": dict(self.tally.operations.most_common()),
            "alignments": self._alignments(),
            "areas": dict(self.tally.areas.most_common()),
            "rules": dict(self.tally.rules.most_common()),
            "pairs_of_rules": len(self.tally.pairs),
            "drawing_share": self.tally.drawing_share,
            "pace": self.tally.pace,
            "divergences": [divergence_json(each) for each in self.divergences],
            "known_defects": [known_defect(name) for name in self.profile.defects],
            "not_checked": self.not_checked,
            "load": None if self.load is None else {
                "requests": self.load.requests, "elapsed_s": round(self.load.seconds, 3),
                "fleecing_reads": self.load.fleecing, "denied": self.load.denied},
            "coverage": None if self.coverage is None else {
                source: {"lines": each.lines, "of": each.of}
                for source, each in self.coverage.items()},
            "kills": None if self.kills is None else {
                "rounds": self.kills.rounds, "kills": self.kills.kills,
                "elapsed_s": round(self.kills.seconds, 3)},
        }

    def _alignments(self) -> dict[str, dict[str, int]]:
        """How often each operation was done in each alignment."""
        found: dict[str, dict[str, int]] = {}
        for (name, alignment), count in sorted(self.tally.alignments.items()):
            found.setdefault(name, {})[alignment] = count
        return found


def known_defect(name: str) -> dict[str, str]:
    """A known defect for readers of JSON."""
    return {"name": spelled(name), "text": describe(name), "mended_in": until(name),
            "effect": KNOWN[name].effect, "reference": KNOWN[name].reference}


def divergence_of(each: Investigated, system: str, times: int = 1) -> Divergence:
    """What became of a find, as a divergence."""
    find = each.find
    last = find.trace.steps[-1].number if find.trace.steps else None
    return Divergence(
        find.area, each.summary + _looks_like(find), last, each.shrunk or each.trace,
        each.shrunk_length, verdict=find.verdict, system=system, times=times,
        elapsed=find.elapsed or None, original=each.trace, story=each.story, again=each.again,
        lines=each.steps,
        reproducer=each.reproducers.shell, iotest=each.reproducers.iotest,
        tried=each.reproducers.note)


def _looks_like(find: Find) -> str:
    """Which known defects a crash has the assertion of, although the model saw none coming."""
    match find.signature:
        case ("fails", "SystemCrashed", str(cause)):
            names = [spelled(each.name) for each in recognised(cause)]
            return f" (looks like {' or '.join(names)})" if names else ""
    return ""


def divergence_json(each: Divergence) -> dict[str, Any]:
    """As the contract has it."""
    def path(file: Path | None) -> str | None:
        return None if file is None else str(file)

    return {
        "area": each.area, "verdict": each.verdict, "system": each.system,
        "summary": each.summary, "step": each.step, "times": each.times,
        "elapsed_s": None if each.elapsed is None else round(each.elapsed, 3),
        "trace": path(each.trace), "shrunk_length": each.shrunk_length,
        "reproducer": path(each.reproducer), "iotest": path(each.iotest),
        "reproducer_tried": each.tried, "original_trace": path(each.original),
        "story": path(each.story), "repeat": each.repeat or None,
    }


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """One object for one build; for several, an object with the list of them in ``builds``."""
    objects = [each.to_json() for each in results]
    return objects[0] if len(objects) == 1 else {"builds": objects}


def suite_of(result: Result) -> Suite:
    """The result as a test suite: a case for each area."""
    areas = dict.fromkeys((*result.areas, *result.tally.areas,
                           *(each.area for each in result.divergences)))
    properties = (("build", str(result.build.path)), ("seed", str(result.seed)),
                  ("steps", str(result.tally.steps)),
                  *(("known_defect", spelled(name)) for name in result.profile.defects),
                  *(("not_checked", text) for text in result.not_checked))
    return Suite(f"QEMU {result.build.version}", tuple(_case(result, area) for area in areas),
                 result.elapsed, properties)


def _case(result: Result, area: str) -> Case:
    failures = tuple(
        Failure(each.summary, "\n".join(each.lines), each.verdict, str(each.trace or ""))
        for each in result.divergences if each.area == area)
    undone = not failures and not result.tally.areas[area]
    return Case(area, failures=failures, skipped=NO_TIME if undone else "")
