# SPDX-License-Identifier: GPL-2.0-or-later
"""The human monitor's qemu-io, with a real qemu-system and with processes that lie."""

import errno
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.errors import (
    PeerGone,
    PeerNonsense,
    PeerSilent,
    RequestFailed,
    RequestNotSent,
)
from harness.clients.monitor import MonitorIo
from harness.clients.qmp import Qmp, QmpRefused
from harness.clients.transcript import MapRun
from harness.processes.supervise import Child
from tests.unit.clients_lab import DONE, KIB, MIB, Process, binary, image, monitor_of

SIZE = MIB


@dataclass(frozen=True)
class Lab:
    child: Child
    qmp: Qmp

    def node(self, name: str) -> MonitorIo:
        return MonitorIo(self.qmp, self.child.stdout, node=name)


@contextmanager
def system(tmp_path: Path, *options: str) -> Iterator[Lab]:
    """A paused qemu-system with the nodes `disk` and `temporary`."""
    near, far = socket.socketpair()
    disk = image(tmp_path / "disk", SIZE)
    temporary = image(tmp_path / "temporary", SIZE)
    with far:
        child = Child(
            [binary("qemu-system-x86_64"), "-nodefaults", "-display", "none", "-S",
             "-chardev", f"socket,id=mon,fd={far.fileno()}", "-mon", "chardev=mon,mode=control",
             "-blockdev", f"file,node-name=file,filename={disk},discard=unmap",
             "-blockdev", "raw,node-name=disk,file=file,discard=unmap",
             "-blockdev", f"file,node-name=temporary,filename={temporary}", *options],
            pass_fds=[far.fileno()], tty_stdout=True, env={"LC_ALL": "C"}, limit=8 * MIB)
    with child, Qmp.from_socket(near) as qmp:
        yield Lab(child, qmp)


@pytest.fixture(name="lab")
def fixture_lab(tmp_path: Path) -> Iterator[Lab]:
    with system(tmp_path, "-machine", "none",
                "-blockdev", "copy-before-write,node-name=cbw,file=disk,target=temporary",
                "-blockdev", "snapshot-access,node-name=snapshot,file=cbw") as lab:
        yield lab


def test_requests_on_a_node(lab: Lab) -> None:
    disk, snapshot = lab.node("cbw"), lab.node("snapshot")
    data = bytes(range(256)) * 256
    disk.write(1, data)
    disk.write(0, b"z", fua=True)
    assert disk.read(0, 65537) == b"z" + data
    assert disk.read(17, 30) == (b"z" + data)[17:47]
    assert snapshot.read(0, 64 * KIB) == bytes(64 * KIB)
    disk.write_pattern(5, 11, 0xEE)
    assert disk.verify(5, 11, 0xEE)
    assert not disk.verify(5, 12, 0xEE)
    disk.zero(6, 1)
    disk.zero(8192, 4096, unmap=True)
    disk.discard(4096, 4096)
    disk.flush()
    disk.write(3, b"")
    assert disk.read(3, 0) == b""
    assert disk.read(5, 3) == b"\xee\0\xee"
    assert lab.node("disk").map() == (MapRun(SIZE, True),)
    assert lab.node("disk").allocated(0, 512) == 512
    for node in (disk, snapshot):
        node.close()
        node.close()


def test_errors_by_number(lab: Lab) -> None:
    snapshot = lab.node("snapshot")
    for request, number in (
        (lambda: snapshot.write(0, b"x"), errno.ENOTSUP),
        (lambda: snapshot.zero(0, 512), errno.ENOTSUP),
        (lambda: snapshot.read(SIZE, 1), errno.EIO),
    ):
        with pytest.raises(RequestFailed) as caught:
            request()
        assert caught.value.errno == number


