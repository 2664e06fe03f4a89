# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about one trace: what was done, where it went wrong, how to do it again."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Final

from harness.lockstep import human
from harness.lockstep.recording import Recording
from harness.lockstep.trace import Step, Trace, header_line, step_line
from harness.report.page import page
from harness.report.timeline import Timeline
from model.capabilities import Capabilities

SCRIPTS: Final = ("states", "paint", "map", "moving", "details", "sequence", "trace", "main")
_LISTED: Final = 2000
"""So many operations of a trace are in the page as text."""


@dataclass(frozen=True)
class Told:
    """A trace and what is known of it besides."""

    trace: Trace
    recording: Recording | None = None
    """None: the model's side alone."""
    name: str = ""
    """What the trace is called: its file."""
    replay: str = ""
    """The command that does it again."""
    reproducer: str = ""
    """A script that needs nothing of this project."""


def trace_page(told: Told) -> str:
    """The page about it alone."""
    fields = trace_fields(told)
    title = f"{told.name or 'trace'}: {fields['verdict']['summary'] or 'conforms'}"
    return page("trace", SCRIPTS, title, {"traces": [fields]}, {"traces": [drawn(fields)]})


def drawn(fields: dict[str, Any]) -> dict[str, Any]:
    """What the scripts need of a trace's fields."""
    return {"verdict": fields["verdict"], "timeline": fields["timeline"]}


def trace_fields(told: Told, index: int = 0) -> dict[str, Any]:
    """What the template shows of trace number ``index`` of the page."""
    recording = told.recording or Recording("the model alone")
    timeline = Timeline(told.trace, told.recording).to_json()
    last = next((step for step in told.trace.steps if step.number == recording.number), None)
    verdict = {
        "word": recording.verdict, "number": recording.number, "summary": recording.summary,
        "differences": [{"kind": each.kind, "words": each.words, "places": each.places,
                         "storage": [dataclasses.asdict(one) for one in each.storage]}
                        for each in recording.differences],
    }
    lines = [line for each in recording.differences for line in each.words]
    return {
        "index": index, "verdict": verdict, "timeline": timeline,
        "system": recording.system, "name": told.name,
        "last": None if last is None else human.operation(last.operation),
        "lines": [*map(_coloured, lines or [recording.summary])],
        "because": _because(timeline, last),
        "waiting": _waiting(timeline),
        "images": human.configuration(told.trace.configuration),
        "deviations": _deviations(told.trace.header.capabilities),
        "replay": told.replay, "reproducer": told.reproducer, "trace": _text(told.trace),
        "story": recording.story, "last_words": recording.last_words,
    }


def _coloured(line: str) -> list[tuple[str, str]]:
    """The line in pieces, with what the model expected and what was found told apart."""
    kind = ""
    pieces = []
    for piece in re.split(r"(?=\bexpected\b|\bfound\b)", line):
        kind = {"e": "good", "f": "bad"}.get(piece[:1], kind) if piece.startswith(
            ("expected", "found")) else kind
        pieces.append((kind, piece))
    return pieces


def _because(timeline: dict[str, Any], last: Step | None) -> list[str] | None:
    """What the filter or snapshot has to do with the failing operation: name, text, source."""
    if last is None or not timeline["rows"]:
        return None
    for index in timeline["rows"][-1][-1]:
        rule: list[str] = timeline["rules"][index]
        if rule[0].startswith(("cbw.", "snapshot-access.")):
            return rule
    return None


def _waiting(timeline: dict[str, Any]) -> list[tuple[str, str]]:
    """The requests that wait, at the end, for something else than storage, and for what."""
    bars = timeline["sequence"]["clients"] if timeline["sequence"] else []
    return [(f"request {bar['number']} ({bar['text']})", bar["waits"][-1][1]) for bar in bars
            if bar["last"] is None and bar["waits"]]


def _deviations(capabilities: Capabilities) -> list[str]:
    """How the build is unlike today's QEMU."""
    today = Capabilities()
    found = []
    for each in dataclasses.fields(Capabilities):
        has = getattr(capabilities, each.name)
        if has != getattr(today, each.name):
            name = each.name.replace("_", "-")
            found.append(name if has else f"no {name}")
    return found


def _text(trace: Trace) -> str:
    lines = [header_line(trace.header), *map(step_line, trace.steps[:_LISTED])]
    if len(trace.steps) > _LISTED:
        lines.append(f"# {len(trace.steps) - _LISTED} operations more are in the file")
    return "\n".join(lines)
