# SPDX-License-Identifier: GPL-2.0-or-later
"""What could be simpler: ways to make an operation, a configuration or a whole trace smaller.

Everything here is simpler than what it is made from by an order that goes down only, so that
taking up proposals comes to an end.  Whether a proposal still shows the defect is for
:mod:`harness.lockstep.shrink` to find out.  Proposals come boldest first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from model.configuration import KIB, MIB, Configuration, Format, Image
from model.operations import BitmapRef, Discard, Operation, Request, Write, Zero

from .ranges import Ranges, touches, widened, without
from .trace import Step, Trace

SECTOR: Final = 512
UNITS: Final = (MIB, 64 * KIB, 4 * KIB, SECTOR)
"""Boundaries that matter to somebody, coarsest first."""

_RANGE: Final = ("offset", "length")
_NODES: Final = ("node", "file", "target", "device", "filter_node")


# Operations


def simpler_operations(operation: Operation) -> Iterator[Operation]:
    """The operation, each time with one thing about it made simpler."""
    if isinstance(operation, (Zero, Discard)):
        yield Write(operation.node, operation.offset, operation.length, operation.via)
    for field in dataclasses.fields(operation):
        value = getattr(operation, field.name)
        if field.default is dataclasses.MISSING or field.name in _RANGE:
            continue
        if value != field.default:
            yield _with(operation, field.name, field.default)
        if isinstance(value, tuple) and len(value) > 1:
            for index in range(len(value)):
                yield _with(operation, field.name, value[:index] + value[index + 1:])
    if isinstance(operation, Request):
        yield from _simpler_ranges(operation)


def _with(operation: Operation, field: str, value: Any) -> Operation:
    changes: dict[str, Any] = {field: value}
    return replace(operation, **changes)


def _simpler_ranges(request: Request) -> Iterator[Request]:
    """Shorter, cut at either end; nearer to the start of the disk."""
    end = request.offset + request.length
    for length in smaller_lengths(request.length):
        yield replace(request, length=length)
        yield replace(request, offset=end - length, length=length)
    for offset in smaller_offsets(request.offset):
        yield replace(request, offset=offset)


def smaller_lengths(length: int) -> list[int]:
    """Lengths below ``length``, shortest first; not below a sector unless it is already."""
    if length <= SECTOR:
        return [1] if 1 < length < SECTOR else []
    found = {*UNITS, length - length % SECTOR, length // 2 // SECTOR * SECTOR,
             *(length - unit for unit in UNITS)}
    return sorted(each for each in found if SECTOR <= each < length)


def smaller_offsets(offset: int) -> list[int]:
    """Offsets below ``offset``, lowest first: on boundaries, or a boundary's distance back."""
    found = {0, *(offset - offset % unit for unit in UNITS), *(offset - unit for unit in UNITS)}
    return sorted(each for each in found if 0 <= each < offset)


# Nodes


def nodes_of(value: Any) -> set[str]:
    """The names of the nodes that an operation (or a bitmap's name in it) speaks of."""
    if isinstance(value, BitmapRef):
        return {value.node}
    if isinstance(value, tuple):
        return set().union(*map(nodes_of, value)) if value else set()
    if not isinstance(value, Operation):
        return set()
    found: set[str] = set()
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if field.name in _NODES and isinstance(inner, str):
            found.add(inner)
        else:
            found |= nodes_of(inner)
    return found


def without_nodes(trace: Trace) -> Iterator[Trace]:
    """The trace without one node, image or other, and all that speaks of it; last node first."""
    images = [image.node for image in trace.configuration.images]
    names = dict.fromkeys(images)
    for step in trace.steps:
        names |= dict.fromkeys(sorted(nodes_of(step.operation)))
    for name in reversed(list(names)):
        steps = tuple(step for step in trace.steps if name not in nodes_of(step.operation))
        yield with_steps(_without_image(trace, name), steps)


def _without_image(trace: Trace, node: str) -> Trace:
    images = tuple(
        replace(image, backing=None) if image.backing == node else image
        for image in trace.configuration.images if image.node != node)
    return with_images(trace, images)


# Configurations


def with_steps(trace: Trace, steps: Sequence[Step]) -> Trace:
    """The trace with other steps."""
    return Trace(trace.header, tuple(steps))


