# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands that start backup jobs, and the job that another command is about.

The checks are in QEMU's order, with QEMU's texts (experiment): the first that fails is the answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from . import arguments, drive_backup, filters, successors
from .backup_job import BackupJob, JobGroup
from .bitmap import check_usable, check_writable
from .block_copy import LARGEST_SIZE
from .capabilities import Capabilities
from .configuration import Format
from .copy_before_write import CbwOptions, CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import CommandRefused, Undetermined
from .graph import Graph
from .image import Image
from .job_operations import (
    Backup,
    BitmapMode,
    BlockJobCancel,
    DriveBackup,
    JobCancel,
    JobChange,
    JobComplete,
    JobOperation,
    JobSetSpeed,
    NewImage,
    Sync,
)
from .jobs import JobStatus, Verb, check_verb
from .node import Node
from .operations import OnCbwError
from .successors import SyncBitmap

_MOST: Final = (1 << 31) - 1


def filter_name(job: str, given: str | None) -> str:
    """The name of the node that is a job's filter; QEMU makes one up if none is given."""
    return given if given is not None else f"#block({job})"


def check_arguments(capabilities: Capabilities, command: Backup, where: str = "") -> None:
    """The checks of QEMU's command parser, in the order of its schema, which ends with what it
    does not know; ``where`` the arguments are, if in a transaction."""
    _check_word("sync", Sync, command.sync)
    arguments.check_int64("speed", command.speed, where)
    _check_word("bitmap-mode", BitmapMode, command.bitmap_mode)
    if capabilities.job_on_cbw_error:
        _check_word("on-cbw-error", OnCbwError, command.on_cbw_error)
    if capabilities.x_perf:
        inside = f"{where}x-perf."
        arguments.check_int64("max-workers", command.max_workers, inside)
        arguments.check_int64("max-chunk", command.max_chunk, inside)
        if capabilities.min_cluster_size:
            arguments.check_uint64("min-cluster-size", command.min_cluster_size, inside)
        elif command.min_cluster_size is not None:
            raise CommandRefused(f"Parameter '{inside}min-cluster-size' is unexpected")
    if isinstance(command, DriveBackup):
        _check_word("mode", NewImage, command.mode)
    performance = (command.max_workers, command.max_chunk, command.min_cluster_size,
                   command.use_copy_range)
    if any(each is not None for each in performance) and not capabilities.x_perf:
        raise CommandRefused(f"Parameter '{where}x-perf' is unexpected")
    if command.discard_source and not capabilities.discard_source:
        raise CommandRefused(f"Parameter '{where}discard-source' is unexpected")
    if command.on_cbw_error is not None and not capabilities.job_on_cbw_error:
        raise CommandRefused(f"Parameter '{where}on-cbw-error' is unexpected")


def _check_word(name: str, known: type[StrEnum], value: str | None) -> None:
    if value is not None and value not in list(known):
        raise CommandRefused(f"Parameter '{name}' does not accept value '{value}'")


def start(graph: Graph, command: Backup, group: JobGroup) -> BackupJob:
    """blockdev-backup or drive-backup, up to where the job begins to run.

    What was done before it is refused, the caller has to undo.
    """
    device = graph.lookup(command.device)
    if isinstance(command, DriveBackup):
        target = drive_backup.open_target(graph, command, device)
        command = drive_backup.settled(command, device)
    else:
        target = graph.lookup(command.target)
    sync, sync_bitmap = _check_bitmap(command, device)
    _check_nodes(graph, command, device, target)
    _check_performance(command)
    if sync_bitmap is not None and sync_bitmap.mode is not BitmapMode.NEVER:
        check_writable(sync_bitmap.bitmap)
    filter_node = _make_filter(graph, command, device, target)
    if sync_bitmap is not None:
        successors.create(device, sync_bitmap.bitmap)
    filter_node.block_copy.compressing = command.compress
    filter_node.block_copy.discards_source = command.discard_source
    try:
        _insert(graph, command, filter_node)
    except CommandRefused:
        check_taken_back(graph, filter_node)
        raise
    job = BackupJob(command, sync, filter_node, sync_bitmap, group, graph, graph.fired)
    graph.jobs[job.name] = job
    return job


def check_taken_back(graph: Graph, node: CopyBeforeWrite) -> None:
    """Refuse to follow a filter that was put over its device in vain where that leaves traces."""
    if graph.has_users_between(node.source, node):
        raise Undetermined("those who used the device's filter for a moment are newer users than "
                           "those who did not, which is not followed")


def _insert(graph: Graph, command: Backup, filter_node: CopyBeforeWrite) -> None:
    graph.insert_filter(filter_node)
    _check_chunk(command, filter_node)
    _check_job_name(graph, command.job)
    graph.check_held(filter_node)
    if command.speed is not None and command.speed < 0:
        raise CommandRefused("Parameter 'speed' expects a non-negative value")


