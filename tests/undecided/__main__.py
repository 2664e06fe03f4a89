# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool: traces until the time is up, each over storage of every kind.

``python -m tests.undecided --seconds 600 --seed 7`` draws as the explorer does, for today's QEMU
or for a build.  A trace that does not conform is kept; on a real QEMU it may well conform.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.builds import find
from harness.exploration.areas import AREAS
from harness.exploration.building import Plan
from harness.exploration.directed.catalogue import checks
from harness.exploration.subjects import subject_of
from harness.lockstep.trace import SystemKind, Trace, save
from harness.lockstep.verdict import Conforms
from harness.reproducers.unheld import is_held
from tests.mutants.recording import drawn
from tests.undecided.judging import verdict
from tests.undecided.storage import Storage


def traces_for(plan: Plan, seed: int, *, directed: bool) -> Iterator[tuple[str, Trace]]:
    """The directed checks, if wanted, and drawn traces without end; with their names."""
    if directed:
        for check in checks(plan.system):
            yield check.name, check.make(plan)
    yield from drawn(plan, seed, [area for area in AREAS.values() if area.manner is None])


def plan_for(build: str | None) -> Plan:
    """What traces are drawn for: today's QEMU without defects, or a build."""
    if build is None:
        return Plan(SystemKind.QSD)
    return subject_of(find(build)).grounds[0].plan


def main() -> int:
    """From arguments to an exit status: 1 if any storage makes a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.undecided", description=__doc__)
    parser.add_argument("--qemu-build", help="a build whose capabilities to go by; it is not run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--no-directed", action="store_true", help="drawn traces only")
    parser.add_argument("--output", type=Path, default=Path("lockstep-output"))
    options = parser.parse_args()
    plan = plan_for(options.qemu_build)
    deadline = time.monotonic() + options.seconds
    traces = steps = found = 0
    for name, trace in traces_for(plan, options.seed, directed=not options.no_directed):
        if time.monotonic() > deadline:
            break
        if is_held(trace):  # such storage says itself what block status tells
            continue
        traces += 1
        for storage in Storage:
            judged = verdict(trace, storage, plan.capabilities)
            steps += len(trace.steps)
            if isinstance(judged, Conforms):
                continue
            found += 1
            file = options.output / f"{storage}-{name.replace('/', '-').replace(' ', '-')}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            save(file, trace)
            print(f"{file}: {judged.summary}", flush=True)
    print(f"{steps} steps in {traces} traces; storage makes a difference in {found}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
