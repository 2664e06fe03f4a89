# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies told when one looks at the bitmaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from harness.systems.lies.lie import Lie, Oracle
from model.outcome import BitmapView, DeviceView, Observation


def _first(change: Callable[[BitmapView], BitmapView]) -> Callable[
        [Observation], Observation | None]:
    """Change the first bitmap of the last node that has any."""
    def forge(seen: Observation) -> Observation | None:
        for node, bitmaps in reversed(list(seen.bitmaps.items())):
            if bitmaps:
                return replace(seen, bitmaps={
                    **seen.bitmaps, node: (change(bitmaps[0]), *bitmaps[1:])})
        return None
    return forge


def _fewer(seen: Observation) -> Observation | None:
    for node, bitmaps in seen.bitmaps.items():
        if bitmaps:
            return replace(seen, bitmaps={**seen.bitmaps, node: bitmaps[:-1]})
    return None


def _none(seen: Observation) -> Observation | None:
    return replace(seen, bitmaps={}) if seen.bitmaps else None


def _more(seen: Observation) -> Observation | None:
    for node, bitmaps in seen.bitmaps.items():
        return replace(seen, bitmaps={
            **seen.bitmaps, node: (BitmapView(None, 65536, 0), *bitmaps)})
    return None


def _swapped(seen: Observation) -> Observation | None:
    for node, bitmaps in seen.bitmaps.items():
        if bitmaps != bitmaps[::-1]:
            return replace(seen, bitmaps={**seen.bitmaps, node: bitmaps[::-1]})
    return None


def _elsewhere(seen: Observation) -> Observation | None:
    for node, bitmaps in seen.bitmaps.items():
        rest = {key: value for key, value in seen.bitmaps.items() if key != node}
        return replace(seen, bitmaps={**rest, f"{node}-file": bitmaps})
    return None


_ABOUT_BITMAPS: Final = (
    Lie("count-off", "a bitmap has a dirty granule too many", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(
            bitmap, count=bitmap.count + bitmap.granularity))),
    Lie("wrong-granularity", "a bitmap has twice its granularity", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(bitmap, granularity=bitmap.granularity * 2))),
    Lie("wrong-name", "a bitmap has another name", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(bitmap, name=f"{bitmap.name}'"))),
    Lie("wrong-recording", "a bitmap's recording flag is wrong", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(bitmap, recording=not bitmap.recording))),
    Lie("wrong-busy", "a bitmap's busy flag is wrong", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(bitmap, busy=not bitmap.busy))),
    Lie("wrong-persistent", "a bitmap's persistent flag is wrong", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(bitmap, persistent=not bitmap.persistent))),
    Lie("wrong-inconsistent", "a bitmap's inconsistent flag is wrong", Oracle.BITMAPS,
        observation=_first(lambda bitmap: replace(bitmap, inconsistent=not bitmap.inconsistent))),
    Lie("missing-bitmap", "a bitmap is not there", Oracle.BITMAPS, observation=_fewer),
    Lie("no-bitmaps", "no bitmap is there", Oracle.BITMAPS, observation=_none),
    Lie("extra-bitmap", "a bitmap is there that nobody made", Oracle.BITMAPS, observation=_more),
    Lie("swapped-bitmaps", "a node's bitmaps are in the wrong order", Oracle.BITMAPS,
        observation=_swapped),
    Lie("misplaced-bitmaps", "a node's bitmaps are on another node", Oracle.BITMAPS,
        observation=_elsewhere),
)


def _wrong_digest(seen: Observation) -> Observation | None:
    for key, digest in seen.digests.items():
        flipped = ("0" if digest[:1] != "0" else "1") + digest[1:]
        return replace(seen, digests={**seen.digests, key: flipped})
    return None


_ABOUT_DIGESTS: Final = (
    Lie("wrong-digest", "a bitmap is dirty elsewhere than it should be, the count being right",
        Oracle.DIGESTS, observation=_wrong_digest),
)

def _device(change: Callable[[DeviceView], DeviceView | None]) -> Callable[
        [Observation], Observation | None]:
    def forge(seen: Observation) -> Observation | None:
        device = None if seen.device is None else change(seen.device)
        return None if device is None else replace(seen, device=device)
    return forge


def _fewer_of_device(device: DeviceView) -> DeviceView | None:
    return replace(device, bitmaps=device.bitmaps[:-1]) if device.bitmaps else None


_ABOUT_DEVICE: Final = (
    Lie("device-elsewhere", "the guest's device is on another node", Oracle.DEVICE,
        observation=_device(lambda device: replace(device, node=f"{device.node}-file"))),
    Lie("device-bitmap-missing", "query-block leaves out a bitmap", Oracle.DEVICE,
        observation=_device(_fewer_of_device)),
    Lie("no-device", "query-block does not show the guest's device", Oracle.DEVICE,
        observation=lambda seen: replace(seen, device=None) if seen.device else None),
)

OBSERVATIONS: Final = (*_ABOUT_BITMAPS, *_ABOUT_DIGESTS, *_ABOUT_DEVICE)
"""All of them."""
