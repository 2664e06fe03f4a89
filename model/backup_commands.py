# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands that start and steer backup jobs.

The checks are in QEMU's order, with QEMU's texts (experiment): the first that fails is the answer.
"""

from __future__ import annotations

from typing import Final

from .backup_job import BackupJob, SyncBitmap
from .bitmap import DirtyBitmap
from .block_copy import LARGEST_SIZE
from .configuration import Format
from .copy_before_write import CbwOptions, CopyBeforeWrite
from .errors import CommandRefused
from .graph import Graph, check_usable
from .job_operations import Backup, BitmapMode, JobOperation, Sync
from .node import Node
from .operations import OnCbwError

ANONYMOUS_FILTER: Final = "#block"
"""Stands for the name that QEMU makes up for a filter that the command gives none."""
_MOST: Final = (1 << 31) - 1
_COMPRESSED: Final = frozenset({Format.QCOW2, Format.VMDK})


def start(graph: Graph, command: Backup) -> BackupJob:
    """blockdev-backup, up to where the job begins to run."""
    _check_known(graph, command)
    device, target = graph.lookup(command.device), graph.lookup(command.target)
    sync, sync_bitmap = _check_bitmap(command, device)
    _check_nodes(graph, command, device, target)
    _check_performance(command)
    filter_node = _make_filter(graph, command, device, target)
    _check_job_name(graph, command.job)
    return _insert(graph, command, sync, sync_bitmap, filter_node)


def _check_known(graph: Graph, command: Backup) -> None:
    """Arguments that this build does not know."""
    capabilities = graph.capabilities
    if command.min_cluster_size is not None and not capabilities.min_cluster_size:
        raise CommandRefused("Parameter 'x-perf.min-cluster-size' is unexpected")
    if command.discard_source and not capabilities.discard_source:
        raise CommandRefused("Parameter 'discard-source' is unexpected")
    if command.on_cbw_error is not None and not capabilities.job_on_cbw_error:
        raise CommandRefused("Parameter 'on-cbw-error' is unexpected")


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
    return sync, SyncBitmap(bitmap, mode)


def _check_nodes(graph: Graph, command: Backup, device: Node, target: Node) -> None:
    if device is target:
        raise CommandRefused("Source and target cannot be the same")
    if command.compress and target.driver not in _COMPRESSED:
        raise CommandRefused("Compression is not supported for this drive ")
    for node in (device, target):
        if any(job.is_active and node in (job.filter, job.filter.target)
               for job in graph.jobs.values()):
            raise CommandRefused(
                f"Node '{node.name}' is busy: block device is in use by block job: backup")


def _check_performance(command: Backup) -> None:
    workers, chunk = command.max_workers, command.max_chunk
    if workers is not None and not 1 <= workers <= _MOST:
        raise CommandRefused(f"max-workers must be between 1 and {_MOST}")
    if chunk is not None and chunk < 0:
        raise CommandRefused("max-chunk must be zero (which means no limit) or positive")


def _make_filter(graph: Graph, command: Backup, device: Node, target: Node) -> CopyBeforeWrite:
    if device.size != target.size:
        raise CommandRefused("Source and target image have different sizes")
    smallest = command.min_cluster_size or 0
    if smallest > LARGEST_SIZE:
        raise CommandRefused(f"min-cluster-size too large: {smallest} > {LARGEST_SIZE}")
    name = command.filter_node or ANONYMOUS_FILTER
    if name in graph.nodes:
        raise CommandRefused(f"Could not create node: Duplicate nodes with node-name='{name}'")
    options = CbwOptions(OnCbwError(command.on_cbw_error or OnCbwError.BREAK_GUEST_WRITE))
    try:
        # The filter heeds discards if the device does: it is opened with the device's flags.
        node = graph.make_filter(name, device, target, None, smallest, options, discard=True)
    except CommandRefused as why:
        raise CommandRefused(f"Could not create node: {why}") from why
    chunk = command.max_chunk
    if chunk and chunk < node.cluster_size:
        raise CommandRefused(f"Required max-chunk ({chunk}) is less than backup cluster size "
                             f"({node.cluster_size})")
    return node


def _check_job_name(graph: Graph, name: str) -> None:
    if not name or not name[0].isalpha():
        raise CommandRefused(f"Invalid job ID '{name}'")
    if name in graph.jobs:
        raise CommandRefused(f"Job ID '{name}' already in use")


def _insert(graph: Graph, command: Backup, sync: Sync, sync_bitmap: SyncBitmap | None,
            filter_node: CopyBeforeWrite) -> BackupJob:
    """The filter takes the device's place; the bitmap's successor starts to record."""
    device = filter_node.source
    if sync_bitmap is not None:
        bitmap = sync_bitmap.bitmap
        bitmap.successor = DirtyBitmap(device.size, bitmap.granularity,
                                       recording=bitmap.recording)
        bitmap.recording, bitmap.busy = False, True
        device.add_bitmap(bitmap.successor)
    filter_node.block_copy.compressing = command.compress
    filter_node.block_copy.discards_source = command.discard_source
    job = BackupJob(command, sync, filter_node, sync_bitmap, graph, graph.fired)
    graph.replace(device, filter_node)
    filter_node.age = graph.next_age()
    graph.nodes[filter_node.name] = filter_node
    graph.show_copy_bitmap(filter_node)
    graph.jobs[job.name] = job
    return job


def find(graph: Graph, command: JobOperation) -> BackupJob:
    """The job that a command is about."""
    job = graph.jobs.get(command.job)
    if job is None:
        raise CommandRefused("Job not found")
    return job


def forget_ended(graph: Graph) -> None:
    """Jobs that are gone are no longer known."""
    for name, job in list(graph.jobs.items()):
        if job.status == "null":
            del graph.jobs[name]
