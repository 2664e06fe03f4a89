# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups that a bitmap guides: every sync mode, bitmap mode and outcome; what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from harness.golden.scenario import Scenario
from model.configuration import KIB, Fault, Format, Image, RequestKind
from model.job_operations import (
    Backup,
    BitmapMode,
    DriveBackup,
    JobCancel,
    JobDismiss,
    JobFinalize,
    JobPause,
    JobResume,
    OnError,
    Sync,
    Transaction,
)
from model.operations import (
    BitmapAdd,
    BitmapClear,
    BitmapRef,
    Export,
    OnCbwError,
    RemoveNode,
    Restart,
)

C = 64 * KIB
SIZE = 12 * C + 512
BITMAPS = ("copy_bitmap_on_filter", "snapshot_access")
"""Where the bitmaps of a job's filter are shown, and which it has."""
READ = Fault(RequestKind.READ, 5 * C, once=True)
WRITE = Fault(RequestKind.WRITE, 5 * C, errno="ENOSPC", once=True)


@dataclass(frozen=True)
class Outcome:
    """What becomes of a job: the storage error that it meets, and how it is ended."""

    name: str
    source: tuple[Fault, ...] = ()
    target: tuple[Fault, ...] = ()
    cancelled: bool = False


OUTCOMES = (Outcome("success"), Outcome("cancelled with all copied", cancelled=True),
            Outcome("a read fails", source=(READ,)), Outcome("a write fails", target=(WRITE,)))


def disks(iotest: Scenario, outcome: Outcome) -> None:
    """A disk over a backing file, with one bitmap, and a place for its backup."""
    iotest.images(
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("src", SIZE, Format.QCOW2, backing="base",
              filled=((C, C), (5 * C + 512, 512), (8 * C, 2 * C)), faults=outcome.source),
        Image("copy", SIZE, faults=outcome.target))
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src")


def guest_before(iotest: Scenario) -> None:
    """A whole cluster, a little on either side of a border, and the tail of the disk."""
    iotest.write("src", 2 * C, C)
    iotest.write("src", 6 * C - 256, 512)
    iotest.zero("src", 12 * C, 512)


def guest_meanwhile(iotest: Scenario) -> None:
    """One cluster that was dirty and one that was not."""
    iotest.write("src", 5 * C + 100, 100)
    iotest.write("src", 10 * C, C)


@pytest.mark.golden(varies=[*BITMAPS, "x_perf"], without_snapshots=True)
@pytest.mark.parametrize(("sync", "mode"), [
    (sync, mode) for sync in (Sync.FULL, Sync.TOP, Sync.BITMAP) for mode in BitmapMode
    if sync is Sync.BITMAP or mode is not BitmapMode.NEVER])
def test_1001_bitmap_backups(iotest: Scenario, sync: Sync, mode: BitmapMode) -> None:
    """A job with a bitmap: what it copies, and what becomes of the bitmap, outcome by outcome.

    Full and top with bitmap mode never are refused: see 1006.
    """
    job = Backup("job", "src", "copy", sync, "dirty", mode, filter_node="filter",
                 auto_finalize=False, max_workers=1)
    for outcome in OUTCOMES:
        iotest.section(outcome.name)
        disks(iotest, outcome)
        guest_before(iotest)
        iotest.bitmaps("src")
        iotest.do(job)
        guest_meanwhile(iotest)
        iotest.jobs()
        iotest.bitmaps("filter", "src")
        if outcome.cancelled:
            iotest.do(JobCancel("job"))
        elif not (outcome.source or outcome.target):
            iotest.do(JobFinalize("job"))
        iotest.write("src", 0, 512)
        iotest.bitmaps("src")
        iotest.digest("src", "dirty")
        iotest.content("copy")
        iotest.comment("a second job, with what the bitmap has now")
        iotest.do(Backup("again", "src", "copy", Sync.INCREMENTAL, "dirty", max_workers=1))
        iotest.bitmaps("src")
        iotest.content("copy")


