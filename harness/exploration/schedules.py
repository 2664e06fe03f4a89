# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules: traces whose requests overlap, drawn by hypothesis and steered by the model.

The model says at each moment what is pending and what may be started, so a schedule is known
before any real system sees it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from harness.exploration import openings, ranges
from harness.exploration.areas import Area, Scheme
from harness.exploration.building import Builder, Plan
from harness.exploration.choices import Choices
from harness.exploration.images import SECOND_TARGET, SOURCE, TARGET
from harness.exploration.manners import Manner
from harness.exploration.openings import SNAPSHOT
from harness.exploration.scene import DEFAULT_CLUSTER, Kind, Place
from harness.exploration.sweep import sweep
from harness.lockstep.trace import SystemKind, Trace
from model import operations as ops
from model.bitmap import divide_up
from model.concurrent_machine import ConcurrentMachine
from model.configuration import KIB, MIB, Configuration, Format, Image, Protocol
from model.job_operations import (
    Backup,
    BitmapMode,
    JobCancel,
    JobFinalize,
    JobOperation,
    JobPause,
    JobResume,
    JobSetSpeed,
    OnError,
    Sync,
)
from model.machine import Machine
from model.node import SECTOR
from model.operations import Kill, Operation, Request, Via
from model.program import StorageRequest
from model.schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start
from model.turns import MOST_IN_FLIGHT

CHANNELS: Final = (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE)
"""The only ones that can have requests under way."""
MOST_UNDER_WAY: Final = 6
LONGEST_BURST: Final = 40
JOB: Final = "job"
JOB_FILTER: Final = "job-filter"
ERRNOS: Final = ("EIO", "EIO", "ENOSPC", "EPERM", "ENOMEM")
_TAILS: Final = (SECTOR, 4 * KIB, 32 * KIB, 64 * KIB - SECTOR)
_LARGE: Final = (1 * MIB, 2 * MIB, 3 * MIB + 64 * KIB, 5 * MIB, 5 * MIB, 8 * MIB, 20 * MIB)
_MIXED: Final = 1 * MIB
"""Of the data of a disk so much is drawn cluster by cluster."""
_STEERING: Final[Mapping[type[JobOperation], int]] = {
    JobPause: 6, JobResume: 8, JobCancel: 3, JobFinalize: 2, JobSetSpeed: 1}
_HUGE: Final = 70 * MIB
"""More than one request copies at a time."""
_ALIGNMENTS: Final = (SECTOR, 4 * KIB)
"""Of requests to a source behind a ``blkdebug``: parts of its blocks have them to themselves."""
_LARGEST_REQUEST: Final = 32 * MIB
"""What the daemon takes or gives in one request with data."""


def possible(plan: Plan) -> bool:
    """Whether the plan's system can have requests under way: a storage daemon, through libnbd."""
    return plan.system is not SystemKind.QEMU_SYSTEM and any(
        via in CHANNELS for via in plan.channels)


def configuration(choices: Choices, manner: Manner, scheme: Scheme) -> Configuration:
    """Images on held storage, for a graph of this scheme; all of one size.  In some schedules they
    tell block status, and the source has zeroes, too."""
    if choices.chance(manner.large):
        size = _HUGE if choices.chance(1) else choices.pick(_LARGE)
    else:
        size = choices.integer(1, 6) * DEFAULT_CLUSTER
    if choices.chance(5):
        size += choices.pick(_TAILS)
    # A huge disk is looked at through its block status, by which QEMU remembers what is data.
    tells = scheme is not Scheme.CLASSIC and size < _HUGE and choices.chance(5)
    alignment = choices.pick(_ALIGNMENTS) if choices.chance(3) else None
    if tells or (alignment is not None and size % alignment):
        alignment = None
    # blkdebug divides by zero on a discard that is not aligned, in every QEMU so far.
    discard = not choices.chance(1) and alignment is None
    source = Image(SOURCE, size, protocol=Protocol.HELD,
                   filled=_data(choices, size) if tells else ((0, size),),
                   discard=discard, tells_status=tells, request_alignment=alignment)
    if scheme is Scheme.CLASSIC:
        return Configuration((source, Image(TARGET, size, Format.QCOW2, backing=SOURCE)))
    two = scheme in (Scheme.STACKED, Scheme.PUSH)
    targets = (TARGET, SECOND_TARGET) if two else (TARGET,)
    return Configuration((source, *(
        Image(node, size, protocol=Protocol.HELD, discard=not choices.chance(2),
              tells_status=tells)
        for node in targets)))


