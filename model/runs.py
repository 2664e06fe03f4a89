# SPDX-License-Identifier: GPL-2.0-or-later
"""A map from the integers of ``[0, size)`` to values, held as runs of equal value.

Disk contents, dirty bitmaps and allocation maps are all such maps: long runs, few changes.
Held as runs, a 64 GiB disk costs as much memory as it has had writes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")


class Run(NamedTuple, Generic[Value]):
    """The half-open range ``[start, end)``, over which the map has one value."""

    start: int
    end: int
    value: Value

    @property
    def length(self) -> int:
        """How many places the run covers; at least 1."""
        return self.end - self.start


class RunMap(Generic[Value]):
    """A value for every place of ``[0, size)``; neighbouring runs never have equal values."""

    __slots__ = ("_starts", "_values", "changes", "size")

    def __init__(self, size: int, value: Value) -> None:
        """A map of ``size`` places, all of them ``value``; an empty map if ``size`` is 0."""
        if size < 0:
            raise ValueError(f"a map of {size} places")
        self.size = size
        self.changes = 0
        """How often the map has been changed: who keeps what was computed from it looks here."""
        self._starts: list[int] = [0] if size else []
        self._values: list[Value] = [value] if size else []

    def copy(self) -> RunMap[Value]:
        """A map of its own with the same values."""
        twin: RunMap[Value] = RunMap.__new__(RunMap)
        twin.size = self.size
        twin.changes = self.changes
        twin._starts = self._starts.copy()
        twin._values = self._values.copy()
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> RunMap[Value]:
        """The same: values are never changed, so they are not copied."""
        return self.copy()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunMap):
            return NotImplemented
        return (self.size, self._starts, self._values) == (
            other.size, other._starts, other._values)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        runs = ", ".join(f"{run.start}..{run.end}={run.value!r}" for run in self.runs())
        return f"RunMap({runs})"

    def at(self, place: int) -> Value:
        """The value at one place of ``[0, size)``."""
        self._check(place, place + 1)
        return self._values[bisect_right(self._starts, place) - 1]

    def run_at(self, place: int, limit: int) -> Run[Value]:
        """The run of equal value from ``place`` on, not past ``limit``."""
        self._check(place, limit)
        index = bisect_right(self._starts, place) - 1
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self.size
        return Run(place, min(end, limit), self._values[index])

    def runs(self, start: int = 0, end: int | None = None) -> Iterator[Run[Value]]:
        """The runs of ``[start, end)`` in order, cut to that range."""
        end = self.size if end is None else end
        self._check(start, end)
        if start == end:
            return
        index = bisect_right(self._starts, start) - 1
        while start < end:
            index += 1
            stop = self._starts[index] if index < len(self._starts) else self.size
            stop = min(stop, end)
            yield Run(start, stop, self._values[index - 1])
            start = stop

    def total(self, value: Value) -> int:
        """How many places have the value."""
        ends = [*self._starts[1:], self.size] if self.size else []
        return sum([end - start for start, end, each in zip(self._starts, ends, self._values,
                                                            strict=True) if each == value])

    def set(self, start: int, end: int, value: Value) -> None:
        """Give every place of ``[start, end)`` the same value."""
        self._check(start, end)
        if start == end:
            return
        self.changes += 1
        starts, values = self._starts, self._values
        first = bisect_right(starts, start) - 1
        last = bisect_right(starts, end - 1) - 1
        tail_end = starts[last + 1] if last + 1 < len(starts) else self.size
        new_starts: list[int] = []
        new_values: list[Value] = []
        if starts[first] < start:
            new_starts.append(starts[first])
            new_values.append(values[first])
        new_starts.append(start)
        new_values.append(value)
        if end < tail_end:
            new_starts.append(end)
            new_values.append(values[last])
        # One neighbour on either side joins in, so that equal runs melt into one.
        low = first - 1 if first and starts[first] == start else first
        if low < first:
            new_starts.insert(0, starts[low])
            new_values.insert(0, values[low])
        high = last + 1
        if end == tail_end and high < len(starts):
            new_starts.append(starts[high])
            new_values.append(values[high])
            high += 1
        melted_starts: list[int] = []
        melted_values: list[Value] = []
        for begin, each in zip(new_starts, new_values, strict=True):
            if not melted_values or melted_values[-1] != each:
                melted_starts.append(begin)
                melted_values.append(each)
        starts[low:high] = melted_starts
        values[low:high] = melted_values

    def paste(self, start: int, other: RunMap[Value]) -> None:
        """Give the places from ``start`` on the values of ``other``, all of it."""
        for run in other.runs():
            self.set(start + run.start, start + run.end, run.value)

    def slice(self, start: int, end: int) -> RunMap[Value]:
        """A map of its own with the values of ``[start, end)``, now counted from 0."""
        self._check(start, end)
        piece: RunMap[Value] = RunMap.__new__(RunMap)
        piece.size = end - start
        piece.changes = 0
        runs = list(self.runs(start, end))
        piece._starts = [run.start - start for run in runs]
        piece._values = [run.value for run in runs]
        return piece

    def resize(self, size: int, value: Value) -> None:
        """Cut the map at ``size``, or lengthen it to there with ``value``."""
        if size <= self.size:
            cut = self.slice(0, size)
        else:
            cut = RunMap(size, value)
            cut.paste(0, self)
        self.size, self._starts, self._values = cut.size, cut._starts, cut._values
        self.changes += 1

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.size:
            raise IndexError(f"{start}..{end} is outside 0..{self.size}")
