# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP command ``transaction``: all of its actions are done or, if one is refused, none.

QEMU does not quite keep that promise: what a refused transaction leaves behind, and how it can
end QEMU, are named deviations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from . import backup_commands, bitmap_commands
from . import operations as ops
from .backup_job import BackupJob, JobGroup
from .bitmap import DirtyBitmap
from .errors import CommandRefused, Undetermined
from .graph import Graph
from .job_operations import Abort, Backup, BitmapMode, Transaction
from .operations import Operation
from .rules import rule

Command: TypeAlias = Callable[[Graph, Any], None]

BITMAP_COMMANDS: Final[Mapping[type[Operation], Command]] = {
    ops.BitmapAdd: bitmap_commands.add,
    ops.BitmapRemove: bitmap_commands.remove,
    ops.BitmapClear: bitmap_commands.clear,
    ops.BitmapEnable: bitmap_commands.enable,
    ops.BitmapDisable: bitmap_commands.disable,
    ops.BitmapMerge: bitmap_commands.merge,
}
"""What each command about a bitmap does to the graph."""
ACTIONS: Final = (*BITMAP_COMMANDS, Backup, Abort)
"""What a transaction may consist of."""
_QMP_NAMES: Final[Mapping[type[Operation], str]] = {
    **{kind: f"block-dirty-{kind.name}" for kind in BITMAP_COMMANDS}, Abort: "abort"}


def _check_grouped(action: Operation, word: str) -> None:
    """Only jobs can end together."""
    if not isinstance(action, Backup):
        raise CommandRefused(f"Action '{_QMP_NAMES[type(action)]}' does not support {word} "
                             "property completion-mode = grouped")


@dataclass(slots=True)
class Attempt:
    """A transaction being done to a graph."""

    graph: Graph
    transaction: Transaction
    started: list[BackupJob] = field(default_factory=list)
    refused_at: int | None = None
    """The action that was refused; None: the transaction as a whole, if any."""

    def run(self) -> list[BackupJob]:
        """Do the actions; gives the jobs to be run now.

        What was done before an action that is refused, the caller has to undo.
        """
        transaction, graph = self.transaction, self.graph
        self._check_arguments()
        at_once = graph.capabilities.completion_mode_checked_first
        if transaction.grouped and at_once:
            for action in transaction.actions:
                _check_grouped(action, "transaction")
        group = JobGroup()
        for index, action in enumerate(transaction.actions):
            self.refused_at = index
            if transaction.grouped and not at_once and not isinstance(action, Abort):
                _check_grouped(action, "Transaction")
            match action:
                case Abort():
                    raise CommandRefused("Transaction aborted using Abort action")
                case Backup():
                    own = group if transaction.grouped else JobGroup()
                    self.started.append(backup_commands.start(graph, action, own))
                case ops.BitmapRemove():
                    bitmap_commands.hold(graph, action)
                case _:
                    BITMAP_COMMANDS[type(action)](graph, action)
        for action in transaction.actions:
            if isinstance(action, ops.BitmapRemove):
                bitmap_commands.remove_held(graph, action)
        return self.started

    def _check_arguments(self) -> None:
        for index, action in enumerate(self.transaction.actions):
            where = f"actions[{index}].data."
            if isinstance(action, Backup):
                backup_commands.check_arguments(self.graph.capabilities, action, where)
            elif isinstance(action, ops.BitmapAdd):
                bitmap_commands.check_arguments(action, where)

    # What a refusal does all the same

    @property
    def _refused(self) -> Operation | None:
        return None if self.refused_at is None else self.transaction.actions[self.refused_at]

    @property
    def _always(self) -> list[BackupJob]:
        """The jobs made in vain whose bitmap mode is ``always``."""
        return [job for job in self.started if job.command.bitmap_mode == BitmapMode.ALWAYS]

    def scar(self, graph: Graph) -> None:
        """Do to ``graph``, as it was before, what the refused transaction does all the same."""
        for job in self.started:
            backup_commands.check_taken_back(self.graph, job.filter)
        if graph.capabilities.refused_enable_disables:
            refused = self._refused
            if (isinstance(refused, ops.BitmapEnable) and not self._has_successor(refused)
                    and not self._was_disabled(refused)):
                _disable(graph, refused)
        if graph.capabilities.aborted_backup_dirties_bitmap:
            for job in self._always:
                _make_dirty(graph, job.command)

    def _was_disabled(self, refused: ops.BitmapEnable) -> bool:
        """Whether the transaction had disabled the bitmap before, which is undone last."""
        return any(isinstance(action, ops.BitmapDisable)
                   and (action.node, action.bitmap) == (refused.node, refused.bitmap)
                   for action in self.transaction.actions[:self.refused_at])

    def _has_successor(self, command: ops.BitmapOperation) -> bool:
        """Whether the bitmap was in use by a job, which gives it back as it took it."""
        node = self.graph.nodes.get(command.node)
        bitmap = node.bitmap(command.bitmap) if node is not None else None
        return bitmap is not None and bitmap.successor is not None

    def defects(self) -> Iterable[str]:
        """The defects by which the refusal would be the end of QEMU."""
        refused = self._refused
        if isinstance(refused, ops.BitmapEnable):
            node = self.graph.nodes.get(refused.node)
            if self.transaction.grouped or node is None or node.bitmap(refused.bitmap) is None:
                yield "refused_enable_crashes"
        if self.transaction.grouped and len(self.started) > 1:
            yield "aborted_group_hangs"
        touched: set[tuple[str, str | None]] = set()
        for action in self.transaction.actions[:self.refused_at]:
            if isinstance(action, Backup) and action.bitmap_mode == BitmapMode.ALWAYS:
                if (action.device, action.bitmap) in touched:
                    yield "aborted_backup_dirties_bitmap"
            elif isinstance(action, ops.BitmapOperation):
                touched.add((action.node, action.bitmap))


@rule("transaction.refused-enable-disables", source="experiment: a defect of QEMU")
def _disable(graph: Graph, refused: ops.BitmapEnable) -> None:
    """An enable action that is refused since the bitmap is in use disables it; unless the
    transaction itself had disabled it before, as that is undone last."""
    node = graph.nodes.get(refused.node)
    bitmap = node.bitmap(refused.bitmap) if node is not None else None
    if bitmap is not None:
        bitmap.recording = False


@rule("transaction.aborted-backup-dirties-bitmap", source="experiment: a defect of QEMU")
def _make_dirty(graph: Graph, command: Backup) -> None:
    """A job with bitmap mode ``always`` that the transaction made in vain leaves its bitmap wholly
    dirty, and makes it the newest one of the node: the job had copied nothing, and not yet chosen
    what to copy."""
    node = graph.nodes[command.device]
    bitmap = node.bitmap(command.bitmap or "")
    if bitmap is None:  # it was made by the same transaction
        return
    node.bitmaps.remove(bitmap)
    successor = node.add_bitmap(DirtyBitmap(
        bitmap.size, bitmap.granularity, bitmap.name, recording=bitmap.recording,
        persistent=bitmap.persistent))
    successor.set_all()


def deadly_refusal(graph: Graph, transaction: Transaction) -> Iterable[str]:
    """The defects by which the transaction, as it is refused, would be the end of QEMU."""
    if not all(isinstance(action, ACTIONS) for action in transaction.actions):
        return
    attempt = Attempt(copy.deepcopy(graph), transaction)
    try:
        attempt.run()
    except CommandRefused:
        yield from attempt.defects()
    except Undetermined:
        return
