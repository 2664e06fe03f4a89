# SPDX-License-Identifier: GPL-2.0-or-later
"""A small run of the model, drawn cluster by cluster: the example of docs/semantics.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.cli.drawing import CLUSTER, LEGEND, Drawing, table
from model.configuration import Configuration, Image
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

_TOLD: Final = """\
The model, run on a disk `src` of eight clusters of 64k with a temporary image `tmp`.  The guest
has written to the first six clusters, which the bitmap `src/dirty` has recorded; here this
begins.  The client reads over NBD, which makes EINVAL of EACCES.  Each rule further down has a
small picture of the same kind, made by running the model too: before and after the operation
that fires the rule, with what requests under way wait for."""
_SIZE: Final = 8 * CLUSTER
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


def example() -> Iterator[str]:
    """Paragraphs, and one block of text."""
    yield _TOLD
    yield LEGEND
    yield "\n".join(("```text", *_lines(), "```"))


def _lines() -> Iterator[str]:
    drawing = Drawing(Configuration((Image("src", _SIZE), Image("tmp", _SIZE))))
    for operation in _BEFORE:
        drawing.apply(operation)
    rows = [(drawing.apply(operation), drawing.state()) for operation, _ in _SHOWN]
    heading, *lines = table(rows)
    yield heading
    for line, (_, remark) in zip(lines, _SHOWN, strict=True):
        yield line
        if remark:
            yield f"  {remark}"
