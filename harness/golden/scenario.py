# SPDX-License-Identifier: GPL-2.0-or-later
"""A scenario under way: what an iotest talks to.

Every operation goes to the model and to a real QEMU, is compared at once, and is written into the
log of either.  A scenario reads like the log that it makes::

    iotest.images(Image("src", 1 * MIB, filled=((0, 1 * MIB),)), Image("tmp", 1 * MIB))
    iotest.section("The guest writes; the client still reads the point in time")
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", 0, 64 * KIB)
    iotest.read("acc", 0, 128 * KIB)
    iotest.bitmaps("cbw", "src")
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from harness.lockstep.trace import Build, Header, SystemKind, Trace
from harness.lockstep.verdict import Failure
from harness.systems.base import System
from model import operations as ops
from model.capabilities import Capabilities
from model.configuration import Configuration, Image, RequestKind
from model.operations import BitmapRef, Operation, Request, Via
from model.outcome import Outcome
from model.schedule import Complete, Start, request_of

from .normalise import Names
from .script import Do, Entry, Images, Remark, Section, ShowBitmaps, ShowDigest, ShowJobs
from .sides import ModelSide, SystemSide
from .verdict import Witnesses
from .watched import Watched


class Absent(Exception):
    """There is no system to ask; the text says why, on one line."""


class Host(Protocol):
    """Where the systems under test of a run come from: one QEMU build, as a rule."""

    @property
    def label(self) -> str:
        """What to call it: ``QEMU 7.2.22``."""

    def capabilities(self) -> Capabilities:
        """What the build can do; today's QEMU if there is no build."""

    def start(self, kind: SystemKind, configuration: Configuration) -> System:
        """A system with these images, ready for operations; raises :class:`Absent`."""

    def folders(self, system: System) -> Mapping[str, str]:
        """The paths that only this run of the system has, and what each is called in a log."""


