# SPDX-License-Identifier: GPL-2.0-or-later
"""Which clusters compress: what the model takes for certain, asked of zlib as QEMU asks it."""

from __future__ import annotations

import zlib

import pytest

from harness import stamps
from model.configuration import KIB, MIB
from model.node import SECTOR
from model.qcow2_compressed import COMPRESSIBLE


def _compresses(cluster: bytes) -> bool:
    """In a raw stream with a window of 4 KiB, as qcow2 has it; else it is stored as it is."""
    packer = zlib.compressobj(wbits=-12, memLevel=9)
    return len(packer.compress(cluster) + packer.flush()) < len(cluster)


@pytest.mark.parametrize("size", [SECTOR, 4 * KIB, 64 * KIB, 2 * MIB])
def test_noise_does_not_and_with_a_run_of_zeroes_it_does(size: int) -> None:
    for place in range(0, 3 * size, size):
        noise = stamps.data(7, place, size)
        assert not _compresses(noise)
        assert not _compresses(noise[:size // 2] + stamps.data(8, place + size // 2, size // 2))
        run = size // COMPRESSIBLE
        for start in (0, 1, size // 2, size - run):
            assert _compresses(noise[:start] + bytes(run) + noise[start + run:])
