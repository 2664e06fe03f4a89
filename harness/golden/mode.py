# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run does with golden outputs: check, diff or update; and when nothing may be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

REGENERATE: Final = ("QEMU_TEST_REGENERATE", "QEMU_IOTESTS_REGEN")
"""QEMU's own switches, new and old: ``=1`` rewrites what a test is compared with."""


class Action(StrEnum):
    """The values of ``--golden``."""

    CHECK = "check"
    """Compare; the first differences are shown; what is new waits beside the golden file."""
    DIFF = "diff"
    """Compare; all differences are shown; nothing is written."""
    UPDATE = "update"
    """Show all differences, and make what model and QEMU agree on the golden output."""
    PROPOSE = "propose"
    """Leave that beside the golden output, for somebody who is then asked."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What is done, and whether anything may be written."""

    action: Action
    read_only: bool = False
    """Nothing may be written: a continuous integration run, or a diff."""
    trusts_qemu: bool = False
    """Where model and QEMU differ, QEMU's log is proposed."""
    note: str = ""
    """What the user should know about how this came to be; may be empty."""

    @property
    def limit(self) -> int | None:
        """How many lines of differences are shown; None: all."""
        return 40 if self.action is Action.CHECK else None


def is_set(environment: Mapping[str, str], variable: str) -> bool:
    """Whether the variable is there and says yes."""
    return environment.get(variable, "").strip().lower() not in ("", "0", "false", "no")


def mode(asked: str | None, environment: Mapping[str, str], *,
         trusts_qemu: bool = False) -> Mode:
    """The mode, from ``--golden`` (None: not given) and the environment."""
    regenerate = next((name for name in REGENERATE if is_set(environment, name)), None)
    action = Action(asked) if asked else Action.UPDATE if regenerate else Action.CHECK
    if not is_set(environment, "CI"):
        return Mode(action, read_only=action is Action.DIFF, trusts_qemu=trusts_qemu)
    note = ""
    if action in (Action.UPDATE, Action.PROPOSE):
        by = f"--golden={action}" if asked else f"{regenerate}=1"
        action, note = Action.CHECK, f"CI is set, so nothing is written: {by} only checks"
    return Mode(action, read_only=True, note=note)