@pytest.mark.golden(varies=[*BITMAPS, "x_perf"], without_snapshots=True)
def test_1002_incremental(iotest: Scenario) -> None:
    """Sync mode incremental is bitmap with bitmap mode on-success, said or not."""
    for mode in (None, BitmapMode.ON_SUCCESS):
        for outcome in OUTCOMES[:3]:
            iotest.section(f"bitmap mode {mode}: {outcome.name}")
            disks(iotest, outcome)
            guest_before(iotest)
            iotest.do(Backup("job", "src", "copy", Sync.INCREMENTAL, "dirty", mode,
                             auto_finalize=False, max_workers=1))
            guest_meanwhile(iotest)
            iotest.bitmaps("#block(job)", "src")
            iotest.do(JobCancel("job") if outcome.cancelled else JobFinalize("job"))
            iotest.bitmaps("src")
            iotest.content("copy")


@pytest.mark.golden(without_snapshots=True)
def test_1003_a_job_without_a_bitmap_leaves_bitmaps_alone(iotest: Scenario) -> None:
    """Full and top without a bitmap; a bitmap of the node records what the guest writes."""
    for sync in (Sync.FULL, Sync.TOP):
        iotest.section(f"sync {sync}")
        disks(iotest, OUTCOMES[0])
        guest_before(iotest)
        iotest.do(Backup("job", "src", "copy", sync))
        iotest.bitmaps("src")
        iotest.content("copy")
        iotest.content("src")


@pytest.mark.golden(varies=[*BITMAPS, "x_perf"], without_snapshots=True)
def test_1004_errors_that_need_not_end_a_job(iotest: Scenario) -> None:
    """A read and a write fail once each; the job stops, or tries again by itself."""
    for how in (OnError.STOP, OnError.IGNORE, OnError.ENOSPC, OnError.AUTO):
        iotest.section(f"on error: {how}")
        disks(iotest, Outcome("", source=(READ,), target=(WRITE,)))
        guest_before(iotest)
        iotest.do(Backup("job", "src", "copy", Sync.BITMAP, "dirty", BitmapMode.ALWAYS,
                         filter_node="filter", on_source_error=how, on_target_error=how,
                         max_workers=1, max_chunk=C))
        iotest.jobs()
        iotest.bitmaps("filter", "src")
        if how is OnError.STOP:
            iotest.write("src", 10 * C, C)
            iotest.do(JobResume("job"))
            iotest.jobs()
            iotest.write("src", 12 * C, 10)
            iotest.do(JobResume("job"))
            iotest.jobs()
        iotest.bitmaps("src")
        iotest.content("copy")


@pytest.mark.golden(varies=BITMAPS, without_snapshots=True)
def test_1005_the_guest_overwrites_what_is_to_be_copied(iotest: Scenario) -> None:
    """Sync none: nothing is copied but what the guest is about to overwrite; it never ends by
    itself."""
    disks(iotest, OUTCOMES[0])
    guest_before(iotest)
    iotest.do(Backup("job", "src", "copy", Sync.NONE, filter_node="filter"))
    guest_meanwhile(iotest)
    iotest.bitmaps("filter", "src")
    iotest.comment("the filter of a job takes no discards")
    iotest.discard("src", 8 * C, C)
    iotest.bitmaps("filter", "src")
    iotest.do(JobCancel("job"))
    iotest.jobs()
    iotest.content("copy")
    iotest.content("src")


@pytest.mark.golden(without_snapshots=True)
def test_1006_what_is_refused(iotest: Scenario) -> None:
    """Sync modes, bitmap modes and bitmaps that do not go together."""
    iotest.images(Image("src", SIZE), Image("copy", SIZE))
    iotest.do(BitmapAdd("src", "dirty"))
    usual = Backup("", "src", "copy", Sync.FULL)
    for sync in Sync:
        iotest.section(f"sync {sync}")
        for bitmap in (None, "dirty", "none"):
            for mode in (None, *BitmapMode):
                iotest.do(replace(usual, sync=sync, bitmap=bitmap, bitmap_mode=mode))


def test_1007_a_job_that_has_ended_is_kept(iotest: Scenario) -> None:
    """With auto-dismiss off a job can be asked about after its end, and keeps its name; the
    filter is gone, and the bitmap free."""
    for outcome in OUTCOMES:
        iotest.section(outcome.name)
        disks(iotest, outcome)
        guest_before(iotest)
        job = Backup("job", "src", "copy", Sync.BITMAP, "dirty", BitmapMode.ON_SUCCESS,
                     filter_node="filter", auto_finalize=not outcome.cancelled,
                     auto_dismiss=False, max_workers=1)
        iotest.do(job)
        if outcome.cancelled:
            iotest.do(JobCancel("job"))
        iotest.jobs()
        iotest.bitmaps("src")
        iotest.comment("all is free but the job's name")
        iotest.do(job)
        iotest.do(BitmapClear("src", "dirty"))
        for verb in (JobCancel, JobPause, JobResume, JobFinalize, JobDismiss, JobDismiss):
            iotest.do(verb("job"))
        iotest.jobs()


