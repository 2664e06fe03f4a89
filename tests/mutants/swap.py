# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing a module that is loaded: quickly, function by function, or by importing all anew."""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Final

ROOT: Final = Path(__file__).parents[2]
RECORDS: Final = "tests.mutants.records"
"""The module that has a record foretold."""
_ANEW: Final = ("model", "harness", RECORDS)
"""What is imported anew: all that may have seen the unchanged module."""


@dataclass(frozen=True)
class Loaded:
    """A module of the model as it is loaded."""

    name: str
    path: Path
    source: str
    code: CodeType
    functions: tuple[FunctionType, ...]

    @classmethod
    def of(cls, file: Path) -> Loaded:
        """Of a file, by its path in the tree."""
        name = ".".join(file.with_suffix("").parts)
        importlib.import_module(RECORDS)
        module = importlib.import_module(name)
        path = ROOT / file
        source = path.read_text()
        functions = tuple(each for each in gc.get_objects() if isinstance(each, FunctionType)
                          and each.__globals__ is vars(module))
        return cls(name, path, source, compile(source, str(path), "exec"), functions)

    def swaps(self, code: CodeType) -> list[Swap] | None:
        """What makes it a changed one in place, if that can be done."""
        pairs = list(_different(self.code, code))
        if None in pairs:
            return None
        swaps = [Swap(function, new) for old, new in filter(None, pairs)
                 for function in self.functions if function.__code__ == old]
        if len(swaps) < len(pairs) or any(
                swap.function.__code__.co_freevars != swap.code.co_freevars for swap in swaps):
            return None
        return swaps


@dataclass(frozen=True)
class Swap:
    """A function that gets another body."""

    function: FunctionType
    code: CodeType

    @property
    def begins(self) -> int:
        """The line where it begins."""
        return self.function.__code__.co_firstlineno

    def do(self) -> None:
        """Once and for all."""
        self.function.__code__ = self.code


def _different(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType] | None]:
    """The outermost functions that differ, before and after; None if what is done when the module
    is imported does."""
    if old.co_flags & inspect.CO_OPTIMIZED:
        if old != new:
            yield old, new
        return
    inner = _functions_in(old), _functions_in(new)
    if len(inner[0]) != len(inner[1]) or _own(old) != _own(new):
        yield None
        return
    for before, after in zip(*inner, strict=True):
        yield from _different(before, after)


def _functions_in(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _own(code: CodeType) -> tuple[object, ...]:
    """What a module's or a class's code does itself."""
    constants = [repr(each) for each in code.co_consts if not isinstance(each, CodeType)]
    return code.co_code, constants, code.co_names


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed code."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """This module only."""
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """By the changed code."""
        exec(self._code, vars(module))


def import_changed(name: str, code: CodeType) -> None:
    """Import the model with one module of it changed, and all that uses it; raises what that
    raises."""
    sys.meta_path.insert(0, _Changed(name, code))
    import_anew()


def import_anew() -> None:
    """Import the model and all that uses it as if for the first time."""
    for each in [*sys.modules]:
        if any(each == known or each.startswith(f"{known}.") for known in _ANEW):
            del sys.modules[each]
    importlib.import_module(RECORDS)


def compiled(tree: ast.Module, module: Loaded) -> CodeType:
    """The code of a changed module."""
    return compile(tree, str(module.path), "exec")
