# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that a QEMU leaves behind: leaked clusters are seen, unless it was killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from harness.builds import STORAGE_DAEMON
from harness.storage.images import ImageStore
from harness.systems.daemon import QsdSystem
from harness.systems.failure import SystemDamaged
from model.configuration import KIB, Configuration, Format, Image
from model.job_operations import Backup, Sync
from model.operations import Export, Kill, Restart, Write
from tests.unit.real_lab import real_build

CLUSTER: Final = 64 * KIB
IMAGES: Final = Configuration((Image("src", 4 * CLUSTER, Format.QCOW2),
                               Image("raw", 4 * CLUSTER)))


@pytest.fixture
def system() -> Iterator[QsdSystem]:
    build = real_build(STORAGE_DAEMON)
    with closing(ImageStore(build)) as store, closing(QsdSystem(build, IMAGES, store)) as found:
        yield found


def leak(path: Path) -> None:
    """Append a cluster that nobody uses, and count a user of it."""
    with path.open("r+b") as image:
        cluster = image.seek(0, 2) // CLUSTER + 1
        image.truncate((cluster + 1) * CLUSTER)
        table = _number(image, 48)
        image.seek(_number(image, table) + 2 * cluster)
        image.write(b"\0\1")


def _number(image: BinaryIO, offset: int) -> int:
    image.seek(offset)
    return int.from_bytes(image.read(8), "big")


def test_a_good_end_leaves_no_damage(system: QsdSystem) -> None:
    assert system.apply(1, Restart()).compressed == {"src": 0}


def test_what_is_compressed_is_counted(system: QsdSystem) -> None:
    for number, operation in enumerate((
            Export("raw"), Write("raw", 0, 4 * CLUSTER), Write("raw", 0, CLUSTER, zeroes=True),
            Write("raw", 2 * CLUSTER, CLUSTER // 2, zeroes=True),
            Backup("job", "raw", "src", Sync.FULL, compress=True)), 1):
        system.apply(number, operation)
    assert system.apply(6, Restart()).compressed in ({"src": 1}, {"src": 2})


def test_a_leak_is_damage(system: QsdSystem) -> None:
    leak(system.image_file("src"))
    with pytest.raises(SystemDamaged, match=r"^QEMU has ended, and left the image of src damaged"
                       r": qemu-img check: exit status 3: Leaked cluster"):
        system.apply(1, Restart())


def test_a_leak_may_be_what_a_kill_has_left(system: QsdSystem) -> None:
    system.apply(1, Kill())
    leak(system.image_file("src"))
    system.apply(2, Restart())
