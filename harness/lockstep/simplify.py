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

from harness.ranges import Ranges, merged, touches, widened, without
from model.bitmap import align_down, align_up
from model.configuration import KIB, MIB, Configuration, Format, Image, Protocol
from model.node import SECTOR
from model.operations import BitmapRef, Discard, Operation, Request, Write, Zero
from model.schedule import Start, place_of, request_of

from .trace import Step, Trace

UNITS: Final = (MIB, 64 * KIB, 4 * KIB, SECTOR)
"""Boundaries that matter to somebody, coarsest first."""
_ROUND: Final = (64 * KIB, 4 * KIB, SECTOR)

_RANGE: Final = ("offset", "length")
_NODES: Final = ("node", "file", "target", "device", "filter_node")


# Operations


def simpler_operations(operation: Operation) -> Iterator[Operation]:
    """The operation, each time with one thing about it made simpler."""
    if isinstance(operation, Start):
        for request in simpler_operations(operation.request):
            yield Start(request)
        return
    if isinstance(operation, (Zero, Discard)):
        yield Write(operation.node, operation.offset, operation.length, operation.via)
    for field in dataclasses.fields(operation):
        value = getattr(operation, field.name)
        if field.default is dataclasses.MISSING or field.name in _RANGE:
            continue
        if value != field.default:
            for simpler in (field.default, *_halved(value)):
                yield _with(operation, field.name, simpler)
        if isinstance(value, tuple) and len(value) > 1:
            for index in range(len(value)):
                yield _with(operation, field.name, value[:index] + value[index + 1:])
    if isinstance(operation, Request):
        for offset, length in simpler_ranges(operation.offset, operation.length):
            yield replace(operation, offset=offset, length=length)


def _with(operation: Operation, field: str, value: Any) -> Operation:
    changes: dict[str, Any] = {field: value}
    return replace(operation, **changes)


