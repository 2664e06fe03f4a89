# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces and recordings for the tests of pages."""

from __future__ import annotations

import json
import random
import re
from contextlib import closing
from typing import Any

from harness.lockstep.recording import Recording, Watcher, record, recording
from harness.lockstep.run import run
from harness.lockstep.trace import Trace
from harness.report.traces import Told, trace_page
from harness.systems.held_simulated import SimulatedHeld
from harness.systems.lies import catalogue
from harness.systems.lies.forgotten import FORGOTTEN
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, Image, Protocol
from model.operations import AddFilter, AddSnapshot, Discard, Export, Operation, Read, Write, Zero
from model.schedule import Complete, Start
from tests.unit.lockstep_lab import FLEECING, SET_UP, SIZE, K, fleecing, stand, trace_of

COPIED = fleecing(Write("cbw", 64 * K, 4 * K), Read("snap", 0, 192 * K),
                  Discard("snap", 128 * K, 64 * K), Write("cbw", 128 * K, 64 * K))
HELD = Configuration((Image("src", 128 * K, protocol=Protocol.HELD),
                      Image("tmp", 128 * K, protocol=Protocol.HELD)))
SCHEDULE = trace_of(
    AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("cbw"), Export("snap"),
    Start(Read("snap", 0, 64 * K)), Start(Write("cbw", 0, 64 * K)),
    Complete("src", "read", 0, 64 * K, younger=1), Complete("tmp", "write", 0, 64 * K),
    Complete("src", "read", 0, 64 * K), Complete("src", "write", 0, 64 * K), configuration=HELD)


def lied(trace: Trace = COPIED, lie: str = "wrong-byte") -> Told:
    """A trace on a simulated system that lies."""
    seen = record(trace, stand(catalogue()[lie]), "simulated")
    return Told(trace, seen, "found.jsonl", "python -m harness replay found.jsonl",
                "#!/bin/sh\necho '</script><b>'\n")


def forgotten(name: str = "no-wait") -> Told:
    """A schedule on a simulated system whose filters forget a rule."""
    rule = next(each for each in FORGOTTEN if each.name == name)
    machine = ConcurrentMachine(HELD)
    watcher = Watcher()
    with closing(SimulatedHeld(ConcurrentMachine(HELD), forgotten=rule)) as system:
        verdict = run(SCHEDULE.steps, system, machine, watch=watcher.watch)
    seen = recording(SCHEDULE, verdict, held_stand(), "simulated", watcher.steps)
    return Told(SCHEDULE, seen, "schedule.jsonl")


def held_stand() -> Any:
    """Where schedules are done."""
    from harness.lockstep.replay import Stand
    return Stand(lambda images: SimulatedHeld(ConcurrentMachine(images)), ConcurrentMachine)


def long_trace(count: int) -> Trace:
    """So many operations of a guest and a fleecing client."""
    choices = random.Random("long")
    operations: list[Operation] = [*SET_UP]
    while len(operations) < count:
        offset = choices.randrange(SIZE // (4 * K)) * 4 * K
        length = min(choices.choice((512, 4 * K, 64 * K, 192 * K)), SIZE - offset)
        operations.append(choices.choice((
            Write("cbw", offset, length), Read("cbw", offset, length),
            Read("snap", offset, length), Zero("cbw", offset, length),
            Discard("snap", offset - offset % (64 * K), 64 * K))))
    return trace_of(*operations, configuration=FLEECING)


def data_of(page: str) -> dict[str, Any]:
    """What a page gives to its scripts."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def page_data(told: Told) -> dict[str, Any]:
    """The same, of a trace's page: verdict and timeline."""
    shown: dict[str, Any] = data_of(trace_page(told))["traces"][0]
    return shown


__all__ = ["COPIED", "SCHEDULE", "Recording", "data_of", "forgotten", "lied", "long_trace",
           "page_data"]
