# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes that are more than operations one after the other: they need several requests at a time,
storage that is slow or seen from within, or an I/O thread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Final

from harness.clients.errors import PeerGone, PeerSilent
from harness.clients.nbd import NbdClient
from harness.clients.qmp import QmpRefused
from harness.systems.base import System
from harness.systems.commands import command_of
from harness.systems.failure import SystemCrashed, SystemFailed, SystemGarbled
from harness.systems.held_daemon import HeldDaemon
from harness.systems.known_defects import KNOWN
from harness.systems.probes import (
    ABORTED_GROUP,
    CLUSTER,
    FAILED_STATUS,
    FILLED,
    GRAPH,
    Found,
    Start,
    images,
)
from harness.systems.qmp_system import QmpSystem
from model import operations as ops
from model.configuration import Image, Protocol, RequestKind
from model.errors import Errno
from model.job_operations import Backup, Sync
from model.operations import Operation

READS: Final = 64
"""Identical reads in flight: eight do, on a machine that is not busy."""


def overlapping_reads(start: Start) -> Found:
    """Many identical reads of the point in time, in flight together."""
    name = "overlapping_snapshot_reads_abort"
    try:
        with closing(start(images(FILLED))) as system:
            _apply_all(system, GRAPH)
            assert isinstance(system, QmpSystem)
            with _connection(system, "snap") as client:
                tokens = [client.submit_read(0, CLUSTER, df=True) for _ in range(READS)]
                failed = [done for token in tokens if (done := client.wait(token)).errno]
            if failed:
                return Found(name, False, f"{len(failed)} of {READS} identical reads failed")
    except SystemCrashed as why:
        known = "reqlist_find_conflict" in (why.assertion or "")
        return Found(name, known, None if known else str(why))
    except PeerGone:
        return _crashed(system, name, "reqlist_find_conflict")
    except SystemFailed as why:
        return Found(name, False, str(why))
    return Found(name, False)


def _crashed(system: System, name: str, assertion: str) -> Found:
    """A client lost QEMU: how QEMU says that it ended."""
    try:
        system.observe(())
    except SystemCrashed as why:
        known = assertion in (why.assertion or "")
        return Found(name, known, None if known else str(why))
    except SystemFailed as why:
        return Found(name, False, str(why))
    return Found(name, False, "QEMU hung up on its client")


ANSWERED: Final = 3.0
"""Seconds in which QEMU refuses a transaction, unless it hangs."""


def aborted_group(start: Start) -> Found:
    """Ask :data:`ABORTED_GROUP`, without waiting as long as for all else."""
    name, (command,) = ABORTED_GROUP.capability, map(command_of, ABORTED_GROUP.operations)
    try:
        with closing(start(ABORTED_GROUP.configuration)) as system:
            assert isinstance(system, QmpSystem)
            system.process.qmp.execute(*command, timeout=ANSWERED)
    except PeerSilent:
        return Found(name, True)
    except QmpRefused:
        return Found(name, False)
    except (PeerGone, SystemFailed) as why:
        return Found(name, False, str(why))
    return Found(name, False, "two jobs of one name are accepted")


THREAD: Final = "probe-thread"


def threaded_client(start: Start) -> Found:
    """A client that comes and leaves, of an export in an I/O thread."""
    name = "threaded_client_aborts"
    export, arguments = command_of(ops.Export("src"))
    try:
        with closing(start(images(FILLED))) as system:
            assert isinstance(system, QmpSystem)
            qmp = system.process.qmp
            qmp.execute("object-add", {"qom-type": "iothread", "id": THREAD})
            qmp.execute(export, {**arguments, "iothread": THREAD})
            with _connection(system, "src") as client:
                client.read(0, 1)
            system.apply(1, ops.Inspect("src"))
    except SystemCrashed as why:
        known = KNOWN[name].shows in (why.assertion or "")
        return Found(name, known, None if known else str(why))
    except PeerGone:
        return _crashed(system, name, KNOWN[name].shows)
    except SystemFailed as why:
        return Found(name, False, str(why))
    return Found(name, False)


