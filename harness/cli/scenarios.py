# SPDX-License-Identifier: GPL-2.0-or-later
"""For each rule: a tiny run whose last operation, or one of the last, fires it.

:mod:`harness.cli.diagrams` draws what is before and after that operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from harness.cli.drawing import CLUSTER as C
from model.capabilities import Capabilities
from model.configuration import (
    MIB,
    Configuration,
    Fault,
    Format,
    Image,
    Protocol,
    RequestKind,
)
from model.job_operations import (
    Abort,
    Backup,
    BitmapMode,
    BlockJobCancel,
    DriveBackup,
    JobCancel,
    JobFinalize,
    JobPause,
    OnError,
    Sync,
    Transaction,
)
from model.operations import (
    AddCopyOnRead,
    AddFilter,
    AddOverlay,
    AddSnapshot,
    BitmapAdd,
    BitmapClear,
    BitmapEnable,
    BitmapRef,
    Context,
    Discard,
    Export,
    Flush,
    Kill,
    OnCbwError,
    Operation,
    Read,
    RemoveNode,
    Reopen,
    Resize,
    Status,
    Unexport,
    Write,
    Zero,
)
from model.schedule import Complete, Cut, Expire, Gone, Start


@dataclass(frozen=True, slots=True)
class Scenario:
    """What there is, what is done unseen, and the operations that are ``shown``, the last.

    ``cluster``: the bytes that a character stands for.
    """

    images: Configuration
    operations: tuple[Operation, ...]
    cluster: int = C
    capabilities: Capabilities | None = None
    shown: int = 1


# Images

_SIZE: Final = 4 * C
_SRC: Final = Image("src", _SIZE, filled=((0, _SIZE),))
_TMP: Final = Image("tmp", _SIZE)
_HALF: Final = replace(_SRC, filled=((0, 2 * C),))
"""Only its first half is data."""
_TWO: Final = Configuration((_SRC, _TMP))
_HELD: Final = Configuration((replace(_SRC, protocol=Protocol.HELD),
                              replace(_TMP, protocol=Protocol.HELD)))
_HELD_SRC: Final = Configuration(_HELD.images[:1])
_OVERLAY: Final = Configuration((
    Image("base", _SIZE, filled=((0, _SIZE),)),
    Image("src", _SIZE, Format.QCOW2, backing="base", filled=((C, C),)), _TMP))
_QCOW2: Final = Configuration((replace(_HALF, format=Format.QCOW2),))
_LARGE: Final = 64 * MIB
_LARGE_HELD: Final = Configuration(tuple(
    Image(node, 3 * _LARGE, protocol=Protocol.HELD) for node in ("src", "tmp")))

# Beginnings

_CBW: Final = (AddFilter("cbw", "src", "tmp"), Export("cbw"))
_SNAP: Final = (AddSnapshot("snap", "cbw"), Export("snap"))
_BITMAP: Final = (BitmapAdd("src", "b"), Export("src"), Write("src", 0, 2 * C))
_KEPT: Final = (BitmapAdd("src", "b", persistent=True), *_BITMAP[1:])
_BLOCKING: Final = Capabilities(refused_readonly_reopen_blocks_writes=True)
_LIMITED: Final = (*_BITMAP, Unexport("src"),
                   AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "b")),
                   Export("cbw"), *_SNAP)
_READS: Final = Complete("src", RequestKind.READ, C, C)
_WRITES: Final = Complete("tmp", RequestKind.WRITE, C, C)
_FLUSHES: Final = Complete("src", RequestKind.FLUSH, 0, 0)


def _failing(place: int = C, *, once: bool = False) -> Configuration:
    """A target that fails to be written there."""
    return Configuration((_SRC, replace(_TMP, faults=(
        Fault(RequestKind.WRITE, place, once=once),))))


def _backup(sync: Sync = Sync.FULL, target: str = "tmp", job: str = "job",
            **options: object) -> Backup:
    return replace(Backup(job, "src", target, sync), **options)  # type: ignore[arg-type]


SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType({
    # A block node
    "node.durable-by-flush": Scenario(_HELD_SRC, (
        BitmapAdd("src", "b"), Export("src"), Start(Write("src", C, C, fua=True)),
        Complete("src", RequestKind.WRITE, C, C), _FLUSHES), shown=3),
    "node.blocks-to-oneself": Scenario(
        Configuration((replace(_SRC, protocol=Protocol.HELD, request_alignment=512),)),
        (Export("src"), Start(Write("src", 100, 100)), Start(Write("src", 200, 100)),
         Complete("src", RequestKind.READ, 0, 512)), shown=3),
    "node.keeps-no-snapshot": Scenario(_TWO, (
        AddSnapshot("snap", "src"), Export("snap"), Read("snap", 0, C))),
    "node.read-only-bitmaps-deny-changes": Scenario(
        _QCOW2, (*_KEPT, Reopen("src", read_only=True), Write("src", 2 * C, C)),
        capabilities=_BLOCKING),
    "node.fast-zero-or-not-at-all": Scenario(
        Configuration((replace(_SRC, format=Format.VDI),)),
        (Export("src"), Zero("src", C, C, fast=True))),
    "node.discard-needs-unmap": Scenario(_TWO, (
        AddFilter("cbw", "src", "tmp", discard=False), Export("cbw"), Discard("cbw", C, C))),
    "node.unmap-needs-unmap": Scenario(
        Configuration((replace(_SRC, protocol=Protocol.HELD, discard=False),)),
        (Export("src"), Start(Zero("src", C, C, unmap=True)))),
    "node.unsupported-discard-is-ignored": Scenario(_HELD, (
        *_CBW, Start(Discard("cbw", C, C)), _READS, replace(_WRITES, error="ENOTSUP")), shown=3),
    "node.changes-are-recorded": Scenario(_TWO, (
        BitmapAdd("src", "b"), *_CBW, Write("cbw", C, C))),
    "node.writes-are-widened": Scenario(
        Configuration((Image("src", 4096, filled=((0, 4096),), request_alignment=2048),)),
        (BitmapAdd("src", "b", granularity=512), Export("src"), Write("src", 512, 512)), 512),
    "node.resize-resizes-bitmaps": Scenario(_TWO, (
        BitmapAdd("src", "b"), Export("src"), Write("src", 0, _SIZE), Unexport("src"),
        Resize("src", 3 * C), Resize("src", 6 * C)), shown=2),

    # The copy-before-write filter
    "cbw.discards-in-pieces": Scenario(
        Configuration((_SRC, replace(_TMP, format=Format.QCOW2))),
        (*_CBW, Discard("cbw", C // 2, 2 * C + C // 2))),
    "cbw.access-starts-as-copy": Scenario(_TWO, (
        *_BITMAP, AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "b")))),
    "cbw.reads-pass": Scenario(_TWO, (*_CBW, Write("cbw", C, C), Read("cbw", 0, _SIZE))),
    "cbw.unchanged-writes-pass": Scenario(_OVERLAY, (
        *_CBW, AddCopyOnRead("top", "cbw"), Export("top"), Read("top", 0, C))),
    "cbw.flush-source-only": Scenario(_HELD, (*_CBW, Start(Flush("cbw")))),
    "cbw.copies-before-change": Scenario(_TWO, (*_CBW, Write("cbw", C + 512, C))),
    "cbw.timeout": Scenario(_HELD, (
        AddFilter("cbw", "src", "tmp", cbw_timeout=1), Export("cbw"), Start(Write("cbw", C, C)),
        Expire())),
    "cbw.failed-copy": Scenario(_failing(), (
        AddFilter("cbw", "src", "tmp", on_cbw_error=OnCbwError.BREAK_SNAPSHOT), Export("cbw"),
        Write("cbw", C, C))),
    "cbw.access-control": Scenario(_TWO, (*_LIMITED, Read("snap", C, 2 * C))),
    "cbw.point-in-time": Scenario(_TWO, (
        *_CBW, *_SNAP, Write("cbw", C, C), Read("snap", 0, _SIZE))),
    "cbw.frozen-reads": Scenario(_HELD, (
        *_CBW, *_SNAP, Start(Write("cbw", C, C)), Start(Read("snap", 0, 2 * C)))),
    "cbw.discard-rounds-inwards": Scenario(_TWO, (
        *_CBW, *_SNAP, Discard("snap", C // 2, 2 * C))),
    "cbw.resize-copies-nothing": Scenario(_TWO, (
        AddFilter("cbw", "src", "tmp"), Resize("cbw", 2 * C))),
    "cbw.discard-gives-up-access": Scenario(_TWO, (
        *_CBW, *_SNAP, Write("cbw", 0, C), Discard("snap", 0, 2 * C))),

    # Block-copy
    "block-copy.tasks": Scenario(_HELD, (
        *_CBW, *_SNAP, Discard("snap", C, C), Start(Write("cbw", 0, _SIZE)))),
    "block-copy.memory": Scenario(_LARGE_HELD, (
        AddFilter("cbw", "src", "tmp", min_cluster_size=_LARGE), Export("cbw"),
        Start(Zero("cbw", 0, 3 * _LARGE))), _LARGE),
    "block-copy.claims-clusters": Scenario(_HELD, (*_CBW, Start(Write("cbw", C, C)))),
    "block-copy.zeroes-stay-zeroes": Scenario(
        Configuration((replace(_HALF, format=Format.QCOW2), replace(_TMP, format=Format.QCOW2))),
        (*_CBW, Write("cbw", 0, _SIZE))),
    "block-copy.failed-clusters-come-back": Scenario(_failing(), (
        *_CBW, Write("cbw", C, C))),
    "block-copy.waits-for-others": Scenario(_HELD, (
        *_CBW, Start(Write("cbw", C, 512)), Start(Write("cbw", C + 512, 512)))),
    "block-copy.past-a-shrunk-end": Scenario(_TWO, (
        AddFilter("cbw", "src", "tmp"), Resize("cbw", 3 * C + 512), Export("cbw"),
        Write("cbw", 2 * C, C + 512))),
    "block-copy.need-not-copy": Scenario(_TWO, (*_CBW, *_SNAP, Discard("snap", C, C))),

    # The snapshot-access driver
    "snapshot-access.reads-the-point-in-time": Scenario(_TWO, (
        *_CBW, *_SNAP, Write("cbw", 0, 2 * C), Read("snap", 0, 3 * C))),
    "snapshot-access.one-level": Scenario(_OVERLAY, (
        *_CBW, AddSnapshot("snap", "cbw"), Export("snap", allocation_depth=True),
        Status("snap", 0, _SIZE, context=Context.DEPTH))),
    "snapshot-access.is-not-written": Scenario(_TWO, (*_CBW, *_SNAP, Write("snap", C, C))),
    "snapshot-access.discard-gives-up": Scenario(_TWO, (
        *_CBW, *_SNAP, Write("cbw", C, C), Discard("snap", C, C))),
    "snapshot-access.flush-does-nothing": Scenario(_HELD, (
        *_CBW, *_SNAP, Start(Flush("snap")))),

    # The copy-on-read driver
    "copy-on-read.keeps-what-was-read": Scenario(_OVERLAY, (
        AddCopyOnRead("top", "src"), Export("top"), Read("top", 0, 3 * C))),

    # Images
    "image.discarded-reads-as-zero": Scenario(_TWO, (Export("src"), Discard("src", 512, 2 * C))),
    "image.detects-zeroes": Scenario(
        Configuration((replace(_HELD_SRC.images[0], detect_zeroes="on"),)),
        (BitmapAdd("src", "b"), Export("src"), Start(Write("src", C, C, zeroes=True)),
         Complete("src", RequestKind.ZERO, C, C)), shown=2),
    "flush.reaches-what-is-written": Scenario(_HELD_SRC, (
        Export("src"), Write("src", C, C), Unexport("src"), Export("src", writable=False),
        Start(Flush("src")))),
    "flush.before-removal": Scenario(
        Configuration((replace(_SRC, faults=(Fault(RequestKind.FLUSH, 0, once=True),)), _TMP)),
        (Export("src"), Write("src", C, 512), Unexport("src"), AddFilter("cbw", "src", "tmp"),
         RemoveNode("cbw"), Export("src"), Flush("src")), shown=3),
    "flush.after-refusal": Scenario(
        Configuration((replace(_SRC, faults=(Fault(RequestKind.FLUSH, 0, once=True),)), _TMP)),
        (Export("src"), Write("src", C, 512), _backup(speed=-1, max_workers=1), Flush("src")),
        shown=2),
    "image.flushed-already": Scenario(
        Configuration((replace(_SRC, protocol=Protocol.HELD, request_alignment=512),)),
        (Export("src"), Start(Write("src", C, C)), Complete("src", RequestKind.WRITE, C, C),
         Start(Flush("src")), _FLUSHES, _FLUSHES, Start(Flush("src"))), shown=4),
    "image.flushed-through-blkdebug": Scenario(
        Configuration((replace(_SRC, protocol=Protocol.HELD, request_alignment=512),)),
        (Export("src"), Start(Write("src", C, C)), Complete("src", RequestKind.WRITE, C, C),
         Start(Flush("src")), _FLUSHES), shown=2),
    "image.status-tells-no-lie": Scenario(
        Configuration((_HALF,)), (Export("src"), Status("src", 0, _SIZE))),
    "image.resize": Scenario(
        Configuration((replace(_SRC, format=Format.VDI),)), (Resize("src", 6 * C),)),
    "image.resize-rounds-up": Scenario(
        Configuration((Image("src", 2048, filled=((0, 2048),)),)),
        (Resize("src", 600), Resize("src", 1500)), 512, shown=2),
    "image.cannot-discard": Scenario(
        Configuration((replace(_SRC, format=Format.VDI, filled=((0, _SIZE),)),)),
        (BitmapAdd("src", "b"), Export("src"), Discard("src", 0, 2 * C))),
    "qcow2.backing-shows-through": Scenario(_OVERLAY, (Export("src"), Read("src", 0, _SIZE))),
    "qcow2.clusters-filled-in-turn": Scenario(
        Configuration((replace(_SRC, node="base", protocol=Protocol.HELD),
                       Image("src", _SIZE, Format.QCOW2, backing="base"))),
        (Export("src"), Start(Write("src", 512, 512)), Start(Write("src", 2048, 512)),
         Complete("base", RequestKind.READ, 0, C)), shown=3),
    "qcow2.failed-writes-allocate-nothing": Scenario(
        Configuration((_OVERLAY.images[0], Image(
            "src", _SIZE, Format.QCOW2, backing="base", fails_first="EIO"))),
        (Export("src"), Write("src", 0, C), Write("src", 0, C)), shown=2),
    "qcow2.write-fills-cells": Scenario(_OVERLAY, (Export("src"), Write("src", 2 * C, 512))),
    "qcow2.unfilled-writes-nothing": Scenario(
        Configuration((_SRC, _TMP, Image("over", _SIZE, Format.QCOW2))),
        (*_CBW, *_SNAP, RemoveNode("over"), AddOverlay("over", "snap"), Export("over"),
         Discard("snap", C, C), Write("over", C // 2, C))),
    "qcow2.zeroes": Scenario(_OVERLAY, (Export("src"), Zero("src", C // 2, 2 * C))),
    "qcow2.status": Scenario(_OVERLAY, (
        Export("src", allocation_depth=True),
        Status("src", 0, _SIZE, context=Context.DEPTH))),
    "qcow2.discards-whole-clusters": Scenario(_QCOW2, (
        Export("src"), Discard("src", C // 2, 2 * C))),
    "image.zeroes-in-pieces": Scenario(_LARGE_HELD, (
        Export("src"), Start(Zero("src", 0, _LARGE))), _LARGE),
    "qcow2.compressed": Scenario(
        Configuration((replace(_HALF, format=Format.QCOW2, filled=((0, C), (C, C // 2))),
                       replace(_TMP, format=Format.QCOW2))),
        (_backup(compress=True),)),
    "qcow2.sparse-data": Scenario(
        Configuration((replace(_HALF, format=Format.QCOW2, preallocation="metadata"),)),
        (Export("src"), Status("src", 0, _SIZE))),
    "qcow2.resize": Scenario(_QCOW2, (Resize("src", 3 * C + 100),)),
    "qcow2.resize-keeps-the-last-cluster": Scenario(
        Configuration((replace(_SRC, format=Format.QCOW2),)),
        (Resize("src", C + C // 2), Resize("src", _SIZE)), C // 2, shown=2),
    "image.remembers-data": Scenario(_HELD_SRC, (
        Export("src"), Status("src", 0, 2 * C), Start(Read("src", C, 3 * C))), shown=2),

    "image.status-when-it-completes": Scenario(
        Configuration((replace(_HALF, protocol=Protocol.HELD, tells_status=True),)),
        (Export("src"), Start(Status("src", 0, _SIZE)), Start(Write("src", 2 * C, C)),
         Complete("src", RequestKind.WRITE, 2 * C, C),
         Complete("src", RequestKind.STATUS, 0, _SIZE),
         Complete("src", RequestKind.STATUS, 3 * C, C)), shown=3),

    # QEMU's NBD server
    "nbd.structured-read": Scenario(_HELD_SRC, (
        Export("src"), Start(Read("src", C, C)), replace(_READS, error="EIO")), shown=2),
    "nbd.checks-request": Scenario(_TWO, (Export("src"), Read("src", 3 * C, 2 * C))),
    "nbd.status-runs": Scenario(_QCOW2, (Export("src"), Status("src", 0, _SIZE))),
    "nbd.bitmap-runs": Scenario(_TWO, (
        BitmapAdd("src", "b"), Export("src", bitmaps=(BitmapRef("src", "b"),)),
        Write("src", C, 512),
        Status("src", 0, _SIZE, context="qemu:dirty-bitmap:b"))),
    "nbd.contexts": Scenario(_QCOW2, (
        BitmapAdd("src", "b"), Export("src", bitmaps=(BitmapRef("src", "b"),)),
        Write("src", C, 512),
        Status("src", 0, _SIZE, others=("qemu:dirty-bitmap:b",)))),

    # The backup job
    "backup.what-is-copied": Scenario(_TWO, (
        *_BITMAP, _backup(Sync.BITMAP, bitmap="b", bitmap_mode=BitmapMode.NEVER,
                          auto_finalize=False))),
    "backup.performance": Scenario(_HELD, (
        Export("src"), Start(_backup(auto_finalize=False, max_workers=2, max_chunk=C,
                                     on_source_error=OnError.STOP,
                                     on_target_error=OnError.STOP)))),
    "backup.stops-in-the-middle": Scenario(_HELD, (
        Export("src"), Start(_backup(auto_finalize=False, max_workers=2, max_chunk=C,
                                     on_source_error=OnError.STOP,
                                     on_target_error=OnError.STOP)),
        Start(JobPause("job")))),
    "backup.waits-for-clients": Scenario(_HELD, (
        Export("src"), Start(_backup(Sync.NONE, auto_finalize=False,
                                     on_source_error=OnError.STOP,
                                     on_target_error=OnError.STOP)),
        Start(Write("src", C, C)), Start(JobCancel("job")))),
    "backup.speed": Scenario(_TWO, (
        _backup(speed=1, max_workers=1, max_chunk=C),)),
    "backup.on-error": Scenario(_failing(2 * C), (
        _backup(on_target_error=OnError.STOP, max_workers=1, max_chunk=C),)),
    "backup.finalize": Scenario(_TWO, (
        *_BITMAP, _backup(Sync.BITMAP, bitmap="b", bitmap_mode=BitmapMode.ON_SUCCESS,
                          auto_finalize=False))),
    "backup.group": Scenario(
        Configuration((_SRC, _TMP, replace(_SRC, node="src2"), replace(_TMP, node="tmp2"))),
        (Transaction((_backup(auto_finalize=False),
                      replace(_backup(auto_finalize=False, target="tmp2", job="other"),
                              device="src2")), grouped=True),
         JobCancel("job"))),
    "backup.last-copies": Scenario(_failing(once=True), (
        _backup(on_target_error=OnError.STOP, max_workers=1, max_chunk=C), JobCancel("job"))),
    "backup.cancel-paused": Scenario(_TWO, (
        _backup(Sync.NONE), JobPause("job"), BlockJobCancel("job"))),
    "backup.bitmap-after": Scenario(_TWO, (
        *_BITMAP, _backup(Sync.BITMAP, bitmap="b", bitmap_mode=BitmapMode.ON_SUCCESS,
                          auto_finalize=False),
        Write("src", C, 2 * C), JobFinalize("job"))),
    "drive-backup.new-target": Scenario(
        Configuration((_SRC, replace(_TMP, filled=((0, _SIZE),)))),
        (*_BITMAP, RemoveNode("tmp"),
         DriveBackup("job", "src", "tmp", Sync.BITMAP, bitmap="b", bitmap_mode=BitmapMode.NEVER,
                     format=Format.RAW, auto_finalize=False)), shown=2),

    # Who may be resized
    "resize.blocked": Scenario(_TWO, (_backup(auto_finalize=False), Resize("tmp", 6 * C))),

    # Who may be reopened
    "reopen.read-only": Scenario(_QCOW2, (
        *_KEPT, Unexport("src"), Reopen("src", read_only=True), BitmapClear("src", "b")), shown=2),
    "reopen.refused-blocks-writes": Scenario(
        _QCOW2, (*_KEPT, Reopen("src", read_only=True), Write("src", 2 * C, C)), shown=2,
        capabilities=_BLOCKING),
    "reopen.discard": Scenario(_TWO, (
        Reopen("src", discard=False), Export("src"), Discard("src", C, C)), shown=3),
    "reopen.writable": Scenario(_QCOW2, (
        *_KEPT, Unexport("src"), Reopen("src", read_only=True), Reopen("src"),
        BitmapClear("src", "b")), shown=2),

    # Exports
    "nbd.names": Scenario(_TWO, (
        Export("src", called="disk"), Export("tmp", called="disk")), shown=2),
    "nbd.own-bitmap": Scenario(_TWO, (
        BitmapAdd("src", "b"), AddFilter("cbw", "src", "tmp"),
        Export("cbw", own_bitmaps=("b",)))),

    # Transactions
    "transaction.refused-enable-disables": Scenario(
        _TWO, (BitmapAdd("src", "b"), Export("src", bitmaps=(BitmapRef("src", "b"),)),
               Transaction((BitmapEnable("src", "b"),))),
        capabilities=Capabilities(refused_enable_disables=True)),
    "transaction.aborted-backup-dirties-bitmap": Scenario(
        _TWO, (*_BITMAP, Transaction((
            _backup(Sync.BITMAP, bitmap="b", bitmap_mode=BitmapMode.ALWAYS), Abort()))),
        capabilities=Capabilities(aborted_backup_dirties_bitmap=True)),

    # Storage that is held
    "storage.sixteen-at-a-time": Scenario(
        Configuration((replace(_HELD.images[0], size=5 * _SIZE, filled=((0, 5 * _SIZE),)),
                       replace(_HELD.images[1], size=5 * _SIZE))),
        (Start(_backup(auto_finalize=False, max_chunk=C, on_source_error=OnError.STOP,
                       on_target_error=OnError.STOP)),), _SIZE),
    "storage.asked-again": Scenario(_HELD, (*_CBW, Start(Write("cbw", C, C)), Cut("src"))),
    "storage.waited-for": Scenario(_HELD, (*_CBW, Start(Write("cbw", C, C)), Gone("src"))),
    "storage.survives-a-kill": Scenario(_HELD_SRC, (
        Export("src"), Start(Write("src", 0, C)), Start(Write("src", C, C)),
        Complete("src", RequestKind.WRITE, 0, C), Kill()), shown=2),
    "block-copy.waits-for-readers": Scenario(
        Configuration((replace(_SRC, protocol=Protocol.HELD),
                       Image("tmp", _SIZE, Format.QCOW2, backing="src"))),
        (*_CBW, Export("tmp", writable=False), Start(Read("tmp", C, C)),
         Start(Write("cbw", C, C)), replace(_READS, younger=1))),
})
