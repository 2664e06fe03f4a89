# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations and what came of them, as lines of a log.

The words are those of QEMU's own golden outputs: QMP as JSON, requests as qemu-io commands with
qemu-io's results, block status as ``qemu-img map`` shows it.  Content is symbolic: the first
write of a log writes ``-P 1``, the second ``-P 2``, and what an image held from the start is
called by the image's name.  One renderer serves model and system, so that their logs can only
differ where they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.lockstep import human
from harness.lockstep.origin import Piece
from harness.ranges import Ranges
from harness.storage.held import RECONNECT_DELAY
from harness.storage.place import FilePlace, NbdPlace, Place
from harness.systems import commands
from harness.systems.command import Command
from harness.systems.spelling import spelled
from model import operations as ops
from model.configuration import Configuration, Image, Protocol
from model.content import ZERO, Stamp
from model.operations import Context, Operation, Via
from model.outcome import STATUS_CHANGE, Allocation, BitmapView, JobEvent, JobView
from model.program import StorageRequest
from model.schedule import Complete, Start

from .normalise import Names
from .seen import Seen, StatusRun
from .words import error_text, json_line, size, span

TEST_DIR: Final = "TEST_DIR"
SOCK_DIR: Final = "SOCK_DIR"

_CHANNEL: Final = {
    Via.NBD: "",
    Via.NBD_DF: "  # not fragmented",
    Via.NBD_SIMPLE: "  # simple replies",
    Via.QEMU_IO: "  # interactive",
}
_INDENT: Final = "    "


