# SPDX-License-Identifier: GPL-2.0-or-later
"""Which options go with which action of ``golden``, and whether what they name is there."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from harness.cli.files import check_folder
from harness.cli.outputs import check_outputs
from harness.cli.parser import UsageError
from harness.errors import EnvironmentProblem
from harness.golden.review import chosen
from harness.invocation import command

_COMPARE: Final = ("check", "diff")
_RUN: Final = (*_COMPARE, "update")
_ACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "yes": ("update",), "trust": ("update",), "save_logs": _COMPARE, "against": _COMPARE,
    "variants": ("diff",), "qemu_build": _RUN,
    **dict.fromkeys(("json", "junit", "tap", "code_quality", "github", "report"), _RUN)}
"""The actions for which each option means something."""


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that would play no part, and places that are not fit for what they are
    for; raises HarnessError."""
    given = [name for name in _ACTIONS if getattr(options, name)]
    for name in given:
        actions = _ACTIONS[name]
        if options.action not in actions:
            raise UsageError(f"{_option(name)} has no meaning for golden {options.action}, only "
                             f"for {', '.join(actions)}")
        if options.variants and name != "variants":
            raise UsageError(f"{_option(name)} has no meaning with --variants, for which no QEMU "
                             "is asked")
    if options.action == "prune" and options.tests:
        raise UsageError("golden prune takes no names: what it removes is what no test has")
    if options.save_logs is not None:
        check_folder(Path(options.save_logs), "--save-logs")
    if options.against is not None and not any(Path(options.against).glob("*.out")):
        keep = command(f"golden check --save-logs {options.against}")
        raise EnvironmentProblem(f"there are no logs in {options.against}: {keep} keeps those of "
                                 "a QEMU")
    check_outputs(options)


def check_names(names: Collection[str], tests: Sequence[str]) -> None:
    """Make sure that each of ``tests`` means one of the names; raises EnvironmentProblem."""
    for test in tests:
        if not any(chosen(name, (test,)) for name in names):
            raise EnvironmentProblem(f"no golden output has the name {test!r}, nor the number")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
