# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a scenario that has run: the verdict, and the golden file.

The build at hand settles its own variant.  The other variants of the test are rendered by the
model alone, so that they cannot go stale unseen; as no QEMU has confirmed them, a new text of
theirs waits for review and is never written over a golden output.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from harness.invocation import command
from harness.lockstep.verdict import Failed
from model.capabilities import Capabilities

from .meaning import meaning, sentences
from .mode import Action, Mode
from .scenario import Scenario
from .sides import model_text
from .steps import without_marks
from .store import Change, Store, variant, variants
from .verdict import Verdict, Witnesses

_OURS: Final = frozenset(field.name for field in dataclasses.fields(Capabilities)
                         ) - {"human_monitor"}
"""The capabilities of builds; a human monitor is one of a kind of system."""
_ANCIENT: Final = frozenset({"snapshot_access", "x_perf", "concluded_job_query_crashes"})
"""In which only builds without snapshot-access differ from today's."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of one golden file."""

    name: str
    verdict: Verdict
    change: Change | None = None
    """What was written, or would be."""
    written: bool = False
    pending: bool = False
    """Whether a text now waits for review."""
    text: str = ""
    """What to tell the user; empty if there is nothing to tell."""
    ok: bool = True
    witnesses: Witnesses | None = None
    """The three texts, where they are not the same."""
    meaning: Mapping[str, int] = field(default_factory=dict)
    """How QEMU differs from another one, in words, and in how many places."""

    def to_json(self) -> str:
        """As plain text, to pass from one process to another."""
        return json.dumps({**dataclasses.asdict(self), "verdict": self.verdict.name})

    @staticmethod
    def from_json(text: str) -> Settled:
        """What :meth:`to_json` was given."""
        fields: dict[str, Any] = json.loads(text)
        change, witnesses = fields.pop("change"), fields.pop("witnesses")
        return Settled(**{**fields, "verdict": Verdict[fields["verdict"]],
                          "change": Change(change) if change else None,
                          "witnesses": Witnesses(**witnesses) if witnesses else None})


def settle(scenario: Scenario, test: str, varies: Collection[str], store: Store,
           mode: Mode, *, without_snapshots: bool = False) -> Iterator[Settled]:
    """Settle every golden file of the test, the one of the build at hand first.

    ``without_snapshots``: builds without snapshot-access have one too.
    """
    own = variant(test, varies, scenario.capabilities)
    witnesses = scenario.witnesses(store.read(own))
    ours = _OURS if without_snapshots else _OURS - _ANCIENT
    logs = _ModelLogs(scenario, test, varies, witnesses.model)
    # A model that is wrong about a build has nothing to say about what other builds do.
    wrong = "" if witnesses.verdict().diverges else _wrongly_declared(
        scenario, varies, ours, logs)
    if wrong:
        yield Settled(own, witnesses.verdict(), text=f"{test}: {wrong}", ok=False)
        return
    others = {name: each for name, each in variants(test, varies).items()
              if name != own and store.read(name) is not None}
    # Where no QEMU was asked, nobody says which variant it would have been.
    if scenario.absent is None or witnesses.golden is not None or not others:
        yield _own(own, witnesses, scenario, store, mode)
    if witnesses.verdict().diverges:
        return
    for name, capabilities in others.items():
        text = logs.of(capabilities)
        if text is not None:
            yield _other(name, Witnesses(store.read(name), text, None), store, mode)


def _own(name: str, witnesses: Witnesses, scenario: Scenario, store: Store,
         mode: Mode) -> Settled:
    verdict = witnesses.verdict()
    change = None if verdict.diverges else store.change(name, witnesses.model)
    if verdict.passes:
        if not mode.read_only:
            store.reject(name)
        return Settled(name, verdict)
    why = f" ({scenario.absent})" if scenario.absent else ""
    said = [f"{name}: {verdict.value}{why}"]
    if scenario.failure is not None:
        said.append(scenario.failure.summary)
    if verdict.diverges and mode.trusts_qemu and mode.action is Action.PROPOSE:
        return _trusting(name, witnesses, scenario, store, said)
    said += _in_words(witnesses)
    written = pending = False
    if verdict.confirmed and mode.action is Action.PROPOSE:
        store.write_pending(name, witnesses.model)
        return Settled(name, verdict, change, pending=True, witnesses=witnesses)
    if verdict.confirmed and mode.action is Action.UPDATE:
        store.write(name, witnesses.model)
        written = True
    elif not verdict.diverges and not mode.read_only:
        store.write_pending(name, witnesses.model)
        pending = True
        said.append(f"it waits for review as {store.pending_path(name).name}: {_accept(name)}")
    elif verdict.diverges and mode.action in (Action.UPDATE, Action.PROPOSE):
        said.append("nothing is written: a log that diverges from the model is not fit for it; "
                    f"{command('golden update --trust qemu')} writes it all the same")
    explained = witnesses.explain(store.path(name).name, mode.limit)
    return Settled(name, verdict, change, written, pending,
                   "\n".join([*said, explained]), ok=written, witnesses=witnesses)


