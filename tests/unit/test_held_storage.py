# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage that the harness holds, asked by libnbd."""

from __future__ import annotations

import json
import random
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.builds import find
from harness.cli.bench_held import held_rate
from harness.clients.errors import PeerGone, PeerSilent
from harness.clients.libnbd import libnbd_problem
from harness.clients.nbd import NbdClient
from harness.clients.nbd_types import NbdError
from harness.errors import HarnessError
from harness.processes import run as run_program
from harness.stamps import data
from harness.storage.held import Fate, HeldStorage
from harness.storage.held_disk import HeldDisk
from harness.storage.held_wire import ExportOffer, Flag
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


def test_what_is_to_pass_passes_also_if_it_has_come_already(
        storage: HeldStorage, client: NbdClient) -> None:
    storage.hold()
    early = client.submit_read(0, 3)
    arrived(storage, 1)
    for _ in range(2):
        storage.let_pass(StorageRequest("disk", RequestKind.READ, 0, 3))
    assert client.wait(early).errno == 0
    assert len(storage.to_pass) == 1
    assert client.read(0, 3) == bytes(3)
    assert not storage.to_pass


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


def test_block_status_follows_what_is_done(storage: HeldStorage) -> None:
    storage.add("other", SIZE, ExportOffer(SIZE, status=True))
    with NbdClient.connect(str(storage.path), "other", timeout=10,
                           contexts=("base:allocation",)) as client:
        assert client.info.structured
        client.write(0, bytes(65536))
        client.zero(65536, 65536, no_hole=True, fast=True)
        client.zero(131072, 65536)
        client.write(196608, b"x" * 65536)
        client.discard(196608, 65536)
        client.write(SIZE - 512, b"y" * 512, fua=False)
        expected = ((65536, 0), (65536, 2), (SIZE - 131072 - 512, 3), (512, 0))
        assert tuple((each.length, each.flags) for each in client.block_status(
            0, SIZE)) == expected
        assert tuple((each.length, each.flags) for each in client.block_status(
            65536, SIZE - 65536, req_one=True)) == expected[1:2]
        assert client.read(SIZE - 1024, 1024) == bytes(512) + b"y" * 512
        storage.hold()
        client.submit_block_status(0, 512)
        arrived(storage, 1)
        (pending,) = storage.pending()
        assert pending.asked == StorageRequest("other", RequestKind.STATUS, 0, 512)
        storage.complete(pending, Errno.EIO)
        assert client.poll(10)[0].errno == Errno.EIO


def test_qemu_asks_it_all(storage: HeldStorage) -> None:
    """QEMU's own client: structured replies, block status, zeroes of each sort, trim, FUA."""
    try:
        tools = find(None).tools
        image_tool, io_tool = tools["qemu-img"], tools["qemu-io"]
    except (HarnessError, KeyError) as why:
        pytest.skip(str(why))
    storage.add("other", SIZE, ExportOffer(SIZE, status=True, fua=True))
    address = f"nbd+unix:///other?socket={storage.path}"
    asked = ("write -f -P 7 0 64k", "write -z 64k 64k", "write -P 8 128k 128k",
             "write -z -u 128k 64k", "discard 192k 64k", "flush")
    done = run_program([*io_tool.argv, "-f", "raw", "-d", "unmap", "-t", "writeback",
                        *(word for each in asked for word in ("-c", each)), address],
                       env=io_tool.env)
    assert done.exit.code == 0, done
    seen = [(each.asked.kind, each.asked.offset, each.flags) for each in storage.log
            if each.asked.kind not in (RequestKind.READ, RequestKind.STATUS)]
    assert seen[:5] == [
        (RequestKind.WRITE, 0, Flag.FUA), (RequestKind.ZERO, 64 << 10, Flag.NO_HOLE),
        (RequestKind.WRITE, 128 << 10, Flag.NONE), (RequestKind.ZERO, 128 << 10, Flag.NONE),
        (RequestKind.DISCARD, 192 << 10, Flag.NONE)]
    assert seen[-1][0] is RequestKind.FLUSH
    done = run_program([*image_tool.argv, "map", "--output=json", "-f", "raw", address],
                       env=image_tool.env)
    runs = [(each["start"] >> 10, each["length"] >> 10, each["zero"], each["data"])
            for each in json.loads(done.stdout)]
    assert runs == [(0, 64, False, True), (64, 64, True, True), (128, 896, True, False)]


def test_zeroes_that_must_be_fast_can_be_refused(storage: HeldStorage) -> None:
    storage.add("other", SIZE, ExportOffer(SIZE, slow_zeroes=True, fua=True))
    with NbdClient.connect(str(storage.path), "other", timeout=10) as client:
        client.write(0, b"data", fua=True)
        with pytest.raises(NbdError) as caught:
            client.zero(0, 512, fast=True)
        assert caught.value.errno == Errno.ENOTSUP
        assert client.read(0, 4) == b"data"
        client.zero(0, 512, no_hole=True)
        assert client.read(0, 4) == bytes(4)
    assert [each.flags for each in storage.log] == [
        Flag.FUA, Flag.FAST_ZERO, Flag.NONE, Flag.NO_HOLE, Flag.NONE]


def test_a_stall_keeps_everything_back_until_it_is_over(
        storage: HeldStorage, client: NbdClient) -> None:
    storage.add("other", SIZE)
    storage.stall("disk")
    token = client.submit_write(0, b"abc")
    with NbdClient.connect(str(storage.path), "other", timeout=10) as other:
        other.write(0, b"x")  # went round the server's loop after the write
    assert client.poll(0) == []
    assert storage.disks["disk"].read(0, 3) == b"abc"
    assert storage.waiting("disk") == 1
    with pytest.raises(PeerSilent):
        NbdClient.connect(str(storage.path), "disk", timeout=0.1)
    storage.resume("disk")
    assert client.wait(token, 10).errno == 0
    with NbdClient.connect(str(storage.path), "disk", timeout=10) as again:
        assert again.read(0, 3) == b"abc"


def test_it_takes_thousands_of_requests_a_second() -> None:
    try:
        rate = held_rate(find(None))
    except HarnessError as why:
        pytest.skip(str(why))
    # Below the 5,000 that `bench` shows on a machine with nothing else to do.
    assert rate is None or rate >= 1000


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