class Renderer:
    """Writes one run down.  It knows what the run did so far, not what came of it."""

    def __init__(self, configuration: Configuration, names: Names | None = None) -> None:
        self._configuration = configuration
        self._names = names or Names()
        self._patterns: dict[Stamp, int] = {}
        self._plugged = False

    # What is done

    def images(self) -> list[str]:
        """How the images were made and attached."""
        images = self._configuration.images
        lines: list[str] = []
        for image in images:
            lines += _creation(image)
        if commands.needs_secret(images):
            lines += _accepted(commands.luks_secret())
        for image in images:
            for command in commands.image_commands(image, _place(image)):
                lines += _accepted(command)
        return lines

    def operation(self, number: Stamp, operation: Operation) -> list[str]:
        """The operation, as a command."""
        if isinstance(operation, Start):
            return [f"{line} &  # [{number}]"
                    for line in self.operation(number, operation.request)]
        if isinstance(operation, ops.Write):
            self._patterns[number] = 0 if operation.zeroes else len(self._patterns) + 1
        if isinstance(operation, Complete):
            return [human.operation(operation)]
        if isinstance(operation, ops.Status) and operation.via is not Via.MONITOR:
            return [_map_command(operation)]
        if isinstance(operation, ops.Request):
            return [_sent(operation, self._request(number, operation))]
        if isinstance(operation, ops.Inspect):
            return [f"content of {operation.node}:"]
        if isinstance(operation, ops.Restart):
            return [self._qmp({"execute": "quit", "arguments": {}})]
        if isinstance(operation, ops.Kill):
            return ["kill -KILL QEMU"]
        images = self._configuration.images
        command = spelled(operation, images, {image.node: _place(image) for image in images},
                          plugged=self._plugged)
        self._plugged |= isinstance(operation, ops.Attach)
        return [self._qmp({"execute": command.name, "arguments": command.arguments})]

    def _request(self, number: Stamp, request: ops.Request) -> str:
        where = f"{size(request.offset)} {size(request.length)}"
        match request:
            case ops.Read():
                return f"read {where}"
            case ops.Write():
                return f"write {'-f ' if request.fua else ''}-P {self._patterns[number]} {where}"
            case ops.Zero():
                flags = "".join(f"-{letter} " for letter, given in (
                    ("u", request.unmap), ("n", request.fast), ("f", request.fua)) if given)
                return f"write -z {flags}{where}"
            case ops.Discard():
                return f"discard {where}"
            case ops.Status():
                return f"map {where}"
            case _:
                return "flush"

    # What came of it

    def answer(self, operation: Operation, seen: Seen) -> list[str]:
        """What came of the operation."""
        if seen.disconnected:
            return ["the server hung up"]
        if seen.refused is not None:
            return [self._qmp({"error": {"class": seen.refused.error_class,
                                         "desc": seen.refused.desc}})]
        if isinstance(operation, (Start, Complete)):
            return []  # see standing
        if isinstance(operation, ops.Status):
            return self._status(operation, seen)
        if isinstance(operation, ops.Inspect):
            return self._inspection(seen)
        if isinstance(operation, ops.Request):
            return self._request_answer(operation, seen)
        if seen.error is not None:
            return [f"failed: {error_text(seen.error)}"]
        if isinstance(operation, ops.Restart):
            read_only = ", ".join(operation.read_only) or "none"
            return [json_line({"return": {}}),
                    *(f"{node}: {human.numbers(allowed)} compressed clusters"
                      for node, allowed in seen.compressed),
                    _AGAIN + f" ({read_only} of them read-only)"]
        if isinstance(operation, ops.Kill):
            return [_AGAIN]
        return [json_line({"return": {}})]

    def standing(self, pending: Iterable[StorageRequest],
                 answers: Mapping[int, tuple[Operation, Seen]]) -> list[str]:
        """Once all is quiet: the answers of started requests that have come, and for what the
        others wait."""
        lines: list[str] = []
        for number, (request, seen) in sorted(answers.items()):
            first, *more = self.answer(request, seen) or ["done"]
            lines += [f"[{number}] {first}", *more]
        waits = sorted(map(human.storage_request, pending))
        return [*lines, f"pending: {', '.join(waits) or 'nothing'}"]

    def _request_answer(self, request: ops.Request, seen: Seen) -> list[str]:
        verb, done = _VERBS[type(request)]
        if seen.error is not None:
            return [f"{verb} failed: {error_text(seen.error)}"]
        lines = [f"{done} {request.length}/{request.length} bytes at offset {request.offset}"
                 ] if done else []
        if isinstance(request, ops.Read):
            # Data of another length than was asked for is a lie that must be seen.
            got = sum(piece.end - piece.start for piece in seen.pieces or ())
            lines = [f"read {got}/{request.length} bytes at offset {request.offset}"]
            for piece in seen.pieces or ():
                lines += self._piece_of_read(piece, seen.perhaps_zero)
        return lines

    def _piece_of_read(self, piece: Piece, perhaps_zero: Ranges) -> list[str]:
        """The piece, cut where it becomes free to be read as zeroes instead."""
        sure = _without(piece.start, piece.end, perhaps_zero)
        lines = [(start, self._piece(piece, start, end)) for start, end in sure]
        if piece.origin is not None and piece.origin.stamp != ZERO:
            lines += [(start, self._piece(piece, start, end) + ", or zeroes")
                      for start, end in _without(piece.start, piece.end, sure)]
            return [line for _, line in sorted(lines)]
        return [self._piece(piece, piece.start, piece.end)]

    def _piece(self, piece: Piece, start: int, end: int) -> str:
        """The part ``[start, end)`` of a piece of data, and who wrote it."""
        words = "unknown data"
        if piece.origin is not None:
            words = self._writer(piece.origin.stamp)
            if piece.shift and piece.origin.stamp != ZERO:
                words += f", but that of offset {start - piece.shift:#x}"
        return f"{_INDENT}{span(start, end)} {words}"

    def _writer(self, stamp: Stamp) -> str:
        if stamp == ZERO:
            return "zeroes"
        if stamp < 0:
            return self._configuration.images[-1 - stamp].node
        return f"-P {self._patterns[stamp]}"

    def _inspection(self, seen: Seen) -> list[str]:
        if seen.error is not None:
            return [f"{_INDENT}read failed: {error_text(seen.error)}"]
        readable: list[tuple[int, str]] = []
        for piece in seen.pieces or ():
            readable += [(start, self._piece(piece, start, end))
                         for start, end in _without(piece.start, piece.end, seen.denied)]
        denied = [(start, f"{_INDENT}{span(start, end)} {error_text(_DENIED)}")
                  for start, end in seen.denied]
        return [line for _, line in sorted(readable + denied)]

    def _status(self, status: ops.Status, seen: Seen) -> list[str]:
        if seen.error is not None:
            tool = "qemu-io" if status.via is Via.MONITOR else "qemu-img"
            return [f"{tool}: Failed to get allocation status: {error_text(seen.error)}"]
        return [_extent(status.context, run) for run in seen.extents or ()]

    def bitmaps(self, bitmaps: Mapping[str, tuple[BitmapView, ...]],
                nodes: Iterable[str]) -> list[str]:
        """The bitmaps of the nodes, newest first, as ``query-block`` shows them."""
        lines = ["{"]
        listed = list(nodes)
        for node in listed:
            views = bitmaps.get(node, ())
            comma = "" if node == listed[-1] else ","
            if not views:
                lines.append(f'  "{self._names.text(node)}": []{comma}')
                continue
            lines.append(f'  "{self._names.text(node)}": [')
            rows = [f"    {json_line(_bitmap(view))}" for view in views]
            lines += [row + "," for row in rows[:-1]] + rows[-1:]
            lines.append(f"  ]{comma}")
        return [*lines, "}"]

    def events(self, events: Iterable[JobEvent]) -> list[str]:
        """What jobs have told, but for each change of their status."""
        return [self._qmp({"event": event.name, "timestamp": _STAMP,
                           "data": {**dict(event.data), **_kind_of(event)}})
                for event in events if event.name != STATUS_CHANGE]

    def jobs(self, jobs: Iterable[JobView]) -> list[str]:
        """The jobs, as query-jobs shows them."""
        rows = [json_line(_job(job)) for job in jobs]
        return [json_line({"execute": "query-jobs"}), "{", '  "return": [',
                *(f"    {row}," for row in rows[:-1]), *(f"    {row}" for row in rows[-1:]),
                "  ]", "}"]

    def digest(self, node: str, name: str, digest: str | None) -> list[str]:
        """The checksum of a named bitmap."""
        asked = {"execute": "x-debug-block-dirty-bitmap-sha256",
                 "arguments": {"node": node, "name": name}}
        return [self._qmp(asked), json_line({"return": {"sha256": digest}})]

    def _qmp(self, message: Mapping[str, Any]) -> str:
        return json_line(self._names.message(message))


