# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool: record a real QEMU, then judge mutants of the model by it."""

from __future__ import annotations

import argparse
import pickle
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.mutants.explanations import Reason, explained, explanations_of
from tests.mutants.judge import Fate, Judge
from tests.mutants.operators import Mutant, mutants
from tests.mutants.records import framed, load
from tests.mutants.swap import ROOT, Loaded

BAD: Final = (Fate.SURVIVED, Fate.UNREACHED, Fate.MISJUDGED, Reason.GAP)
"""What should not be."""


def judge(options: argparse.Namespace) -> int:
    """Judge the mutants of some files; 1 if any survives without a reason."""
    files: dict[Path, set[int]] = {}
    for named in options.files:
        file, _, line = named.partition(":")
        files.setdefault(Path(file), set()).update([int(line)] if line else [])
    modules = [Loaded.of(file) for file in files]
    judge_ = Judge(load(options.recording), options.workers, options.alike)
    if _strange(judge_, modules):
        print("record anew, or leave them out: python -m tests.mutants thin")
        return 2
    total: Counter[Fate | Reason] = Counter()
    for (file, lines), module in zip(files.items(), modules, strict=True):
        total += judge_file(judge_, file, module, _chosen(module, lines, options.most,
                                                           options.seed), options.explained)
    print(f"score {_score(total)}")
    return int(any(total[each] for each in BAD))


def judge_file(judge_: Judge, file: Path, module: Loaded, chosen: Sequence[Mutant],
               judge_explained: bool) -> Counter[Fate | Reason]:
    """How its mutants fare, of which those that live, and are not explained, are listed."""
    source = module.source.splitlines()
    every = explanations_of(file)
    reasons = {id(mutant): found.reason for mutant in chosen
               if (found := explained(mutant, source, every)) is not None}
    judged = [each for each in chosen if judge_explained or id(each) not in reasons]
    total = Counter[Fate | Reason](reasons[id(each)] for each in chosen
                                   if not judge_explained and id(each) in reasons)
    alive: list[tuple[int, str]] = []
    for number, each in enumerate(judge_.judge(module, judged), start=1):
        if sys.stderr.isatty():
            print(f"\r{file}: {number} of {len(judged)}", end="", file=sys.stderr, flush=True)
        fate: Fate | Reason = each.fate
        if (reason := reasons.get(id(each.mutant))) is not None:
            fate = Fate.MISJUDGED if each.fate is Fate.CAUGHT else reason
        total[fate] += 1
        if isinstance(fate, Fate) and fate is not Fate.CAUGHT:
            alive.append((each.mutant.line, f"{fate.value}: {each.mutant.what}"))
    for line, what in sorted(alive):
        print(f"{file}:{line}: {what}")
    print(f"{file}: {_score(total)}", flush=True)
    return total


def thin(options: argparse.Namespace) -> int:
    """Leave out of a recording what judges nothing that the rest does not."""
    judge_ = Judge(load(options.recording), options.workers, options.alike)
    _strange(judge_, [Loaded.of(file.relative_to(ROOT))
                      for file in sorted((ROOT / "model").glob("[!_]*.py"))])
    kept = judge_.enough()
    with options.thinned.open("wb") as out:
        out.writelines(framed(judge_.texts[index]) for index in kept)
    print(f"{len(kept)} of {len(judge_.texts)} traces")
    return 0


def _strange(judge_: Judge, modules: Sequence[Loaded]) -> bool:
    """Whether the unchanged model, as it is watched, does not foretell a record; says which."""
    strange = judge_.watch(modules)
    for index in strange:
        print(f"trace {index + 1} is not what the unchanged model foretells: "
              f"{pickle.loads(judge_.texts[index])}")
    return bool(strange)


def _score(total: Counter[Fate | Reason]) -> str:
    """Of those that can be caught, how many are."""
    beyond = total[Reason.EQUIVALENT] + total[Reason.SILENT]
    within = total.total() - beyond
    return (f"{100 * total[Fate.CAUGHT] / max(within, 1):.1f} %: {total[Fate.CAUGHT]} of {within} "
            f"mutants caught; {total[Reason.EQUIVALENT]} more are equivalent, "
            f"{total[Reason.SILENT]} silent")


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
            subject = subject_of(find(build), jobs_only=True)
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
    thinning = verbs.add_parser("thin", help="leave out what judges nothing more")
    thinning.add_argument("recording", type=Path)
    thinning.add_argument("thinned", type=Path)
    thinning.set_defaults(verb=thin)
    judging = verbs.add_parser("judge", help="which mutants foretell that as well")
    judging.add_argument("recording", type=Path)
    judging.add_argument("files", nargs="+", metavar="model/FILE.py", help=(
        "all mutants of it; model/FILE.py:LINE: those of that line"))
    for each in (judging, thinning):
        each.add_argument("--workers", type=int, default=1)
        each.add_argument("--alike", type=int, default=8, help=(
            "so many of the traces that execute the same lines of a file judge its mutants"))
    judging.add_argument("--explained", action="store_true", help=(
        "judge also those of which tests/mutants/explained says why none can catch them"))
    judging.add_argument("--most", type=int, help="of each file, so many mutants drawn by seed")
    judging.add_argument("--seed", type=int, default=1)
    judging.set_defaults(verb=judge)
    options = parser.parse_args()
    return int(options.verb(options))


if __name__ == "__main__":
    sys.exit(main())
