# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD client, with a real storage daemon and with servers that lie."""

import errno
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.errors import PeerGone, PeerNonsense, PeerSilent, RequestNotSent
from harness.clients.libnbd import libnbd_available
from harness.clients.nbd import NbdClient, poll_any
from harness.clients.nbd_types import (
    Completion,
    Extent,
    NbdDisconnected,
    NbdError,
    NbdNonsense,
    NbdRefused,
    NbdTimeout,
    Token,
)
from harness.clients.qmp import Qmp
from tests.unit.clients_lab import KIB, MIB, Liar, NbdRequest, Process, export_of, image

pytestmark = pytest.mark.skipif(not libnbd_available(), reason="no libnbd")

SIZE = MIB
DIRTY = "qemu:dirty-bitmap:b"


@dataclass(frozen=True)
class Lab:
    process: Process
    qmp: Qmp
    path: str


@pytest.fixture(name="lab")
def fixture_lab(tmp_path: Path) -> Iterator[Lab]:
    """A daemon with the exports `disk` (writable, with bitmap `b`), `frozen` and `slow`."""
    path = str(tmp_path / "nbd")
    disk, temporary = image(tmp_path / "disk", SIZE, 0x11), image(tmp_path / "temporary", SIZE)
    with (Process.daemon(
            "--object", "throttle-group,id=limit,limits.iops-total=2",
            "--blockdev", f"file,node-name=file,filename={disk},discard=unmap",
            "--blockdev", "raw,node-name=disk,file=file,discard=unmap",
            "--blockdev", "throttle,node-name=slow,throttle-group=limit,file=disk",
            "--blockdev", f"file,node-name=temporary,filename={temporary}",
            "--blockdev", "copy-before-write,node-name=cbw,file=disk,target=temporary",
            "--blockdev", "snapshot-access,node-name=snapshot,file=cbw",
            "--nbd-server", f"addr.type=unix,addr.path={path}",
            "--export", "nbd,id=e2,node-name=snapshot,writable=on,name=frozen",
            "--export", "nbd,id=e3,node-name=slow,name=slow") as process,
            Qmp.from_socket(process.monitor) as qmp):
        qmp.execute("block-dirty-bitmap-add", node="cbw", name="b")
        qmp.execute("block-export-add", type="nbd", id="e1", node_name="cbw", name="disk",
                    writable=True, bitmaps=["b"])
        yield Lab(process, qmp, path)