def _accept(name: str) -> str:
    return command(f"golden accept {name}")


def _in_words(witnesses: Witnesses) -> list[str]:
    """What the difference means that the verdict speaks of."""
    before, after = witnesses.model, witnesses.qemu
    if not witnesses.verdict().diverges:
        before, after = witnesses.golden or "", witnesses.model
    if not before or after is None:
        return []
    return [f"    {each}" for each in sentences(meaning(before, after))]


def _trusting(name: str, witnesses: Witnesses, scenario: Scenario, store: Store,
              said: list[str]) -> Settled:
    """What QEMU said waits for review, and what the model lacks is told."""
    verdict = witnesses.verdict()
    if isinstance(scenario.failure, Failed):
        return Settled(name, verdict, ok=False, text="\n".join(
            [*said, "nothing is written: QEMU did not come to the end of the scenario"]),
            witnesses=witnesses)
    text = without_marks(witnesses.qemu or "")
    said += ["the model lacks what QEMU does here:", *_in_words(witnesses)]
    change = store.change(name, text)
    if change is not None:
        store.write_pending(name, text)
    else:
        said.append("the golden output says the same as QEMU already")
    return Settled(name, verdict, change, pending=change is not None, text="\n".join(said),
                   ok=False, witnesses=witnesses)


def _other(name: str, witnesses: Witnesses, store: Store, mode: Mode) -> Settled:
    """A variant that the build at hand is not: golden output against model, no QEMU asked."""
    verdict = witnesses.verdict()
    if verdict.passes:
        if not mode.read_only:
            store.reject(name)
        return Settled(name, verdict)
    said = [f"{name}: golden output and model differ; no QEMU of that kind was asked"]
    pending = not mode.read_only
    if pending:
        store.write_pending(name, witnesses.model)
        said.append(f"it waits for review as {store.pending_path(name).name}: run "
                    f"{command('golden update')} on such a QEMU, or {_accept(name)}")
    if mode.action is Action.PROPOSE:
        return Settled(name, verdict, store.change(name, witnesses.model), pending=pending)
    return Settled(name, verdict, store.change(name, witnesses.model), pending=pending,
                   text="\n".join([*said, witnesses.explain(store.path(name).name, mode.limit)]),
                   ok=mode.action in (Action.UPDATE, Action.PROPOSE), witnesses=witnesses)


class _ModelLogs:
    """The model's logs of one scenario, by build; each is made once."""

    def __init__(self, scenario: Scenario, test: str, varies: Collection[str], own: str) -> None:
        self._scenario = scenario
        self._name = partial(variant, test, varies)
        self._own = own
        self._logs: dict[str, str | None] = {self._name(scenario.capabilities): own}

    def of(self, capabilities: Capabilities) -> str | None:
        """The log on a build that differs in declared capabilities; None: there can be no such
        build."""
        name = self._name(capabilities)
        if name not in self._logs:
            self._logs[name] = self._make(capabilities)
        return self._logs[name]

    def depends_on(self, name: str) -> bool:
        """Whether the log of the build at hand changes with a capability that is not declared.

        What the model has not looked at can play no part.
        """
        if name not in self._scenario.asked:
            return False
        return self._make(_flipped(self._scenario.capabilities, name)) not in (self._own, None)

    def _make(self, capabilities: Capabilities) -> str | None:
        try:
            return model_text(self._scenario.script, capabilities)
        except ValueError:
            return None


def _wrongly_declared(scenario: Scenario, varies: Collection[str], ours: frozenset[str],
                      logs: _ModelLogs) -> str:
    """What is wrong with the capabilities that the test names; empty: they are the right ones."""
    missing = [name for name in sorted(ours - set(varies)) if logs.depends_on(name)]
    if missing:
        return (f"the output depends on {', '.join(missing)}; say so: "
                "@pytest.mark.golden(varies=[...])")
    builds = [scenario.capabilities, *variants("", varies).values()]
    idle = [name for name in sorted(varies)
            if all(logs.of(each) == logs.of(_flipped(each, name)) for each in builds)]
    if idle:
        return f"the output does not depend on {', '.join(idle)}, though varies=[...] says so"
    return ""


def _flipped(capabilities: Capabilities, name: str) -> Capabilities:
    """The same build, but for one capability."""
    changed: dict[str, Any] = {name: not getattr(capabilities, name)}
    return dataclasses.replace(capabilities, **changed)