@pytest.mark.golden(varies=["copy_bitmap_on_filter"])
def test_1008_a_job_is_paused(iotest: Scenario) -> None:
    """A paused job copies nothing by itself; its filter goes on keeping the point in time."""
    for sync in (Sync.NONE, Sync.FULL):
        iotest.section(f"sync {sync}")
        disks(iotest, Outcome("", source=(READ,)))
        iotest.do(Backup("job", "src", "copy", sync, filter_node="filter", max_workers=1,
                         on_source_error=OnError.STOP))
        if sync is Sync.NONE:
            iotest.do(JobPause("job"))
        iotest.jobs()
        iotest.write("src", 0, 1)
        iotest.write("src", 9 * C, C)
        iotest.bitmaps("filter", "src")
        for verb in (JobDismiss, JobFinalize, JobPause, JobResume, JobResume):
            iotest.do(verb("job"))
        iotest.jobs()
        iotest.do(JobCancel("job"))
        iotest.content("copy")


def test_1009_a_bitmap_that_somebody_holds(iotest: Scenario) -> None:
    """No job takes a bitmap that an export shows, whatever the modes."""
    iotest.images(Image("src", SIZE), Image("copy", SIZE), Image("other", SIZE))
    iotest.do(BitmapAdd("src", "held"))
    iotest.do(Export("other", writable=False, bitmaps=(BitmapRef("src", "held"),)))
    for sync in Sync:
        iotest.section(f"sync {sync}")
        for mode in (None, *BitmapMode):
            iotest.do(Backup("job", "src", "copy", sync, "held", mode))
    iotest.do(BitmapClear("src", "held"))


@pytest.mark.golden(varies=["min_cluster_size", "discard_source", "job_on_cbw_error"])
def test_1010_other_wrong_arguments(iotest: Scenario) -> None:
    """Arguments that a job cannot have; what a job holds, and cannot be asked."""
    iotest.images(Image("src", SIZE), Image("copy", SIZE), Image("short", C), Image("full", SIZE))
    iotest.do(BitmapAdd("src", "dirty"))
    usual = Backup("", "src", "copy", Sync.FULL)
    for wrong in (
            replace(usual, device="none"), replace(usual, target="none"),
            replace(usual, target="src"), replace(usual, target="short"),
            replace(usual, sync="some"), replace(usual, bitmap="dirty", bitmap_mode="some"),
            replace(usual, compress=True), replace(usual, max_workers=0),
            replace(usual, max_chunk=-1), replace(usual, max_chunk=C - 1),
            replace(usual, min_cluster_size=3), replace(usual, min_cluster_size=1 << 63),
            replace(usual, discard_source=True), replace(usual, on_cbw_error="some"),
            replace(usual, filter_node="src"), replace(usual, filter_node="1"),
            replace(usual, filter_node="f" * 32), replace(usual, max_workers=1 << 63),
            replace(usual, max_chunk=1 << 63), replace(usual, min_cluster_size=1 << 64),
            replace(usual, speed=1 << 63),
            replace(usual, job="1"), replace(usual, job="job", speed=-1)):
        iotest.do(wrong)
    iotest.section("What a job holds")
    iotest.do(replace(usual, job="job", sync=Sync.NONE, filter_node="filter"))
    for held in (replace(usual, job="job2", device="filter"), replace(usual, device="copy",
                 target="full"), replace(usual, job="job", target="full")):
        iotest.do(held)
    iotest.do(RemoveNode("filter"))
    iotest.do(RemoveNode("copy"))
    for verb in (JobDismiss, JobFinalize, JobResume, JobCancel, JobCancel):
        iotest.do(verb("job"))


