# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces: what was done to a system, as JSON Lines, small enough to read and to edit by hand.

The first line says on what; every other line is an operation with its number::

    {"cbw-lockstep": 1, "configuration": {"images": [{"node": "src", "size": 1048576}, …]}, …}
    {"n": 1, "op": "add-filter", "node": "cbw", "file": "src", "target": "tmp"}
    {"n": 4, "op": "write", "node": "cbw", "offset": 65536, "length": 4096}

The number decides which data an operation writes, so it stays with the operation when others are
dropped.  Empty lines and lines that begin with ``#`` are skipped: that is how one drops an
operation by hand.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import model.job_operations  # noqa: F401  the vocabulary is what has been imported
from harness.errors import HarnessError
from model.capabilities import Capabilities
from model.configuration import Configuration, Protocol
from model.operations import Operation

from .codec import CodecError, from_plain, operation_from, to_plain

FORMAT_VERSION: Final = 1
_MARK: Final = "cbw-lockstep"
_CAPABILITIES: Final = frozenset(
    each.name.replace("_", "-") for each in dataclasses.fields(Capabilities))
_DEFECTS: Final = frozenset(
    each.name.replace("_", "-") for each in dataclasses.fields(Capabilities)
    if each.metadata["deviation"])


class TraceError(HarnessError):
    """A trace cannot be read or written; the text is one line: file, line number, what."""

    def __init__(self, path: Path | str, line: int | None, what: str) -> None:
        super().__init__(f"{path}:{line}: {what}" if line else f"{path}: {what}")
        self.path = path
        self.line = line
        self.what = what


class SystemKind(StrEnum):
    """What kind of system a trace was made on."""

    QSD = "qsd"
    QEMU_SYSTEM = "qemu-system"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Build:
    """The QEMU build that a trace was made on: for people, a replay does not need it."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which trace of a seed it was drawn as: with seed, system and what a build can do, this
    decides it."""

    area: str
    index: int = 0
    """Among the traces of the area."""
    candidate: int = 0
    """Which of those that were drawn for it, by steering."""


@dataclass(frozen=True, slots=True)
class Header:
    """On what a trace was made.  ``capabilities`` holds those that differ from today's QEMU."""

    configuration: Configuration
    system: SystemKind = SystemKind.QSD
    build: Build = field(default_factory=Build)
    seed: int | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    unknown_capabilities: tuple[str, ...] = ()
    """Those of the file that have no such name here, any more or yet: a build can do the trace
    all the same, as nobody asks the header what a build can do."""
    drawn: Origin | None = None
    unexcused: tuple[str, ...] = ()
    """Known defects that the model does not take on, so that a build which has them diverges; with
    dashes, as capabilities are in the file."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation of a trace and its number, from 1 up: the stamp of the data it writes."""

    number: int
    operation: Operation


@dataclass(frozen=True, slots=True)
class Trace:
    """A header and the steps, in the order in which they are done."""

    header: Header
    steps: tuple[Step, ...] = ()

    @property
    def configuration(self) -> Configuration:
        """The images there are before the first step."""
        return self.header.configuration


def step_line(step: Step) -> str:
    """The step as a line of a trace file, without the line's end."""
    return json.dumps({"n": step.number, **to_plain(step.operation)})


def header_line(header: Header) -> str:
    """The header as the first line of a trace file, without the line's end."""
    return json.dumps({_MARK: FORMAT_VERSION, **to_plain(header)})


class TraceWriter:
    """Writes a trace while it is made: each step is with the operating system when
    :meth:`record` returns, so that neither our death nor QEMU's loses it.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Create the file, replacing one that is there; raises TraceError."""
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as why:
            raise TraceError(path, None, f"cannot write a trace here: {why.strerror}") from why
        self._write(header_line(header))

    def record(self, step: Step) -> None:
        """Put the step on disk; call it before the operation is sent."""
        self._write(step_line(step))

    def close(self) -> None:
        """Close the file; harmless when done twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None,
                 where: TracebackType | None) -> None:
        self.close()

    def _write(self, line: str) -> None:
        rest = line.encode() + b"\n"
        try:
            while rest:
                rest = rest[os.write(self._file, rest):]
        except OSError as why:
            raise TraceError(self.path, None, f"cannot write the trace: {why.strerror}") from why


def save(path: Path, trace: Trace) -> None:
    """Write a whole trace; raises TraceError."""
    with TraceWriter(path, trace.header) as writer:
        for step in trace.steps:
            writer.record(step)


def load(path: Path) -> Trace:
    """Read a trace file; raises TraceError with one line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as why:
        raise TraceError(path, None, f"cannot read the trace: {why.strerror}") from why
    except UnicodeDecodeError as why:
        raise TraceError(path, None, f"not a trace: not UTF-8 text ({why.reason})") from why
    return parse(text, path)


