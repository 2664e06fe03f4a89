# SPDX-License-Identifier: GPL-2.0-or-later
"""What the real systems have in common: a QEMU process with QMP and an NBD server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias, cast

from harness.builds import Build
from harness.clients.deadline import Deadline
from harness.clients.errors import PeerGone, PeerSilent, RequestFailed
from harness.clients.libnbd import libnbd_available, require_libnbd
from harness.clients.nbd_types import NbdDisconnected, NbdRefused
from harness.clients.qemu_io import QemuIoNotOpened
from harness.clients.qmp import QmpRefused
from harness.errors import EnvironmentProblem
from harness.processes import Workspace
from harness.ranges import Ranges, merged
from harness.storage.images import ImageStore
from harness.storage.monitored import Monitored
from harness.storage.place import FilePlace, Place
from harness.storage.raw_server import RawServer
from harness.systems import commands, image_check, post_mortem
from harness.systems.base import WHOLE, Answer, sent_as
from harness.systems.command import Command
from harness.systems.connections import Connections, Key
from harness.systems.failure import SystemCrashed, SystemFailed, SystemHung
from harness.systems.inspection import Reader, Snapshot, inspect
from harness.systems.job_watch import JobWatch, is_about_jobs, job_views
from harness.systems.node_names import NodeNames, child_of
from harness.systems.observation import bitmaps_by_node, bitmaps_of, cluster_size, device_view
from harness.systems.readers import ThroughNbd, ThroughQemuIo
from harness.systems.requests import by_nbd, by_qemu_io
from harness.systems.spelling import spelled
from harness.systems.verdicts import translated, unrefused
from model import operations as ops
from model.configuration import Configuration, Protocol
from model.errors import Errno, QmpError
from model.job_operations import Backup, JobOperation, Transaction
from model.operations import BitmapRef, Inspect, Operation, Request, Via
from model.outcome import Observation
from model.requests import CHANGES

PROBE_TIMEOUT: Final = 5.0  # seconds in which a living QEMU answers a trivial command
_DELETED: Final = "BLOCK_EXPORT_DELETED"
_QUERY: Final = "query-named-block-nodes"
_JOB_QUERIES: Final = ("query-jobs", "query-block-jobs")
# QEMU reads a command byte by byte, 5 us each: what is not needed is left out, "flat" for one.
_DIGEST: Final = "x-debug-block-dirty-bitmap-sha256"
_Objects: TypeAlias = list[Mapping[str, Any]]
_INSPECTION: Final = "inspection"
"""The id of the export through which a node is inspected that has none of its own."""


class QmpSystem:
    """A real system, its images attached; see :class:`harness.systems.base.System`."""

    _has_device = False
    """Whether there is a guest's device to be asked about."""
    _asks_status = True
    """Whether an inspection may ask where there is data."""
    output: ClassVar[int | None] = None
    """Bytes of QEMU's standard output that are kept, as a terminal has it; None: unimportant."""

    def __init__(self, build: Build, tool: str, configuration: Configuration, store: ImageStore,
                 timeout: float, *, core: bool = False) -> None:
        """Start the build's ``tool`` and attach the images that ``store`` makes.

        ``timeout`` (seconds) bounds every request and command.  ``core``: should it crash or hang,
        its stacks are wanted.  Raises EnvironmentProblem.
        """
        self._wants_stacks = core
        self.build = build
        self.configuration = configuration
        self.timeout = timeout
        self._cleanup = contextlib.ExitStack()
        self._filters: dict[str, str] = {}
        """Of each snapshot-access node, the node below."""
        self._exported: dict[str, bool] = {}
        """The nodes that have an export, and whether it is writable."""
        self._jobs = JobWatch()
        self._names = NodeNames(self._block_graph)
        self._touched: Ranges = ()
        self._leaks = False  # where a QEMU was killed, images may have leaked clusters
        self._big = any(image.size > WHOLE for image in configuration.images)
        try:
            self.workspace = self._cleanup.enter_context(Workspace())
            socket = self.workspace.socket("nbd")
            self._clients = Connections(socket, build.tools.get("qemu-io"), timeout)
            self._image_places = self._places(
                configuration, store.make(configuration, self.workspace.path))
            # First the process is killed, so that no client waits for a server that hangs.
            self._cleanup.callback(self._clients.close)
            self._launch = partial(
                Monitored, build.tool(tool), self._arguments(self.workspace), timeout=timeout,
                core=core, cwd=self.workspace.path if core else None, output=self.output)
            self.process = self._launch()
            self._cleanup.callback(lambda: self.process.close())
            self._channels = self._channels_of(build)
            self._attach(configuration, self._image_places, str(socket))
        except BaseException:
            self._cleanup.close()
            raise

    # The interface

    @property
    def channels(self) -> Collection[Via]:
        """The channels that requests can take here."""
        return self._channels

    def apply(self, number: int, operation: Operation) -> Answer:
        """Do operation ``number``; the data that it writes is that of its number."""
        with self._verdicts(operation.name):
            if isinstance(operation, Request):
                return self._request(number, cast(Request, sent_as(operation, self._channels)))
            if isinstance(operation, Inspect):
                return self._inspect(operation.node)
            if isinstance(operation, (ops.Restart, ops.Kill)):
                return self._replace_process(operation)
            return self._command(operation)

    def observe(self, named: Collection[BitmapRef]) -> Observation:
        """All bitmaps, the digests of the ``named`` ones that there are, all jobs and what they
        told since the last time, the guest's device."""
        with self._verdicts("observation"), unrefused():
            qmp = self.process.qmp
            # All at once: to wait for each answer before the next question costs more than both.
            nodes = qmp.submit(_QUERY)
            asked = {(bitmap.node, bitmap.name): qmp.submit(
                _DIGEST, {"node": bitmap.node, "name": bitmap.name}) for bitmap in named}
            jobs = [qmp.submit(query) for query in _JOB_QUERIES if self._jobs.any_started]
            devices = qmp.submit("query-block") if self._has_device else None
            bitmaps = {self._names.of(node): found for node, found in bitmaps_by_node(
                cast(_Objects, qmp.result(nodes))).items()}
            digests = {}
            for key, pending in asked.items():
                with contextlib.suppress(QmpRefused):
                    digests[key] = cast(Mapping[str, str], qmp.result(pending))["sha256"]
            seen = Observation(bitmaps, digests)
            if devices is not None:
                seen = dataclasses.replace(seen, device=device_view(
                    cast(_Objects, qmp.result(devices)), self._names.of))
            if jobs:
                views = job_views(*(cast(_Objects, qmp.result(each)) for each in jobs))
                self._hear_of_jobs()
                seen = dataclasses.replace(seen, jobs=views, events=self._jobs.take_events())
            return seen

    def image_file(self, node: str) -> Path:
        """The file of an image; raises KeyError for one that is in no file of its own."""
        place = self._image_places[node]
        if not isinstance(place, FilePlace):
            raise KeyError(node)
        return Path(place.path)

    def stderr(self) -> list[str]:
        """What QEMU wrote to stderr so far, line by line: its warnings."""
        return self.process.stderr()

    def shut_down(self) -> None:
        """Have QEMU end by itself; SystemFailed if it does not, or not well.  Then close."""
        try:
            with self._verdicts("quit"):
                self._quit()
        finally:
            self.close()

    def _quit(self) -> None:
        self._clients.close()
        self.process.qmp.execute("quit")
        end = self.process.child.wait(self.timeout)
        if end is None:
            raise SystemHung("quit", self.timeout)
        if end.code != 0:
            raise SystemCrashed(end)

    def close(self) -> None:
        """Kill QEMU, if it still runs, and leave nothing behind."""
        self._cleanup.close()

    # Start

    def _arguments(self, workspace: Workspace) -> Sequence[str]:
        """What the process is started with, apart from its monitor."""
        return ()

    def _channels_of(self, build: Build) -> frozenset[Via]:
        channels = set()
        if libnbd_available():
            channels |= {Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE}
        if build.has("qemu-io"):
            channels.add(Via.QEMU_IO)
        if not channels:
            raise EnvironmentProblem("neither libnbd nor qemu-io is here: "
                                     "apt-get install python3-libnbd qemu-utils")
        return frozenset(channels)

    def _places(self, configuration: Configuration, files: Mapping[str, Any]) -> dict[str, Place]:
        """Where QEMU finds the bytes of each image; starts the server of those behind NBD."""
        for image in configuration.images:
            if image.protocol is Protocol.HELD:
                raise EnvironmentProblem(
                    f"image {image.node} is on held storage, which this system does not serve")
        places: dict[str, Place] = {
            node: FilePlace(str(path)) for node, path in files.items()}
        served = {image.node: files[image.node] for image in configuration.images
                  if image.protocol is Protocol.NBD}
        if served:
            server = RawServer(self.build, served, self.workspace.socket("raw"),
                               timeout=self.timeout)
            self._cleanup.callback(server.close)
            places |= server.places
        return places

    def _attach(self, configuration: Configuration, places: Mapping[str, Place],
                socket: str) -> None:
        needed = [Command("nbd-server-start", {
            "addr": {"type": "unix", "data": {"path": socket}}})]
        if commands.needs_secret(configuration.images):
            needed.append(commands.luks_secret())
        for image in configuration.images:
            needed += commands.image_commands(image, places[image.node])
        qmp = self.process.qmp
        with self._verdicts("start"):
            for command, pending in [(command, qmp.submit(*command)) for command in needed]:
                try:
                    qmp.result(pending)
                except QmpRefused as why:
                    what = command.arguments.get("node-name", command.name)
                    raise EnvironmentProblem(f"{self.process.tool.path} cannot take on {what}: "
                                             f"{why.desc}") from why

    def _replace_process(self, operation: ops.Restart | ops.Kill) -> Answer:
        """End the process, by itself or not, and start another one over the same images."""
        end = Answer()
        if isinstance(operation, ops.Restart):
            self._quit()
            end = image_check.look(self.build, self.configuration, self._image_places, self._leaks)
        self._leaks |= isinstance(operation, ops.Kill)
        self._clients.close()
        self.process.close()
        self._filters, self._exported = {}, {}
        self._jobs, self._names = JobWatch(), NodeNames(self._block_graph)
        self.process = self._launch()
        read_only = operation.read_only if isinstance(operation, ops.Restart) else ()
        images = tuple(dataclasses.replace(image, read_only=image.node in read_only)
                       for image in self.configuration.images)
        self._attach(Configuration(images), self._image_places, str(self.workspace.socket("nbd")))
        return end

    # Commands

    def _command(self, operation: Operation) -> Answer:
        if isinstance(operation, ops.Unexport):
            self._disconnect(operation.node)
        self._clients.forget_block_sizes(self.configuration)
        try:
            self.process.qmp.execute(*self._spelled(operation))
        except QmpRefused as why:
            self._hear_of_jobs()
            return Answer(refused=QmpError(
                self._names.in_text(why.desc, operation), why.error_class))
        self._jobs.accepted(operation)
        if isinstance(operation, (Backup, Transaction, JobOperation)):
            self._await_rest()
        match operation:
            case ops.AddSnapshot(node, file):
                self._filters[node] = file
            case ops.RemoveNode(node):
                self._filters.pop(node, None)
            case ops.Export(node, writable, called=called):
                self._exported[node] = writable
                self._clients.called[node] = node if called is None else called
            case ops.Unexport(node):
                self._await_deletion(node)
                self._exported.pop(node, None)
        return Answer()

    def _spelled(self, operation: Operation) -> Command:
        """The operation as a QMP command."""
        return spelled(operation, self.configuration.images, self._image_places,
                       plugged=self._has_device)

    def _await_deletion(self, export: str) -> None:
        self.process.qmp.wait_event(
            lambda event: event.name == _DELETED and event.data.get("id") == export)

    def _disconnect(self, export: str) -> None:
        """Close what is connected to an export."""
        self._clients.drop(export)

    def _hear_of_jobs(self) -> None:
        """Take what has come of events."""
        for event in self.process.qmp.events():
            self._jobs.take(event)

    def _await_rest(self) -> None:
        """Wait until no job moves by itself any more."""
        self._hear_of_jobs()
        deadline = Deadline(self.timeout)
        while moving := list(self._jobs.moving()):
            if self._jobs.must_be_asked and deadline.left() > 0:
                if self._jobs.look(job_views(*map(self._shown, _JOB_QUERIES))):
                    self.process.qmp.execute("transaction", {"actions": []})
                self._hear_of_jobs()
                continue
            try:
                event = self.process.qmp.wait_event(is_about_jobs, deadline.left())
            except PeerSilent as why:
                raise SystemHung(f"rest of job {', '.join(moving)}", self.timeout) from why
            self._jobs.take(event)

    def _block_graph(self) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], self._shown("x-debug-query-block-graph"))

    def _shown(self, query: str) -> Any:
        return self.process.qmp.execute(query)

    # Requests

    def _request(self, number: int, request: Request) -> Answer:
        if self._big and isinstance(request, CHANGES):
            self._touched = merged([
                *self._touched, (request.offset, request.offset + request.length)])
        try:
            return self._send(number, request)
        except RequestFailed as why:
            if request.via is Via.QEMU_IO and why.errno == Errno.EIO:
                self._clients.drop_qemu_io(request.node)  # perhaps the server has hung up
            return Answer(error=why.errno)
        except (NbdRefused, QemuIoNotOpened):
            return Answer(error=int(Errno.ENOENT))
        except NbdDisconnected as why:
            return self._disconnected(request, why)

    def _send(self, number: int, request: Request) -> Answer:
        """Have the client of the request's channel do it."""
        if self._by_qemu_io(request):
            writable = self._exported.get(request.node, True)
            return by_qemu_io(self._clients.qemu_io(request.node, writable=writable), number,
                              request)
        return by_nbd(self._clients.nbd(Key.of(request)), number, request)

    def _by_qemu_io(self, request: Request) -> bool:
        """Whether qemu-io does the request; libnbd must where qemu-io cannot.

        qemu-io tells nothing of block status but what is allocated, and does not even try to
        write to a read-only export; the server's answer is the same to any client.
        """
        if request.via is not Via.QEMU_IO:
            return False
        if isinstance(request, ops.Status) or (
                isinstance(request, CHANGES) and not self._exported.get(request.node, True)):
            require_libnbd()
            return False
        return True

    def _disconnected(self, request: Request, why: NbdDisconnected) -> Answer:
        """The server hung up: if it lives on, that is its answer to the request."""
        self._clients.drop(request.node)
        try:
            self.process.qmp.execute("query-version", timeout=PROBE_TIMEOUT)
        except PeerGone:
            raise why from None
        return Answer(disconnected=True)

    # Inspection

    def _inspect(self, node: str) -> Answer:
        seen = {each["node-name"]: each for each in self._shown(_QUERY)}
        if node in self._exported and node in seen:
            return self._inspect_export(node, node, seen)
        qmp = self.process.qmp
        try:
            qmp.execute(*commands.temporary_export(node, _INSPECTION))
        except QmpRefused as why:
            return Answer(refused=QmpError(
                self._names.in_text(why.desc, Inspect(node)), why.error_class))
        try:
            return self._inspect_export(_INSPECTION, node, seen)
        finally:
            self._clients.drop(_INSPECTION)
            qmp.execute(*commands.export_removal(_INSPECTION))
            self._await_deletion(_INSPECTION)

    def _inspect_export(self, export: str, node: str,
                        seen: Mapping[str, Mapping[str, Any]]) -> Answer:
        kept = self._filters.get(node, "")
        if kept and self._jobs.any_started:  # the filters of jobs come and go below snapshots
            kept = child_of(self._block_graph(), node, "file")
        cluster = cluster_size(bitmaps_of(seen.get(kept, {})))
        if Via.NBD in self._channels:
            reader: Reader = ThroughNbd(self._clients, export, asks_status=self._asks_status)
        else:
            reader = ThroughQemuIo(self._clients, export, seen[node]["image"]["virtual-size"])
        return inspect(reader, None if cluster is None else Snapshot(cluster), self._touched)

    # Verdicts

    @contextlib.contextmanager
    def _verdicts(self, asked: str) -> Iterator[None]:
        """Tell how the system failed, when a client only tells that its peer did."""
        try:
            with translated(lambda: self.process, asked):
                yield
        except SystemFailed as why:
            why.details = why.details or (*self._standing(why), *self._stacks(why))
            raise

    def _standing(self, why: SystemFailed) -> tuple[str, ...]:
        """Where requests stand, for people."""
        return ()

    def _stacks(self, why: SystemFailed) -> tuple[str, ...]:
        return post_mortem.stacks(why, self.process, self.workspace) if self._wants_stacks else ()
