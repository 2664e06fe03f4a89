# SPDX-License-Identifier: GPL-2.0-or-later
"""How a trace begins: the bitmaps, filters, snapshots and exports of a scheme."""

from __future__ import annotations

from typing import Final

from harness.exploration import ranges
from harness.exploration.areas import Area, Scheme
from harness.exploration.choices import Choices
from harness.exploration.images import OVERLAY, SECOND_TARGET, SOURCE, TARGET
from model import operations as ops
from model.configuration import KIB, MIB, Configuration
from model.node import SECTOR
from model.operations import BitmapRef, Operation

FILTER: Final = "cbw"
SECOND_FILTER: Final = "cbw2"
SNAPSHOT: Final = "snap"
SECOND_SNAPSHOT: Final = "snap2"
COPIER: Final = "cor"
"""A copy-on-read node."""
GRANULARITIES: Final = (None, 512, 1 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB,
                        1 * MIB, 32 * MIB)
MIN_CLUSTERS: Final = (0, 1, 512, 64 * KIB, 128 * KIB, 256 * KIB, 1 * MIB, 4 * MIB)
_BAD_MIN_CLUSTERS: Final = (3, 96 * KIB, 65 * KIB, (1 << 63) - 1, 1 << 62)
_TIMEOUTS: Final = (0, 1, 2, 4, 45, (1 << 32) - 1)
_BAD_TIMEOUTS: Final = (-1, 1 << 32)


def opening(choices: Choices, area: Area, scheme: Scheme,
            configuration: Configuration) -> list[Operation]:
    """The first operations of a trace."""
    bitmap, operations = _bitmaps(choices, area, configuration)
    discard = {name: not choices.chance(area.undiscarded)
               for name in (FILTER, SECOND_FILTER, SNAPSHOT, SECOND_SNAPSHOT)}

    def view(name: str, file: str) -> Operation:
        return ops.AddSnapshot(name, file, discard=discard[name])

    def keep(name: str, file: str, target: str, bitmap: BitmapRef | None = None) -> Operation:
        return filter_with(choices, area, name, file, target, bitmap, discard=discard[name])

    served = [FILTER, SNAPSHOT]
    match scheme:
        case Scheme.FLEECING:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap), view(SNAPSHOT, FILTER)]
        case Scheme.CLASSIC:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap)]
            served = [FILTER, TARGET]
        case Scheme.TWO_VIEWS:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap), view(SNAPSHOT, FILTER),
                           view(SECOND_SNAPSHOT, FILTER)]
            served.append(SECOND_SNAPSHOT)
        case Scheme.STACKED:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap),
                           keep(SECOND_FILTER, FILTER, SECOND_TARGET), view(SNAPSHOT, FILTER),
                           view(SECOND_SNAPSHOT, SECOND_FILTER)]
            served = [*choices.some([FILTER, SECOND_FILTER], 1), SNAPSHOT, SECOND_SNAPSHOT]
        case Scheme.TWINS:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap),
                           keep(SECOND_FILTER, SOURCE, SECOND_TARGET)]
            operations += choices.some([view(SNAPSHOT, FILTER)])
            operations += choices.some([view(SECOND_SNAPSHOT, SECOND_FILTER)])
            served = choices.some([FILTER, SECOND_FILTER, SOURCE, SNAPSHOT], 1)
        case Scheme.NESTED:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap), view(SNAPSHOT, FILTER),
                           keep(SECOND_FILTER, SNAPSHOT, SECOND_TARGET),
                           view(SECOND_SNAPSHOT, SECOND_FILTER)]
            served += [SECOND_FILTER, SECOND_SNAPSHOT]
        case Scheme.OVERLAY:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap), view(SNAPSHOT, FILTER),
                           ops.RemoveNode(OVERLAY), ops.AddOverlay(OVERLAY, SNAPSHOT)]
            operations += choices.some([keep(SECOND_FILTER, FILTER, OVERLAY)])
            served = [*choices.some([FILTER, SECOND_FILTER], 1), SNAPSHOT, OVERLAY]
        case Scheme.BARE:
            operations += [view(SNAPSHOT, SOURCE)]
            served = [SOURCE, SNAPSHOT]
        case Scheme.PUSH:
            operations += [keep(FILTER, SOURCE, TARGET, bitmap), view(SNAPSHOT, FILTER)]
        case Scheme.LOOSE | Scheme.DISK:
            served = [SOURCE]
    if scheme is not Scheme.CLASSIC and choices.chance(2):
        served.append(choices.pick([SOURCE, TARGET]))
    if choices.chance(2):
        served = choices.shuffled(served)
    operations += [export_of(choices, name, operations) for name in dict.fromkeys(served)]
    return operations