_VERBS: Final[dict[type[ops.Request], tuple[str, str]]] = {
    ops.Read: ("read", "read"),
    ops.Write: ("write", "wrote"),
    ops.Zero: ("write", "wrote"),
    ops.Discard: ("discard", "discard"),
    ops.Flush: ("flush", ""),
}
_AGAIN: Final = "QEMU starts again, with the same images"
_STAMP: Final = {"microseconds": "USECS", "seconds": "SECS"}
_DENIED: Final = 13  # EACCES, by whatever name the channel gives it


def _place(image: Image) -> Place:
    if image.protocol is Protocol.NBD:
        return NbdPlace(f"{SOCK_DIR}/nbd.sock", image.node)
    if image.protocol is Protocol.HELD:
        return NbdPlace(f"{SOCK_DIR}/held.sock", image.node, RECONNECT_DELAY)
    return FilePlace(f"{TEST_DIR}/{image.node}.{image.format}")


def _creation(image: Image) -> list[str]:
    """The commands that make the image and fill it."""
    options = []
    if image.cluster_size is not None:
        options.append(f"cluster_size={size(image.cluster_size)}")
    if image.subclusters:
        options.append("extended_l2=on")
    if image.preallocation is not None:
        options.append(f"preallocation={image.preallocation}")
    chosen = f"-o {','.join(options)} " if options else ""
    behind = f"-b {image.backing} " if image.backing is not None else ""
    name = f"{image.node}.{image.format}"
    lines = [f"qemu-img create -f {image.format} {chosen}{behind}{name} {size(image.size)}"]
    lines += [f'qemu-io -f {image.format} -c "write -P {image.node} {size(start)} {size(length)}" '
              f"{name}" for start, length in image.filled]
    return lines


def _accepted(command: Command) -> list[str]:
    return [json_line({"execute": command.name, "arguments": command.arguments}),
            json_line({"return": {}})]


def _sent(request: ops.Request, command: str) -> str:
    """The command, and the way it takes."""
    if request.via is Via.MONITOR:
        return f'(qemu) qemu-io {request.node} "{command}"'
    if request.via is Via.DEVICE:
        return f'(qemu) qemu-io -d {commands.DEVICE} "{command}"'
    return f'qemu-io -c "{command}" nbd:///{request.node}{_CHANNEL[request.via]}'


def _map_command(status: ops.Status) -> str:
    notes = ["one extent"] if status.one else []
    if status.others:
        notes.append(f"negotiated beside {', '.join(status.others)}")
    remark = f"  # {'; '.join(notes)}" if notes else ""
    where = f"--start-offset={size(status.offset)} --max-length={size(status.length)}"
    context = "" if status.context == Context.ALLOCATION else f" {status.context}"
    return f"qemu-img map --output=json {where} nbd:///{status.node}{context}{remark}"


def _extent(context: str, run: StatusRun) -> str:
    start, end, values = run
    where = {"start": start, "length": end - start}
    if context == Context.ALLOCATION:
        return json_line_of(where, {
            "zero": _truth(bool(value & Allocation.ZERO) for value in values),
            "data": _truth(not value & Allocation.HOLE for value in values)})
    if context == Context.DEPTH:
        return json_line_of(where, {"depth": _choice(values)})
    return json_line_of(where, {"dirty": _truth(bool(value & 1) for value in values)})


def json_line_of(*parts: Mapping[str, Any]) -> str:
    """One JSON object of several, its keys in the order given."""
    members = (f'"{key}": {json_line(value)}' for part in parts for key, value in part.items())
    return "{" + ", ".join(members) + "}"


def _truth(values: Iterable[bool]) -> bool | str:
    """True or false; where the storage below decides: either."""
    found = set(values)
    return found.pop() if len(found) == 1 else "either"


def _choice(values: Iterable[int]) -> int | list[int]:
    found = sorted(set(values))
    return found[0] if len(found) == 1 else found


def _kind_of(event: JobEvent) -> dict[str, str]:
    """All job events but those of errors say what kind of job it is."""
    return {} if event.name == "BLOCK_JOB_ERROR" else {"type": "backup"}


def _job(view: JobView) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": view.job, "type": "backup", "status": view.status,
        "current-progress": view.done, "total-progress": view.total}
    if view.error is not None:
        shown["error"] = view.error
    return shown


def _bitmap(view: BitmapView) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "busy": view.busy, "count": view.count, "granularity": view.granularity,
        "persistent": view.persistent, "recording": view.recording}
    if view.name is not None:
        shown["name"] = view.name
    if view.inconsistent:
        shown["inconsistent"] = True
    return shown


def _without(start: int, end: int, holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of ``[start, end)`` without the holes, which are in order."""
    left = []
    for low, high in holes:
        if start < low < end:
            left.append((start, low))
        if low < end:
            start = max(start, min(high, end))
    if start < end:
        left.append((start, end))
    return left
