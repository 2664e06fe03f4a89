# SPDX-License-Identifier: GPL-2.0-or-later
"""Dirty bitmaps: rounding, counts, merging across granularities, digests."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bitmap import DirtyBitmap

K = 1024


def test_set_rounds_outwards() -> None:
    bitmap = DirtyBitmap(640 * K, 64 * K)
    bitmap.set(64 * K - 1, 64 * K + 1)
    assert bitmap.dirty_ranges() == [(0, 128 * K)]


def test_reset_must_be_aligned() -> None:
    bitmap = DirtyBitmap(640 * K, 64 * K)
    with pytest.raises(ValueError, match="not aligned"):
        bitmap.reset(0, 512)


def test_the_last_granule_is_whole_in_the_count_and_cut_in_ranges() -> None:
    bitmap = DirtyBitmap(100 * K, 64 * K)
    bitmap.set_all()
    assert bitmap.count == 128 * K
    assert bitmap.dirty_ranges() == [(0, 100 * K)]


def test_dirty_ranges_are_cut_to_what_is_asked_for() -> None:
    bitmap = DirtyBitmap(300 * K, 64 * K)
    bitmap.set(64 * K, 192 * K)
    bitmap.set(299 * K, 300 * K)
    assert bitmap.dirty_ranges(100 * K, 400 * K) == [(100 * K, 192 * K), (256 * K, 300 * K)]
    assert bitmap.dirty_ranges(192 * K, 256 * K) == bitmap.dirty_ranges(300 * K) == []


def test_the_end_of_the_disk_is_aligned_enough_for_reset() -> None:
    bitmap = DirtyBitmap(100 * K, 64 * K)
    bitmap.set_all()
    bitmap.reset(64 * K, 100 * K)
    assert bitmap.dirty_ranges() == [(0, 64 * K)]


def test_merge_from_finer_sets_whole_granules() -> None:
    fine, coarse = DirtyBitmap(640 * K, 4 * K), DirtyBitmap(640 * K, 64 * K)
    fine.set(5 * 64 * K + 5000, 5 * 64 * K + 5001)
    fine.set(8 * 64 * K - 1, 8 * 64 * K + 1)
    coarse.merge(fine)
    assert coarse.dirty_ranges() == [(5 * 64 * K, 6 * 64 * K), (7 * 64 * K, 9 * 64 * K)]


def test_merge_from_coarser_sets_every_granule_below() -> None:
    coarse, fine = DirtyBitmap(640 * K, 256 * K), DirtyBitmap(640 * K, 64 * K)
    coarse.set(600 * K, 600 * K + 1)
    fine.merge(coarse)
    assert fine.dirty_ranges() == [(512 * K, 640 * K)]


def test_record_only_while_recording() -> None:
    bitmap = DirtyBitmap(640 * K, 64 * K, "b")
    bitmap.record(0, 1)
    assert bitmap.count == 0
    bitmap.recording = True
    bitmap.record(0, 1)
    assert bitmap.count == 64 * K


def test_digest_of_a_clean_bitmap_is_that_of_one_word_of_zeroes() -> None:
    assert DirtyBitmap(64 * 64 * K, 64 * K).digest() == hashlib.sha256(bytes(8)).hexdigest()


@given(st.sets(st.integers(0, 129)))
def test_digest_is_over_the_bits_least_significant_first(dirty: set[int]) -> None:
    bitmap = DirtyBitmap(130 * K, K)
    plain = bytearray(24)
    for granule in dirty:
        bitmap.set(granule * K, granule * K + 1)
        plain[granule // 8] |= 1 << (granule % 8)
    assert bitmap.digest() == hashlib.sha256(plain).hexdigest()


def test_next_dirty_is_cut_to_the_longest_and_to_the_disk() -> None:
    bitmap = DirtyBitmap(100 * K, 16 * K)
    bitmap.set(32 * K, 100 * K)
    assert bitmap.next_dirty(0, 128 * K, 48 * K) == (32 * K, 80 * K)
    assert bitmap.next_dirty(80 * K, 128 * K, 48 * K) == (80 * K, 100 * K)
    bitmap.clear()
    assert bitmap.next_dirty(0, 100 * K, 16 * K) is None
