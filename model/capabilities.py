# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between QEMU builds, by name.

The harness finds a build's capabilities from its QMP schema or by a probe, never from its version
number.  Two kinds: *features* a build has or lacks, and *deviations*, known defects that the model
can take on so that lockstep stays exact on a build that has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _capability(text: str, since: str, *, behaviour: bool = False) -> Any:
    """``behaviour``: something that was there before is done in another way."""
    return field(default=True, metadata={
        "text": text, "since": since, "deviation": False, "behaviour": behaviour})


def _deviation() -> Any:
    # What each is, is told in harness/systems/defects.toml, which the model cannot read.
    return field(default=False, metadata={"deviation": True})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The default is today's QEMU."""

    snapshot_access: bool = _capability("snapshot-access and user-made filters", "7.0")
    on_cbw_error: bool = _capability(
        "copy-before-write takes on-cbw-error and cbw-timeout", "7.1")
    x_perf: bool = _capability(
        "backup jobs take x-perf, and copy several clusters at a time", "6.0")
    min_cluster_size: bool = _capability("copy-before-write takes min-cluster-size", "9.2")
    discard_source: bool = _capability("backup jobs take discard-source", "9.1")
    job_on_cbw_error: bool = _capability("backup jobs take on-cbw-error", "10.1")
    block_job_change: bool = _capability("there is a command block-job-change", "8.2")
    copy_bitmap_on_filter: bool = _capability(
        "the copy bitmap is shown on the filter, not on its source", "9.1", behaviour=True)
    snapshot_discard_rounds_inwards: bool = _capability(
        "a snapshot discard is rounded inwards to clusters; the tail of the image, if it is no "
        "whole cluster, cannot be discarded", "9.1", behaviour=True)
    completion_mode_checked_first: bool = _capability(
        "a transaction's completion mode is checked before any action is done, and a refusal of "
        "it says 'transaction' in lower case", "8.1", behaviour=True)
    persistent_needs_writable: bool = _capability(
        "persistent bitmaps of a read-only node are neither added nor removed, and refused with "
        "words of their own", "after 10.0", behaviour=True)
    resize_names_blocker: bool = _capability(
        "a resize that a job or an overlay does not allow is refused in words that name it",
        "after 7.2", behaviour=True)
    disk_on_backing_file: bool = _capability(
        "a guest's disk may be made on a node that is a backing file", "after 7.2", behaviour=True)
    exports_heed_unmap: bool = _capability(
        "zeroes that may free space, from the client of an export, free none on a node without "
        "discard=unmap", "after 7.2", behaviour=True)
    copy_on_read_by_subclusters: bool = _capability(
        "copy-on-read over a qcow2 with subclusters writes those, not whole clusters", "8.1",
        behaviour=True)
    ended_job_flushes: bool = _capability(
        "a job that ends flushes the disk, if that may be written to", "after 10.0",
        behaviour=True)
    human_monitor: bool = _capability("there is a human monitor (qemu-system only)", "")

    snapshot_reads_source_before_done_run_ends: bool = _deviation()
    unaligned_snapshot_discard_aborts: bool = _deviation()
    overlapping_snapshot_reads_abort: bool = _deviation()
    preallocated_status_aborts: bool = _deviation()
    huge_min_cluster_size_aborts: bool = _deviation()
    large_cluster_aborts: bool = _deviation()
    short_target_aborts: bool = _deviation()
    unallocated_copy_status_aborts: bool = _deviation()
    uncopied_status_aborts: bool = _deviation()
    busy_bitmap_removal_aborts: bool = _deviation()
    busy_bitmap_resize_aborts: bool = _deviation()
    resized_filter_snapshot_aborts: bool = _deviation()
    shrunk_source_aborts: bool = _deviation()
    empty_filter_growth_aborts: bool = _deviation()
    attaching_again_aborts: bool = _deviation()
    failed_target_status_aborts: bool = _deviation()
    qed_parallel_allocation_aborts: bool = _deviation()
    uneven_copy_on_read_aborts: bool = _deviation()
    empty_copy_on_read_aborts: bool = _deviation()
    empty_merge_crashes: bool = _deviation()
    refused_enable_crashes: bool = _deviation()
    refused_enable_disables: bool = _deviation()
    aborted_backup_dirties_bitmap: bool = _deviation()
    refused_readonly_reopen_blocks_writes: bool = _deviation()
    failed_status_goes_on: bool = _deviation()
    aborted_group_hangs: bool = _deviation()
    concluded_job_query_crashes: bool = _deviation()
    filtered_job_filter_aborts: bool = _deviation()
    threaded_client_aborts: bool = _deviation()
    cbw_timeout_wraps: bool = _deviation()