WRAPPING: Final = 43
"""Seconds: modulo 2^32 ns these are 50 ms."""
_RATE: Final = 4 * CLUSTER
"""Bytes a second that the target takes: its second cluster has to wait for about 150 ms."""


def timeout_wraps(start: Start) -> Found:
    """A copy to slow storage that ends well within ``cbw-timeout``, were it not for the wrap."""
    name = "cbw_timeout_wraps"
    try:
        with closing(start(images(FILLED))) as system:
            assert isinstance(system, QmpSystem)
            qmp = system.process.qmp
            qmp.execute("object-add", {"qom-type": "throttle-group", "id": "slow-group",
                                       "limits": {"bps-write": _RATE}})
            qmp.execute("blockdev-add", {"driver": "throttle", "node-name": "slow", "file": "tmp",
                                         "throttle-group": "slow-group"})
            _apply_all(system, (ops.AddFilter("cbw", "src", "slow", cbw_timeout=WRAPPING),
                                ops.Export("cbw")))
            answers = [system.apply(number, ops.Write("cbw", number * CLUSTER, CLUSTER)).error
                       for number in (1, 2, 3)]
    except SystemFailed as why:
        return Found(name, False, str(why))
    wrong = [error for error in answers if error not in (None, int(Errno.EINVAL))]
    if wrong:
        return Found(name, False, f"a copy to slow storage fails with {Errno(wrong[0]).name}")
    return Found(name, any(answers))


def _apply_all(system: System, operations: Sequence[Operation]) -> None:
    for number, operation in enumerate(operations, start=1):
        system.apply(number, operation)


def _connection(system: QmpSystem, export: str) -> NbdClient:
    return NbdClient.connect(str(system.workspace.socket("nbd")), export,
                             timeout=system.timeout)


def failed_status(start: Start) -> Found:
    """Ask :data:`FAILED_STATUS`: if one answer goes on, the next cannot be understood."""
    name, (*before, last) = FAILED_STATUS.capability, FAILED_STATUS.operations
    try:
        with closing(start(FAILED_STATUS.configuration)) as system:
            _apply_all(system, before)
            system.apply(len(before) + 1, last)
    except SystemGarbled:
        return Found(name, True)
    except SystemFailed as why:
        return Found(name, False, str(why))
    return Found(name, False)


def export_heeds_unmap(start: Start) -> Found:
    """What storage is asked for when a client's zeroes may free space, by a filter that does not
    let them."""
    name = "exports_heed_unmap"
    source = Image("src", CLUSTER, protocol=Protocol.HELD)
    try:
        with closing(start(images(source))) as system:
            if not isinstance(system, HeldDaemon):  # a qemu-system alone, or a simulation
                return Found(name, True, assumed=True)
            _apply_all(system, (ops.AddFilter("cbw", "src", "tmp", discard=False),
                                ops.Export("cbw"), ops.Zero("cbw", 0, CLUSTER, unmap=True)))
            return Found(name, not system.storage.log[-1].asked.unmap)
    except SystemFailed as why:
        return Found(name, False, str(why))


def ended_job_flushes(start: Start) -> Found:
    """What storage is asked for when a job ends whose disk may be written to."""
    name = "ended_job_flushes"
    source = Image("src", CLUSTER, protocol=Protocol.HELD)
    try:
        with closing(start(images(source))) as system:
            if not isinstance(system, HeldDaemon):
                return Found(name, True, assumed=True)
            _apply_all(system, (ops.Export("src"), Backup("job", "src", "tmp", Sync.FULL)))
            return Found(name, any(each.asked.kind is RequestKind.FLUSH
                                   for each in system.storage.log))
    except SystemFailed as why:
        return Found(name, False, str(why))