def _halved(value: object) -> tuple[int, ...]:
    """Half of a size, such as that of clusters, where its default would not do."""
    return (value // 2,) if type(value) is int and value > 1 else ()


def roughness(*numbers: int) -> int:
    """How far the numbers are from round ones: 0 for multiples of 64k, more for finer ones."""
    return sum(next((rank for rank, unit in enumerate(_ROUND) if number % unit == 0), len(_ROUND))
               for number in numbers)


def simpler_ranges(offset: int, length: int) -> list[tuple[int, int]]:
    """Ranges (offset, length) that are rounder, shorter or nearer to the start of the disk, in
    this order of importance; the simplest first."""
    def cost(start: int, size: int) -> tuple[int, int, int]:
        return roughness(start, size), size, start

    end = offset + length
    found: set[tuple[int, int]] = set()
    for unit in UNITS:
        low, high = align_down(offset, unit), align_down(end, unit)
        up, further = align_up(offset, unit), align_up(end, unit)
        found |= {(low, further - low), (up, high - up), (low, high - low), (up, further - up)}
        found |= {(each, length) for each in (0, low, up, offset - unit)}
        for size in (unit, align_down(length, unit), align_up(length, unit), length - unit,
                     align_down(length // 2, unit)):
            found |= {(offset, size), (end - size, size)}
    now = cost(offset, length)
    return sorted((each for each in found if each[0] >= 0 and each[1] > 0 and cost(*each) < now),
                  key=lambda each: cost(*each))


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
    return with_configuration(trace, replace(trace.configuration, images=images))


def with_configuration(trace: Trace, configuration: Configuration) -> Trace:
    """The trace with other images, or another manner of exporting them."""
    return replace(trace, header=replace(trace.header, configuration=configuration))


def simpler_images(trace: Trace) -> Iterator[Trace]:
    """The trace without an I/O thread; each time with one thing about one image made simpler; then
    smaller disks."""
    if trace.configuration.iothread:
        yield with_configuration(trace, replace(trace.configuration, iothread=False))
    images = trace.configuration.images
    for index, image in enumerate(images):
        for simpler in _simpler_image(image):
            yield with_images(trace, (*images[:index], simpler, *images[index + 1:]))
    for old in sorted({image.size for image in images}, reverse=True):
        for new in _simpler_sizes(old, _end_of_requests(trace.steps)):
            yield with_images(trace, tuple(
                _cut(image, new) if image.size == old else image for image in images))


def _simpler_image(image: Image) -> Iterator[Image]:
    # Held storage stays held: without it a schedule is none.
    held = image.protocol is Protocol.HELD
    plain = Image(image.node, image.size, filled=image.filled, faults=image.faults,
                  protocol=image.protocol if held else Protocol.FILE)
    if plain != image:
        yield plain
    if image.format is not Format.RAW:
        yield replace(image, format=Format.RAW, cluster_size=None, subclusters=False,
                      preallocation=None, backing=None)
    for field in dataclasses.fields(image):
        value = getattr(image, field.name)
        if held and field.name == "protocol":
            continue
        if field.default is not dataclasses.MISSING and value != field.default:
            for each in (field.default, *_halved(value)):
                changes: dict[str, Any] = {field.name: each}
                yield replace(image, **changes)
    for index in range(len(image.faults) if len(image.faults) > 1 else 0):
        yield replace(image, faults=image.faults[:index] + image.faults[index + 1:])
    for index, (start, length) in enumerate(image.filled):
        before, after = image.filled[:index], image.filled[index + 1:]
        if before or after:
            yield replace(image, filled=before + after)
        for simpler in simpler_ranges(start, length):
            if sum(simpler) <= image.size:
                yield replace(image, filled=(*before, simpler, *after))


def _cut(image: Image, size: int) -> Image:
    filled = tuple((start, min(length, size - start))
                   for start, length in image.filled if start < size)
    return replace(image, size=size, filled=filled)


def _simpler_sizes(size: int, needed: int) -> list[int]:
    """Disk sizes that hold ``needed`` bytes and are rounder than ``size`` or, as round, smaller.

    A tail that is no whole cluster may matter, so it is kept as well as cut off.
    """
    def cost(each: int) -> tuple[int, int]:
        return roughness(each), each

    cluster = 64 * KIB
    round_ones = {cluster << power for power in range(16)} | {
        align_up(needed, unit) for unit in (*UNITS, size)}
    found = round_ones | {each + tail for each in round_ones for tail in (size % cluster, SECTOR)}
    return sorted((each for each in found
                   if max(needed, 1) <= each <= size + cluster and cost(each) < cost(size)),
                  key=cost)


def _end_of_requests(steps: Sequence[Step]) -> int:
    requests = [request_of(step.operation) for step in steps]
    return max((each.offset + each.length for each in requests if each is not None), default=0)


# Whole traces


def closed_gaps(trace: Trace) -> Iterator[Trace]:
    """The trace without a part of the disk that no request touches: all beyond it moves down,
    the requests and what the images are filled with; with their ends, and without."""
    requests = [request_of(step.operation) for step in trace.steps]
    touched = [(each.offset, each.offset + max(each.length, 1))
               for each in requests if each is not None]
    end = max((high for _, high in touched), default=0)
    for unit in UNITS[:2]:
        for start, stop in without(0, end, widened(touched, unit)):
            steps = [_moved(step, stop, stop - start) for step in trace.steps]
            images = [replace(image, filled=_closed(image.filled, start, stop))
                      for image in trace.configuration.images]
            for cut in (stop - start, 0):  # disks may differ in size, and that matter
                yield with_steps(with_images(trace, tuple(
                    replace(image, size=image.size - cut) if image.size > stop else image
                    for image in images)), steps)


def _closed(filled: Ranges, start: int, stop: int) -> Ranges:
    """Ranges (offset, length) when ``[start, stop)`` is taken out of the disk."""
    kept = [each for offset, length in filled
            for each in without(offset, offset + length, ((start, stop),))]
    moved = merged((low - (stop - start), high - (stop - start)) if low >= stop else (low, high)
                   for low, high in kept)
    return tuple((low, high - low) for low, high in moved)


def _moved(step: Step, beyond: int, down: int) -> Step:
    operation = step.operation
    place = place_of(operation)
    if place is None or place.offset < beyond:
        return step
    moved = replace(place, offset=place.offset - down)
    starts = isinstance(operation, Start) and isinstance(moved, Request)
    return replace(step, operation=Start(moved) if starts else moved)


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
