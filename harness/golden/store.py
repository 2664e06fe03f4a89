# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of golden outputs: names, variants, pending files, atomic writes.

``NAME.out`` is the log on a QEMU with today's capabilities.  Where a log depends on capabilities,
the test says on which; a build that differs from today's in any of them has a file of its own::

    101-access-control.out
    101-access-control@no-copy-bitmap-on-filter.out
    101-access-control@no-copy-bitmap-on-filter+no-min-cluster-size.out

``no-`` stands before a feature that the build lacks; a known defect that it has goes by its own
name.  Capabilities that the test does not name play no part, so each build has exactly one file.
What a run would put in place of a golden file lies beside it as ``NAME.out.new`` until somebody
accepts or rejects it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Final

from harness.errors import EnvironmentProblem
from harness.systems.known_defects import spelled
from model.capabilities import Capabilities

SUFFIX: Final = ".out"
PENDING: Final = ".out.new"
_NOT_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Change(StrEnum):
    """What became, or would become, of a golden file."""

    CREATED = "created"
    CHANGED = "changed"
    UNUSED = "unused"


class StoreError(EnvironmentProblem):
    """The folder cannot be read or written."""


def golden_name(test: str) -> str:
    """The golden name of a pytest function: ``test_101_tails[qcow2]`` is ``101-tails.qcow2``."""
    name = test.removeprefix("test_").replace("_", "-").replace("[", ".").rstrip("]")
    return _NOT_A_NAME.sub("-", name)


def _mark(capability: str, deviation: bool) -> str:
    return ("" if deviation else "no-") + spelled(capability)


def _marks(varies: Collection[str]) -> dict[str, str]:
    """The mark in a file name of each capability of ``varies``; one unknown raises ValueError."""
    known = {field.name: field for field in dataclasses.fields(Capabilities)}
    unknown = sorted(set(varies) - set(known))
    if unknown:
        raise ValueError(f"no capability is called {unknown[0]!r}")
    return {name: _mark(name, known[name].metadata["deviation"]) for name in sorted(varies)}


def variant(test: str, varies: Collection[str], capabilities: Capabilities) -> str:
    """The name of the golden file of ``test`` on a build of these capabilities.

    ``varies`` names the capabilities that the log of this test depends on.
    """
    today = Capabilities()
    marks = [mark for name, mark in _marks(varies).items()
             if getattr(capabilities, name) != getattr(today, name)]
    return f"{test}@{'+'.join(marks)}" if marks else test


def variants(test: str, varies: Collection[str]) -> dict[str, Capabilities]:
    """Every name that ``test`` can have, and the capabilities that it stands for."""
    today = Capabilities()
    found: dict[str, Capabilities] = {}
    for count in range(len(varies) + 1):
        for chosen in combinations(sorted(varies), count):
            other = dataclasses.replace(
                today, **{name: not getattr(today, name) for name in chosen})
            found[variant(test, varies, other)] = other
    return found


@dataclass(frozen=True, slots=True)
class Store:
    """The golden files of a folder.  Names are without suffix; texts end with a newline."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where the golden output ``name`` is, or would be."""
        return self.folder / f"{name}{SUFFIX}"

    def pending_path(self, name: str) -> Path:
        """Where a text that waits for review lies."""
        return self.folder / f"{name}{PENDING}"

    def read(self, name: str) -> str | None:
        """The committed output; None: there is none."""
        return _read(self.path(name))

    def read_pending(self, name: str) -> str | None:
        """The text that waits for review; None: nothing waits."""
        return _read(self.pending_path(name))

    def names(self) -> list[str]:
        """The golden outputs that exist, by name."""
        return self._listed(SUFFIX)

    def pending(self) -> list[str]:
        """The golden outputs for which a text waits for review."""
        return self._listed(PENDING)

    def unused(self, used: Iterable[str]) -> list[str]:
        """The golden outputs that exist though no test has them."""
        return sorted(set(self.names()) - set(used))

    def change(self, name: str, text: str) -> Change | None:
        """What writing ``text`` would be; None: nothing would change."""
        before = self.read(name)
        if before == text:
            return None
        return Change.CREATED if before is None else Change.CHANGED

    def write(self, name: str, text: str) -> Change | None:
        """Make ``text`` the golden output; a pending text of that name is settled by it."""
        change = self.change(name, text)
        if change is not None:
            _write(self.path(name), text)
        self.reject(name)
        return change

    def write_pending(self, name: str, text: str) -> None:
        """Leave ``text`` beside the golden output for review."""
        if self.read_pending(name) != text:
            _write(self.pending_path(name), text)

    def accept(self, name: str) -> Change | None:
        """Make the pending text of ``name`` its golden output."""
        text = self.read_pending(name)
        if text is None:
            raise StoreError(f"nothing waits for review under the name {name!r}")
        change = self.change(name, text)
        try:
            self.pending_path(name).replace(self.path(name))
        except OSError as why:
            raise StoreError(f"cannot write {self.path(name)}: {why.strerror}") from why
        return change

    def reject(self, name: str) -> None:
        """Drop the pending text of ``name``, if there is one."""
        self._remove(self.pending_path(name))

    def prune(self, used: Iterable[str]) -> list[str]:
        """Remove what :meth:`unused` lists, pending texts too; the names of it."""
        gone = self.unused(used)
        for name in gone:
            self._remove(self.path(name))
            self.reject(name)
        return gone

    def _listed(self, suffix: str) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(path.name.removesuffix(suffix) for path in self.folder.iterdir()
                      if path.name.endswith(suffix))

    @staticmethod
    def _remove(path: Path) -> None:
        try:
            if path.exists():  # in a folder that nobody may write to, unlink fails in any case
                path.unlink(missing_ok=True)
        except OSError as why:
            raise StoreError(f"cannot remove {path}: {why.strerror}") from why


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as why:
        raise StoreError(f"cannot read {path}: {why}") from why


def _write(path: Path, text: str) -> None:
    """Write all of it or nothing: under another name first, then renamed into place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            # mkstemp's mode is for secrets; a golden file is like any other file of the tree.
            Path(draft).chmod(0o644)
            Path(draft).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(draft).unlink()
            raise
    except OSError as why:
        raise StoreError(f"cannot write {path}: {why.strerror}") from why
