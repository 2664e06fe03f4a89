# SPDX-License-Identifier: GPL-2.0-or-later
"""From a trace and how it failed to a script: the model says what must come at each operation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.errors import HarnessError
from harness.lockstep import human
from harness.lockstep.compare import expected_errno
from harness.lockstep.differences import (
    BitmapsDiffer,
    CompressedDiffers,
    DeviceDiffers,
    Difference,
    DigestDiffers,
    EventsDiffer,
    JobsDiffer,
)
from harness.lockstep.trace import Step, SystemKind, Trace
from harness.lockstep.verdict import Diverges, Failed, Failure
from harness.reproducers.patterns import Patterns
from harness.reproducers.script import (
    OK,
    Act,
    Again,
    Ask,
    AskNbd,
    Bitmaps,
    Command,
    Digest,
    Disk,
    End,
    Jobs,
    Part,
    Piece,
    Run,
    Script,
)
from harness.reproducers.unheld import is_held
from harness.storage.held import RECONNECT_DELAY
from harness.storage.place import FilePlace, NbdPlace, Place
from harness.systems import commands
from harness.systems.command import Command as QmpCommand
from harness.systems.commands import DEVICE
from harness.systems.spelling import spelled
from model import operations as ops
from model.arguments import is_well_formed
from model.channels import seen_through
from model.configuration import Configuration, Image, Protocol
from model.content import initial_stamp, stamped
from model.copy_before_write import CopyBeforeWrite
from model.errors import Errno
from model.job_operations import Backup, JobOperation, Transaction
from model.machine import Impossible, Machine
from model.operations import Operation, Request, Via
from model.outcome import BitmapView, JobView, Observation, Outcome
from model.requests import CHANGES, stamp_of
from model.schedule import Complete, CompleteAll, Cut, Expire, Start
from model.snapshot_access import SnapshotAccess

SOCKET: Final = "nbd.sock"
"""Where a reproducer's QEMU serves, relative to its folder; another serves raw images there:"""
RAW_SOCKET: Final = "raw.sock"
HELD_SOCKET: Final = "held.sock"
"""Where a schedule's storage is."""
LOOK: Final = "look"
"""The export through which a node is looked at that has none."""
_SHOWN_ELSEWHERE: Final[dict[type[Difference], str]] = {
    EventsDiffer: "the events of jobs show it", DeviceDiffers: "query-block shows it",
    CompressedDiffers: "qemu-img check shows it"}
"""What no reproducer looks at, and who does."""
_DENIED: Final = int(seen_through(Via.NBD, Errno.EACCES))


class NoReproducer(HarnessError):
    """Nothing that stands alone shows this; the text says why."""


@dataclass(frozen=True, slots=True)
class Words:
    """In whose words requests are made."""

    qemu_io: bool = True
    """qemu-io makes all NBD requests that it can; else libnbd, as the harness did."""


def compiled(trace: Trace, failure: Failure, model: Callable[[Configuration], Machine],
             version: str, words: Words) -> Script:
    """The script; raises :class:`NoReproducer`."""
    _check(trace, failure)
    writer = Writer(trace, model(trace.configuration), words)
    steps = [*trace.steps[:failure.index], failure.step]
    parts = [writer.part(step, failure if step is failure.step else None) for step in steps]
    return Script(_system(trace), failure.summary, version, writer.disks, writer.attach(),
                  tuple(parts))


def _system(trace: Trace) -> SystemKind:
    system = trace.header.system
    return SystemKind.QSD if system is SystemKind.SIMULATED else system


def _check(trace: Trace, failure: Failure) -> None:
    if is_held(trace):
        raise NoReproducer(
            "requests overlap in an order that only storage of the harness's own can bring "
            "about; replay the trace")
    for kind, witness in _SHOWN_ELSEWHERE.items():
        if isinstance(failure, Diverges) and all(
                isinstance(each, kind) for each in failure.differences):
            raise NoReproducer(f"only {witness}; replay the trace")