def parse(text: str, path: Path | str = "trace") -> Trace:
    """The trace of a file's text; ``path`` is for error messages.  Raises TraceError."""
    lines = _objects(text, path)
    try:
        number, first = next(lines)
    except StopIteration:
        raise TraceError(path, 1, "the trace is empty: its first line is the header") from None
    header = _header(first, path, number)
    steps: list[Step] = []
    line_of: dict[int, int] = {}
    for number, each in lines:
        step = _step(each, path, number)
        if step.number in line_of:
            raise TraceError(path, number, f"operation number {step.number} is already that of "
                             f"line {line_of[step.number]}")
        line_of[step.number] = number
        steps.append(step)
    return Trace(header, tuple(steps))


def _objects(text: str, path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and the object on it."""
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            value = json.loads(line, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as why:
            # The writer ends every line; a last line without an end was being written.
            hint = ("the line is cut off; delete it to replay what comes before"
                    if number == len(lines) else f"not JSON: {_reason(why)}")
            raise TraceError(path, number, hint) from why
        if not isinstance(value, dict):
            raise TraceError(path, number, "expected a JSON object")
        yield number, value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is there twice")
    return fields


def _reason(why: Exception) -> str:
    if isinstance(why, json.JSONDecodeError):
        return f"{why.msg} at column {why.colno}"
    return str(why)


def _header(fields: dict[str, Any], path: Path | str, number: int) -> Header:
    if _MARK not in fields:
        raise TraceError(path, number, f'not a trace: the first line has no "{_MARK}" field')
    version = fields.pop(_MARK)
    if version != FORMAT_VERSION:
        raise TraceError(path, number, f"trace format version {version!r} is not known here; "
                         f"this harness reads version {FORMAT_VERSION}")
    try:
        header = from_plain(Header, _with_known_capabilities(fields))
        _check(header.configuration)
        for name in header.unexcused:
            if name not in _DEFECTS:
                raise CodecError(f"unexcused: no known defect is called {name!r}")
    except CodecError as why:
        raise TraceError(path, number, f"header: {why}") from why
    return header


def _with_known_capabilities(fields: dict[str, Any]) -> dict[str, Any]:
    """The header, with the capabilities that have no such name here put aside."""
    given, unknown = fields.get("capabilities"), fields.get("unknown-capabilities", [])
    if not isinstance(given, dict) or not isinstance(unknown, list):
        return fields
    strange = [name for name in given if name not in _CAPABILITIES]
    kept = {name: has for name, has in given.items() if name in _CAPABILITIES}
    return {**fields, "capabilities": kept, "unknown-capabilities": [*unknown, *strange]}


def _check(configuration: Configuration) -> None:
    """Refuse images that cannot be made."""
    seen: set[str] = set()
    for image in configuration.images:
        where = f"image {image.node!r}"
        if image.node in seen:
            raise CodecError(f"{where} is there twice")
        if image.size < 0:
            raise CodecError(f"{where}: a size below zero")
        if image.backing is not None and image.backing not in seen:
            raise CodecError(f"{where}: its backing image {image.backing!r} is not before it")
        if image.tells_status and image.protocol is not Protocol.HELD:
            raise CodecError(f"{where}: only storage that is held tells block status as a "
                             "schedule says")
        if image.backing is not None and configuration.image(image.backing).tells_status:
            raise CodecError(f"{where}: its backing image {image.backing!r} must not tell block "
                             "status")
        for start, length in image.filled:
            if not 0 <= start <= start + length <= image.size:
                raise CodecError(f"{where}: data in {start}..{start + length} is outside of it")
        seen.add(image.node)


def _step(fields: dict[str, Any], path: Path | str, number: int) -> Step:
    stamp = fields.pop("n", None)
    if not isinstance(stamp, int) or isinstance(stamp, bool) or stamp < 1:
        raise TraceError(path, number, 'an operation needs its number: "n", from 1 up')
    if not isinstance(fields.get("op"), str):
        raise TraceError(path, number, 'an operation needs its name: "op"')
    try:
        return Step(stamp, operation_from(fields))
    except CodecError as why:
        raise TraceError(path, number, str(why)) from why
