# SPDX-License-Identifier: GPL-2.0-or-later
"""The interactive qemu-io client, with the real one and with programs that pretend."""

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clients.errors import (
    PeerGone,
    PeerNonsense,
    PeerSilent,
    RequestFailed,
    RequestNotSent,
)
from harness.clients.qemu_io import QemuIo, QemuIoNotOpened
from harness.clients.transcript import MapRun
from harness.errors import EnvironmentProblem
from tests.unit.clients_lab import KIB, MIB, Process, binary, image


@pytest.fixture(name="disk")
def fixture_disk(tmp_path: Path) -> Iterator[QemuIo]:
    path = str(image(tmp_path / "disk", MIB))
    with QemuIo.open(binary("qemu-io"), path) as disk:
        yield disk


def test_requests(disk: QemuIo) -> None:
    data = bytes(range(256)) * 300
    disk.write(5, data)
    disk.write(0, b"abc", fua=True)
    assert disk.read(0, 70000) == b"abc\0\0" + data[:69995]
    assert disk.read(1, 1) == b"b"
    disk.write_pattern(100 * KIB, 10000, 0xA5)
    assert disk.verify(100 * KIB, 10000, 0xA5)
    assert not disk.verify(100 * KIB, 10001, 0xA5)
    disk.zero(1, 1)
    disk.zero(8192, 4096, unmap=True, fua=True)
    disk.discard(4096, 4096)
    disk.flush()
    assert disk.read(0, 3) == b"a\0c"
    assert disk.read(16, 0) == b""
    disk.write(16, b"")
    assert disk.allocated(0, 512) == 512
    assert disk.map() == (MapRun(MIB, True),)


def test_a_place_beyond_four_gigabytes(tmp_path: Path) -> None:
    path = str(image(tmp_path / "disk", 5 << 30))
    with QemuIo.open(binary("qemu-io"), path) as disk:
        disk.write((4 << 30) + 1, b"far away")
        assert disk.read(4 << 30, 40) == b"\0far away".ljust(40, b"\0")


def test_a_map_with_holes(tmp_path: Path) -> None:
    path = str(tmp_path / "disk")
    subprocess.run([binary("qemu-img"), "create", "-q", "-f", "qcow2", path, "10M"], check=True)
    with QemuIo.open(binary("qemu-io"), path, options=["-f", "qcow2"]) as disk:
        disk.write_pattern(64 * KIB, 1, 1)
        assert disk.map() == (MapRun(64 * KIB, False), MapRun(64 * KIB, True),
                              MapRun(10 * MIB - 128 * KIB, False))
        assert disk.allocated(0, MIB) == 64 * KIB


def test_errors_by_number(tmp_path: Path) -> None:
    path = str(image(tmp_path / "disk", MIB))
    failing = {"driver": "raw", "file": {
        "driver": "blkdebug", "image": {"driver": "file", "filename": path},
        "inject-error": [{"event": "none", "iotype": kind, "errno": number, "once": False}
                         for kind, number in (("read", errno.EACCES), ("write", errno.ENOSPC),
                                              ("write-zeroes", errno.EROFS),
                                              ("discard", errno.EPERM),
                                              ("block-status", errno.ETIMEDOUT))]}}
    with QemuIo.open(binary("qemu-io"), "json:" + json.dumps(failing),
                     options=["-d", "unmap"]) as disk:
        for request, number in (
            (lambda: disk.read(0, 512), errno.EACCES),
            (lambda: disk.verify(0, 512, 0), errno.EACCES),
            (lambda: disk.write(0, b"x"), errno.ENOSPC),
            (lambda: disk.write_pattern(0, 4, 7), errno.ENOSPC),
            (lambda: disk.zero(0, 512), errno.EROFS),
            (lambda: disk.discard(0, 512), errno.EPERM),
            (lambda: disk.map(), errno.ETIMEDOUT),
            (lambda: disk.allocated(0, 512), errno.ETIMEDOUT),
            (lambda: disk.read(MIB, 1), errno.EIO),
        ):
            with pytest.raises(RequestFailed) as caught:
                request()
            assert caught.value.errno == number


def test_over_nbd(tmp_path: Path) -> None:
    path, socket = image(tmp_path / "disk", MIB, 0x33), tmp_path / "nbd"
    with Process.daemon("--blockdev", f"file,node-name=disk,filename={path}",
                        "--nbd-server", f"addr.type=unix,addr.path={socket}",
                        "--export", "nbd,id=e,node-name=disk,writable=on") as process:
        process.monitor.recv(1)  # The greeting: now the options have been worked off.
        with QemuIo.open(binary("qemu-io"), f"nbd+unix:///disk?socket={socket}") as disk:
            disk.write(1, b"abc")
            assert disk.read(0, 5) == b"\x33abc\x33"
            process.kill()
            with pytest.raises(RequestFailed):
                disk.read(0, 5)
        with pytest.raises(QemuIoNotOpened, match="refused"):
            QemuIo.open(binary("qemu-io"), f"nbd+unix:///disk?socket={socket}")


