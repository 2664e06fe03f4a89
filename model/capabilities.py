# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between QEMU builds, by name.

The harness finds a build's capabilities from its QMP schema or by a probe, never from its version
number.  Two kinds: *features* a build has or lacks, and *deviations*, known defects that the model
can take on so that lockstep stays exact on a build that has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _capability(text: str, since: str, default: bool) -> Any:
    return field(default=default, metadata={"text": text, "since": since, "deviation": False})


def _deviation(text: str, until: str) -> Any:
    return field(default=False, metadata={"text": text, "until": until, "deviation": True})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The default is today's QEMU."""

    snapshot_access: bool = _capability("snapshot-access and user-made filters", "7.0", True)
    on_cbw_error: bool = _capability(
        "copy-before-write takes on-cbw-error and cbw-timeout", "7.1", True)
    min_cluster_size: bool = _capability("copy-before-write takes min-cluster-size", "9.2", True)
    discard_source: bool = _capability("backup jobs take discard-source", "9.1", True)
    job_on_cbw_error: bool = _capability("backup jobs take on-cbw-error", "10.1", True)
    copy_bitmap_on_filter: bool = _capability(
        "the copy bitmap is shown on the filter, not on its source", "9.1", True)
    snapshot_discard_rounds_inwards: bool = _capability(
        "a snapshot discard is rounded inwards to clusters; the tail of the image, if it is no "
        "whole cluster, cannot be discarded", "9.1", True)
    filter_requires_consistent_read: bool = _capability(
        "a filter in use always takes consistent-read on its source", "9.1", True)
    completion_mode_checked_first: bool = _capability(
        "a transaction's completion mode is checked before any action is done, and a refusal of "
        "it says 'transaction' in lower case", "8.1", True)
    persistent_needs_writable: bool = _capability(
        "persistent bitmaps of a read-only node are neither added nor removed, and refused with "
        "words of their own", "after 10.0", True)
    human_monitor: bool = _capability("there is a human monitor (qemu-system only)", "", True)

    snapshot_reads_source_before_done_run_ends: bool = _deviation(
        "a snapshot read or block status that runs past the end of a copied run looks at the "
        "active disk for that run: newer data instead of the point in time", "9.1")
    unaligned_snapshot_discard_aborts: bool = _deviation(
        "a snapshot discard that is not aligned to clusters kills QEMU", "9.1")
    overlapping_snapshot_reads_abort: bool = _deviation(
        "two overlapping snapshot reads in flight kill QEMU", "9.2 (7.2.14)")
    preallocated_status_aborts: bool = _deviation(
        "block status of a snapshot over a metadata-preallocated qcow2 kills QEMU", "9.0")
    huge_min_cluster_size_aborts: bool = _deviation(
        "a min-cluster-size of 4 GiB or more kills QEMU", "")
    large_cluster_aborts: bool = _deviation(
        "the first copy of a cluster of more than 128 MiB kills QEMU", "")
    short_target_aborts: bool = _deviation(
        "a copy past the end of a target smaller than the source kills QEMU", "")
    unallocated_copy_status_aborts: bool = _deviation(
        "block status of a snapshot kills QEMU where the target has nothing allocated: zeroes "
        "were copied to one that does not keep them (parallels), or nothing was copied as the "
        "filter is that of a job that copies only a part", "")
    busy_bitmap_removal_aborts: bool = _deviation(
        "removing a node while another node's export holds one of its bitmaps kills QEMU", "")
    attaching_again_aborts: bool = _deviation(
        "qom-set of a device's drive to the node that it is on kills QEMU", "")
    failed_target_status_aborts: bool = _deviation(
        "block status of a snapshot kills QEMU where that of the target fails with ENOSPC, EINVAL "
        "or another of the errors whose number looks like 'not allocated'", "")
    qed_parallel_allocation_aborts: bool = _deviation(
        "copies of data and of zeroes beside each other to a qed target kill QEMU", "")
    empty_merge_crashes: bool = _deviation(
        "block-dirty-bitmap-merge of no bitmaps kills QEMU", "")
    refused_enable_crashes: bool = _deviation(
        "a transaction that enables a bitmap that is not there kills QEMU", "")
    refused_enable_disables: bool = _deviation(
        "a transaction that enables a bitmap in use is refused, and the bitmap no longer records",
        "")
    aborted_backup_dirties_bitmap: bool = _deviation(
        "a refused transaction with a job of bitmap mode 'always' makes the job's bitmap wholly "
        "dirty, or uses it after it is freed", "")
    aborted_group_hangs: bool = _deviation(
        "a refused grouped transaction that had made two jobs hangs QEMU", "")
    filtered_job_filter_aborts: bool = _deviation(
        "the end of a job over whose filter another filter was put kills QEMU", "9.1")
    cbw_timeout_wraps: bool = _deviation(
        "cbw-timeout is taken modulo 2^32 nanoseconds (4.29 s)", "9.1")
