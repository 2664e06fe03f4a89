# SPDX-License-Identifier: GPL-2.0-or-later
"""Copy files without filling their holes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_PIECE = 1 << 20


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file; holes stay holes.  Raises OSError."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(reading).st_size
            os.ftruncate(writing, size)
            for start, end in _data_of(reading, size):
                _copy(reading, writing, start, end)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _data_of(descriptor: int, size: int) -> list[tuple[int, int]]:
    """The ranges that are no holes, as far as the file system tells."""
    found = []
    place = 0
    while place < size:
        try:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError as why:
            if why.errno == errno.ENXIO:  # nothing but a hole from here on
                break
            raise
        place = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, place))
    return found


def _copy(reading: int, writing: int, start: int, end: int) -> None:
    while start < end:
        piece = os.pread(reading, min(_PIECE, end - start), start)
        if not piece:  # the file was cut short meanwhile
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written = os.pwrite(writing, piece, start)
        start += written
