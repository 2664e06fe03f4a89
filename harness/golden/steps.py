# SPDX-License-Identifier: GPL-2.0-or-later
"""A log taken apart into its steps: what was asked, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from .differences import SECTION

MARK: Final = "***"
"""Begins the lines that say what the log by itself would not show."""
_BEGINS: Final = ('{"execute"', "qemu-", "content of ", "(qemu) ", "kill ", "complete: ",
                  "# ", SECTION)
_PATTERN: Final = re.compile(r"-P \d+")
_NBD: Final = re.compile(r'"(\w+)[^"]*" nbd:///(\S+)')
_SUBJECTS: Final = ("node-name", "job-id", "id", "node", "device")


@dataclass(frozen=True)
class Step:
    """``asked`` is one line, empty for bitmaps, which nobody asks for; ``answer`` what follows."""

    asked: str
    answer: list[str] = field(default_factory=list)

    @cached_property
    def command(self) -> Mapping[str, Any] | None:
        """The QMP command; None if it is none."""
        found = _parsed(self.asked) if self.asked.startswith('{"execute"') else None
        return found if isinstance(found, dict) else None

    @cached_property
    def table(self) -> Mapping[str, Any] | None:
        """What the answer is if it is an object of several lines: bitmaps by node, or jobs."""
        found = _parsed("\n".join(self.answer)) if self.answer[:1] == ["{"] else None
        return found if isinstance(found, dict) else None

    @cached_property
    def messages(self) -> list[Mapping[str, Any]]:
        """The QMP answer and events, if the answer is a line each."""
        found = [_parsed(line) for line in self.answer if line.startswith("{")]
        return [each for each in found if isinstance(each, dict)]

    @property
    def title(self) -> str:
        """What was asked, in few words."""
        if self.command is not None:
            return str(self.command["execute"])
        request = _NBD.search(self.asked)
        if request is not None:
            return f"{request[1]} of {request[2]}"
        return self.asked.rstrip(":") or "the bitmaps of " + ", ".join(self.table or ())

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for steps that are the same in two logs, whatever comes of them."""
        if self.command is not None:
            arguments = self.command.get("arguments", {})
            return (self.title, *(str(arguments[name]) for name in _SUBJECTS
                                  if name in arguments))
        return (_PATTERN.sub("-P", self.asked) or self.title,)


def steps(log: str) -> Iterator[Step]:
    """The steps of a log, headings and remarks among them."""
    step: Step | None = None
    for line in log.splitlines():
        if not line or line.startswith(MARK):
            continue
        is_table = line == "{" and not (
            step is not None and not step.answer and "query-jobs" in step.asked)
        if step is None or is_table or line.startswith(_BEGINS):
            if step is not None:
                yield step
            step = Step("", [line]) if is_table else Step(line)
        else:
            step.answer.append(line)
    if step is not None:
        yield step


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def without_marks(log: str) -> str:
    """The log as it may be a golden output."""
    return "".join(line for line in log.splitlines(keepends=True) if not line.startswith(MARK))