@pytest.mark.golden(varies=["copy_bitmap_on_filter"])
def test_1011_drive_backup(iotest: Scenario) -> None:
    """The older command opens its target by itself, or makes it; only a qemu-system has it."""
    iotest.images(
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("src", SIZE, Format.QCOW2, backing="base", filled=((C, 2 * C),)),
        Image("copy", SIZE, filled=((0, SIZE),)), monitor=True)
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src")
    iotest.write("src", 2 * C, C)
    iotest.do(RemoveNode("copy"))
    usual = DriveBackup("job", "src", "copy", Sync.FULL, format="raw", auto_finalize=False)
    iotest.section("What is refused")
    for wrong in (replace(usual, device="none"), replace(usual, format="none"),
                  replace(usual, format="none", mode="existing"), replace(usual, mode="some"),
                  replace(usual, compress=True), replace(usual, sync=Sync.TOP)):
        iotest.do(wrong)
    for mode in ("existing", None):
        iotest.section(f"mode {mode or 'absolute-paths'}")
        job = replace(usual, sync=Sync.BITMAP, bitmap="dirty", bitmap_mode=BitmapMode.NEVER,
                      mode=mode, filter_node="filter")
        iotest.do(Transaction((job, BitmapClear("src", "dirty"))))
        iotest.do(Transaction((job, BitmapAdd("src", "new"))))
        iotest.write("src", C, C)
        iotest.bitmaps("filter", "src")
        iotest.do(JobFinalize("job"))
        iotest.jobs()
        iotest.comment("the next QEMU looks at it")
        iotest.do(Restart())
        iotest.content("copy")
        iotest.do(BitmapAdd("src", "dirty"))
        iotest.export("src")
        iotest.write("src", 2 * C, C)
        iotest.do(RemoveNode("copy"))


@pytest.mark.golden(varies=["copy_bitmap_on_filter"])
def test_1012_compressed(iotest: Scenario) -> None:
    """A target in qcow2 can be written compressed, cluster by cluster; what the guest is about to
    overwrite is copied so too."""
    for sync in (Sync.NONE, Sync.FULL):
        iotest.section(f"sync {sync}")
        iotest.images(
            Image("base", SIZE, filled=((0, SIZE),)),
            Image("src", SIZE, Format.QCOW2, backing="base", filled=((C, C), (8 * C, 2 * C))),
            Image("copy", SIZE, Format.QCOW2))
        iotest.export("src")
        iotest.do(Backup("job", "src", "copy", sync, filter_node="filter", compress=True,
                         auto_finalize=False))
        iotest.write("src", 5 * C + 100, 100)
        iotest.bitmaps("filter")
        iotest.do(JobCancel("job") if sync is Sync.NONE else JobFinalize("job"))
        iotest.content("copy")


@pytest.mark.golden(varies=["job_on_cbw_error"])
@pytest.mark.parametrize("policy", OnCbwError)
def test_1013_a_copy_before_a_guests_write_fails(iotest: Scenario, policy: OnCbwError) -> None:
    """The target fails while the guest writes: the guest's request fails, or the backup does.
    QEMU before 10.1 has no such choice for a job."""
    for sync in (Sync.NONE, Sync.FULL):
        iotest.section(f"sync {sync}")
        # The job that copies stops at this cluster, so that the guest is the first to copy it.
        reading = Fault(RequestKind.READ, 9 * C, once=True)
        disks(iotest, Outcome("", source=(reading,) if sync is Sync.FULL else (), target=(
            Fault(RequestKind.WRITE, 9 * C, errno="ENOSPC", once=True),)))
        iotest.do(Backup("job", "src", "copy", sync, max_workers=1, max_chunk=C,
                         on_source_error=OnError.STOP, on_cbw_error=policy))
        iotest.jobs()
        iotest.write("src", 9 * C, 512)
        iotest.comment("the storage is well again")
        iotest.write("src", 9 * C, 512)
        iotest.jobs()
        iotest.do(JobResume("job") if sync is Sync.FULL else JobCancel("job"))
        iotest.jobs()
        iotest.content("copy")


@pytest.mark.golden(varies=["x_perf"])
def test_1014_several_workers(iotest: Scenario) -> None:
    """However many requests a job may have under way, and however large: the copy is the same."""
    for workers, chunk in ((1, C), (1, 0), (2, C), (3, 2 * C), (64, 0)):
        iotest.section(f"{workers} at a time, of at most {chunk} bytes")
        disks(iotest, OUTCOMES[0])
        guest_before(iotest)
        iotest.do(Backup("job", "src", "copy", Sync.BITMAP, "dirty", BitmapMode.ON_SUCCESS,
                         max_workers=workers, max_chunk=chunk))
        iotest.bitmaps("src")
        iotest.content("copy")