def test_what_the_export_can_do(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk") as disk, NbdClient.connect(lab.path, "slow") as slow:
        assert disk.info.size == SIZE
        assert disk.info.structured
        assert disk.info.can_trim
        assert disk.info.can_df
        assert not disk.info.read_only
        assert slow.info.read_only
        assert slow.info.maximum_block == 32 * MIB


def test_requests_one_by_one(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk") as disk:
        disk.write(3, b"abc")
        disk.write(4096, b"x" * 70000, fua=True)
        assert disk.read(0, 8) == b"\x11\x11\x11abc\x11\x11"
        assert disk.read(4095, 70002) == b"\x11" + b"x" * 70000 + b"\x11"
        disk.zero(4, 1)
        disk.zero(512, 512, no_hole=True, fua=True)
        disk.flush()
        disk.cache(0, 4096)
        disk.discard(8192, 4096, fua=True)
        assert disk.read(3, 3) == b"a\0c"
        assert disk.read(5, 0) == b""
        with NbdClient.connect(lab.path, "frozen") as frozen:
            assert frozen.read(0, 128 * KIB) == b"\x11" * 128 * KIB


@pytest.mark.parametrize("structured", [True, False])
def test_errors_are_the_servers(lab: Lab, structured: bool) -> None:
    with NbdClient.connect(lab.path, "frozen", structured=structured) as frozen:
        for request, number in (
            (lambda: frozen.write(0, b"x"), errno.ENOTSUP),
            (lambda: frozen.zero(0, 512), errno.ENOTSUP),
            (lambda: frozen.zero(0, 512, fast=True), errno.ENOTSUP),
            (lambda: frozen.read(SIZE, 1), errno.EINVAL),
            (lambda: frozen.read(0, 33 * MIB), errno.EINVAL),
            (lambda: frozen.block_status(0, SIZE + 1), errno.EINVAL),
        ):
            with pytest.raises(NbdError) as caught:
                request()
            assert caught.value.errno == number
    with NbdClient.connect(lab.path, "slow") as slow, pytest.raises(NbdError) as caught:
        slow.write(0, b"x")
    assert caught.value.errno == errno.EINVAL


def test_a_flag_that_was_not_negotiated_reaches_the_server(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk", structured=False) as disk:
        with pytest.raises(NbdError) as caught:
            disk.read(0, 512, df=True)
        assert caught.value.errno == errno.EINVAL
        assert disk.read(0, 512) == b"\x11" * 512
    with NbdClient.connect(lab.path, "disk", df=True) as disk:
        assert disk.read(0, 512) == b"\x11" * 512
        assert disk.read(0, 512, df=False) == b"\x11" * 512


def test_requests_that_libnbd_cannot_send(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk") as disk:
        for request in (lambda: disk.read(-1, 512), lambda: disk.read(1 << 64, 512),
                        lambda: disk.read(0, 65 * MIB), lambda: disk.zero(0, 1 << 32)):
            with pytest.raises(RequestNotSent):
                request()
        assert disk.read(0, 1) == b"\x11"


def test_block_status_by_context(lab: Lab) -> None:
    contexts = ("base:allocation", DIRTY, "qemu:allocation-depth")
    with NbdClient.connect(lab.path, "disk", contexts=contexts) as disk:
        assert disk.contexts == ("base:allocation", DIRTY)
        disk.write(64 * KIB, b"y")
        clean = Extent(64 * KIB, 0)
        assert disk.block_status(0, SIZE, DIRTY) == (
            clean, Extent(64 * KIB, 1), Extent(SIZE - 128 * KIB, 0))
        assert disk.block_status(0, SIZE, DIRTY, req_one=True) == (clean,)
        assert disk.block_status(0, SIZE) == (Extent(SIZE, 0),)
        assert disk.block_statuses(0, 512) == {"base:allocation": (Extent(512, 0),),
                                               DIRTY: (Extent(512, 0),)}


def test_block_status_without_a_context(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk") as disk, pytest.raises(NbdError) as caught:
        disk.block_status(0, 512)
    assert caught.value.errno == errno.EINVAL


def test_no_such_export_and_no_such_socket(lab: Lab) -> None:
    with pytest.raises(NbdRefused, match="none"):
        NbdClient.connect(lab.path, "none")
    with pytest.raises(NbdDisconnected, match="No such file"):
        NbdClient.connect(lab.path + "x", "disk")


def test_many_in_flight(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk", contexts=["base:allocation"]) as disk:
        tokens = [disk.submit_write(0, b"a" * 512), disk.submit_flush(),
                  disk.submit_read(SIZE, 1), disk.submit_zero(1024, 512),
                  disk.submit_discard(4096, 4096), disk.submit_cache(0, 512),
                  disk.submit_block_status(0, 512), disk.submit_read(8192, 4)]
        assert disk.in_flight() == tuple(tokens)
        found: dict[Token, Completion] = {}
        while len(found) < len(tokens):
            for completion in disk.poll(10):
                found[completion.token] = completion
        assert [found[token].errno for token in tokens] == [0, 0, errno.EINVAL, 0, 0, 0, 0, 0]
        assert found[tokens[6]].extents == {"base:allocation": (Extent(512, 0),)}
        assert found[tokens[7]].data == b"\x11" * 4
        assert found[tokens[2]].data is None
        assert disk.in_flight() == ()
        assert disk.poll(10) == []


def test_a_slow_request_stays_in_flight(lab: Lab) -> None:
    with (NbdClient.connect(lab.path, "slow") as slow,
          NbdClient.connect(lab.path, "disk") as disk):
        slow_tokens = [slow.submit_read(0, 1), slow.submit_read(1, 1), slow.submit_read(2, 1)]
        assert slow.wait(slow_tokens[0], 10).data == b"\x11"
        quick = disk.submit_read(5, 1)
        assert [(client, completion.token) for client, completion
                in poll_any([slow, disk], 10)] in ([(disk, quick)],
                                                   [(slow, slow_tokens[1]), (disk, quick)])
        assert slow_tokens[2] in slow.in_flight()
        assert poll_any([disk], 10) == []
        with pytest.raises(ValueError, match="not in flight"):
            disk.wait(quick)
        assert disk.read(0, 1) == b"\x11"


def test_a_killed_server(lab: Lab) -> None:
    disk, many = NbdClient.connect(lab.path, "disk"), NbdClient.connect(lab.path, "slow")
    tokens = tuple(many.submit_read(place, 1) for place in range(4))
    first = many.poll(10)
    lab.process.kill()
    with pytest.raises(NbdDisconnected, match="write 1 at 7") as caught:
        disk.write(7, b"x")
    assert isinstance(caught.value, PeerGone)
    with pytest.raises(NbdDisconnected, match="flush"):
        disk.flush()
    landed = {completion.token for completion in first + _until_lost(many)}
    assert set(many.in_flight()) == set(tokens) - landed != set()
    disk.close()
    many.close()
    with pytest.raises(NbdDisconnected, match="closed"):
        disk.read(0, 1)


def test_a_server_that_does_not_answer(lab: Lab) -> None:
    with NbdClient.connect(lab.path, "disk", timeout=0.05) as disk:
        lab.process.freeze()
        start = time.monotonic()
        with pytest.raises(NbdTimeout, match="read 512 at 4096") as caught:
            disk.read(4096, 512)
        assert isinstance(caught.value, PeerSilent)
        token = disk.submit_read(0, 2)
        assert disk.poll(0.02) == []
        with pytest.raises(NbdTimeout):
            disk.wait(token, 0.02)
        with pytest.raises(NbdTimeout, match="export 'disk'"):
            NbdClient.connect(lab.path, "disk", timeout=0.05)
        assert time.monotonic() - start < 5
        lab.process.thaw()
        assert disk.wait(token, 10).data == b"\x11\x11"
        disk.timeout = 10
        assert disk.read(0, 1) == b"\x11"


def _until_lost(client: NbdClient) -> list[Completion]:
    landed: list[Completion] = []
    try:
        while True:
            landed += client.poll(10)
    except NbdDisconnected:
        return landed


def test_close_twice(lab: Lab) -> None:
    disk = NbdClient.connect(lab.path, "disk")
    disk.close()
    disk.close()
    with pytest.raises(NbdDisconnected, match="closed"):
        disk.submit_flush()


# Servers that lie.

@pytest.mark.parametrize(("answer", "structured", "error"), [
    (lambda request: b"x" * 32, False, NbdNonsense),
    (lambda request: NbdRequest(0, 0, 77, 0, 0).simple(0, b"01234567"), False, NbdNonsense),
    (lambda request: request.simple(0, b"01234567"), True, NbdNonsense),
    (lambda request: request.chunk(1, struct.pack(">Q", 4) + b"01234567"), True, NbdNonsense),
    (lambda request: request.chunk(55, b""), True, NbdNonsense),
    (lambda request: b"", False, NbdDisconnected),
    (lambda request: request.simple(0, b"012"), False, NbdDisconnected),
    (lambda request: None, False, NbdTimeout),
], ids=["magic", "cookie", "simple", "place", "kind", "end", "cut short", "silence"])
def test_a_lie_in_an_answer(answer: object, structured: bool, error: type[Exception]) -> None:
    with (export_of(SIZE, answer, structured=structured) as liar,  # type: ignore[arg-type]
          NbdClient.from_socket(liar.end, timeout=10) as client):
        client.timeout = 0.05 if error is NbdTimeout else 10
        with pytest.raises(error, match="read 8 at 0"):
            client.read(0, 8)
    with (export_of(SIZE, answer, structured=structured) as liar,  # type: ignore[arg-type]
          NbdClient.from_socket(liar.end, timeout=10) as client):
        token = client.submit_read(0, 8)
        if error is NbdTimeout:
            assert client.poll(0.02) == []
        else:
            with pytest.raises(error):
                client.poll(10)
            assert client.in_flight() == (token,)


def test_an_answer_of_half_the_data() -> None:
    """libnbd 1.14 makes it EIO; 1.22 says that it is against the protocol."""
    def answer(request: NbdRequest) -> bytes:
        return request.chunk(1, struct.pack(">Q", 0) + b"0123")

    with (export_of(SIZE, answer, structured=True) as liar,
          NbdClient.from_socket(liar.end, timeout=10) as client,
          pytest.raises((NbdError, NbdNonsense), match="read 8 at 0") as caught):
        client.read(0, 8)
    with (export_of(SIZE, answer, structured=True) as liar,
          NbdClient.from_socket(liar.end, timeout=10) as client):
        client.submit_read(0, 8)
        if caught.type is NbdNonsense:
            with pytest.raises(NbdNonsense):
                client.poll(10)
        else:
            assert client.poll(10)[0].errno == errno.EIO


def test_answers_out_of_order() -> None:
    first: list[NbdRequest] = []

    def hold(request: NbdRequest) -> bytes:
        first.append(request)
        return b""

    def both(request: NbdRequest) -> bytes:
        return request.simple(0, b"b") + first[0].simple(28)

    with export_of(SIZE, hold, both) as liar, NbdClient.from_socket(liar.end) as client:
        one, two = client.submit_read(0, 1), client.submit_read(1, 1)
        landed = client.poll(10)
        while len(landed) < 2:
            landed += client.poll(10)
        assert [(done.token, done.errno, done.data) for done in landed] == [
            (two, 0, b"b"), (one, errno.ENOSPC, None)]


@pytest.mark.parametrize(("greeting", "error"), [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", PeerNonsense), (b"", PeerGone), (b"NBDM", PeerGone)])
def test_a_lie_in_the_handshake(greeting: bytes, error: type[Exception]) -> None:
    with Liar(lambda far: far.sendall(greeting)) as liar, pytest.raises(error):
        NbdClient.from_socket(liar.end, "disk", timeout=10)
