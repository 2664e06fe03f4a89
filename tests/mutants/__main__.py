# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool: record a real QEMU, then judge mutants of the model by it."""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from tests.mutants.judge import Fate, Judge
from tests.mutants.operators import Mutant, mutants
from tests.mutants.records import load
from tests.mutants.swap import Loaded


def judge(options: argparse.Namespace) -> int:
    """Judge the mutants of some files; 1 if any survives."""
    files: dict[Path, set[int]] = {}
    for named in options.files:
        file, _, line = named.partition(":")
        files.setdefault(Path(file), set()).update([int(line)] if line else [])
    modules = [Loaded.of(file) for file in files]
    judge_ = Judge(load(options.recording), options.workers, options.alike)
    if judge_.watch(modules):
        print("the unchanged model does not foretell the recording: record anew")
        return 2
    total: Counter[Fate] = Counter()
    for (file, lines), module in zip(files.items(), modules, strict=True):
        chosen = _chosen(module, lines, options.most, options.seed)
        found = Counter[Fate]()
        alive: list[tuple[int, str]] = []
        for number, each in enumerate(judge_.judge(module, chosen), start=1):
            if sys.stderr.isatty():
                print(f"\r{file}: {number} of {len(chosen)}", end="", file=sys.stderr, flush=True)
            found[each.fate] += 1
            if each.fate is not Fate.CAUGHT:
                alive.append((each.mutant.line, f"{each.fate.value}: {each.mutant.what}"))
        for line, what in sorted(alive):
            print(f"{file}:{line}: {what}")
        print(f"{file}: {found[Fate.CAUGHT]} of {len(chosen)} mutants caught", flush=True)
        total += found
    print(f"score {100 * total[Fate.CAUGHT] / max(total.total(), 1):.1f} %: "
          f"{total[Fate.CAUGHT]} of {total.total()}")
    return int(total.total() > total[Fate.CAUGHT])


def _chosen(module: Loaded, lines: set[int], most: int | None, seed: int) -> list[Mutant]:
    every = [each for each in mutants(module.source) if not lines or each.line in lines]
    if most is None or len(every) <= most:
        return every
    return [every[index] for index in
            sorted(random.Random(seed).sample(range(len(every)), most))]


def record(options: argparse.Namespace) -> int:
    """Record real QEMUs."""
    from harness.builds import ON_PATH, find
    from harness.exploration.grounds import where
    from harness.exploration.subjects import subject_of
    from tests.mutants import recording

    with options.recording.open("wb") as out:
        for build in options.qemu_build or [ON_PATH]:
            subject = subject_of(find(build))
            for ground, share in zip(subject.grounds, subject.shares, strict=True):
                seconds = options.seconds * share / sum(subject.shares)
                traces = 0
                for text in recording.record(ground, seconds,
                                             recording.traces_of(ground, options.seed)):
                    out.write(text)
                    traces += 1
                print(f"{traces} traces of {where(ground)}", flush=True)
    return 0


def main() -> int:
    """From arguments to an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    recorder = verbs.add_parser("record", help="what real QEMUs answer")
    recorder.add_argument("recording", type=Path)
    recorder.add_argument("--qemu-build", action="append", help="may be given several times")
    recorder.add_argument("--seconds", type=float, default=240.0, help="for each build")
    recorder.add_argument("--seed", type=int, default=1)
    recorder.set_defaults(verb=record)
    judging = verbs.add_parser("judge", help="which mutants foretell that as well")
    judging.add_argument("recording", type=Path)
    judging.add_argument("files", nargs="+", metavar="model/FILE.py", help=(
        "all mutants of it; model/FILE.py:LINE: those of that line"))
    judging.add_argument("--workers", type=int, default=1)
    judging.add_argument("--alike", type=int, default=8, help=(
        "so many of the traces that execute the same lines of a file judge its mutants"))
    judging.add_argument("--most", type=int, help="of each file, so many mutants drawn by seed")
    judging.add_argument("--seed", type=int, default=1)
    judging.set_defaults(verb=judge)
    options = parser.parse_args()
    return int(options.verb(options))


if __name__ == "__main__":
    sys.exit(main())
