# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which model and system can differ, each a kind of its own, and each in words.

"Expected" is the model's, "found" the system's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import zip_longest
from typing import Any, ClassVar, TypeAlias

from harness.ranges import Ranges, merged, without
from model.content import Content
from model.errors import QmpError
from model.outcome import Allocation, BitmapView, DeviceView, JobEvent, JobView

from . import human
from .found import Found

Signature: TypeAlias = tuple[str, ...]
"""What two failures have in common if they are probably the same: compared for equality only."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between what the model says and what the system did."""

    kind: ClassVar[str] = ""

    @property
    def signature(self) -> Signature:
        """What stays the same while a trace is made shorter."""
        return (self.kind,)

    @property
    def places(self) -> Ranges:
        """The ranges of the disk that it is about; none if it is not about places."""
        return ()

    def words(self) -> list[str]:
        """The difference in words, a few lines."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ErrnoDiffers(Difference):
    """A request ended with another errno; None is success.  Numbers as the channel shows them."""

    kind: ClassVar[str] = "errno"
    expected: int | None
    found: int | None

    @property
    def signature(self) -> Signature:
        return (self.kind, str(self.expected), str(self.found))

    def words(self) -> list[str]:
        return [(f"result: expected {human.error_name(self.expected)}, "
                f"found {human.error_name(self.found)}")]


@dataclass(frozen=True, slots=True)
class RefusalDiffers(Difference):
    """A QMP command was refused with another error; None: it was accepted."""

    kind: ClassVar[str] = "refusal"
    expected: QmpError | None
    found: QmpError | None

    @property
    def signature(self) -> Signature:
        return (self.kind, str(self.expected is None), str(self.found is None))

    def words(self) -> list[str]:
        return [f"expected: {self.expected or 'the command is accepted'}",
                f"found:    {self.found or 'the command is accepted'}"]


@dataclass(frozen=True, slots=True)
class LengthDiffers(Difference):
    """Data or block status of another length (bytes) than was asked for."""

    kind: ClassVar[str] = "length"
    what: str
    expected: int
    found: int

    @property
    def signature(self) -> Signature:
        return (self.kind, self.what)

    def words(self) -> list[str]:
        return [(f"{self.what}: expected {human.size(self.expected)} in all, "
                f"found {human.size(self.found)}")]


@dataclass(frozen=True, slots=True)
class DisconnectDiffers(Difference):
    """The server dropped its client's connection and should not have, or the other way round."""

    kind: ClassVar[str] = "disconnect"
    expected: bool

    @property
    def signature(self) -> Signature:
        return (self.kind, str(self.expected))

    def words(self) -> list[str]:
        if self.expected:
            return ["expected: the server drops the connection", "found:    an answer"]
        return ["expected: an answer", "found:    the server dropped the connection"]


@dataclass(frozen=True, slots=True)
class DataDiffers(Difference):
    """Wrong bytes.

    ``expected`` is the whole answer, which begins at ``offset`` of the disk; ``wrong`` lists the
    ranges (start, end) of the disk that differ.
    """

    kind: ClassVar[str] = "data"
    offset: int
    expected: Content = field(repr=False)
    found: Found = field(repr=False)
    wrong: Ranges

    @property
    def places(self) -> Ranges:
        return self.wrong

    def words(self) -> list[str]:
        count = sum(end - start for start, end in self.wrong)
        where = _some(human.span(start, end) for start, end in self.wrong)
        return [f"data: {human.size(count)} differ, in {where}"]


@dataclass(frozen=True, slots=True)
class WrongExtent:
    """A range whose block status is not one of those allowed."""

    start: int
    end: int
    allowed: frozenset[int]
    found: int


