# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes that writes write."""

from __future__ import annotations

from harness import stamps


def test_no_byte_of_what_is_written_is_zero() -> None:
    """Where zeroes are detected, a write of one byte must not be one of zeroes."""
    for stamp in range(1, 600):
        assert 0 not in stamps.data(stamp, 448 * 1024 - 1, 1), stamp
    assert 0 not in stamps.data(1, 0, 1 << 22)