def filter_with(choices: Choices, area: Area, name: str, file: str, target: str,
                bitmap: BitmapRef | None, *, discard: bool) -> ops.AddFilter:
    """A filter with options drawn."""
    on_error: str | None = None
    timeout: int | None = None
    smallest: int | None = None
    if choices.chance(area.options):
        if choices.chance(8):
            on_error = choices.pick(list(ops.OnCbwError)).value
        if choices.chance(4):
            timeout = choices.pick(_TIMEOUTS)
        if choices.chance(8):
            smallest = choices.pick(MIN_CLUSTERS)
    wrong = choices.integer(0, 9) if choices.chance(area.bad_options) else -1
    if wrong == 0:
        on_error = "foo"
    elif wrong == 1:
        timeout = choices.pick(_BAD_TIMEOUTS)
    elif wrong in (2, 3):
        smallest = choices.pick(_BAD_MIN_CLUSTERS)
    elif wrong == 4:
        bitmap = BitmapRef(file, "nope")
    elif wrong == 5:
        bitmap = BitmapRef("nope", "b0")
    return ops.AddFilter(
        name, {6: None, 7: "nope"}.get(wrong, file), {8: None, 9: "nope"}.get(wrong, target),
        bitmap, on_error, timeout, smallest, discard)


def export_of(choices: Choices, name: str, before: list[Operation]) -> ops.Export:
    """An export of the node, perhaps with a bitmap made before, perhaps read-only."""
    bitmaps: tuple[BitmapRef, ...] = ()
    made = [BitmapRef(each.node, each.bitmap) for each in before
            if isinstance(each, ops.BitmapAdd)]
    if made and choices.chance(2):
        bitmaps = (choices.pick(made),)
    return ops.Export(name, writable=not choices.chance(1), bitmaps=bitmaps,
                      allocation_depth=choices.chance(8), writethrough=choices.chance(1))


def _bitmaps(choices: Choices, area: Area, configuration: Configuration,
             ) -> tuple[BitmapRef | None, list[Operation]]:
    """Bitmaps from before the filter, with something in them; the one for the filter."""
    operations: list[Operation] = []
    for_filter: BitmapRef | None = None
    nodes = [image.node for image in configuration.images]
    wanted = [choices.chance(area.filter_bitmap), choices.chance(area.user_bitmap)]
    for index, name in enumerate(("b0", "b1")):
        if not wanted[index]:
            continue
        node = SOURCE if choices.chance(12) else choices.pick(nodes)
        operations.append(ops.BitmapAdd(
            node, name, choices.pick(GRANULARITIES), disabled=choices.chance(2)))
        if index == 0:
            for_filter = BitmapRef(node, name)
    if operations:
        operations += _history(choices, configuration)
    return for_filter, operations


def _history(choices: Choices, configuration: Configuration) -> list[Operation]:
    """Writes from before the point in time: what the bitmaps have dirty."""
    size = configuration.image(SOURCE).size // SECTOR * SECTOR
    writes: list[Operation] = []
    for _ in range(choices.integer(0, 4)):
        offset, length = ranges.span(choices, size, (4 * KIB, 64 * KIB))
        writes.append(ops.Write(SOURCE, offset, length))
    return [ops.Export(SOURCE), *writes, ops.Unexport(SOURCE)] if writes else []
