# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench``: what lockstep costs, against clients that only send and receive."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from harness import stamps
from harness.builds import STORAGE_DAEMON, Build, find
from harness.cli.bench_held import held_rate
from harness.cli.bench_workers import explored
from harness.cli.console import Progress, output
from harness.cli.files import check_file, write
from harness.clients.nbd import NbdClient
from harness.exploration.subjects import subject_of
from harness.lockstep.run import run
from harness.lockstep.trace import Step
from harness.lockstep.verdict import Conforms
from harness.systems.qmp_system import QmpSystem
from harness.systems.starting import Start, starter
from model import operations as ops
from model.capabilities import Capabilities
from model.configuration import GIB, KIB, MIB, Configuration, Image
from model.machine import Machine
from model.operations import Operation, Request, Via

SIZE: Final = 64 * MIB
BLOCK: Final = 100
"""Steps of one side before it is the other side's turn, so that both see the same machine."""
STARTS: Final = 15
HUGE: Final = 64 * GIB
_GRAPH: Final = (ops.BitmapAdd("src", "b0"), ops.AddFilter("cbw", "src", "tmp"),
                 ops.AddSnapshot("snap", "cbw"), ops.Export("cbw"), ops.Export("snap"))
_QUERIES: Final = (
    ("query-named-block-nodes", None),
    ("x-debug-block-dirty-bitmap-sha256", {"node": "src", "name": "b0"}),
)
"""What lockstep asks after each step."""


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    ratio: float
    """Lockstep steps a second, relative to the raw loop's."""
    lockstep_steps_per_s: float
    raw_steps_per_s: float
    startup_ms: float
    """Median time until a storage daemon has its images, filter, snapshot and exports."""
    resident_mib: float
    """Peak of a harness process that is in lockstep over a sparse disk of 64 GiB."""
    steps: int
    explored_steps_per_s: float
    """Of exploration in one process: QEMU starts anew for each trace."""
    explored_by_two_steps_per_s: float
    drawing_share: float
    """Of one process's time: hypothesis, and the model that chooses among what it draws."""
    held_requests_per_s: float | None = None
    """Requests that storage served by the harness holds and completes; None: no qemu-img."""


def bench(options: argparse.Namespace) -> int:
    """The command."""
    if options.json is not None:
        check_file(options.json)
    build = find(options.qemu_build)
    build.tool(STORAGE_DAEMON)
    with Progress() as progress:
        progress.phase(f"measuring with QEMU {build.version}")
        subject = subject_of(build)
        capabilities = subject.profile.capabilities
        with starter(build, STORAGE_DAEMON) as start:
            progress.note("start-up")
            startup = _startup(start)
            progress.note("lockstep and the raw loop in turn")
            lockstep, raw, steps = _rates(start, capabilities, options.seconds)
        progress.note("exploration")
        alone, together = (explored(subject, workers, options.seconds) for workers in (1, 2))
        progress.note("held storage")
        held = held_rate(build)
        progress.note("memory")
        resident = _in_a_fresh_process(build, capabilities)
    figures = Figures(round(lockstep / raw, 3), round(lockstep, 1), round(raw, 1),
                      round(startup * 1000, 1), round(resident / MIB, 1), steps,
                      alone.steps_per_s, together.steps_per_s, alone.drawing_share,
                      None if held is None else round(held, 1))
    _show(build, figures)
    if options.json is not None:
        write(options.json, json.dumps({
            "build": {"path": str(build.path), "version": build.version},
            **asdict(figures)}, indent=2) + "\n")
    return 0


def _show(build: Build, figures: Figures) -> None:
    console = output()
    console.print(f"QEMU {build.version}", style="bold")
    console.print(f"lockstep    {figures.lockstep_steps_per_s:8.0f} steps/s, bitmaps and their "
                  "digests compared after each")
    console.print(f"raw clients {figures.raw_steps_per_s:8.0f} steps/s, same requests and queries")
    console.print(f"ratio       {figures.ratio:8.2f}  ({figures.steps} steps each, in turn)")
    console.print(f"exploration {figures.explored_steps_per_s:8.0f} steps/s, "
                  f"{figures.explored_by_two_steps_per_s:.0f} with two workers; "
                  f"{figures.drawing_share:.0%} of the time is drawing")
    console.print(f"start-up    {figures.startup_ms:8.1f} ms, storage daemon with its graph")
    if figures.held_requests_per_s is not None:
        console.print(f"held storage{figures.held_requests_per_s:7.0f} requests/s, each held and "
                      "then completed")
    console.print(f"memory      {figures.resident_mib:8.1f} MiB at most, over a disk of 64 GiB")


def _images(size: int) -> Configuration:
    return Configuration((Image("src", size, filled=((0, min(size, MIB)),)), Image("tmp", size)))


def _begin(system: QmpSystem) -> None:
    for number, operation in enumerate(_GRAPH, start=1):
        answer = system.apply(number, operation)
        assert answer.refused is None, answer.refused


def _startup(start: Start) -> float:
    taken = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        with closing(start(_images(SIZE))) as system:
            _begin(system)
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


