# SPDX-License-Identifier: GPL-2.0-or-later
"""RunMap against the plainest map there is: a list."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.runs import Run, RunMap

SIZE = 24


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    one = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE), st.integers(0, 2))
    return [(min(a, b), max(a, b), value) for a, b, value in draw(st.lists(one, max_size=12))]


@given(changes())
def test_behaves_like_a_list(made: list[tuple[int, int, int]]) -> None:
    runs, plain = RunMap(SIZE, 0), [0] * SIZE
    for start, end, value in made:
        runs.set(start, end, value)
        plain[start:end] = [value] * (end - start)
    assert [runs.at(place) for place in range(SIZE)] == plain
    assert [run.value for run in runs.runs() for _ in range(run.length)] == plain


@given(changes())
def test_neighbouring_runs_differ(made: list[tuple[int, int, int]]) -> None:
    runs = RunMap(SIZE, 0)
    for start, end, value in made:
        runs.set(start, end, value)
    values = [run.value for run in runs.runs()]
    assert all(left != right for left, right in itertools.pairwise(values))


@given(changes(), st.integers(0, SIZE), st.integers(0, SIZE))
def test_slice_and_paste_are_inverse(
    made: list[tuple[int, int, int]], one: int, other: int,
) -> None:
    runs = RunMap(SIZE, 0)
    for start, end, value in made:
        runs.set(start, end, value)
    start, end = min(one, other), max(one, other)
    copy = RunMap(SIZE, 9)
    copy.paste(start, runs.slice(start, end))
    assert list(copy.runs(start, end)) == list(runs.runs(start, end))
    assert all(run.value == 9 for run in copy.runs(0, start))


def test_run_at_stops_at_the_limit() -> None:
    runs = RunMap(10, "a")
    runs.set(4, 8, "b")
    assert runs.run_at(5, 7) == Run(5, 7, "b")
    assert runs.run_at(5, 8) == Run(5, 8, "b")


@pytest.mark.parametrize("size", [3, 12])
def test_resize_keeps_what_stays(size: int) -> None:
    runs = RunMap(8, 0)
    runs.set(2, 8, 1)
    runs.resize(size, 7)
    assert [runs.at(place) for place in range(size)] == ([0, 0, 1, 1, 1, 1, 1, 1] + [7] * 4)[:size]


def test_outside_is_an_error() -> None:
    with pytest.raises(IndexError):
        RunMap(4, 0).set(2, 5, 1)
