# SPDX-License-Identifier: GPL-2.0-or-later
"""Which clusters of a qcow2 image hold compressed data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COMPRESSIBLE: Final = 8
"""A cluster of which so many parts in one are a single run of zeroes compresses for certain, be
the rest noise; without any zeroes none does."""


def run_of_compressed(compressed: Mapping[int, bool], cluster_size: int, start: int,
                      end: int) -> tuple[int, bool]:
    """Where in ``(start, end]`` it changes whether clusters are certainly compressed, and whether
    that at ``start`` is; ``compressed``: the clusters, by number, that are, or (False) may be."""
    if not compressed:
        return end, False
    cluster = start // cluster_size
    certainly = compressed.get(cluster, False)
    while cluster * cluster_size < end and compressed.get(cluster, False) == certainly:
        cluster += 1
    return min(cluster * cluster_size, end), certainly