def _data(choices: Choices, size: int) -> tuple[tuple[int, int], ...]:
    """Where a disk has data that has zeroes, too: in some of its first clusters, or anywhere."""
    if choices.chance(5):
        return ranges.several(choices, size, (DEFAULT_CLUSTER, 4 * KIB), 5)
    clusters = range(0, min(size, _MIXED) - DEFAULT_CLUSTER + 1, DEFAULT_CLUSTER)
    return tuple((place, DEFAULT_CLUSTER) for place in clusters if choices.chance(9))


def schedule(choices: Choices, plan: Plan, area: Area, scheme: Scheme,
             images: Configuration) -> Trace:
    """A schedule over these images: bursts of overlapping requests, and a look at the end."""
    assert area.manner is not None
    if not plan.capabilities.snapshot_access:  # nor do such builds remember what is data
        images = Configuration(tuple(dataclasses.replace(image, tells_status=False)
                                     for image in images.images))
    threaded = choices.chance(area.manner.threads) and not (
        plan.capabilities.threaded_client_aborts)
    building = Schedule(plan, dataclasses.replace(images, iothread=threaded))
    job = _begin(choices, area, scheme, building)
    drawer = Drawer(choices, area.manner, building, steers=job is not None)
    for _ in range(choices.integer(1, 3)):
        if not drawer.burst():
            building.add_all(ops.Inspect(image.node) for image in images.images)
            job = _begin(choices, area, scheme, building)
    drawer.finish()
    if job is not None and job.sync != Sync.NONE:
        building.add_all((JobResume(job.job), JobFinalize(job.job)))
    building.add_all(sweep(building, touch=choices.chance(13)))
    return building.trace()


def _begin(choices: Choices, area: Area, scheme: Scheme, building: Schedule) -> Backup | None:
    """Put up the scheme, over images that are all that there is; the job, if there is one."""
    assert area.manner is not None
    for operation in openings.opening(choices, area, scheme, building.configuration):
        building.add(_opened(choices, area.manner, operation))
    job = draw_job(choices, building.plan, area.manner, scheme, building)
    if job is not None:
        building.start_job(job)
    if JOB_FILTER in building.scene.nodes and not building.held.busy and choices.chance(12):
        building.add_all((ops.AddSnapshot(SNAPSHOT, JOB_FILTER), ops.Export(SNAPSHOT)))
    return job


def draw_job(choices: Choices, plan: Plan, manner: Manner, scheme: Scheme,
             building: Schedule) -> Backup | None:
    """The job of a schedule that has one, to be started when nothing is under way."""
    if scheme is Scheme.PUSH:
        device, target = SNAPSHOT, SECOND_TARGET
    elif scheme is Scheme.DISK:
        device, target = SOURCE, TARGET
    else:
        return None
    bitmap = next((name.name for name in building.scene.bitmaps if name.node == device), None)
    sync = Sync.FULL
    if bitmap is not None and choices.chance(8):
        sync = Sync.BITMAP
    elif device == SOURCE and choices.chance(6):
        sync = choices.pick((Sync.NONE, Sync.NONE, Sync.TOP))
    broken = plan.capabilities.job_on_cbw_error and choices.chance(manner.breaking)
    # What a snapshot denies is denied at once, again and again.
    on_error = OnError.STOP if scheme is Scheme.PUSH else choices.pick(
        (OnError.STOP, OnError.IGNORE))
    return Backup(
        JOB, device, target, sync, bitmap if sync is Sync.BITMAP else None,
        choices.pick(list(BitmapMode)) if sync is Sync.BITMAP else None,
        filter_node=JOB_FILTER, on_source_error=on_error, on_target_error=on_error,
        auto_finalize=False, max_workers=choices.pick((None, 1, 1, 2)),
        max_chunk=choices.pick((None, 64 * KIB, 64 * KIB, 128 * KIB)),
        use_copy_range=choices.pick((None, True)),
        on_cbw_error=ops.OnCbwError.BREAK_SNAPSHOT.value if broken else None)


def _opened(choices: Choices, manner: Manner, operation: Operation) -> Operation:
    """The operation of the opening, a filter with the options that the manner wants."""
    if not isinstance(operation, ops.AddFilter):
        return operation
    broken = ops.OnCbwError.BREAK_SNAPSHOT.value if choices.chance(manner.breaking) else None
    return dataclasses.replace(operation, on_cbw_error=broken,
                               cbw_timeout=1 if manner.timeouts else None)


