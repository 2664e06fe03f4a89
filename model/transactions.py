# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP command ``transaction``: all of its actions are done or, if one is refused, none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from . import backup_commands, bitmap_commands
from . import operations as ops
from .backup_job import BackupJob, JobGroup
from .errors import CommandRefused
from .graph import Graph
from .job_operations import Abort, Backup, Transaction
from .operations import Operation

Command: TypeAlias = Callable[[Graph, Any], None]

BITMAP_COMMANDS: Final[Mapping[type[Operation], Command]] = {
    ops.BitmapAdd: bitmap_commands.add,
    ops.BitmapRemove: bitmap_commands.remove,
    ops.BitmapClear: bitmap_commands.clear,
    ops.BitmapEnable: bitmap_commands.enable,
    ops.BitmapDisable: bitmap_commands.disable,
    ops.BitmapMerge: bitmap_commands.merge,
}
ACTIONS: Final = (*BITMAP_COMMANDS, Backup, Abort)
"""What a transaction may consist of."""
_QMP_NAMES: Final[Mapping[type[Operation], str]] = {
    **{kind: f"block-dirty-{kind.name}" for kind in BITMAP_COMMANDS}, Abort: "abort"}


def run(graph: Graph, transaction: Transaction) -> list[BackupJob]:
    """Do the actions; gives the jobs to be run now.

    What was done before an action that is refused, the caller has to undo.
    """
    for index, action in enumerate(transaction.actions):
        where = f"actions[{index}].data."
        if isinstance(action, Backup):
            backup_commands.check_arguments(graph.capabilities, action, where)
        elif isinstance(action, ops.BitmapAdd):
            bitmap_commands.check_arguments(action, where)
    if transaction.grouped:
        _check_grouped(graph, transaction)
    group = JobGroup()
    started: list[BackupJob] = []
    removed: list[ops.BitmapRemove] = []
    for action in transaction.actions:
        match action:
            case Abort():
                raise CommandRefused("Transaction aborted using Abort action")
            case Backup():
                own = group if transaction.grouped else JobGroup()
                started.append(backup_commands.start(graph, action, own))
            case ops.BitmapRemove():
                bitmap_commands.hold(graph, action)
                removed.append(action)
            case _:
                BITMAP_COMMANDS[type(action)](graph, action)
    for removal in removed:
        bitmap_commands.remove_held(graph, removal)
    return started


def _check_grouped(graph: Graph, transaction: Transaction) -> None:
    """Only jobs can end together."""
    word = "transaction" if graph.capabilities.transaction_in_lower_case else "Transaction"
    for action in transaction.actions:
        if not isinstance(action, Backup):
            raise CommandRefused(f"Action '{_QMP_NAMES[type(action)]}' does not support {word} "
                                 "property completion-mode = grouped")