# Lockstep and the raw loop


def _requests(count: int, first: int, choices: random.Random) -> list[Step]:
    """What a guest and a fleecing client do, at random places."""
    made: list[Step] = []
    for number in range(first, first + count):
        place = choices.randrange(SIZE // (64 * KIB)) * 64 * KIB
        kind = choices.randrange(16)
        operation: Operation
        if kind < 6:
            operation = ops.Write("cbw", place + choices.randrange(16) * 4 * KIB, 4 * KIB)
        elif kind < 12:
            operation = ops.Read("snap", place, 64 * KIB, Via.NBD_DF)
        elif kind < 14:
            operation = ops.Read("cbw", place, 4 * KIB)
        elif kind < 15:
            operation = ops.Zero("cbw", place, 4 * KIB)
        else:
            operation = ops.Discard("cbw", place, 64 * KIB)
        made.append(Step(number, operation))
    return made


def _rates(start: Start, capabilities: Capabilities,
           seconds: float) -> tuple[float, float, int]:
    """Steps a second of lockstep and of the raw loop, and how many steps each has done.

    Each has a storage daemon of its own; both do the same requests, block by block in turn.
    """
    choices = random.Random("bench")
    configuration = _images(SIZE)
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(closing(start(configuration))) for _ in range(2))
        machine = Machine(configuration, capabilities)
        graph = [Step(number, each) for number, each in enumerate(_GRAPH, start=1)]
        assert isinstance(run(graph, ours, machine), Conforms)
        _begin(theirs)
        raw = _Raw(theirs, stack)
        spent: tuple[list[float], list[float]] = ([], [])
        done = 0
        while not done or sum(map(sum, spent)) < seconds:
            steps = _requests(BLOCK, len(_GRAPH) + 1 + done, choices)
            thunks = [raw.prepared(step) for step in steps]
            order: list[tuple[int, Callable[[], object]]] = [
                (0, lambda steps=steps: run(steps, ours, machine)),  # type: ignore[misc]
                (1, lambda thunks=thunks: raw.loop(thunks))]  # type: ignore[misc]
            if done // BLOCK % 2:
                order.reverse()
            for side, work in order:
                begun = time.perf_counter()
                result = work()
                spent[side].append(time.perf_counter() - begun)
                assert result is None or isinstance(result, Conforms), result
            done += BLOCK
    # The median block: what else the machine did meanwhile hit a few blocks of either side.
    ours_s, theirs_s = (BLOCK / statistics.median(each) for each in spent)
    return ours_s, theirs_s, done


class _Raw:
    """Clients that only send and receive: the same libraries, connections and queries."""

    def __init__(self, system: QmpSystem, stack: ExitStack) -> None:
        self._qmp = system.process.qmp
        socket = str(system.workspace.socket("nbd"))
        self._clients = {name: stack.enter_context(NbdClient.connect(socket, name))
                         for name in ("cbw", "snap")}

    def prepared(self, step: Step) -> Callable[[], object]:
        """The request, with its data ready."""
        request = step.operation
        assert isinstance(request, Request)
        client, offset, length = self._clients[request.node], request.offset, request.length
        match request:
            case ops.Write():
                data = stamps.data(step.number, offset, length)
                return lambda: client.write(offset, data)
            case ops.Read(via=via):
                return lambda: client.read(offset, length, df=via is Via.NBD_DF)
            case ops.Zero():
                return lambda: client.zero(offset, length, no_hole=True)
            case _:
                return lambda: client.discard(offset, length)

    def loop(self, thunks: Sequence[Callable[[], object]]) -> None:
        """Send the requests, each followed by the queries."""
        for thunk in thunks:
            thunk()
            for name, arguments in _QUERIES:
                self._qmp.execute(name, arguments)


# Memory


def _in_a_fresh_process(build: Build, capabilities: Capabilities) -> float:
    """Peak resident bytes of a process that does nothing but be in lockstep over a huge disk."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (build, capabilities))


def _peak(build: Build, capabilities: Capabilities) -> float:
    configuration = Configuration((Image("src", HUGE, filled=((0, MIB), (HUGE - MIB, MIB))),
                                   Image("tmp", HUGE)))
    operations: list[Operation] = [*_GRAPH]
    for index in range(64):
        offset = index * (HUGE // 64) + index * 4 * KIB
        operations += [ops.Write("cbw", offset, MIB), ops.Read("snap", offset, MIB, Via.NBD_DF)]
    operations += [ops.Zero("cbw", HUGE // 2, 64 * MIB),
                   ops.Discard("cbw", HUGE // 4, 64 * MIB),
                   *(ops.Inspect(node) for node in ("src", "tmp", "snap"))]
    steps = [Step(number, each) for number, each in enumerate(operations, start=1)]
    with starter(build, STORAGE_DAEMON) as start, closing(start(configuration)) as system:
        verdict = run(steps, system, Machine(configuration, capabilities))
    assert isinstance(verdict, Conforms), verdict
    return _peak_of_this_program()


def _peak_of_this_program() -> float:
    """Bytes; getrusage would count what the process was before it became this program."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * KIB