def test_commands_that_qemu_io_refuses(disk: QemuIo) -> None:
    for request in (lambda: disk.read(-1, 5), lambda: disk.read(0, 3 << 30),
                    lambda: disk.write_pattern(0, 1, 300)):
        with pytest.raises(RequestNotSent):
            request()
    assert disk.command("nonsense") == ['command "nonsense" not found']
    with pytest.raises(ValueError, match="more than one line"):
        disk.command("read 0 1\nread 0 1")


def test_no_program_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="none/qemu-io: No such file"):
        QemuIo.open(str(tmp_path / "none" / "qemu-io"), "image")
    with pytest.raises(QemuIoNotOpened, match="No such file"):
        QemuIo.open(binary("qemu-io"), str(tmp_path / "none"))


def test_close_ends_the_process(disk: QemuIo) -> None:
    process = disk._process
    disk.close()
    disk.close()
    assert process.returncode is not None
    with pytest.raises(PeerGone, match="closed"):
        disk.read(0, 1)


def test_killed(disk: QemuIo) -> None:
    disk._process.send_signal(signal.SIGKILL)
    disk._process.wait()
    with pytest.raises(PeerGone, match="read -v 0 1"):
        disk.read(0, 1)
    with pytest.raises(PeerGone):
        disk.flush()


def test_frozen(disk: QemuIo) -> None:
    disk.timeout = 0.05
    disk._process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(PeerSilent, match="read -v 0 1"):
        disk.read(0, 1)
    disk._process.send_signal(signal.SIGCONT)
    with pytest.raises(PeerSilent):  # Its late answer is not taken for the answer to this one.
        disk.read(5, 1)
    assert time.monotonic() - start < 5


# Programs that pretend to be qemu-io: they print a prompt, and this to every command.

PRETEND = """
import sys
print(end="qemu-io> ", flush=True)
for line in sys.stdin:
    print({answer!r}, end="qemu-io> ", flush=True)
"""
RATE = "4 bytes, 1 ops; 00.00 sec (1 KiB/sec and 9 ops/sec)\n"


def pretend(answer: str) -> QemuIo:
    return QemuIo([sys.executable, "-c", PRETEND.format(answer=answer)], timeout=10)


def test_the_pretender_can_tell_the_truth() -> None:
    with pretend(f"00000004:  61 62 63 64  abcd\nread 4/4 bytes at offset 4\n{RATE}") as liar:
        assert liar.read(4, 4) == b"abcd"


@pytest.mark.parametrize("lie", [
    f"00000004:  61 62 63 64  abcd\nread 3/4 bytes at offset 4\n{RATE}",
    f"00000004:  61 62 63 64  abcd\nread 4/4 bytes at offset 8\n{RATE}",
    f"00000004:  61 62 63  abc\nread 4/4 bytes at offset 4\n{RATE}",
    f"00000005:  61 62 63 64  abcd\nread 4/4 bytes at offset 4\n{RATE}",
    f"00000004:  61 62 63 64  abcd\n00000008:  65  e\nread 4/4 bytes at offset 4\n{RATE}",
    f"read 4/4 bytes at offset 4\n{RATE}",
    f"00000004:  61 62 63 64  abcd\nwrote 4/4 bytes at offset 4\n{RATE}",
    "read failed: Gremlins\n",
    "read failed: Input/output error\nread failed: Input/output error\n",
    "00000004:  61 62 63 64  abcd\nread failed: Input/output error\n",
])
def test_lies_about_a_read(lie: str) -> None:
    with pretend(lie) as liar, pytest.raises(PeerNonsense, match="read -v 4 4"):
        liar.read(4, 4)


@pytest.mark.parametrize("lie", ["", "write failed: Input/output error\n", "done!\n"])
def test_no_result_is_not_success(lie: str) -> None:
    with pretend(lie) as liar:
        for request in (lambda: liar.read(4, 4), lambda: liar.discard(4, 4), liar.map,
                        lambda: liar.verify(4, 4, 0)):
            with pytest.raises(RequestNotSent):
                request()


def test_lies_about_allocation() -> None:
    with pretend("1 KiB (0x400) bytes     allocated at offset 1 KiB (0x400)\n"
                 "5/5 bytes allocated at offset 0 bytes\n") as liar:
        with pytest.raises(PeerNonsense):
            liar.map()
        with pytest.raises(PeerNonsense):
            liar.allocated(0, 4)


def test_no_prompt() -> None:
    with pytest.raises(PeerSilent, match="start"):
        QemuIo([sys.executable, "-c", "input()"], timeout=0.3)
    with pytest.raises(QemuIoNotOpened, match="out of bytes"):
        QemuIo([sys.executable, "-c", "print('out of bytes')"], timeout=10)