def test_access_denied(tmp_path: Path) -> None:
    with system(tmp_path, "-machine", "none") as lab:
        qmp = lab.qmp
        qmp.execute("block-dirty-bitmap-add", node="disk", name="none")
        qmp.execute("blockdev-add", {"driver": "copy-before-write", "node-name": "cbw",
                                     "file": "disk", "target": "temporary",
                                     "bitmap": {"node": "disk", "name": "none"}})
        qmp.execute("blockdev-add", driver="snapshot-access", node_name="snapshot", file="cbw")
        snapshot = lab.node("snapshot")
        for request in (lambda: snapshot.read(0, 512), snapshot.map):
            with pytest.raises(RequestFailed) as caught:
                request()
            assert caught.value.errno == errno.EACCES


def test_requests_on_a_device(tmp_path: Path) -> None:
    firmware = image(tmp_path / "firmware", 64 * KIB)
    with system(tmp_path, "-machine", "pc,accel=tcg", "-bios", str(firmware),
                "-device", "virtio-scsi-pci,id=bus",
                "-device", "scsi-hd,id=sda,bus=bus.0,drive=disk") as lab:
        for name in ("sda", "/machine/peripheral/sda"):
            sda = MonitorIo(lab.qmp, lab.child.stdout, device=name)
            sda.write(3, name.encode())
            assert sda.read(3, len(name)) == name.encode()
        with pytest.raises(RequestNotSent, match="not found"):
            MonitorIo(lab.qmp, lab.child.stdout, device="sdb").read(0, 1)


def test_any_command(lab: Lab) -> None:
    disk = lab.node("disk")
    assert disk.command("length") == ["1 MiB"]
    assert disk.command("flush") == []
    assert disk.command("read -P 1 0 1")[0] == "Pattern verification failed at offset 0, 1 bytes"
    with pytest.raises(RequestNotSent, match="nowhere"):
        MonitorIo(lab.qmp, lab.child.stdout, node="disk", fence_device="nowhere").command("length")


def test_requests_that_are_not_carried_out(lab: Lab) -> None:
    disk = lab.node("disk")
    for request in (lambda: disk.read(-1, 5), lambda: disk.read(0, 3 << 30),
                    lambda: disk.write_pattern(0, 1, 300), lambda: lab.node("nowhere").flush(),
                    lambda: lab.node("nowhere").read(0, 1),
                    lambda: lab.node("nowhere").command("length")):
        with pytest.raises(RequestNotSent):
            request()
    for text in ('x"', "x\\", "x\n"):
        with pytest.raises(ValueError, match="quoted"):
            disk.command(text)
    with pytest.raises(ValueError, match="either"):
        MonitorIo(lab.qmp, lab.child.stdout)


def test_beside_a_suspended_request(tmp_path: Path) -> None:
    """blkdebug says on the same output when it suspends and resumes a request."""
    image_path, firmware = tmp_path / "debugged", image(tmp_path / "firmware", 64 * KIB)
    subprocess.run([binary("qemu-img"), "create", "-q", "-f", "qcow2", image_path, "1M"],
                   check=True)
    with system(tmp_path, "-machine", "pc,accel=tcg", "-bios", str(firmware),
                "-blockdev", f"file,node-name=image,filename={image_path}",
                "-blockdev", "blkdebug,node-name=debug,image=image",
                "-blockdev", "qcow2,node-name=top,file=debug",
                "-device", "virtio-scsi-pci,id=bus",
                "-device", "scsi-hd,id=sda,bus=bus.0,drive=top",
                "-device", "scsi-hd,id=sdb,bus=bus.0,drive=disk") as lab:
        qmp, output = lab.qmp, lab.child.stdout
        sda = MonitorIo(qmp, output, device="sda")
        sdb = MonitorIo(qmp, output, device="sdb", fence_device="sda")
        assert sda.command("break write_aio A") == []
        sda.command("aio_write -P 7 0 512")
        assert output.wait(lambda printed: b"Suspended request 'A'" in printed)
        sdb.write(0, b"beside")
        assert sdb.read(0, 7) == b"beside\0"
        assert sda.read(65536, 4) == bytes(4)
        sda.command("resume A")
        assert output.wait(lambda printed: b"wrote 512/512 bytes at offset 0\n" in printed)
        assert sda.read(511, 2) == b"\7\0"


