# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool: record a real QEMU, then judge mutants of the model by it."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.mutants.operators import Mutant, mutants

CAUGHT, SURVIVED = "caught", "SURVIVED"
TIMEOUT: Final = 40.0
"""Seconds; a mutant that takes longer goes round in circles, and so is caught."""
_ROOT: Final = Path(__file__).parents[2]


def judged(mutant: Mutant, module: str, recording: Path) -> str:
    """How the mutant fares."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.mutants.judge", str(recording), module],
            input=mutant.source, text=True, cwd=_ROOT, timeout=TIMEOUT, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(_ROOT)})
    except subprocess.TimeoutExpired:
        return CAUGHT
    return CAUGHT if done.returncode else SURVIVED


def judge(options: argparse.Namespace) -> int:
    """Judge the mutants of some files; 1 if any survives."""
    unchanged = Path(options.files[0])
    same = Mutant(0, "", (_ROOT / unchanged).read_text())
    if judged(same, _module(unchanged), options.recording) == CAUGHT:
        print("the unchanged model does not foretell the recording: record anew")
        return 2
    total = survived = 0
    for file in map(Path, options.files):
        every = list(mutants((_ROOT / file).read_text()))
        if options.most is not None and len(every) > options.most:
            chosen = random.Random(options.seed).sample(range(len(every)), options.most)
            every = [every[index] for index in sorted(chosen)]
        alive = 0
        for number, each in enumerate(every, start=1):
            print(f"\r{file}: {number} of {len(every)}", end="", file=sys.stderr, flush=True)
            if judged(each, _module(file), options.recording) == SURVIVED:
                alive += 1
                print(f"{file}:{each.line}: {each.what}", flush=True)
        print(f"{file}: {len(every) - alive} of {len(every)} mutants caught", flush=True)
        total, survived = total + len(every), survived + alive
    print(f"score {100 * (total - survived) / max(total, 1):.1f} %: {total - survived} of {total}")
    return int(survived > 0)


def record(options: argparse.Namespace) -> int:
    """Record a real QEMU."""
    from harness.builds import find
    from harness.exploration.subjects import subject_of
    from tests.mutants import recording

    ground = subject_of(find(options.qemu_build)).grounds[0]
    records = recording.record(ground, options.seconds,
                               recording.traces_of(ground, options.seed))
    recording.save(records, options.recording)
    steps = sum(len(each.trace.steps) for each in records)
    print(f"{len(records)} traces, {steps} steps of {ground.build.version}")
    return 0


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").parts)


def main() -> int:
    """From arguments to an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    recorder = verbs.add_parser("record", help="what a real QEMU answers")
    recorder.add_argument("recording", type=Path)
    recorder.add_argument("--qemu-build")
    recorder.add_argument("--seconds", type=float, default=60.0)
    recorder.add_argument("--seed", type=int, default=1)
    recorder.set_defaults(verb=record)
    judging = verbs.add_parser("judge", help="which mutants foretell that as well")
    judging.add_argument("recording", type=Path)
    judging.add_argument("files", nargs="+", metavar="model/FILE.py")
    judging.add_argument("--most", type=int, help="of each file, so many mutants drawn by seed")
    judging.add_argument("--seed", type=int, default=1)
    judging.set_defaults(verb=judge)
    options = parser.parse_args()
    return int(options.verb(options))


if __name__ == "__main__":
    sys.exit(main())
