# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands about backup jobs: pure, no I/O.  The rest is in ``commands``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from harness.systems.command import Arguments, Command
from model import job_operations as jobs
from model.job_operations import OnError
from model.operations import Operation


def _backup(operation: jobs.Backup) -> Command:
    options: Arguments = {"job-id": operation.job, "device": operation.device,
                          "target": operation.target, "sync": operation.sync}
    optional = {"bitmap": operation.bitmap, "bitmap-mode": operation.bitmap_mode,
                "filter-node-name": operation.filter_node, "speed": operation.speed,
                "on-cbw-error": operation.on_cbw_error}
    options |= {name: value for name, value in optional.items() if value is not None}
    for name, on_error in (("on-source-error", operation.on_source_error),
                           ("on-target-error", operation.on_target_error)):
        if on_error is not OnError.REPORT:
            options[name] = on_error.value
    if operation.compress:
        options["compress"] = True
    if operation.discard_source:
        options["discard-source"] = True
    if not operation.auto_finalize:
        options["auto-finalize"] = False
    if not operation.auto_dismiss:
        options["auto-dismiss"] = False
    performance = {"max-workers": operation.max_workers, "max-chunk": operation.max_chunk,
                   "min-cluster-size": operation.min_cluster_size,
                   "use-copy-range": operation.use_copy_range}
    if any(value is not None for value in performance.values()):
        options["x-perf"] = {name: value for name, value in performance.items()
                             if value is not None}
    return Command("blockdev-backup", options)


def _drive_backup(operation: jobs.DriveBackup) -> Command:
    options = dict(_backup(operation).arguments)
    optional = {"format": operation.format, "mode": operation.mode}
    options |= {name: value for name, value in optional.items() if value is not None}
    return Command("drive-backup", options)


def located(command: Command, path_of: Callable[[str], str]) -> Command:
    """The command with the paths of images where ``drive-backup`` has their names."""
    arguments = command.arguments
    if command.name == "drive-backup":
        return Command(command.name, {**arguments, "target": path_of(arguments["target"])})
    if command.name == "transaction":
        actions = [located(Command(each["type"], each["data"]), path_of)
                   for each in arguments["actions"]]
        return Command(command.name, {**arguments, "actions": [
            {"type": each.name, "data": each.arguments} for each in actions]})
    return command


def _about_job(verb: str) -> Callable[[jobs.JobOperation], Command]:
    def make(operation: jobs.JobOperation) -> Command:
        if not operation.block:
            return Command(f"job-{verb}", {"id": operation.job})
        key = "id" if verb in ("finalize", "dismiss") else "device"
        return Command(f"block-job-{verb}", {key: operation.job})
    return make


def _block_job_cancel(operation: jobs.BlockJobCancel) -> Command:
    name, arguments = _about_job("cancel")(operation)
    return Command(name, {**arguments, **({"force": True} if operation.force else {})})


def transaction(actions: list[Command], *, grouped: bool) -> Command:
    """The command ``transaction`` of other commands."""
    options: Arguments = {"actions": [
        {"type": action.name, "data": action.arguments} for action in actions]}
    if grouped:
        options["properties"] = {"completion-mode": "grouped"}
    return Command("transaction", options)


MAKERS: Final[dict[type[Operation], Callable[[Any], Command]]] = {
    jobs.Backup: _backup,
    jobs.DriveBackup: _drive_backup,
    jobs.JobFinalize: _about_job("finalize"),
    jobs.JobDismiss: _about_job("dismiss"),
    jobs.JobCancel: _about_job("cancel"),
    jobs.BlockJobCancel: _block_job_cancel,
    jobs.JobPause: _about_job("pause"),
    jobs.JobResume: _about_job("resume"),
    jobs.JobComplete: _about_job("complete"),
    jobs.JobChange: lambda operation: Command("block-job-change", {
        "id": operation.job, "type": "mirror", "copy-mode": "write-blocking"}),
    jobs.JobSetSpeed: lambda operation: Command(
        "block-job-set-speed", {"device": operation.job, "speed": operation.speed}),
    jobs.Abort: lambda operation: Command("abort", {}),
}
