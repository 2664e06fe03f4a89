# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage that the harness holds, asked by libnbd."""

from __future__ import annotations

import random
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clients.errors import PeerGone
from harness.clients.libnbd import libnbd_problem
from harness.clients.nbd import NbdClient
from harness.clients.nbd_types import NbdError
from harness.stamps import data
from harness.storage.held import Fate, HeldStorage
from harness.storage.held_disk import HeldDisk
from harness.storage.held_wire import ExportOffer
from model.configuration import RequestKind
from model.content import Content, stamped, zeroes
from model.errors import Errno
from model.program import StorageRequest

pytestmark = pytest.mark.skipif(libnbd_problem() is not None, reason=libnbd_problem() or "")
SIZE = 1 << 20


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[HeldStorage]:
    found = HeldStorage(tmp_path / "s")
    found.add("disk", SIZE)
    yield found
    found.close()
    found.close()


@pytest.fixture
def client(storage: HeldStorage) -> Iterator[NbdClient]:
    with NbdClient.connect(str(storage.path), "disk", timeout=10) as found:
        yield found


def arrived(storage: HeldStorage, count: int) -> None:
    """Wait until so many requests are pending."""
    poll = select.poll()
    poll.register(storage.news, select.POLLIN)
    while len(storage.pending()) < count:
        assert poll.poll(10_000), "nothing came"
        storage.heard()


def test_an_open_gate_lets_all_through(storage: HeldStorage, client: NbdClient) -> None:
    client.write(1000, b"abc")
    assert client.read(999, 5) == b"\0abc\0"
    client.zero(1001, 1)
    assert client.read(999, 5) == b"\0a\0c\0"
    client.discard(0, 4096)
    client.flush()
    assert client.read(999, 5) == bytes(5)
    kinds = [each.asked.kind for each in storage.log]
    assert kinds == [RequestKind.WRITE, RequestKind.READ, RequestKind.ZERO, RequestKind.READ,
                     RequestKind.DISCARD, RequestKind.FLUSH, RequestKind.READ]
    assert all(each.fate is Fate.COMPLETED for each in storage.log)


def test_held_requests_complete_in_any_order_and_take_effect_then(
        storage: HeldStorage, client: NbdClient) -> None:
    storage.hold()
    client.submit_write(0, b"new")
    client.submit_read(0, 3)
    client.submit_read(0, 3)
    arrived(storage, 3)
    write, first, second = storage.pending()
    assert write.asked == StorageRequest("disk", RequestKind.WRITE, 0, 3)
    storage.complete(first)
    assert client.poll(10)[0].data == bytes(3)
    storage.complete(write)
    storage.complete(second)
    answers = client.poll(10)
    answers += client.poll(10) if len(answers) < 2 else []
    assert [each.data for each in answers] == [None, b"new"]


@pytest.mark.parametrize("error", [Errno.EIO, Errno.ENOSPC, Errno.EPERM, Errno.ENOMEM])
def test_what_fails_has_no_effect(storage: HeldStorage, client: NbdClient, error: Errno) -> None:
    storage.hold()
    client.submit_write(0, b"new")
    arrived(storage, 1)
    storage.complete(storage.pending()[0], error)
    assert client.poll(10)[0].errno == error
    storage.let_go()
    assert client.read(0, 3) == bytes(3)
    assert storage.log[0].fate is Fate.FAILED


def test_letting_go_completes_what_is_held(storage: HeldStorage, client: NbdClient) -> None:
    storage.hold()
    token = client.submit_write(0, b"new")
    arrived(storage, 1)
    storage.let_go()
    assert client.wait(token).errno == 0
    assert client.read(0, 3) == b"new"


def test_an_exempt_request_passes_a_closed_gate_once(
        storage: HeldStorage, client: NbdClient) -> None:
    storage.hold()
    storage.exempt(StorageRequest("disk", RequestKind.READ, 0, 3))
    assert client.read(0, 3) == bytes(3)
    assert not storage.log
    client.submit_read(0, 3)
    arrived(storage, 1)


def test_a_cut_loses_what_is_pending_and_new_connections_are_taken(
        storage: HeldStorage, client: NbdClient) -> None:
    storage.hold()
    token = client.submit_read(0, 3)
    arrived(storage, 1)
    (lost,) = storage.pending()
    storage.cut("disk")
    with pytest.raises(PeerGone):
        client.wait(token, 10)
    assert lost.fate is Fate.LOST
    assert storage.pending() == []
    with pytest.raises(KeyError):
        storage.complete(lost)
    storage.let_go()
    with NbdClient.connect(str(storage.path), "disk", timeout=10) as again:
        assert again.read(0, 3) == bytes(3)


def test_a_cut_for_good(storage: HeldStorage) -> None:
    storage.cut("disk", for_good=True)
    with pytest.raises(Exception, match="disk"):
        NbdClient.connect(str(storage.path), "disk", timeout=10)


def test_several_exports_and_connections(storage: HeldStorage) -> None:
    storage.add("other", SIZE, ExportOffer(SIZE, fua=True))
    names = ["disk", "other", "disk", "other"]
    clients = [NbdClient.connect(str(storage.path), name, timeout=10) for name in names]
    storage.hold()
    for index, each in enumerate(clients):
        each.submit_write(512 * index, bytes([index]) * 512)
    arrived(storage, 4)
    assert sorted(each.asked.node for each in storage.pending()) == sorted(names)
    storage.let_go()
    for each in clients:
        assert each.poll(10)[0].errno == 0
        each.close()
    assert storage.disks["other"].read(512, 512) == b"\1" * 512
    assert clients[0].info.can_fua is False
    assert clients[1].info.can_fua is True


def test_a_request_past_the_end_is_refused(storage: HeldStorage, client: NbdClient) -> None:
    storage.hold()
    with pytest.raises(NbdError) as caught:
        client.read(SIZE - 1, 2)
    assert caught.value.errno == Errno.EINVAL


def test_large_data_goes_both_ways(storage: HeldStorage) -> None:
    storage.add("large", 40 << 20)
    content = random.Random(1).randbytes(32 << 20)
    with NbdClient.connect(str(storage.path), "large", timeout=30) as client:
        client.write(5, content)
        assert client.read(5, len(content)) == content


def test_the_socket_is_gone_in_the_end(tmp_path: Path) -> None:
    storage = HeldStorage(tmp_path / "s")
    storage.close()
    assert list(tmp_path.iterdir()) == []


def disk_of(content: Content) -> HeldDisk:
    disk = HeldDisk(content.size)
    for run in content.runs():
        disk.write(run.start, data(run.value, run.start, run.length))
    return disk


def test_a_disk_is_compared_with_content() -> None:
    content = zeroes(10_000_000)
    content.paste(5_000, stamped(6_000_000, 3))
    disk = disk_of(content)
    assert disk.wrong(content) is None
    disk.write(5_999_999, bytes([disk.read(5_999_999, 1)[0] ^ 1]))
    found = disk.wrong(content)
    assert found is not None
    assert found[0] <= 5_999_999 < found[1]


def test_zeroes_of_a_disk_end_where_they_are_told_to() -> None:
    for start, end in ((0, 100), (4095, 8193), (1, 20_000), (4096, 8192), (7, 7)):
        disk = HeldDisk(20_000)
        disk.write(0, b"\1" * 20_000)
        disk.zero(start, end - start)
        assert disk.read(0, 20_000) == (
            b"\1" * start + bytes(end - start) + b"\1" * (20_000 - end))
        disk.close()
