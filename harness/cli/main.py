# SPDX-License-Identifier: GPL-2.0-or-later
"""From arguments to an exit code."""

from __future__ import annotations

import importlib
import io
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from harness.cli.interrupts import heed_interrupts, told_to_end
from harness.cli.parser import parse
from harness.errors import EnvironmentProblem, HarnessError
from harness.invocation import through_tox
from harness.processes.keeper import insist_on_temporary_folder
from harness.systems.failure import SystemFailed

DIVERGES: Final = 1
BROKEN: Final = 2
INTERRUPTED: Final = 130

_MODULES: Final = {"replay": "single", "shrink": "single"}
"""Where a command is that has no module of its own name."""
_OURS: Final = {"harness", "model"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; users' mistakes and the machine's shortcomings are one line on stderr."""
    # asyncio tells at length of tasks that an interrupt has cut off.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    heed_interrupts()
    _speak_anywhere()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        insist_on_temporary_folder()
        _insist_on_current_folder()
        name = _MODULES.get(options.command, options.command)
        # Only what the command needs: --help must not wait for hypothesis.
        module = importlib.import_module(f"harness.cli.{name}")
        code: int = getattr(module, options.command)(options)
        sys.stdout.flush()
    except SystemFailed as why:
        print(f"harness: DIVERGES: {why}", file=sys.stderr)
        return DIVERGES
    except HarnessError as why:
        print(f"harness: {why}", file=sys.stderr)
        return why.exit_code
    except ModuleNotFoundError as why:
        if (why.name or "").split(".")[0] in _OURS:
            return _broken()
        words = shlex.join(sys.argv[1:] if arguments is None else arguments)
        print(f"harness: {sys.executable} has no {why.name}; tox brings it: {through_tox(words)}",
              file=sys.stderr)
        return BROKEN
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # Whoever read our output has gone; nothing must be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception:
        return _interrupted() if told_to_end() else _broken()
    return code


def _insist_on_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as why:
        raise EnvironmentProblem(
            f"the current folder is no more: {why.strerror}; change to another one") from why


def _speak_anywhere() -> None:
    """What standard output cannot spell, such as the arrow of a release note, is a question mark;
    and who has closed it wants to hear nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _interrupted() -> int:
    print("harness: interrupted", file=sys.stderr)
    return INTERRUPTED


def _broken() -> int:
    """Python's own exit status for an exception is 1, which would be a verdict on QEMU."""
    traceback.print_exc()
    print("harness: that is a defect of the harness itself, not of QEMU", file=sys.stderr)
    return BROKEN