def with_images(trace: Trace, images: tuple[Image, ...]) -> Trace:
    """The trace with other images."""
    return replace(trace, header=replace(trace.header, configuration=Configuration(images)))


def simpler_images(trace: Trace) -> Iterator[Trace]:
    """The trace, each time with one thing about one image made simpler; then smaller disks."""
    images = trace.configuration.images
    for index, image in enumerate(images):
        for simpler in _simpler_image(image):
            yield with_images(trace, (*images[:index], simpler, *images[index + 1:]))
    for old in sorted({image.size for image in images}, reverse=True):
        for new in _smaller_sizes(old, _end_of_requests(trace.steps)):
            yield with_images(trace, tuple(
                _cut(image, new) if image.size == old else image for image in images))


def _simpler_image(image: Image) -> Iterator[Image]:
    plain = Image(image.node, image.size, filled=image.filled, faults=image.faults)
    if plain != image:
        yield plain
    if image.format is not Format.RAW:
        yield replace(image, format=Format.RAW, cluster_size=None, subclusters=False,
                      preallocation=None, backing=None)
    for field in dataclasses.fields(image):
        value = getattr(image, field.name)
        if field.default is not dataclasses.MISSING and value != field.default:
            yield replace(image, **{field.name: field.default})
    for index in range(len(image.faults) if len(image.faults) > 1 else 0):
        yield replace(image, faults=image.faults[:index] + image.faults[index + 1:])
    for index, (start, length) in enumerate(image.filled):
        before, after = image.filled[:index], image.filled[index + 1:]
        if before or after:
            yield replace(image, filled=before + after)
        for shorter in smaller_lengths(length):
            yield replace(image, filled=(*before, (start, shorter), *after))
            yield replace(image, filled=(*before, (start + length - shorter, shorter), *after))


def _cut(image: Image, size: int) -> Image:
    filled = tuple((start, min(length, size - start))
                   for start, length in image.filled if start < size)
    return replace(image, size=size, filled=filled)


def _smaller_sizes(size: int, needed: int) -> list[int]:
    """Disk sizes below ``size`` that hold ``needed`` bytes, smallest first.

    A tail that is no whole cluster may matter, so it is kept as well as cut off.
    """
    cluster = 64 * KIB
    round_ones = {cluster << power for power in range(16)} | {
        -(-needed // unit) * unit for unit in UNITS}
    found = round_ones | {each + size % cluster for each in round_ones}
    return sorted(each for each in found if max(needed, 1) <= each < size)


def _end_of_requests(steps: Sequence[Step]) -> int:
    return max((step.operation.offset + step.operation.length
                for step in steps if isinstance(step.operation, Request)), default=0)


# Whole traces


def closed_gaps(trace: Trace) -> Iterator[Trace]:
    """The trace with all requests beyond an untouched part of the disk moved down over it."""
    touched = [(step.operation.offset, step.operation.offset + max(step.operation.length, 1))
               for step in trace.steps if isinstance(step.operation, Request)]
    end = max((high for _, high in touched), default=0)
    for unit in UNITS[:2]:
        for start, stop in without(0, end, widened(touched, unit)):
            yield with_steps(trace, [_moved(step, stop, stop - start) for step in trace.steps])


def _moved(step: Step, beyond: int, down: int) -> Step:
    operation = step.operation
    if not isinstance(operation, Request) or operation.offset < beyond:
        return step
    return replace(step, operation=replace(operation, offset=operation.offset - down))


def last_requests(trace: Trace) -> Iterator[Trace]:
    """All that is no request, and the last few requests: fewest first."""
    total = sum(isinstance(step.operation, Request) for step in trace.steps)
    kept = 1
    while kept < total:
        left = total
        steps: list[Step] = []
        for step in trace.steps:
            if isinstance(step.operation, Request):
                left -= 1
                if left >= kept:
                    continue
            steps.append(step)
        yield with_steps(trace, steps)
        kept *= 4


def requests_touching(trace: Trace, ranges: Ranges) -> Trace:
    """All that is no request, and the requests that touch the clusters of ``ranges``."""
    wide = widened(ranges, 64 * KIB)
    return with_steps(trace, [
        step for step in trace.steps if not isinstance(step.operation, Request)
        or touches(step.operation.offset, step.operation.offset + step.operation.length, wide)])
