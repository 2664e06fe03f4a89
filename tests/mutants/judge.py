# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging mutants, each in a process of its own that is forked when all else is loaded."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import Synchronized
from types import CodeType
from typing import Final

from tests.mutants.operators import Mutant
from tests.mutants.reach import Reach, reach
from tests.mutants.swap import Loaded, Swap, compiled, import_anew, import_changed

TIMES: Final = 4
"""A mutant that takes so many times as long for a record as watching it took, and half a second,
goes in circles."""
NEAR: Final = 100
"""What catches a mutant of a function is so many times as likely to catch the next one there as
what has caught one elsewhere."""
_FORK: Final = multiprocessing.get_context("fork")


class Fate(Enum):
    """How a mutant fares."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    UNREACHED = "never reached"
    """Survived, as no record executes what was changed."""
    MISJUDGED = "caught, though explained"
    """Caught, though an explanation (:mod:`tests.mutants.explanations`) says that it cannot be."""


@dataclass(frozen=True)
class Judged:
    """A mutant that was judged."""

    mutant: Mutant
    fate: Fate


@dataclass
class Judge:
    """Judges mutants by records."""

    texts: Sequence[memoryview]
    """The records, as they were loaded."""
    workers: int = 1
    alike: int = 8
    """Of records that execute the same lines of a file, so many judge its mutants."""
    reaches: list[Reach] = field(default_factory=list)
    """What each record executes."""
    imported: Reach = field(default_factory=lambda: Reach(True, 0.0))
    """What importing executes."""
    caught: Counter[int] = field(default_factory=Counter)
    """How many mutants each record has caught."""
    caught_in: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """The same of each function of the model."""

    def watch(self, modules: Sequence[Loaded]) -> list[int]:
        """Find out what each record executes of these modules; those that the unchanged model
        does not foretell."""
        files = {str(each.path) for each in modules}
        with _FORK.Pool(self.workers) as pool:
            self.imported = pool.apply(_watch_import, (files,))
        global _texts
        _texts = self.texts
        with _FORK.Pool(self.workers) as pool:
            self.reaches = pool.map(partial(_watch, files), range(len(self.texts)), 16)
        return [index for index, each in enumerate(self.reaches) if not each.foretold]

    def judge(self, module: Loaded, mutants: Iterable[Mutant]) -> Iterator[Judged]:
        """All of them, in the order in which that is done."""
        running: dict[int, _Trial] = {}
        for mutant in mutants:
            trial = self._trial(module, mutant)
            if not trial.order:
                yield Judged(mutant, Fate.UNREACHED)
                continue
            while len(running) >= self.workers:
                yield from self._ended(running)
            running[trial.begin()] = trial
        while running:
            yield from self._ended(running)

    def _trial(self, module: Loaded, mutant: Mutant) -> _Trial:
        file = str(module.path)
        code = compiled(mutant.tree, module)
        swaps = module.swaps(code)
        if swaps is not None and self.imported.touches(file, (each.begins for each in swaps)):
            swaps = None
        where = f"{module.name}.{mutant.function}"
        chosen = self._few_of_each_sort(file, where, (
            index for index, each in enumerate(self.reaches)
            if swaps is None or each.touches(file, mutant.lines)))
        return _Trial(mutant, module.name, where, code, swaps,
                      [(index, self.texts[index], self.reaches[index].seconds)
                       for index in chosen])

    def enough(self) -> list[int]:
        """The records that are enough to judge the mutants of any file: what the unchanged model
        foretells, but not those of which others execute the same lines, whichever file it is."""
        sorts: Counter[tuple[str, frozenset[int]]] = Counter()
        chosen: list[int] = []
        for index, each in sorted(enumerate(self.reaches), key=lambda pair: pair[1].seconds):
            if each.foretold and any(sorts[sort] < self.alike for sort in each.lines.items()):
                sorts.update(each.lines.items())
                chosen.append(index)
        return sorted(chosen)

    def _few_of_each_sort(self, file: str, where: str, records: Iterable[int]) -> list[int]:
        """Those that are most likely to catch a mutant in a function in little time, such first;
        of those that execute the same lines of the file not all."""
        near = self.caught_in[where]
        sorts: Counter[frozenset[int]] = Counter()
        chosen: list[int] = []
        for index in sorted(records, key=lambda index: (
                self.reaches[index].seconds / (1 + self.caught[index] + NEAR * near[index]))):
            lines = self.reaches[index].lines.get(file, frozenset())
            sorts[lines] += 1
            if sorts[lines] <= self.alike:
                chosen.append(index)
        return chosen

    def _ended(self, running: dict[int, _Trial]) -> Iterator[Judged]:
        for sentinel in wait(running):
            assert isinstance(sentinel, int)
            trial = running.pop(sentinel)
            if trial.survived():
                yield Judged(trial.mutant, Fate.SURVIVED)
                continue
            if trial.at.value >= 0:
                self.caught[trial.at.value] += 1
                self.caught_in[trial.where][trial.at.value] += 1
            yield Judged(trial.mutant, Fate.CAUGHT)


class _Trial:
    """A mutant before its records."""

    def __init__(self, mutant: Mutant, name: str, where: str, code: CodeType,
                 swaps: list[Swap] | None, order: list[tuple[int, memoryview, float]]) -> None:
        self.mutant = mutant
        self.where = where
        """The function that it is in."""
        self.order = order
        """The records that it must foretell: their numbers, texts and seconds."""
        self.at: Synchronized[int] = _FORK.Value("i", -1)
        """The number of the record that it is at."""
        self._change = partial(_change, name, code, swaps)
        self._process: ForkProcess

    def begin(self) -> int:
        """Begin; a sentinel to wait for."""
        self._process = _FORK.Process(target=self._run, daemon=True)
        self._process.start()
        return self._process.sentinel

    def survived(self) -> bool:
        """How it ended."""
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        return code == 0

    def _run(self) -> None:
        """In the process: ends badly, or is ended, if the mutant is caught."""
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        signal.setitimer(signal.ITIMER_VIRTUAL, 60)
        self._change()
        for number, text, seconds in self.order:
            self.at.value = number
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.5 + TIMES * seconds)
            if not pickle.loads(text).foretold():
                os._exit(1)
        os._exit(0)


def _change(name: str, code: CodeType, swaps: list[Swap] | None) -> None:
    if swaps is None:
        import_changed(name, code)
        return
    for swap in swaps:
        swap.do()


_texts: Sequence[memoryview] = ()
"""For the workers that watch."""


def _watch(files: set[str], number: int) -> Reach:
    return reach(files, lambda: bool(pickle.loads(_texts[number]).foretold()))


def _watch_import(files: set[str]) -> Reach:
    return reach(files, lambda: import_anew() is None)