@dataclass(frozen=True, slots=True)
class ExtentsDiffer(Difference):
    """Wrong block status, in the metadata context ``context``."""

    kind: ClassVar[str] = "block-status"
    context: str
    wrong: tuple[WrongExtent, ...]

    @property
    def signature(self) -> Signature:
        return (self.kind, self.context)

    @property
    def places(self) -> Ranges:
        return merged((each.start, each.end) for each in self.wrong)

    def words(self) -> list[str]:
        lines = [f"block status ({self.context}):"]
        for each in self.wrong[:_SHOWN]:
            allowed = " or ".join(flags(self.context, value) for value in sorted(each.allowed))
            lines.append(f"  {human.span(each.start, each.end)}: expected {allowed}, "
                         f"found {flags(self.context, each.found)}")
        if len(self.wrong) > _SHOWN:
            lines.append(f"  and {len(self.wrong) - _SHOWN} more")
        return lines


@dataclass(frozen=True, slots=True)
class NotOneExtent(Difference):
    """One extent was asked for, and another number of them came."""

    kind: ClassVar[str] = "extent-count"
    found: int

    def words(self) -> list[str]:
        return [f"block status: one extent was asked for, {self.found} came"]


@dataclass(frozen=True, slots=True)
class ExtentEndsEarly(Difference):
    """Asked for one extent, the system gave one that ends where the same status goes on."""

    kind: ClassVar[str] = "extent-end"
    expected: int
    found: int

    def words(self) -> list[str]:
        return [(f"block status: the extent goes on to {human.size(self.expected)} at least, "
                f"the one found ends at {human.size(self.found)}")]


@dataclass(frozen=True, slots=True)
class DeniedDiffers(Difference):
    """Other parts of a snapshot are denied (EACCES) than should be."""

    kind: ClassVar[str] = "access"
    expected: Ranges
    found: Ranges

    @property
    def places(self) -> Ranges:
        return merged([
            *(each for span in self.expected for each in without(*span, self.found)),
            *(each for span in self.found for each in without(*span, self.expected))])

    def words(self) -> list[str]:
        return [f"denied: expected {human.spans(self.expected)}",
                f"        found    {human.spans(self.found)}"]


@dataclass(frozen=True, slots=True)
class CompressedDiffers(Difference):
    """Other numbers of clusters of a qcow2 file hold compressed data; None: nobody counted."""

    kind: ClassVar[str] = "compressed"
    node: str
    expected: range | None
    found: int | None

    def words(self) -> list[str]:
        expected = "no count" if self.expected is None else human.numbers(self.expected)
        found = "no count" if self.found is None else str(self.found)
        return [f"compressed clusters of {self.node}: expected {expected}, found {found}"]


@dataclass(frozen=True, slots=True)
class BitmapsDiffer(Difference):
    """A node's list of dirty bitmaps is another."""

    kind: ClassVar[str] = "bitmaps"
    node: str
    expected: tuple[BitmapView, ...]
    found: tuple[BitmapView, ...]

    @property
    def signature(self) -> Signature:
        return (self.kind, *_fields_that_differ(BitmapView, self.expected, self.found))

    def words(self) -> list[str]:
        return [f"bitmaps of node {self.node}:",
                *_side_by_side([bitmap(each) for each in self.expected],
                               [bitmap(each) for each in self.found], "no bitmap")]


@dataclass(frozen=True, slots=True)
class DigestDiffers(Difference):
    """A named bitmap's dirty places are others; the digests are SHA-256, None: none was given."""

    kind: ClassVar[str] = "bitmap-content"
    node: str
    name: str
    expected: str | None
    found: str | None

    def words(self) -> list[str]:
        return [(f"content of bitmap {self.node}/{self.name}: expected digest "
                f"{(self.expected or 'none')[:16]}, found {(self.found or 'none')[:16]}")]


@dataclass(frozen=True, slots=True)
class DeviceDiffers(Difference):
    """``query-block`` shows the guest's device on another node, or other bitmaps of it."""

    kind: ClassVar[str] = "device"
    expected: DeviceView | None
    found: DeviceView | None

    @property
    def signature(self) -> Signature:
        if self.expected is None or self.found is None or self.expected.node != self.found.node:
            return (self.kind, "node")
        return (self.kind, *_fields_that_differ(
            BitmapView, self.expected.bitmaps, self.found.bitmaps))

    def words(self) -> list[str]:
        return ["the guest's device:", *_side_by_side(
            _device(self.expected), _device(self.found), "no bitmap")]


