# SPDX-License-Identifier: GPL-2.0-or-later
"""The arrows of docs/architecture.md: tests → harness → model, and downwards only in harness."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("builds", "processes", "clients", "storage", "systems", "lockstep", "reproducers",
          "golden", "exploration", "report", "cli")
"""Each may import itself and what stands before it."""
SHARED = ("errors", "invocation", "ranges", "stamps", "user_cache")
"""Modules of harness that every layer may import."""
NOT_PURE = {"os", "io", "time", "datetime", "random", "secrets", "socket", "subprocess",
            "threading", "asyncio", "pathlib", "tempfile", "logging"}
LONGEST = 420
"""Lines of a file: a little above what the house rules ask for."""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The absolute names of the modules that a file imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *((node.module,) if node.module else ())))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources("model"), ids=lambda path: path.name)
def test_the_model_is_pure_and_stands_alone(path: Path) -> None:
    for name in imported(path):
        top = name.split(".")[0]
        assert top == "model" or top in sys.stdlib_module_names, name
        assert top not in NOT_PURE, name


@pytest.mark.parametrize("path", sources("harness"), ids=lambda path: str(path.relative_to(ROOT)))
def test_harness_layers_import_downwards_only(path: Path) -> None:
    layer = path.relative_to(ROOT / "harness").parts[0]
    if layer not in LAYERS:
        return
    allowed = {*LAYERS[:LAYERS.index(layer) + 1], *SHARED}
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] != "tests", name
        if parts[0] == "harness" and len(parts) > 1:
            assert parts[1] in allowed, f"{layer} imports {name}"


@pytest.mark.parametrize("path", sources("model") + sources("harness"),
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
