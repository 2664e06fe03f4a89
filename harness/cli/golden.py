# SPDX-License-Identifier: GPL-2.0-or-later
"""``golden``: the golden outputs of tests/iotests: compared, renewed, reviewed, cleared out."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.cli.golden_options import check_names, check_options
from harness.cli.outputs import on_stderr, write_outputs
from harness.errors import EnvironmentProblem
from harness.report.goldens import golden_page
from harness.report.outputs import Case, Failure, Suite

if TYPE_CHECKING:
    from harness.golden.review import Choice, Pending, Reviewed
    from harness.golden.session import Outcome
    from harness.golden.settle import Settled
    from harness.golden.store import Store

ROOT = Path(harness.__file__).parents[1]
KEYS = "a accept, r reject, s skip; A, R, S: this one and all that follow"


def golden(options: argparse.Namespace) -> int:
    """The command."""
    check_options(options)
    if not (ROOT / "tests/iotests").is_dir():
        raise EnvironmentProblem(
            f"no scenarios in {ROOT / 'tests/iotests'}: golden outputs need a source checkout")
    # What is built on pytest comes here, so that bad options are told without it.
    from harness.golden import session
    from harness.golden.between import between
    from harness.golden.mode import Action
    from harness.golden.review import Choice, review, settle_all

    store = session.golden_store(ROOT)
    if options.variants or options.action in ("review", "accept", "reject"):
        check_names({*store.names(), *store.pending()}, options.tests)
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
        case "diff" if options.variants:
            print("\n".join(between(
                store, *options.variants, only=options.tests,
                without_snapshots=session.collected(ROOT).without_snapshots)))
            return 0
        case action:
            told: list[Outcome] = []
            does = Action.PROPOSE if action == "update" else Action(action)
            with contextlib.redirect_stdout(sys.stderr if on_stderr(options) else sys.stdout):
                code = session.run(does, options.tests, options.qemu_build or (), root=ROOT,
                                   more=plugin_options(options), tell=told.append)
                if action == "update" and told:
                    code = update(options, store, told[0], code)
            for outcome in told:
                plain = as_json(outcome)
                write_outputs(options, [suite_of(outcome, store)], plain,
                              lambda plain=plain: golden_page(plain))  # type: ignore[misc]
            return code


def plugin_options(options: argparse.Namespace) -> list[str]:
    """What the user wants of the plugin, in its own words."""
    wanted = {"trust": options.trust, "save": options.save_logs, "against": options.against}
    return [f"--golden-{name}={Path(value).absolute() if name != 'trust' else value}"
            for name, value in wanted.items() if value is not None]


def update(options: argparse.Namespace, store: Store, outcome: Outcome, code: int) -> int:
    """Have the user settle what a run proposes; 1 as long as something waits."""
    from harness.cli.golden_update import settle_proposals, unconfirmed
    from harness.golden.mode import is_set

    sys.stdout.flush()
    reviewed = settle_proposals(store, outcome.ledger, yes=options.yes, review_one=ask)
    waiting = unconfirmed(store, outcome.ledger)
    for name in waiting:
        print(f"still waits, as no QEMU of its kind was asked: {name}")
    if waiting:
        code = max(code, 1)
    if reviewed != type(reviewed)():
        return max(code, report(reviewed))
    why = ": CI is set" if is_set(os.environ, "CI") else ""
    print(f"nothing is written{why}" if code else "nothing to write", file=sys.stderr)
    return code


def as_json(outcome: Outcome) -> dict[str, Any]:
    """What came of a run, for readers of JSON; the three texts where they are not the same."""
    found = []
    for _, each in sorted(outcome.ledger.settled.items()):
        witnesses = {} if each.witnesses is None else dataclasses.asdict(each.witnesses)
        found.append({"name": each.name, "ok": each.ok, "verdict": each.verdict.value,
                      "change": None if each.change is None else each.change.value,
                      "text": each.text, **witnesses})
    found += [{"name": name, "ok": False, "verdict": "the test itself failed", "change": None,
               "text": text} for name, text in outcome.broken]
    return {"builds": sorted(outcome.ledger.builds), "elapsed_s": round(outcome.elapsed, 3),
            "golden": found}


def suite_of(outcome: Outcome, store: Store) -> Suite:
    """The same as a test suite: a case for each golden output."""
    cases = []
    for _, each in sorted(outcome.ledger.settled.items()):
        failures = () if each.ok else (Failure(
            each.verdict.value, each.text, file=f"golden/{store.path(each.name).name}",
            line=_line(each)),)
        cases.append(Case(each.name, "golden", failures))
    cases += [Case(name, "golden", (Failure("the test itself failed", text),))
              for name, text in outcome.broken]
    builds = ", ".join(sorted(outcome.ledger.builds)) or "no QEMU"
    return Suite(f"golden outputs, {builds}", tuple(cases), outcome.elapsed)


def _line(each: Settled) -> int:
    """The first line of the golden file that is not what another witness says."""
    from harness.golden.differences import first_difference

    if each.witnesses is None or each.witnesses.golden is None:
        return 1
    golden = each.witnesses.golden.splitlines()
    others = (text.splitlines() for text in (each.witnesses.model, each.witnesses.qemu)
              if text is not None)
    return 1 + min((at for at in (first_difference(golden, other) for other in others)
                    if at is not None), default=0)


def ask(change: Pending, read: Callable[[str], str] | None = None) -> Choice:
    """Show a change, and have the user say what to do with it."""
    from harness.golden.meaning import sentences
    from harness.golden.review import Choice, listed

    words = "".join(f"    {each}\n" for each in sentences(change.meaning))
    print(f"\n{change.change}: {listed(change.names)}\n{words}{change.difference}")
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
