# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that ``--json``, ``--junit``, ``--tap``, ``--code-quality`` and ``--report`` ask for,
and the annotations of ``--github``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from harness.cli.files import check_file, write
from harness.report import outputs
from harness.report.outputs import Suite

STDOUT: Final = Path("-")
"""As a file's name: standard output."""
_WRITERS: Final[dict[str, Callable[[Sequence[Suite]], str]]] = {
    "junit": outputs.junit, "tap": outputs.tap, "code_quality": outputs.code_quality}


def check_outputs(options: argparse.Namespace) -> None:
    """Make sure, before a long run, that every file can be written."""
    for name in ("json", "report", *_WRITERS):
        file = getattr(options, name, None)
        if file is not None and file != STDOUT:
            check_file(file)


def on_stderr(options: argparse.Namespace) -> bool:
    """Whether what is for people goes to standard error, the other being taken."""
    return any(getattr(options, name, None) == STDOUT for name in ("json", *_WRITERS))


def write_outputs(options: argparse.Namespace, suites: Sequence[Suite], plain: Any,
                  page: Callable[[], str]) -> None:
    """Write what is asked for: ``plain`` is the JSON, ``page`` makes the page."""
    if options.json is not None:
        _put(options.json, json.dumps(plain, indent=2) + "\n")
    for name, writer in _WRITERS.items():
        file = getattr(options, name)
        if file is not None:
            _put(file, writer(suites))
    if options.github:
        print(outputs.github(suites), end="")
    if options.report is not None:
        write(options.report, page())


def _put(file: Path, text: str) -> None:
    if file == STDOUT:
        sys.stdout.write(text)
    else:
        write(file, text)
