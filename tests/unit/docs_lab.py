# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in the documents: their blocks, and the commands in these with what they print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "golden/README.md"])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A line for a shell, and what is shown to come of it; may be nothing."""

    line: str
    said: str = ""


@dataclass(frozen=True)
class Block:
    """What is fenced in a document, and in which language it is."""

    document: str
    kind: str
    body: str

    def commands(self) -> list[Command]:
        """Of a console, what a `$` stands before, with its output; of a script, its lines."""
        if self.kind == "console":
            parts = re.split(r"^\$ ", self.body, flags=re.MULTILINE)[1:]
            return [Command(*part.split("\n", 1)) for part in parts]
        if self.kind == "sh":
            return [Command(re.sub(r" +# .*", "", line)) for line in self.body.splitlines()]
        return []


def by_name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(document: Path) -> str:
    return FENCED.sub("", document.read_text(encoding="utf-8"))


def blocks() -> Iterator[Block]:
    """Every block of every document."""
    for document in DOCUMENTS:
        for kind, body in FENCED.findall(document.read_text(encoding="utf-8")):
            yield Block(by_name(document), kind, body)


def fenced(name: str, kind: str) -> list[str]:
    return [each.body for each in blocks() if (each.document, each.kind) == (name, kind)]
