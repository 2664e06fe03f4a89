# SPDX-License-Identifier: GPL-2.0-or-later
"""Drawing the images of a trace."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from harness.exploration import ranges
from harness.exploration.areas import Area, Scheme
from harness.exploration.choices import Choices
from harness.exploration.scene import DEFAULT_CLUSTER, cluster_of
from model.bitmap import align_down
from model.configuration import (
    KIB,
    MIB,
    Configuration,
    Fault,
    Format,
    Image,
    Protocol,
    RequestKind,
)
from model.node import SECTOR
from model.qcow2_cells import cell_size

SOURCE: Final = "src"
TARGET: Final = "tmp"
SECOND_TARGET: Final = "tmp2"
BACKING: Final = "base"
OVERLAY: Final = "over"
"""The image whose backing file is a snapshot."""

_TAILS: Final = (SECTOR, 4 * KIB, 4 * KIB + SECTOR, 32 * KIB, 64 * KIB - SECTOR)
_BYTE_TAILS: Final = (1, 511, 513, 4 * KIB - 1)
"""Only raw images have sizes that are no whole sectors."""
_SMALLEST_SUBCLUSTERED: Final = 16 * KIB
_ERRNOS: Final = ("EIO", "EIO", "ENOSPC", "EPERM", "ENOMEM")
_TWO_TARGETS: Final = (Scheme.STACKED, Scheme.TWINS, Scheme.NESTED, Scheme.LOOSE, Scheme.DISK,
                       Scheme.PUSH)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What all images of a trace have in common."""

    area: Area
    size: int
    units: tuple[int, ...]


def configuration(choices: Choices, area: Area, scheme: Scheme) -> Configuration:
    """The images for a graph of this scheme; of one size as a rule."""
    source = _image(choices, area, SOURCE, choices.weighted(area.sources))
    wanted = Format.QCOW2 if scheme is Scheme.CLASSIC else choices.weighted(area.targets)
    target = _image(choices, area, TARGET, wanted)
    cluster = max(DEFAULT_CLUSTER, cluster_of(target))
    whole_bytes = {source.format, target.format} == {Format.RAW} and Protocol.NBD not in (
        source.protocol, target.protocol)
    size = _size(choices, area, cluster, odd_bytes=whole_bytes)
    shape = _Shape(area, size, tuple(sorted({cluster, cluster_of(source), 4 * KIB})))
    images = [_complete(choices, shape, source)]
    if source.format is Format.QCOW2 and choices.chance(area.backing):
        base = _image(choices, area, BACKING, choices.weighted(area.sources))
        images = [_below(_complete(choices, _differing(choices, shape, 4), base)),
                  dataclasses.replace(images[0], backing=BACKING, preallocation=None)]
    target = _complete(choices, _differing(choices, shape, area.sizes), target)
    if scheme is Scheme.CLASSIC:
        target = dataclasses.replace(target, backing=SOURCE, preallocation=None, filled=())
        images[-1] = _below(images[-1])
    images.append(target)
    if scheme in _TWO_TARGETS:
        second = _image(choices, area, SECOND_TARGET, choices.weighted(
            {Format.RAW: 2, Format.QCOW2: 2}))
        images.append(_complete(choices, _differing(choices, shape, area.sizes), second))
    if scheme is Scheme.OVERLAY:
        over = _image(choices, area, OVERLAY, Format.QCOW2)
        over = _complete(choices, _differing(choices, shape, area.sizes), over)
        images.append(dataclasses.replace(over, faults=(), request_alignment=None))
    return Configuration(tuple(images))


def _below(image: Image) -> Image:
    """The image as a backing file: its block status does not fail, see unsaid.check_request."""
    return dataclasses.replace(image, faults=tuple(
        fault for fault in image.faults if fault.kind is not RequestKind.STATUS))


def _size(choices: Choices, area: Area, cluster: int, *, odd_bytes: bool) -> int:
    count = choices.integer(1, 9 if cluster <= 256 * KIB else 3 if cluster <= 2 * MIB else 1)
    size = count * cluster
    if choices.chance(area.tail):
        tails = _TAILS + _BYTE_TAILS if odd_bytes else _TAILS
        size += choices.pick(tails)
        if choices.chance(2):
            size -= cluster  # perhaps less than one cluster
    return size


def _differing(choices: Choices, shape: _Shape, chance: int) -> _Shape:
    """Perhaps another size: a little or much larger as a rule, or smaller."""
    if not choices.chance(chance):
        return shape
    if choices.chance(5):
        size = ranges.place(choices, shape.size, shape.units)
    else:
        size = shape.size + choices.pick((*_TAILS, *shape.units, shape.size))
    return dataclasses.replace(shape, size=max(align_down(size, SECTOR), SECTOR))


def _image(choices: Choices, area: Area, node: str, wanted: Format) -> Image:
    """An image's format and what comes with it; no size yet."""
    cluster = None
    subclusters = False
    preallocation = None
    if wanted is Format.QCOW2:
        cluster = choices.weighted(area.cluster_sizes)
        subclusters = cluster >= _SMALLEST_SUBCLUSTERED and choices.chance(area.subclusters)
        if choices.chance(2):
            preallocation = "metadata"
    protocol = Protocol.NBD if choices.chance(area.nbd) else Protocol.FILE
    return Image(node, 0, wanted, protocol, cluster, subclusters, preallocation,
                 discard=wanted is not Format.PARALLELS and not choices.chance(area.undiscarded))


def _complete(choices: Choices, shape: _Shape, image: Image) -> Image:
    size = shape.size
    filled = ((0, size),) if choices.chance(6) else ranges.several(choices, size, shape.units, 4)
    if image.node not in (SOURCE, BACKING) and choices.chance(10):
        filled = ()  # a temporary image is fresh as a rule
    faults: tuple[Fault, ...] = ()
    alignment = None
    if choices.chance(shape.area.faults):
        faults = tuple(_fault(choices, shape) for _ in range(choices.integer(1, 2)))
    if choices.chance(shape.area.alignment) and _smallest_cell(image) >= 4 * KIB:
        alignment = choices.pick((SECTOR, 4 * KIB) if size % (4 * KIB) == 0 else (SECTOR,))
    # blkdebug divides by zero on a discard that is not aligned, in every QEMU so far.
    discard = image.discard and alignment is None
    detects = None
    if not faults and alignment is None and choices.chance(shape.area.detecting):
        detects = choices.pick(("on", "unmap")) if discard else "on"
    return dataclasses.replace(image, size=size, filled=filled, faults=faults, discard=discard,
                               request_alignment=alignment, detect_zeroes=detects)


def _smallest_cell(image: Image) -> int:
    """The unit in which a qcow2 image tells its block status.

    With one below the alignment of requests, status is that of some part of what was asked.
    """
    return cell_size(image) if image.format is Format.QCOW2 else 4 * KIB


def _fault(choices: Choices, shape: _Shape) -> Fault:
    near = min(ranges.place(choices, shape.size, shape.units), shape.size - 1)
    return Fault(choices.pick(list(RequestKind)), near // SECTOR * SECTOR,
                 choices.pick(_ERRNOS), once=choices.chance(8))