class Scenario:
    """One run of one scenario, on one build."""

    def __init__(self, host: Host) -> None:
        self.label = host.label
        self.capabilities = host.capabilities()
        self.script: list[Entry] = []
        self.absent: str | None = None
        """Why QEMU was not asked, or not to the end; None: it was."""
        self._host = host
        self._watched = Watched(self.capabilities)
        self._model = ModelSide(self._watched)
        self._system = SystemSide()
        self._channels: frozenset[Via] = frozenset(Via)
        self._number = 0
        self._began = (Configuration(), SystemKind.QSD)

    # Telling

    def comment(self, text: str) -> None:
        """Put a remark into the log."""
        self._play(Remark(text))

    def section(self, title: str) -> None:
        """Put a heading into the log."""
        self._play(Section(title))

    def bitmaps(self, *nodes: str) -> None:
        """Put the nodes' bitmaps into the log, newest first.

        All bitmaps of all nodes are *compared* after every operation anyway.
        """
        self._play(ShowBitmaps(nodes))

    def digest(self, node: str, name: str) -> None:
        """Put the checksum of a named bitmap's content into the log."""
        self._play(ShowDigest(BitmapRef(node, name)))

    def jobs(self) -> None:
        """Put the jobs into the log."""
        self._play(ShowJobs())

    # Doing

    def images(self, *images: Image, monitor: bool = False) -> None:
        """Start a QEMU with these images attached, each as the node of its name.

        ``monitor``: the scenario wants the human monitor or a guest's device, which only
        qemu-system has; without it, qemu-storage-daemon does.
        """
        entry = Images(Configuration(images))
        self.script.append(entry)
        self._model.play(entry)
        if self.absent is not None:
            return
        kind = SystemKind.QEMU_SYSTEM if monitor else SystemKind.QSD
        if self.failure is None:
            self._began = (entry.configuration, kind)
        try:
            system = self._host.start(kind, entry.configuration)
        except Absent as why:
            self._no_system(str(why))
            return
        self._channels = frozenset(system.channels)
        self._system.begin(entry, system, Names(self._host.folders(system)))

    def do(self, operation: Operation) -> Outcome:
        """Do the operation; what the model says that comes of it."""
        request = request_of(operation)
        if request is not None and request.via not in self._channels and self.absent is None:
            self._no_system(f"requests by {request.via} are not possible here")
        self._number += 1
        outcome = self._play(Do(self._number, operation))
        return outcome or Outcome()

    def read(self, node: str, offset: int, length: int, via: Via = Via.NBD) -> Outcome:
        """Read; the data is told by who wrote it."""
        return self.do(ops.Read(node, offset, length, via))

    def write(self, node: str, offset: int, length: int, via: Via = Via.NBD) -> Outcome:
        """Write data that no other write of the scenario writes."""
        return self.do(ops.Write(node, offset, length, via))

    def zero(self, node: str, offset: int, length: int, *, unmap: bool = False,
             via: Via = Via.NBD) -> Outcome:
        """Write zeroes; ``unmap``: the space may be freed."""
        return self.do(ops.Zero(node, offset, length, via, unmap=unmap))

    def discard(self, node: str, offset: int, length: int, via: Via = Via.NBD) -> Outcome:
        """Discard."""
        return self.do(ops.Discard(node, offset, length, via))

    def status(self, node: str, offset: int, length: int,
               context: str = ops.Context.ALLOCATION, *,
               others: tuple[str, ...] = ()) -> Outcome:
        """Ask block status; ``others``: further contexts that the client has negotiated."""
        return self.do(ops.Status(node, offset, length, context=context, others=others))

    def start(self, request: Request) -> None:
        """Send a request over held storage, and do not wait for its answer."""
        self.do(Start(request))

    def complete(self, node: str, kind: RequestKind, offset: int, length: int) -> None:
        """Complete a request that such storage holds, of several alike the oldest."""
        self.do(Complete(node, kind.value, offset, length))

    def content(self, node: str) -> Outcome:
        """Look at all that the node holds; of a snapshot, also at what may not be read."""
        return self.do(ops.Inspect(node))

    def export(self, node: str, *bitmaps: BitmapRef, depth: bool = False) -> Outcome:
        """Export the node, writable, under its own name, with dirty bitmaps to be asked for."""
        return self.do(ops.Export(node, bitmaps=bitmaps, allocation_depth=depth))

    def fleecing(self, source: str, target: str, bitmap: BitmapRef | None = None, *,
                 on_cbw_error: str | None = None, filter_node: str = "cbw",
                 snapshot: str = "acc") -> None:
        """Build the new scheme: a filter for the guest, a snapshot-access for the client, both
        exported."""
        self.do(ops.AddFilter(filter_node, source, target, bitmap=bitmap,
                              on_cbw_error=on_cbw_error))
        self.do(ops.AddSnapshot(snapshot, filter_node))
        self.export(filter_node)
        self.export(snapshot)

    # Ending

    def witnesses(self, golden: str | None) -> Witnesses:
        """The three texts, ``golden`` being the committed one."""
        qemu = None if self.absent is not None else self._system.log.text()
        return Witnesses(golden, self._model.log.text(), qemu)

    @property
    def asked(self) -> Collection[str]:
        """The capabilities that the model has looked at."""
        return self._watched.asked

    @property
    def failure(self) -> Failure | None:
        """The first difference of model and system; None: there is none."""
        return self._system.failure

    def trace(self) -> Trace:
        """What was done up to the first difference, to be replayed without the scenario."""
        configuration, kind = self._began
        header = Header(configuration, kind, Build(version=self.label),
                        capabilities=self.capabilities)
        return Trace(header, tuple(self._system.steps))

    def close(self) -> None:
        """Stop the system."""
        self._system.close()

    def _play(self, entry: Entry) -> Outcome | None:
        self.script.append(entry)
        outcome = self._model.play(entry)
        if self.absent is None:
            self._system.play(entry, outcome, self._model)
        return outcome

    def _no_system(self, why: str) -> None:
        self.absent = why
        self._system.close()
