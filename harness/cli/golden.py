# SPDX-License-Identifier: GPL-2.0-or-later
"""``golden``: the golden outputs of tests/iotests: compared, renewed, reviewed, cleared out."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import harness
from harness.errors import EnvironmentProblem

if TYPE_CHECKING:
    from harness.golden.review import Choice, Pending, Reviewed

ROOT = Path(harness.__file__).parents[1]
KEYS = "a accept, r reject, s skip; A, R, S: this one and all that follow"


def golden(options: argparse.Namespace) -> int:
    """The command."""
    if not (ROOT / "tests/iotests").is_dir():
        raise EnvironmentProblem(
            f"no scenarios in {ROOT / 'tests/iotests'}: golden outputs need a source checkout")
    if importlib.util.find_spec("pytest") is None:
        raise EnvironmentProblem("golden outputs need pytest: apt-get install python3-pytest, or "
                                 "use tox")
    # pytest is there: only now what is built on it.
    from harness.golden import session
    from harness.golden.mode import Action
    from harness.golden.review import Choice, review, settle_all

    store = session.golden_store(ROOT)
    match options.action:
        case "review":
            return report(review(store, ask, options.tests))
        case "accept":
            return report(settle_all(store, Choice.ACCEPT, options.tests))
        case "reject":
            return report(settle_all(store, Choice.REJECT, options.tests))
        case "prune":
            for name in session.prune(ROOT):
                print(f"removed: {store.path(name).name}")
            return 0
        case action:
            return session.run(Action(action), options.tests, options.qemu_build or (), root=ROOT)


def ask(change: Pending, read: Callable[[str], str] | None = None) -> Choice:
    """Show a change, and have the user say what to do with it."""
    from harness.golden.review import Choice

    print(f"\n{change.change}: {', '.join(change.names)}\n{change.difference}")
    while True:
        try:
            answer = (read or input)(f"[{KEYS}] ").strip()
        except EOFError:
            raise EnvironmentProblem("golden review asks, and nobody is there to answer; use "
                                     "golden accept or golden reject") from None
        if answer in set(Choice):
            return Choice(answer)


def report(reviewed: Reviewed) -> int:
    """Say what became of what waited; 1 as long as something waits."""
    for what, names in (("accepted", reviewed.accepted), ("rejected", reviewed.rejected),
                        ("still waits", reviewed.skipped)):
        for name in names:
            print(f"{what}: {name}")
    if not (reviewed.accepted or reviewed.rejected or reviewed.skipped):
        print("nothing waits for review", file=sys.stderr)
    return 1 if reviewed.skipped else 0
