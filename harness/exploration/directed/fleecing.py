# SPDX-License-Identifier: GPL-2.0-or-later
"""The graph that most directed checks begin with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from model import operations as ops
from model.configuration import KIB, Configuration, Image

CLUSTER: Final = 64 * KIB


def disks(size: int, source: Image | None = None, target: Image | None = None) -> Configuration:
    """A full disk and a temporary image, or others in their places."""
    return Configuration((source or Image("src", size, filled=((0, size),)),
                          target or Image("tmp", size)))


def statuses(node: str, length: int, offset: int = 0) -> Iterator[ops.Status]:
    """A look at a range, as clients see it and at how deep it lies."""
    for context in ops.Context:
        yield ops.Status(node, offset, length, context=context)


GRAPH: Final = (ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
                ops.Export("cbw"), ops.Export("snap", allocation_depth=True))
TAKE_DOWN: Final = (ops.Unexport("snap"), ops.Unexport("cbw"), ops.RemoveNode("snap"),
                    ops.RemoveNode("cbw"))


