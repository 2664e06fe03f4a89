# SPDX-License-Identifier: GPL-2.0-or-later
"""The specification as one Markdown document, made of what the model says of itself."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from harness.cli.diagrams import diagram
from harness.cli.example import example
from harness.lockstep.human import counted
from model.channels import NBD_ERRNO
from model.errors import Errno
from model.image import TRAITS, Traits
from model.rules import RULES, Rule

CHAPTERS: Final = (
    "content", "bitmap", "node", "tracking", "copy_before_write", "block_copy", "snapshot_access",
    "copy_on_read", "image", "qcow2", "overlays", "held_image", "nbd_export", "requests",
    "channels", "graph", "permissions", "flushing", "resizing", "reopening", "arguments",
    "bitmap_commands", "bitmap_directory", "backup_job", "backup_commands", "drive_backup", "jobs",
    "successors", "transactions", "restart", "program", "small_steps", "concurrent_machine",
    "turns", "unsaid", "unsaid_jobs",
)
"""The modules of the specification in the order in which they are best read."""
_TOLD: Final = {"arguments": "", "bitmap": "DirtyBitmap", "permissions": "",
                "bitmap_commands": "", "bitmap_directory": "", "drive_backup": "", "overlays": "",
                "successors": "", "restart": "", "unsaid": "", "unsaid_jobs": ""}
"""Modules whose functions, or the methods of the class named, say what QEMU does too."""

_WIDTH: Final = 99

_INTRODUCTION: Final = """\
# Semantics

This document is generated from the rules of the model: do not edit it, edit the rules, then run
`python -m harness rules --markdown > docs/semantics.md`.  A test keeps the two equal.

A *rule* is a named part of the specification, a small method in `model/`.  Its text here is its
docstring; its code is exact.  A run counts how often each rule fired, and so can say which parts
of the specification it has reached (`verify -v`, and `rules` in its JSON).  *Source* says where a
fact is from; "experiment" means that real QEMUs were asked, and every run in lockstep asks again.
`python -m harness rules WORD` shows rules on a terminal.

Offsets and lengths are bytes, ranges are half-open.  A *cluster* is the filter's unit of copying
(64 KiB or more), a *granule* the unit of a dirty bitmap.  *Guest* is whoever writes to the filter;
*client* is whoever reads its snapshot.
"""


def semantics() -> str:
    """The document."""
    parts = [_INTRODUCTION, "## An example", *example(), "## Chapters", _contents()]
    for module in CHAPTERS:
        parts += _chapter(module)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _contents() -> str:
    lines = []
    for module in CHAPTERS:
        title = _title(module)
        count = len(_rules_of(module))
        told = f" ({counted(count, 'rule')})" if count else ""
        lines.append(f"- [{title}](#{_anchor(title)}){told}")
    return "\n".join(lines)


def _chapter(module: str) -> Iterator[str]:
    yield f"## {_title(module)}"
    yield f"[`model/{module}.py`](../model/{module}.py)"
    yield _markdown(_docstring(module))
    if module == "channels":
        yield _errno_table()
    if module == "image":
        yield _format_table()
    if module in _TOLD:
        yield "\n".join(_functions(module, _TOLD[module]))
    for each in _rules_of(module):
        yield f"### `{each.name}`"
        yield _markdown(each.text)
        yield f"```text\n{diagram(each.name)}\n```"
        where = each.where.removeprefix(f"model.{module}.")
        yield textwrap.fill(f"*Source: {each.source}.  Code: `{where}`.*", _WIDTH,
                            break_on_hyphens=False)


def _rules_of(module: str) -> list[Rule]:
    return [each for each in RULES.values() if each.where.startswith(f"model.{module}.")]


def _functions(module: str, class_name: str) -> Iterator[str]:
    """A line for each public function, or method, that is declared in the module."""
    place = importlib.import_module(f"model.{module}")
    holder = getattr(place, class_name) if class_name else place
    for name, value in vars(holder).items():
        function = value.fget if isinstance(value, property) else value
        if (not name.startswith("_") and inspect.isfunction(function)
                and function.__module__ == place.__name__):
            said = (inspect.getdoc(function) or "").split("\n\n")[0]
            yield textwrap.fill(f"- `{name}`: {' '.join(_markdown(said).split())}", _WIDTH,
                                subsequent_indent="  ", break_on_hyphens=False)


def _docstring(module: str) -> str:
    return inspect.getdoc(importlib.import_module(f"model.{module}")) or ""


def _title(module: str) -> str:
    """What the module is about: its docstring up to the first pause."""
    first = " ".join(_docstring(module).split("\n\n")[0].split())
    return re.split(r"[:,.]( |$)", first)[0].replace("``", "")


def _anchor(title: str) -> str:
    """The anchor that GitHub and GitLab give a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


# From the docstrings' reStructuredText, as far as they use it


def _markdown(text: str) -> str:
    text = re.sub(r":mod:`~?model\.(\w+)`", r"`model/\1.py`", text)
    text = re.sub(r":\w+:`~?(?:[a-z_]+\.)*(\w+(?:\.\w+)?)`", r"`\1`", text)
    text = text.replace("``", "`")
    lines: list[str] = []
    table: list[str] = []
    for line in text.split("\n"):
        if table or _is_border(line):
            table.append(line)
            if sum(map(_is_border, table)) == (3 if _has_heading(text) else 2):
                lines += _table(table)
                table = []
        else:
            lines.append(line)
    return "\n".join(lines)


def _is_border(line: str) -> bool:
    return bool(re.fullmatch(r"=+( +=+)+", line.strip()))


def _has_heading(text: str) -> bool:
    return sum(map(_is_border, text.split("\n"))) == 3


def _table(lines: Sequence[str]) -> list[str]:
    """A simple table of reStructuredText, whose columns are where the border's are."""
    spans = [match.span() for match in re.finditer("=+", lines[0])]
    rows = [[line[start:end if end < spans[-1][1] else None].strip() for start, end in spans]
            for line in lines if not _is_border(line)]
    if sum(map(_is_border, lines)) == 2:
        rows.insert(0, [""] * len(spans))
    return [*_rows(rows[0], rows[1:])]


def _rows(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield "|" + "---|" * len(heading)
    for row in rows:
        yield f"| {' | '.join(row)} |"


# Tables of data


def _errno_table() -> str:
    told = [(inside.name, NBD_ERRNO.get(inside, Errno.EINVAL).name) for inside in Errno]
    return "\n".join(_rows(("inside QEMU", "an NBD client sees"), told))


def _format_table() -> str:
    return "What is peculiar to a format (`TRAITS`); sizes in bytes:\n\n" + "\n".join(_rows(
        ("format", "cluster size reported", "request alignment", "can discard", "tells holes",
         "can be resized"),
        [(kind.value, _cluster(traits), str(traits.request_alignment),
          "yes" if traits.discards else "no", "yes" if traits.tells_holes else "no",
          _resizing(traits))
         for kind, traits in TRAITS.items()])) + (
        "\n\nWhat a discard does to parallels images differs between builds; the model says "
        "nothing of it.")


def _resizing(traits: Traits) -> str:
    if not traits.resizes:
        return "no"
    return "yes" if traits.shrinks else "can grow"


def _cluster(traits: Traits) -> str:
    if traits.cluster is None:
        return "cannot say"
    return str(traits.cluster) if traits.cluster else "none"
