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


# What other commands write

COMPARED: dict[str, Any] = {
    "builds": [{"version": "7.2.1 (Debian-1:7.2.1+dfsg-7)", "path": "/a"},
               {"version": "9.9.9 (Debian-1:9.9.9+dfsg-9)", "path": "/b"}],
    "steps": 10, "traces": 1, "seed": 3,
    "explained": [
        {"kind": "mended", "capability": "x-y", "text": "can do <x>", "has": 0, "seen": True,
         "example": "read 0 1", "answers": ["EINVAL (22)", "ok"], "operations": ["read"]},
        {"kind": "new", "capability": "z", "text": "takes z", "has": 1, "seen": False,
         "example": "told by the QMP schema", "answers": None, "operations": []}],
    "unexplained": [{"build": 1, "summary": "strange", "other": "conforms", "alike": False,
                     "area": "access", "system": "qsd"}]}
_SAME = [f"line {index}" + index % 2 * " that is long" * 9 for index in range(40)]
GOLDEN: dict[str, Any] = {"builds": ["QEMU 9"], "golden": [
    {"name": "good", "ok": True, "verdict": "fine", "text": ""},
    {"name": "bad", "ok": False, "verdict": "QEMU deviates",
     "text": "bad: QEMU deviates\n    node cbw shows two more bitmaps\n--- model\n+++ QEMU\n",
     "golden": "\n".join(_SAME), "model": "\n".join(_SAME),
     "qemu": "\n".join([*_SAME[:20], "other", *_SAME[21:]])}]}
_FOUND = {"verdict": "divergence", "area": "tails", "system": "qsd", "times": 1,
         "summary": "strange <x>", "elapsed_s": 20.0}
RUN: dict[str, Any] = {
    "build": {"version": "9.9.9", "path": "/a"}, "seed": 3, "steps": 4000, "traces": 40,
    "elapsed_s": 40.0, "operations": {}, "rules": {"cbw.point-in-time": 5},
    "alignments": {"read": {"clusters": 3}}, "known_defects": [],
    "not_checked": [], "pace": [[10.0, 1000], [20.0, 2000], [30.0, 3000], [40.0, 4000]],
    "load": {"requests": 24000, "elapsed_s": 3.2, "fleecing_reads": 10425, "denied": 2191},
    "kills": {"rounds": 12, "kills": 11, "elapsed_s": 2.0},
    "divergences": [{**_FOUND, "elapsed_s": None}, _FOUND]}


__all__ = ["COMPARED", "COPIED", "GOLDEN", "RUN", "SCHEDULE", "Recording", "data_of", "forgotten",
           "lied", "long_trace", "page_data"]
