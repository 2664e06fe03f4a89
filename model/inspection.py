# SPDX-License-Identifier: GPL-2.0-or-later
"""In which pieces a node's content is looked at, so that one that is denied spoils no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .bitmap import align_down
from .configuration import MIB
from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .image import Image
from .links import shown_filter
from .node import Node
from .permissions import parents_first

PIECE: Final = 2 * MIB
"""How much of a node that is no snapshot is read at a time, in bytes."""


def pieces(node: Node) -> Iterator[tuple[int, int]]:
    """Ranges that, together, are the node; of a snapshot, whole clusters that read alike one by
    one or all at once.

    How much is read at a time can be seen only of snapshots, of copy-on-read and of storage that
    fails, the node itself or some below it.
    """
    below, kept = parents_first([node]), shown_filter(node)
    filters = [each for each in below if isinstance(each, CopyBeforeWrite)]
    shows = any(map(_shows_pieces, below))
    end = 0
    while end < node.size:
        start, end = end, node.size
        if kept is not None:
            end = min(_end_of_alike(start, kept.cluster_size, filters), node.size)
        elif shows:
            end = min(start + PIECE, node.size)
        yield start, end


def _shows_pieces(node: Node) -> bool:
    fails = isinstance(node, Image) and bool(node.spec.faults)
    return fails or isinstance(node, CopyOnRead) or shown_filter(node) is not None


def _end_of_alike(start: int, cluster: int, filters: list[CopyBeforeWrite]) -> int:
    """Where clusters that begin at ``start`` and have the same bits in all filters end."""
    bitmaps = [bitmap for each in filters for bitmap in (each.access, each.done)]
    ends = (bitmap.run(start, bitmap.size)[1] for bitmap in bitmaps if start < bitmap.size)
    return max(align_down(min(ends, default=start), cluster), start + cluster)
