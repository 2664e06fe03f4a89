# SPDX-License-Identifier: GPL-2.0-or-later
"""Bitmaps as QMP tells of them.  Runs after every operation, so it is kept lean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.systems.commands import DEVICE
from model.outcome import BitmapView, DeviceView


def bitmaps_by_node(nodes: Iterable[Mapping[str, Any]]) -> dict[str, tuple[BitmapView, ...]]:
    """The bitmaps of every node that has any, from ``query-named-block-nodes``."""
    return {node["node-name"]: bitmaps_of(node) for node in nodes if "dirty-bitmaps" in node}


def bitmaps_of(node: Mapping[str, Any]) -> tuple[BitmapView, ...]:
    """The bitmaps of one of those nodes."""
    return tuple([_view(bitmap) for bitmap in node.get("dirty-bitmaps", ())])


def device_view(devices: Iterable[Mapping[str, Any]],
                named: Callable[[str], str]) -> DeviceView | None:
    """The guest's device, from ``query-block``; ``named`` gives the model's name of a node."""
    for device in devices:
        inserted = device.get("inserted")
        if device.get("qdev") == DEVICE and inserted is not None:
            return DeviceView(named(inserted["node-name"]), bitmaps_of(inserted))
    return None


def _view(bitmap: Mapping[str, Any]) -> BitmapView:
    get = bitmap.get
    return BitmapView(get("name"), bitmap["granularity"], bitmap["count"], bitmap["recording"],
                      bitmap["busy"], bitmap["persistent"], get("inconsistent", False))


def cluster_size(bitmaps: tuple[BitmapView, ...]) -> int | None:
    """A filter's cluster size in bytes: the granularity of its own bitmaps, which have no name and
    are the oldest ones; a filter above may have put its copy bitmap before them."""
    return next((bitmap.granularity for bitmap in reversed(bitmaps)
                 if bitmap.name is None and not bitmap.recording), None)
