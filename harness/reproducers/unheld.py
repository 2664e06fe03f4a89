# SPDX-License-Identifier: GPL-2.0-or-later
"""A schedule without its storage: the same requests one after the other, over files.

Much of what a schedule finds needs no overlap; then this shows it too, and it stands alone.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

from harness.lockstep.trace import Step, Trace
from model.configuration import Configuration, Fault, Image, Protocol, RequestKind
from model.operations import Operation
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start


def is_held(trace: Trace) -> bool:
    """Whether any image is on storage that the harness serves."""
    return any(image.protocol is Protocol.HELD for image in trace.configuration.images)


def unheld(trace: Trace) -> Trace:
    """The requests in the order in which they are started; what is to fail does so once."""
    faults: dict[str, list[Fault]] = defaultdict(list)
    steps: list[Step] = []
    for step in trace.steps:
        operation: Operation = step.operation
        if isinstance(operation, Complete):
            if operation.error is not None:
                faults[operation.node].append(Fault(
                    RequestKind(operation.kind), operation.offset, operation.error, once=True))
        elif not isinstance(operation, (CompleteAll, Cut, Expire, Gone, Back)):
            if isinstance(operation, Start):
                operation = operation.request
            steps.append(Step(step.number, operation))
    images = tuple(_on_file(image, tuple(faults[image.node]))
                   for image in trace.configuration.images)
    header = dataclasses.replace(trace.header, configuration=Configuration(images))
    return Trace(header, tuple(steps))


def _on_file(image: Image, faults: tuple[Fault, ...]) -> Image:
    if image.protocol is not Protocol.HELD:
        return image
    # Storage that tells no block status tells of no zeroes: all of it is copied as data.
    filled = image.filled if image.tells_status else ((0, image.size),)
    return dataclasses.replace(image, protocol=Protocol.FILE, tells_status=False, filled=filled,
                               faults=(*image.faults, *faults))