class Writer:
    """Follows the trace with the model and writes down what comes."""

    def __init__(self, trace: Trace, machine: Machine, words: Words) -> None:
        self.configuration = trace.configuration
        self.machine = machine
        self.words = words
        images = self.configuration.images
        self.patterns = Patterns(length for image in images for _, length in image.filled)
        self.disks = tuple(
            Disk(image, f"{image.node}.{image.format}", tuple(
                piece for offset, length in image.filled for piece in self.patterns.pieces(
                    stamped(min(length, image.size - offset), initial_stamp(index)), offset)))
            for index, image in enumerate(images))
        self._plugged = False

    def attach(self, read_only: Sequence[str] = ()) -> tuple[Command, ...]:
        """What puts the images into a QEMU that has just started."""
        needed = [QmpCommand("nbd-server-start", {
            "addr": {"type": "unix", "data": {"path": SOCKET}}})]
        if commands.needs_secret(self.configuration.images):
            needed.append(commands.luks_secret())
        for disk in self.disks:
            image = dataclasses.replace(disk.image, read_only=disk.image.read_only
                                        or disk.image.node in read_only)
            needed += commands.image_commands(image, self._place(image))
        return tuple(Command(*each) for each in needed)

    def _place(self, image: Image) -> Place:
        if image.protocol is Protocol.NBD:
            return NbdPlace(RAW_SOCKET, image.node)
        if image.protocol is Protocol.HELD:
            return NbdPlace(HELD_SOCKET, image.node, RECONNECT_DELAY)
        return FilePlace(next(
            disk.file for disk in self.disks if disk.image.node == image.node))

    def part(self, step: Step, failure: Failure | None) -> Part:
        """The operation, and after the last one what must be seen then."""
        operation, outcome = self._foretold(step)
        acts = list(self.acts(step.number, operation, outcome))
        expected = self.machine.observe()
        jobs = isinstance(operation, (Backup, JobOperation, Transaction))
        if jobs:
            acts.append(_jobs(expected.jobs))
        if failure is not None:
            acts += _looks(failure, expected, jobs_seen=jobs)
            if isinstance(failure, Failed) and failure.ending:
                acts.append(End())
        return Part(step.number, human.operation(operation), tuple(acts))

    def _foretold(self, step: Step) -> tuple[Operation, Outcome]:
        """The operation as it is to be asked for, and what the model says to it."""
        operation = step.operation
        if self.words.qemu_io and self._qemu_io_can(operation):
            spoken = dataclasses.replace(operation, via=Via.QEMU_IO)  # type: ignore[call-arg]
            try:
                return spoken, self.machine.apply(step.number, spoken)
            except Impossible:
                pass
        return operation, self.machine.apply(step.number, operation)

    def _qemu_io_can(self, operation: Operation) -> bool:
        if not isinstance(operation, (ops.Read, ops.Write, ops.Zero, ops.Discard)):
            return False
        export = self.machine.exports.get(operation.node)
        only_nbd = (operation.fast if isinstance(operation, ops.Zero)
                    else operation.fua if isinstance(operation, ops.Discard) else False)
        return (operation.via is Via.NBD and not only_nbd
                and export is not None and (
                    export.writable or not isinstance(operation, CHANGES)))

    def acts(self, number: int, operation: Operation, outcome: Outcome) -> Iterator[Act]:
        """What is done for the operation."""
        match operation:
            case Request():
                yield self._request(number, operation, outcome)
            case ops.Inspect(node):
                yield from self._inspection(node, outcome)
            case ops.Restart(read_only):
                self._plugged = False
                yield Again(kill=False, attach=self.attach(read_only))
            case ops.Kill():
                self._plugged = False
                yield Again(kill=True, attach=self.attach())
            case ops.Export(called=name, description=text) if not all(
                    is_well_formed(each) for each in (name, text) if each is not None):
                raise NoReproducer("a name that a shell would have to quote; replay the trace")
            case Start() | Complete() | CompleteAll() | Expire() | Cut():
                raise NoReproducer(f"{operation.name} is part of a schedule; replay the trace")
            case _:
                gone = operation.node if isinstance(operation, ops.Unexport) else None
                images = self.configuration.images
                command = spelled(operation, images, {
                    image.node: self._place(image) for image in images}, plugged=self._plugged)
                yield _command(command, outcome, gone)
                self._plugged |= isinstance(operation, ops.Attach) and outcome.refused is None

    # Requests

    def _called(self, node: str) -> str:
        export = self.machine.exports.get(node)
        return node if export is None else export.called

    def _request(self, number: int, request: Request, outcome: Outcome) -> Act:
        export = self.machine.exports.get(request.node)
        read_only = export is not None and not export.writable
        by_nbd = isinstance(request, ops.Status) or (
            request.via is Via.QEMU_IO and isinstance(request, CHANGES) and read_only)
        if request.via.is_nbd or by_nbd:
            return self.nbd(number, request, outcome)
        prefixes = {Via.MONITOR: f"qemu-io {request.node}", Via.DEVICE: f"qemu-io -d {DEVICE}"}
        return Ask(self._called(request.node), self._spoken(number, request, outcome),
                   expected_errno(request, outcome) or OK, writable=not read_only,
                   monitor=prefixes.get(request.via))

    def _spoken(self, number: int, request: Request, outcome: Outcome) -> tuple[str, ...]:
        where = f"{request.offset} {request.length}"
        match request:
            case ops.Read():
                checks = tuple(
                    f"read -P {piece.pattern} -s {piece.start - request.offset} "
                    f"-l {piece.length} {where}" for piece in self._checked(request, outcome))
                if len(checks) == 1 and outcome.content is not None:
                    piece, = self._checked(request, outcome)
                    if piece.length == request.length:
                        return (f"read -P {piece.pattern} {where}",)
                return checks or (f"read {where}",)
            case ops.Write():
                pattern = self._written(number, request)[0].pattern if request.length else 1
                return (f"write {'-f ' if request.fua else ''}-P {pattern} {where}",)
            case ops.Zero():
                flags = ("-u " if request.unmap else "") + ("-f " if request.fua else "")
                return (f"write -z {flags}{where}",)
            case ops.Discard():
                return (f"discard {where}",)
            case _:
                return ("flush",)

    def nbd(self, number: int, request: Request, outcome: Outcome) -> AskNbd:
        """The request as libnbd is asked for it."""
        errno = None if outcome.disconnected else expected_errno(request, outcome) or OK
        flags: list[str] = []
        pieces: tuple[Piece, ...] = ()
        runs: tuple[Run, ...] = ()
        context = ""
        match request:
            case ops.Read(via=via):
                verb, pieces = "read", self._checked(request, outcome)
                flags += ["DF"] if via is Via.NBD_DF else []
            case ops.Write(fua=fua):
                verb, pieces = "write", self._written(number, request)
                flags += ["FUA"] if fua else []
            case ops.Zero(unmap=unmap, fast=fast, fua=fua):
                verb = "zero"
                flags += ["NO_HOLE"] if not unmap else []
                flags += ["FAST_ZERO"] if fast else []
                flags += ["FUA"] if fua else []
            case ops.Discard(fua=fua):
                verb = "trim"
                flags += ["FUA"] if fua else []
            case ops.Status(one=one):
                verb = "status"
                context = _joined((request.context, *request.others))
                flags += ["REQ_ONE"] if one else []
                runs = tuple(Run(extent.length, tuple(sorted(map(int, extent.allowed))))
                             for extent in outcome.extents or ())
            case _:
                verb = "flush"
        return AskNbd(self._called(request.node), verb, request.offset, request.length, errno,
                      request.via is not Via.NBD_SIMPLE or bool(context), context, tuple(flags),
                      pieces, runs)

    def _written(self, number: int, request: ops.Write) -> tuple[Piece, ...]:
        return self.patterns.pieces(stamped(request.length, stamp_of(number, request)),
                                    request.offset)

    def _checked(self, request: Request, outcome: Outcome) -> tuple[Piece, ...]:
        """What must be read, without the places of which either of two things is right."""
        if outcome.content is None or outcome.perhaps_zero:
            return ()
        return self.patterns.pieces(outcome.content, request.offset)

    # Looking

    def _inspection(self, node: str, outcome: Outcome) -> Iterator[Act]:
        """Read all of a node, through an export for that if it has none."""
        exported = node in self.machine.exports
        if not exported:
            yield _command(commands.temporary_export(node, LOOK), outcome)
        if outcome.refused is None:
            yield from self._whole(node, self._called(node) if exported else LOOK, outcome)
            if not exported:
                yield Command(*commands.export_removal(LOOK), gone=LOOK)

    def _whole(self, node: str, export: str, outcome: Outcome) -> Iterator[Act]:
        if outcome.content is None:
            return
        below = self.machine.nodes[node]
        kept = below.file if isinstance(below, SnapshotAccess) else None
        unit = kept.cluster_size if isinstance(kept, CopyBeforeWrite) else None
        for start, end in outcome.denied:
            for begin, stop in _cut(start, end, unit):
                yield self._look(export, begin, stop, _DENIED)
        good: list[tuple[int, int, int]] = []
        for piece in self.patterns.pieces(outcome.content, 0):
            if not any(start <= piece.start < end for start, end in outcome.denied):
                good += [(begin, stop, piece.pattern)
                         for begin, stop in _cut(piece.start, piece.end, unit)]
        if not self.words.qemu_io:
            for begin, stop, pattern in good:
                yield self._look(export, begin, stop, OK, (Piece(begin, stop, pattern),))
        elif good:
            yield Ask(export, tuple(f"read -P {pattern} {begin} {stop - begin}"
                                    for begin, stop, pattern in good), writable=False)

    def _look(self, export: str, start: int, end: int, errno: int,
              pieces: tuple[Piece, ...] = ()) -> Act:
        if self.words.qemu_io:
            return Ask(export, (f"read {start} {end - start}",), errno, writable=False)
        return AskNbd(export, "read", start, end - start, errno, flags=("DF",), pieces=pieces)


