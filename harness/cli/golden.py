# SPDX-License-Identifier: GPL-2.0-or-later
"""``golden``: the golden outputs, by way of pytest, whose plugin does the work."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import harness
from harness.errors import EnvironmentProblem

TESTS = Path(harness.__file__).parents[1] / "tests" / "iotests"


def golden(options: argparse.Namespace) -> int:
    """The command."""
    if not TESTS.is_dir():
        raise EnvironmentProblem(f"no scenarios in {TESTS}: golden outputs need a source checkout")
    if importlib.util.find_spec("pytest") is None:
        raise EnvironmentProblem("golden outputs need pytest: apt-get install python3-pytest, or "
                                 "use tox")
    command = [sys.executable, "-m", "pytest", str(TESTS), f"--golden={options.action}", "-q"]
    for build in options.qemu_build or ():
        command += ["--qemu-build", build]
    if options.tests:
        command += ["-k", " or ".join(options.tests)]
    # pytest's own exit codes: 0 passed, 1 failed, 2 interrupted, 3 to 5 usage.
    code = subprocess.run(command, cwd=TESTS.parents[1], env=os.environ, check=False).returncode
    return {0: 0, 1: 1, 2: 130}.get(code, 2)