def _device(view: DeviceView | None) -> list[str]:
    if view is None:
        return ["no device"]
    return [f"on node {view.node}", *map(bitmap, view.bitmaps)]


@dataclass(frozen=True, slots=True)
class JobsDiffer(Difference):
    """``query-jobs`` shows other jobs, or the same in another state."""

    kind: ClassVar[str] = "jobs"
    expected: tuple[JobView, ...]
    found: tuple[JobView, ...]

    @property
    def signature(self) -> Signature:
        return (self.kind, *_fields_that_differ(JobView, self.expected, self.found))

    def words(self) -> list[str]:
        return ["jobs:", *_side_by_side([job(each) for each in self.expected],
                                        [job(each) for each in self.found], "no job")]


@dataclass(frozen=True, slots=True)
class EventsDiffer(Difference):
    """Other job events were sent since the last step, or in another order."""

    kind: ClassVar[str] = "events"
    expected: tuple[JobEvent, ...]
    found: tuple[JobEvent, ...]

    def words(self) -> list[str]:
        return ["events:", *_side_by_side([event(each) for each in self.expected],
                                          [event(each) for each in self.found], "no event")]


_SHOWN = 8
"""How many ranges are listed before "and n more"."""


def flags(context: str, value: int) -> str:
    """A block status value of a metadata context in words."""
    if context == "base:allocation":
        names = [name for bit, name in ((Allocation.HOLE, "hole"), (Allocation.ZERO, "zero"))
                 if value & bit]
        return ("+".join(names) or "data") if value < 4 else f"flags {value:#x}"
    if context.startswith("qemu:dirty-bitmap:"):
        return {0: "clean", 1: "dirty"}.get(value, f"flags {value:#x}")
    return str(value)


def bitmap(view: BitmapView) -> str:
    """A bitmap as QMP shows it, in a line; anonymous ones in brackets."""
    words = [view.name if view.name is not None else "(anonymous)",
             f"count {human.size(view.count)}", f"granularity {human.size(view.granularity)}"]
    words += [name for name in ("recording", "busy", "persistent", "inconsistent")
              if getattr(view, name)]
    return ", ".join(words)


def job(view: JobView) -> str:
    """A job as QMP shows it, in a line; what is as usual is left out."""
    words = [view.job, view.status, f"{human.size(view.done)} of {human.size(view.total)}"]
    if view.error is not None:
        words.append(f"error: {view.error}")
    words += [f"{each.name.replace('_', '-')}: {getattr(view, each.name)}"
              for each in fields(view) if each.name != "error" and each.default is not MISSING
              and getattr(view, each.name) != each.default]
    return ", ".join(words)


def event(what: JobEvent) -> str:
    """An event in a line."""
    return " ".join([what.name, *(f"{key}={value}" for key, value in what.data)])


def _side_by_side(expected: list[str], found: list[str], none: str) -> list[str]:
    """The places in two lists, counted from 0, where they differ."""
    lines: list[str] = []
    for index, (left, right) in enumerate(zip_longest(expected, found, fillvalue=none)):
        if left != right:
            lines += [f"  {index}: expected {left}", f"     found    {right}"]
    return lines


def _fields_that_differ(
    kind: type[Any], expected: Sequence[Any], found: Sequence[Any],
) -> list[str]:
    """The names of the fields that differ somewhere, or ``list`` if the lengths do."""
    if len(expected) != len(found):
        return ["list"]
    return sorted({field.name for left, right in zip(expected, found, strict=True)
                   for field in fields(kind)
                   if getattr(left, field.name) != getattr(right, field.name)})


def _some(texts: Iterable[str]) -> str:
    every = list(texts)
    shown = ", ".join(every[:_SHOWN])
    return shown if len(every) <= _SHOWN else f"{shown} and {len(every) - _SHOWN} more"