class Schedule(Builder):
    """A schedule being drawn, and the model that follows it."""

    @property
    def held(self) -> ConcurrentMachine:
        """The model."""
        assert isinstance(self.machine, ConcurrentMachine)
        return self.machine

    def _fresh_machine(self) -> Machine:
        return ConcurrentMachine(self.configuration, self.plan.capabilities)

    def start_job(self, job: Backup) -> None:
        """Append the start of a job, whose filter is then part of the scene."""
        if self.add(Start(job)):
            self.scene.follow(self.held)


class Drawer:
    """Draws bursts: from the first request until nothing is under way any more."""

    def __init__(self, choices: Choices, manner: Manner, building: Schedule, *,
                 steers: bool) -> None:
        """``steers``: there is a job, to which commands are given."""
        self._choices = choices
        self._manner = manner
        self._building = building
        self._steers = steers and choices.chance(10)
        self._fails = choices.chance(manner.failing)
        self._expirations = 1 if manner.timeouts else 0
        channels = [via for via in building.plan.channels if via in CHANNELS]
        self._channels = choices.some(channels, at_least=1)
        self._focus: list[int] = []
        # A job's filter is under the exports of its disk.
        self._disk = all(place.name == JOB_FILTER
                         for place in building.scene.of_kind(Kind.FILTER))
        self._tells = building.configuration.image(SOURCE).tells_status
        self._served = [image.node for image in building.configuration.images
                        if image.protocol is Protocol.HELD]
        self._classic = building.configuration.image(TARGET).backing is not None

    @property
    def _held(self) -> ConcurrentMachine:
        return self._building.held

    def burst(self) -> bool:
        """Start requests and complete storage requests, in turn and at random; then complete
        what is left, or kill QEMU, which is then another one, with nothing but its images.
        Whether it lives on."""
        choices = self._choices
        cut = choices.chance(self._manner.cuts)
        kill = choices.chance(self._manner.kills)
        most = choices.integer(1, MOST_UNDER_WAY)
        self._focus = []
        eager = choices.pick((2, 5, 8))  # chance of a completion, while more could be started
        for _ in range(choices.integer(2, LONGEST_BURST)):
            pending = self._held.pending()
            can_start = len(self._held.unanswered()) < most and not self._held.silent
            if cut and choices.chance(2):
                self._lose(pending)
            elif self._steers and choices.chance(3):
                self._building.add(Start(choices.weighted(_STEERING)(JOB)))
            elif pending and (not can_start or choices.chance(eager)):
                self._complete(pending)
            elif can_start:
                self._start()
            if self._held.expirable() and self._expirations and choices.chance(3):
                self._expirations -= 1
                self._building.add(Expire())
        return not (kill and self._kill()) and self.finish()

    def finish(self) -> bool:
        """Complete all that is left.  Servers that are gone come back, or QEMU is killed where it
        could not be foretold what they are asked for first, or who has the next turn.  Whether it
        lives on."""
        while self._held.busy:
            pending = self._held.pending()
            away = self._held.away
            if away and (not pending or self._choices.chance(4)) and self._building.add(
                    Back(self._choices.pick(away))):
                continue
            if pending:
                if not self._complete(pending) and self._kill():
                    return False
            elif not self._building.add(Expire()):
                if away and self._kill():
                    return False
                raise AssertionError("the model waits for nothing that can come")
        return True

    # Storage

    def _kill(self) -> bool:
        """Have QEMU killed, if it is known what that leaves of the images."""
        landed = Kill(landed=True)
        return (self._choices.chance(8) and self._building.add(landed)) or (
            self._building.add(Kill()))

    def _lose(self, pending: list[StorageRequest]) -> None:
        """Have the connection to an image's storage lost, for a moment or until its server, which
        is gone, is back."""
        choices = self._choices
        away = self._held.away
        if away and choices.chance(8):
            self._building.add(Back(choices.pick(away)))
        elif pending and choices.chance(8):
            self._building.add(Cut(choices.pick(pending).node))
        elif not self._classic:  # of an image that is not flushed nobody knows what a kill leaves
            self._building.add(Gone(choices.pick(self._served)))

    def _complete(self, pending: list[StorageRequest]) -> bool:
        """Complete, or fail, one of these, unless it is one of those that must stay."""
        choices = self._choices
        # The latest as often as any: then the others stay for long.
        request = pending[-1] if choices.chance(6) else choices.pick(pending)
        sent = [each for each in pending if each.node == request.node]
        if len(sent) >= MOST_IN_FLIGHT:
            # No room for the harness's own: see HeldDaemon, which without it may take only this.
            request = sent[-1]
        error = None
        if self._fails and choices.chance(self._manner.failures):
            error = choices.pick(ERRNOS)
        if self._held.silent:
            return self._building.add(CompleteAll(request.node, error)) or (
                self._building.add(CompleteAll(request.node)))  # so it must not fail
        last = pending.count(request) - 1
        younger = last if len(sent) >= MOST_IN_FLIGHT else choices.integer(0, last)
        return self._building.add(Complete.of(request, error, younger)) or (
            self._building.add(Complete.of(request, younger=younger)))  # so it must not fail

    # Requests

    def _start(self) -> None:
        scene = self._building.scene
        kinds = (Kind.FILTER, Kind.IMAGE) if self._disk else (Kind.FILTER,)
        guests = [place for place in scene.served(*kinds)
                  if scene.exports[place.name].writable and place.name != TARGET]
        snapshots = scene.served(Kind.SNAPSHOT)
        served = scene.served(*Kind)
        if not served:
            return
        if self._tells and self._choices.chance(2):
            place = self._choices.pick(served)
            self._building.add(Start(ops.Status(place.name, *self._span(place), self._channel())))
            return
        who = self._choices.integer(0, 31)
        if who < 16 and guests:
            request = self._of_guest(self._choices.pick(guests))
        elif who < 31 and snapshots:
            request = self._of_client(self._choices.pick(snapshots))
        else:
            request = self._read(self._choices.pick(served))
        self._building.add(Start(request))

    def _read(self, place: Place) -> Request:
        offset, length = self._span(place)
        if self._classic:  # qcow2 reads several clusters beside each other
            length = min(length, place.cluster - offset % place.cluster)
        return ops.Read(place.name, offset, length, self._channel())

    def _of_guest(self, place: Place) -> Request:
        choices = self._choices
        offset, length = self._span(place)
        what = choices.integer(0, 31)
        via = self._channel()
        if what < 16:
            return ops.Write(place.name, offset, length, via, fua=choices.chance(1))
        if what < 20:
            return ops.Zero(place.name, offset, length, via, unmap=choices.chance(8),
                            fua=choices.chance(1))
        if what < 26 and not self._classic:  # it is split at the clusters of a qcow2 target
            if place.size > _LARGEST_REQUEST and choices.chance(8):
                offset, length = 0, place.size
            return ops.Discard(place.name, offset, length, via, fua=choices.chance(1))
        if what < 30:
            return ops.Read(place.name, offset, length, via)
        return ops.Flush(place.name, via=via)

    def _of_client(self, place: Place) -> Request:
        choices = self._choices
        offset, length = self._span(place)
        what = choices.integer(0, 31)
        via = self._channel()
        if what < 20:
            return ops.Read(place.name, offset, length, via)
        if what < 28:
            return ops.Discard(place.name, offset, length, via)
        if what < 31:
            return ops.Status(place.name, offset, length, via)
        return ops.Write(place.name, offset, length, via)

    def _channel(self) -> Via:
        return self._choices.pick(self._channels)

    def _span(self, place: Place) -> tuple[int, int]:
        """A range around the places that this burst dwells on."""
        choices = self._choices
        cluster = place.cluster
        count = divide_up(place.size, cluster)
        if not self._focus or choices.chance(2):
            self._focus.append(choices.integer(0, min(count - 1, 255)))
        first = min(choices.pick(self._focus), count - 1) * cluster
        form = choices.integer(0, 15)
        if form < 6:  # the whole cluster, or some
            start, length = first, cluster * choices.pick((1, 1, 1, 1, 2, 3))
        elif form < 10:  # a part of it
            start = first + choices.pick((0, SECTOR, cluster // 2, cluster - SECTOR))
            length = choices.pick((1, SECTOR, SECTOR, 4 * KIB))
        elif form < 14:  # across a border of clusters
            start = first - choices.pick((0, SECTOR, cluster, cluster))
            length = choices.pick((2 * SECTOR, cluster + SECTOR, 2 * cluster, 3 * cluster))
        else:  # far and wide
            start, length = 0, place.size
        start = min(max(start, 0), place.size - 1)
        return start, max(1, min(length, place.size - start, _LARGEST_REQUEST))