def _check_bitmap(command: Backup, device: Node) -> tuple[Sync, SyncBitmap | None]:
    """Which sync modes go with which bitmap modes: see the table in docs/interop/bitmaps.rst."""
    sync = Sync(command.sync)
    mode = None if command.bitmap_mode is None else BitmapMode(command.bitmap_mode)
    if sync in (Sync.BITMAP, Sync.INCREMENTAL) and command.bitmap is None:
        raise CommandRefused(f"must provide a valid bitmap name for '{sync}' sync mode")
    if sync is Sync.INCREMENTAL:
        if mode not in (None, BitmapMode.ON_SUCCESS):
            raise CommandRefused("Bitmap sync mode must be 'on-success' when using sync mode "
                                 "'incremental'")
        sync, mode = Sync.BITMAP, BitmapMode.ON_SUCCESS
    if command.bitmap is None:
        if mode is not None:
            raise CommandRefused("Cannot specify bitmap sync mode without a bitmap")
        return sync, None
    bitmap = device.bitmap(command.bitmap)
    if bitmap is None:
        raise CommandRefused(f"Bitmap '{command.bitmap}' could not be found")
    if mode is None:
        raise CommandRefused("Bitmap sync mode must be given when providing a bitmap")
    check_usable(bitmap)
    if sync is Sync.NONE:
        raise CommandRefused("sync mode 'none' does not produce meaningful bitmap outputs")
    if mode is BitmapMode.NEVER and sync is not Sync.BITMAP:
        raise CommandRefused("Bitmap sync mode 'never' has no meaningful effect when combined "
                             f"with sync mode '{sync}'")
    return sync, SyncBitmap(bitmap, mode, device)


def _check_nodes(graph: Graph, command: Backup, device: Node, target: Node) -> None:
    if device is target:
        raise CommandRefused("Source and target cannot be the same")
    if command.compress and not _compresses(target):
        raise CommandRefused("Compression is not supported for this drive ")
    graph.check_unblocked(device, by_overlays=False)
    graph.check_unblocked(target, by_overlays=False)


def _compresses(target: Node) -> bool:
    """Whether compressed data can be written to it; a copy-on-read node passes them on."""
    if isinstance(target, CopyOnRead):
        return _compresses(target.file)
    return (isinstance(target, Image) and target.spec.format in (Format.QCOW2, Format.VMDK)
            and target.format_node == target.name)


def _check_performance(command: Backup) -> None:
    workers, chunk = command.max_workers, command.max_chunk
    if workers is not None and not 1 <= workers <= _MOST:
        raise CommandRefused(f"max-workers must be between 1 and {_MOST}")
    if chunk is not None and chunk < 0:
        raise CommandRefused("max-chunk must be zero (which means no limit) or positive")


def _make_filter(graph: Graph, command: Backup, device: Node, target: Node) -> CopyBeforeWrite:
    if device.size != target.size:
        raise CommandRefused("Source and target image have different sizes")
    smallest = arguments.as_uint64(command.min_cluster_size)
    if smallest > LARGEST_SIZE:
        raise CommandRefused(f"min-cluster-size too large: {smallest} > {LARGEST_SIZE}")
    name = filter_name(command.job, command.filter_node)
    if command.filter_node is None and name in graph.nodes:
        name += "'"  # of a job whose name is taken: that is found out when there is a filter
    options = CbwOptions(OnCbwError(command.on_cbw_error or OnCbwError.BREAK_GUEST_WRITE))
    try:
        if command.filter_node is not None:
            graph.check_new(name)
        graph.check_filter(name, device, target)
        # A job's filter takes no discards, whatever the device does: they end there.
        return filters.make_filter(graph, name, device, target, None, smallest, options,
                                   discard=False)
    except CommandRefused as why:
        raise CommandRefused(f"Could not create node: {why}") from why


def _check_chunk(command: Backup, node: CopyBeforeWrite) -> None:
    chunk = command.max_chunk
    if chunk and chunk < node.cluster_size:
        raise CommandRefused(f"Required max-chunk ({chunk}) is less than backup cluster size "
                             f"({node.cluster_size})")


def _check_job_name(graph: Graph, name: str) -> None:
    if not arguments.is_well_formed(name):
        raise CommandRefused(f"Invalid job ID '{name}'")
    if name in graph.jobs:
        raise CommandRefused(f"Job ID '{name}' already in use")


def find(graph: Graph, command: JobOperation) -> BackupJob:
    """The job that a command is about, one that a backup job can be given."""
    if isinstance(command, JobChange) and not graph.capabilities.block_job_change:
        raise CommandRefused("The command block-job-change has not been found", "CommandNotFound")
    job = graph.jobs.get(command.job)
    if job is None:
        if command.block or isinstance(command, (JobSetSpeed, JobChange)):
            raise CommandRefused(f"Block job '{command.job}' not found", "DeviceNotActive")
        raise CommandRefused("Job not found")
    match command:
        case JobComplete():
            check_verb(job.name, job.status, Verb.COMPLETE)  # which no backup job ever can
        case JobChange():
            check_verb(job.name, job.status, Verb.CHANGE)
            raise CommandRefused("Job type does not support change")
        case JobCancel(block=True):
            job.check_cancel(force=isinstance(command, BlockJobCancel) and command.force)
    return job


def forget_ended(graph: Graph) -> None:
    """Jobs that are gone are no longer known."""
    for name, job in list(graph.jobs.items()):
        if job.status is JobStatus.NULL:
            del graph.jobs[name]
