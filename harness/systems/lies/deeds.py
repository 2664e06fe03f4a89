# SPDX-License-Identifier: GPL-2.0-or-later
"""Lies that are lived: what is done is not what the answer says, or the system comes to an end."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.processes import Exit
from harness.systems.failure import (
    SystemCrashed,
    SystemDamaged,
    SystemGarbled,
    SystemHung,
    SystemHungUp,
)
from harness.systems.lies.lie import Lie, Oracle
from model.operations import Discard, Operation, Reopen, Resize, Write


def _lost(operation: Operation) -> tuple[Operation, ...] | None:
    return () if isinstance(operation, Write) else None


def _spilled(operation: Operation) -> tuple[Operation, ...] | None:
    if not isinstance(operation, Write) or operation.offset < 512:
        return None
    return (replace(operation, offset=operation.offset - 512, length=operation.length + 512),)


def _undiscarded(operation: Operation) -> tuple[Operation, ...] | None:
    return () if isinstance(operation, Discard) else None


def _unresized(operation: Operation) -> tuple[Operation, ...] | None:
    return () if isinstance(operation, Resize) else None


def _unreopened(operation: Operation) -> tuple[Operation, ...] | None:
    return () if isinstance(operation, Reopen) else None


DEEDS: Final = (
    Lie("lost-write", "a write is answered and never done", Oracle.INSPECTION, deed=_lost),
    Lie("spilled-write", "a write also overwrites the sector before", Oracle.INSPECTION,
        deed=_spilled),
    Lie("ignored-discard", "a discard is answered and never done", Oracle.BITMAPS,
        deed=_undiscarded),
    Lie("lost-resize", "a resize is answered and never done", Oracle.INSPECTION,
        deed=_unresized),
    Lie("lost-reopen", "a reopen is answered and never done", Oracle.QMP, deed=_unreopened),
)


ENDS: Final = (
    Lie("crash", "QEMU dies of an assertion", Oracle.LIFE, failure=lambda operation: (
        SystemCrashed(Exit.of(-6, "qemu: lie.c:1: lie: Assertion `truthful' failed.\n")))),
    Lie("exit", "QEMU exits by itself", Oracle.LIFE,
        failure=lambda operation: SystemCrashed(Exit.of(1, ""))),
    Lie("hang", "QEMU does not answer", Oracle.LIFE,
        failure=lambda operation: SystemHung(operation.name, 30.0)),
    Lie("hang-up", "QEMU's NBD server disconnects its client", Oracle.LIFE,
        failure=lambda operation: SystemHungUp("nbd", operation.name)),
    Lie("garbage", "the answer cannot be understood", Oracle.LIFE,
        failure=lambda operation: SystemGarbled("qmp", operation.name, "not JSON")),
    Lie("damage", "an image has clusters that nothing uses", Oracle.LIFE,
        failure=lambda operation: SystemDamaged("src", "2 leaked clusters")),
)
