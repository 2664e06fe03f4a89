# SPDX-License-Identifier: GPL-2.0-or-later
"""A small run of the model, drawn cluster by cluster: the example of docs/semantics.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.lockstep import human
from model.bitmap import DirtyBitmap
from model.configuration import KIB, Configuration, Image
from model.content import ZERO, Content, Stamp
from model.machine import Machine
from model.operations import (
    AddFilter,
    AddSnapshot,
    BitmapAdd,
    BitmapRef,
    Discard,
    Export,
    Operation,
    Read,
    Unexport,
    Write,
)

CLUSTER: Final = 64 * KIB
CLUSTERS: Final = 8
_BEFORE: Final[tuple[Operation, ...]] = (
    BitmapAdd("src", "dirty"), Export("src"), Write("src", 0, 6 * CLUSTER), Unexport("src"))
_SHOWN: Final[tuple[tuple[Operation, str], ...]] = (
    (AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "dirty")),
     "access and copy begin as what the bitmap has dirty"),
    (AddSnapshot("snap", "cbw"), ""), (Export("cbw"), ""), (Export("snap"), ""),
    (Write("cbw", CLUSTER, 512),
     "all of cluster 1 is copied before the first change of it; then it is done"),
    (Write("cbw", 6 * CLUSTER, CLUSTER),
     "outside of the bitmap: done, but nothing is copied, and it may not be read"),
    (Read("snap", 0, 3 * CLUSTER), "cluster 1 comes from tmp, 0 and 2 from src"),
    (Read("snap", 5 * CLUSTER, 2 * CLUSTER), "one cluster without access refuses all of it"),
    (Discard("snap", 2 * CLUSTER, 2 * CLUSTER), "access and copy go, done stays as it is"),
    (Write("cbw", 2 * CLUSTER, CLUSTER), "so nothing is copied here any more"),
    (Read("snap", 2 * CLUSTER, 512), ""),
)
_COLUMN: Final = 34


def example() -> Iterator[str]:
    """Paragraphs, and one block of text."""
    yield ("The model, run on a disk `src` of eight clusters of 64k with a temporary image\n"
           "`tmp`.  The guest has written to the first six clusters (data `A`), which the bitmap\n"
           "`src/dirty` has recorded; here this begins.  A character is a cluster: of a bitmap,\n"
           "`#` is set; of an image, a letter says whose data it holds, `-` is zeroes and `*` is\n"
           "data of several.  The client reads over NBD, which makes EINVAL of EACCES.")
    yield "\n".join(("```text", *_lines(), "```"))


def _lines() -> Iterator[str]:
    size = CLUSTERS * CLUSTER
    machine = Machine(Configuration((Image("src", size), Image("tmp", size))))
    writes: dict[Stamp, str] = {}
    columns = ("access", "done", "copy", "src", "tmp")
    yield f"{'':{_COLUMN}} {' '.join(f'{each:8}' for each in columns)}".rstrip()
    operations = [*((each, None) for each in _BEFORE), *_SHOWN]
    for number, (operation, remark) in enumerate(operations, start=1):
        if isinstance(operation, Write):
            writes[number] = chr(ord("A") + len(writes))
        outcome = machine.apply(number, operation)
        if remark is None:
            continue
        words = human.operation(operation)
        if isinstance(operation, AddFilter):
            words = "add-filter cbw bitmap=src/dirty"
        if outcome.error is not None:
            words += f": {outcome.error.name}"
        elif isinstance(operation, Write):
            words += f": {writes[number]}"
        elif isinstance(operation, Read) and outcome.content is not None:
            words += f": {_letters(outcome.content, writes)}"
        yield f"{words:{_COLUMN}} {_state(machine, writes)}"
        if remark:
            yield f"  {remark}"


def _state(machine: Machine, writes: dict[Stamp, str]) -> str:
    view, = machine.filters()
    images = (_letters(machine.content_of(node), writes) for node in ("src", "tmp"))
    return " ".join((*map(_marks, (view.access, view.done, view.copy)), *images))


def _marks(bitmap: DirtyBitmap) -> str:
    return "".join(".#"[bitmap.is_dirty(index * CLUSTER)] for index in range(CLUSTERS))


def _letters(content: Content, writes: dict[Stamp, str]) -> str:
    """A letter for each cluster: who wrote it."""
    letters = ""
    for start in range(0, content.size, CLUSTER):
        writers = {run.value for run in content.runs(start, min(start + CLUSTER, content.size))}
        stamp = writers.pop()
        letters += "*" if writers else "-" if stamp == ZERO else writes[stamp]
    return letters