def test_a_killed_process(lab: Lab) -> None:
    disk = lab.node("disk")
    lab.child.kill()
    with pytest.raises(PeerGone, match="read -v 0 1"):
        disk.read(0, 1)
    with pytest.raises(PeerGone):
        disk.command("length")


def test_a_frozen_process(lab: Lab) -> None:
    disk = lab.node("disk")
    lab.qmp.timeout = 0.05
    lab.child.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(PeerSilent, match="write"):
        disk.write(0, b"x")
    assert time.monotonic() - start < 5
    lab.child.send_signal(signal.SIGCONT)


def test_a_daemon_has_no_human_monitor() -> None:
    with Process.daemon() as daemon, Qmp.from_socket(daemon.monitor) as qmp:
        disk = MonitorIo(qmp, Printed(b""), node="disk")
        with pytest.raises(QmpRefused) as caught:
            disk.read(0, 1)
        assert caught.value.error_class == "CommandNotFound"


# Processes that lie: a monitor that agrees to everything, and an output made up beforehand.

class Printed:
    """An output that is there already, or that comes only when waited for."""

    def __init__(self, at_once: bytes, later: bytes | None = None) -> None:
        self.position = 0
        self._at_once = at_once
        self._later = later

    def since(self, position: int = 0) -> bytes:
        return self._at_once

    def wait(self, enough: Callable[[bytes], bool], position: int = 0,
             timeout: float = 10.0) -> bytes | None:
        output = self._at_once if self._later is None else self._later
        return output if enough(output) else None


OK = DONE.replace(b"{},", b'"",')
TRUTH = (b"00000004:  61 62  ab\nread 2/2 bytes at offset 4\n"
         b"2 bytes, 1 ops; 00.00 sec (1 KiB/sec and 9 ops/sec)\n")
FENCE = b"Parsing error: whatever -- fence-1-end\n"


def test_the_whole_report_needs_no_fence() -> None:
    with monitor_of(OK, b"") as liar, Qmp.from_socket(liar.end) as qmp:
        assert MonitorIo(qmp, Printed(TRUTH), node="n").read(4, 2) == b"ab"
    with monitor_of(OK, b"") as liar, Qmp.from_socket(liar.end) as qmp:
        noise = b"warning: noise\r\n"
        terminal = noise + TRUTH.replace(b"\n", b"\r\n")
        assert MonitorIo(qmp, Printed(terminal), node="n").read(4, 2) == b"ab"


@pytest.mark.parametrize("early", [b"", TRUTH[:30], TRUTH[:-20], TRUTH[:-1]])
def test_a_report_on_its_way_is_waited_for(early: bytes) -> None:
    with monitor_of(OK, OK, b"") as liar, Qmp.from_socket(liar.end) as qmp:
        assert MonitorIo(qmp, Printed(early, TRUTH + FENCE), node="n").read(4, 2) == b"ab"


def test_no_report_before_the_fence() -> None:
    with monitor_of(OK, OK, b"") as liar, Qmp.from_socket(liar.end) as qmp:
        monitor = MonitorIo(qmp, Printed(b"", b"noise\n" + FENCE), node="n")
        with pytest.raises(RequestNotSent, match="noise"):
            monitor.write(4, b"ab")


def test_no_fence() -> None:
    with monitor_of(OK, OK, OK, b"") as liar, Qmp.from_socket(liar.end, 5) as qmp:
        monitor = MonitorIo(qmp, Printed(b"noise\n"), node="n")
        with pytest.raises(PeerSilent, match="read -v 4 2"):
            monitor.read(4, 2)


@pytest.mark.parametrize("lie", [TRUTH.replace(b"offset 4", b"offset 5"),
                                 TRUTH.replace(b"61 62", b"61"),
                                 b"read failed: Gremlins\n"])
def test_a_lie_in_the_report(lie: bytes) -> None:
    with monitor_of(OK, OK, b"") as liar, Qmp.from_socket(liar.end) as qmp:
        monitor = MonitorIo(qmp, Printed(lie), node="n")
        with pytest.raises(PeerNonsense, match="read -v 4 2"):
            monitor.read(4, 2)