def _cut(start: int, end: int, unit: int | None) -> Iterator[tuple[int, int]]:
    """The range in pieces that lie in one ``unit`` each."""
    while unit is not None and start // unit != (end - 1) // unit:
        stop = start // unit * unit + unit
        yield start, stop
        start = stop
    yield start, end


def _command(command: QmpCommand, outcome: Outcome, gone: str | None = None) -> Command:
    """The command with what must come of it."""
    refusal = None if outcome.refused is None else outcome.refused.desc
    if refusal is not None and "#" in refusal:
        refusal = ""
    return Command(*command, refusal, gone if refusal is None else None)


def _looks(failure: Failure, expected: Observation, *, jobs_seen: bool) -> Iterator[Act]:
    """What is looked at in the end: where the difference was, or, after a crash, everything."""
    differences = failure.differences if isinstance(failure, Diverges) else ()
    everything = isinstance(failure, Failed) and failure.observing
    shown = {each.node: expected.bitmaps.get(each.node, ()) for each in differences
             if isinstance(each, BitmapsDiffer)}
    for node, views in (expected.bitmaps if everything else shown).items():
        yield Bitmaps(node, tuple(bitmap_line(view) for view in views))
    for (node, name), digest in expected.digests.items():
        if everything or any(isinstance(each, DigestDiffers) and (each.node, each.name) == (
                node, name) for each in differences):
            yield Digest(node, name, digest)
    if not jobs_seen and (everything or any(isinstance(each, JobsDiffer)
                                            for each in differences)):
        yield _jobs(expected.jobs)


def bitmap_line(view: BitmapView) -> str:
    """A bitmap in the words of the reproducers: name or ``-``, granularity, count, flags."""
    flags = [name for name in ("recording", "busy", "persistent", "inconsistent")
             if getattr(view, name)]
    return " ".join([view.name or "-", str(view.granularity), str(view.count), *flags])


def _jobs(views: Sequence[JobView]) -> Jobs:
    return Jobs(tuple(sorted(f"{view.job} {view.status} {view.done} {view.total}"
                             for view in views)))


def _joined(contexts: tuple[str, ...]) -> str:
    """The contexts as reproducers write them."""
    if any("," in each for each in contexts):
        raise NoReproducer("a comma in the name of a bitmap")
    return ",".join(contexts)
