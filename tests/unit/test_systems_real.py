# SPDX-License-Identifier: GPL-2.0-or-later
"""The real systems under test, with the QEMU that is found here."""

import errno
import os
import signal
import time

import pytest

from harness import stamps
from harness.builds import STORAGE_DAEMON, SYSTEM, Build, Tool, find, query_schema
from harness.errors import EnvironmentProblem
from harness.storage.images import ImageStore
from harness.systems import qmp_system
from harness.systems.daemon import QsdSystem
from harness.systems.failure import SystemCrashed, SystemFailed, SystemHung
from harness.systems.qemu_system import QemuSystem
from model.configuration import (
    GIB,
    KIB,
    MIB,
    Configuration,
    Fault,
    Format,
    Image,
    Protocol,
    RequestKind,
)
from model.content import initial_stamp
from model.errors import QmpError
from model.operations import (
    AddFilter,
    AddSnapshot,
    Attach,
    BitmapAdd,
    BitmapMerge,
    BitmapRef,
    Context,
    Discard,
    Export,
    Flush,
    Inspect,
    Read,
    RemoveNode,
    Status,
    Unexport,
    Via,
    Write,
    Zero,
)

C = 64 * KIB
SIZE = 4 * C + 1536
PLAIN = Configuration((Image("src", SIZE, filled=((0, SIZE),)), Image("tmp", SIZE)))
FLEECING = (AddFilter("cbw", "src", "tmp"), AddSnapshot("snap", "cbw"), Export("cbw"),
            Export("snap"))
OLD = stamps.data(initial_stamp(0), 0, SIZE)
KINDS = {QsdSystem: STORAGE_DAEMON, QemuSystem: SYSTEM}
NBD = (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE)


@pytest.fixture(scope="module")
def build():
    try:
        found = find()
    except EnvironmentProblem as why:
        pytest.skip(str(why))
    subject = next(found.tool(name) for name in KINDS.values() if found.has(name))
    if not query_schema(subject).has_driver("snapshot-access"):
        pytest.skip(f"{subject.path} has no snapshot-access")
    return found


@pytest.fixture(scope="module")
def store(build):
    store = ImageStore(build)
    yield store
    store.close()


class Driver:
    """Does operations, numbered from 1, and ends the systems that it started."""

    def __init__(self, build, store):
        self.build, self.store, self.systems, self.number = build, store, [], 0

    def start(self, kind=QsdSystem, configuration=PLAIN, *operations, **options):
        if not self.build.has(KINDS[kind]):
            pytest.skip(f"no {KINDS[kind]} here")
        self.systems.append(kind(self.build, configuration, self.store, **options))
        for operation in operations:
            answer = self.do(operation)
            assert (answer.refused, answer.error) == (None, None), operation
        return self.systems[-1]

    def do(self, operation):
        self.number += 1
        return self.systems[-1].apply(self.number, operation)


@pytest.fixture
def driver(build, store):
    driver = Driver(build, store)
    yield driver
    for system in driver.systems:
        system.close()


@pytest.fixture(params=KINDS, ids=KINDS.values())
def fleecing(request, driver):
    """Either system with a filter and a snapshot, both exported."""
    system = driver.start(request.param)
    for operation in FLEECING:
        assert driver.do(operation).refused is None
    return system


def test_the_snapshot_keeps_what_the_guest_overwrites(fleecing, driver):
    write = Write("cbw", 1000, 2000)
    assert driver.do(write).error is None
    new = stamps.data(driver.number, 1000, 2000)
    assert driver.do(Read("cbw", 1000, 2000)).data == new
    for via in fleecing.channels - {Via.DEVICE}:
        assert driver.do(Read("snap", 0, C, via)).data == OLD[:C], via
    assert driver.do(Inspect("snap")).data == OLD
    assert driver.do(Inspect("src")).data == OLD[:1000] + new + OLD[3000:]
    assert driver.do(Inspect("tmp")).data == OLD[:C] + bytes(SIZE - C)


@pytest.mark.parametrize("via", Via)
def test_every_channel_does_every_request(fleecing, driver, via):
    if via is Via.DEVICE and isinstance(fleecing, QemuSystem):
        assert driver.do(Attach("cbw")).refused is None
    for request in (Write("cbw", 512, 1024, via, fua=True), Zero("cbw", C, C, via, unmap=True),
                    Zero("cbw", 10, 600, via), Discard("cbw", 2 * C, C, via),
                    Flush("cbw", via=via), Status("cbw", 0, SIZE, via)):
        answer = driver.do(request)
        assert (answer.error, answer.disconnected) == (None, False), request
    data = driver.do(Read("cbw", 0, SIZE, via)).data
    assert data[610:1536] == stamps.data(driver.number - 6, 610, 926)
    assert data[10:610] == bytes(600)
    assert data[C:3 * C] == bytes(2 * C)
    assert data[3 * C:] == OLD[3 * C:]


def test_a_denied_read_shows_the_errno_of_its_channel(fleecing, driver):
    assert driver.do(Discard("snap", C, 2 * C)).error is None
    for via in fleecing.channels - {Via.DEVICE}:
        expected = errno.EACCES if via is Via.MONITOR else errno.EINVAL
        assert driver.do(Read("snap", 0, 2 * C, via)).error == expected, via
        assert driver.do(Write("snap", 0, 512, via)).error == errno.ENOTSUP, via
    assert driver.do(Status("snap", 0, SIZE)).error == errno.EINVAL
    answer = driver.do(Inspect("snap"))
    assert answer.denied == ((C, 3 * C),)
    assert answer.data == OLD[:C] + bytes(2 * C) + OLD[3 * C:]


def test_who_is_not_there_is_enoent(fleecing, driver):
    for via in fleecing.channels:
        assert driver.do(Read("nobody", 0, 512, via)).error == errno.ENOENT, via


def test_block_status_is_asked_in_each_context(driver):
    driver.start(QsdSystem, PLAIN, BitmapAdd("src", "b", 512),
                 Export("src", True, (BitmapRef("src", "b"),), allocation_depth=True),
                 Write("src", C, 1024), Zero("src", 2 * C, C, unmap=True))
    dirty = driver.do(Status("src", 0, SIZE, context="qemu:dirty-bitmap:b")).extents
    assert dirty == ((C, 0), (1024, 1), (C - 1024, 0), (C, 1), (SIZE - 3 * C, 0))
    depth = driver.do(Status("src", 0, SIZE, context=Context.DEPTH)).extents
    assert sum(length for length, _ in depth) == SIZE
    one = driver.do(Status("src", 0, SIZE, context=Context.ALLOCATION, one=True)).extents
    assert one == ((2 * C, 0),)


def test_observation_has_all_bitmaps_and_the_digests_that_there_are(fleecing, driver):
    driver.do(BitmapAdd("tmp", "b", 2 * C, disabled=True))
    driver.do(BitmapAdd("tmp", "c", C))
    driver.do(Write("cbw", 0, 512))
    named = [BitmapRef("tmp", "b"), BitmapRef("tmp", "nobody")]
    seen = fleecing.observe(named)
    assert [(view.name, view.granularity, view.count, view.recording)
            for view in seen.bitmaps["tmp"]] == [("c", C, C, True), ("b", 2 * C, 0, False)]
    assert [view.count for view in seen.bitmaps["cbw"]][:2] == [5 * C, C]
    # SHA-256 of eight zero bytes.
    assert seen.digests == {("tmp", "b"): (
        "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc")}


def test_a_refused_command_is_told_with_class_and_text(fleecing, driver):
    assert driver.do(RemoveNode("cbw")).refused == QmpError("Node cbw is in use")
    assert driver.do(BitmapMerge("src", "b", (BitmapRef("src", "c"),))).refused == QmpError(
        "Dirty bitmap 'b' not found")
    assert driver.do(Unexport("nobody")).refused == QmpError("Export 'nobody' is not found")


def test_an_export_is_gone_when_the_operation_is_done(fleecing, driver):
    for _ in range(3):
        for via in fleecing.channels & {Via.NBD, Via.NBD_SIMPLE, Via.QEMU_IO}:
            assert driver.do(Read("snap", 0, 512, via)).error is None
        for operation in (Unexport("snap"), RemoveNode("snap"), AddSnapshot("snap", "cbw"),
                          Export("snap", writable=False)):
            assert driver.do(operation).refused is None


def test_a_read_only_export_refuses_writes_by_any_client(driver):
    system = driver.start(QsdSystem, PLAIN, Export("src", writable=False))
    for via in system.channels:
        assert driver.do(Read("src", 0, 512, via)).data == OLD[:512]
        assert driver.do(Write("src", 0, 512, via)).error == errno.EINVAL, via
        assert driver.do(Discard("src", 0, 512, via)).error == errno.EINVAL, via


def test_an_inspection_leaves_no_trace(driver):
    system = driver.start(QsdSystem)
    before = system.process.qmp.execute("query-block-exports")
    assert driver.do(Inspect("src")).data == OLD
    assert driver.do(Inspect("src")).data == OLD
    assert system.process.qmp.execute("query-block-exports") == before == []
    assert driver.do(Inspect("nobody")).refused is not None


def test_the_guests_device_goes_from_node_to_node(driver):
    driver.start(QemuSystem)
    assert driver.do(Read("src", 0, 512, Via.DEVICE)).error == errno.ENOENT
    for operation in (Attach("src"), Write("src", 0, 512, Via.DEVICE),
                      AddFilter("cbw", "src", "tmp"), Attach("cbw"),
                      AddSnapshot("snap", "cbw"), Write("cbw", 0, 512, Via.DEVICE)):
        answer = driver.do(operation)
        assert (answer.refused, answer.error) == (None, None)
    assert driver.do(Read("src", 0, 512, Via.DEVICE)).error == errno.ENOENT
    number = driver.number - 5
    assert driver.do(Read("snap", 0, 512, Via.MONITOR)).data == stamps.data(number, 0, 512)
    assert "Permission conflict" in driver.do(Attach("src")).refused.desc
    assert driver.do(RemoveNode("snap")).refused is None
    assert driver.do(Attach("src")).refused is None


def test_a_storage_daemon_has_no_device(driver):
    driver.start(QsdSystem)
    assert driver.do(Attach("src")).refused.error_class == "CommandNotFound"


@pytest.mark.parametrize("protocol", [Protocol.FILE, Protocol.NBD])
@pytest.mark.parametrize("image_format", Format)
def test_every_format_serves_as_source_and_as_target(driver, image_format, protocol):
    images = (Image("src", SIZE, image_format, protocol, filled=((0, SIZE),)),
              Image("tmp", SIZE, image_format, protocol))
    driver.start(QsdSystem, Configuration(images))
    for operation in FLEECING:
        assert driver.do(operation).refused is None
    assert driver.do(Inspect("src")).data == OLD
    assert driver.do(Inspect("tmp")).data == bytes(SIZE)
    assert driver.do(Write("cbw", 0, SIZE)).error is None
    number = driver.number
    assert driver.do(Inspect("snap")).data == OLD
    assert driver.do(Inspect("tmp")).data == OLD
    assert driver.do(Inspect("src")).data == stamps.data(number, 0, SIZE)


def test_an_image_shows_its_backing_file(driver):
    driver.start(QsdSystem, Configuration((
        Image("base", SIZE, filled=((0, SIZE),)),
        Image("top", SIZE, Format.QCOW2, backing="base", filled=((C, C),)))))
    assert driver.do(Inspect("top")).data == (
        OLD[:C] + stamps.data(initial_stamp(1), C, C) + OLD[2 * C:])


def test_faults_fail_requests_of_their_kind_and_place(driver):
    driver.start(QsdSystem, Configuration((Image(
        "src", SIZE, faults=(Fault(RequestKind.WRITE, C, "ENOSPC"),
                             Fault(RequestKind.READ, 2 * C, once=True))),)), Export("src"))
    assert driver.do(Write("src", C + 512, 512)).error is None
    assert driver.do(Write("src", 0, C + 1)).error == errno.ENOSPC
    assert driver.do(Read("src", 2 * C, 512, Via.NBD_DF)).error == errno.EIO
    assert driver.do(Read("src", 2 * C, 512, Via.NBD_DF)).error is None


@pytest.mark.parametrize("via", NBD)
def test_a_server_that_hangs_up_is_an_answer(driver, via):
    faulty = Image("src", SIZE, filled=((0, SIZE),), faults=(Fault(RequestKind.READ, C),))
    driver.start(QsdSystem, Configuration((faulty,)), Export("src"))
    answer = driver.do(Read("src", 0, SIZE, via))
    assert answer.disconnected == (via is Via.NBD)
    assert answer.error == (None if via is Via.NBD else errno.EIO)
    assert driver.do(Read("src", 0, 512, via)).data == OLD[:512]
    assert driver.do(Read("src", 0, SIZE, Via.QEMU_IO)).error == errno.EIO
    assert driver.do(Read("src", 0, 512, Via.QEMU_IO)).data == OLD[:512]


def test_a_crash_is_told_with_its_signal(fleecing, driver):
    os.kill(fleecing.process.child.pid, signal.SIGABRT)
    with pytest.raises(SystemCrashed) as caught:
        driver.do(Read("cbw", 0, 512))
    assert caught.value.signal == "SIGABRT"
    with pytest.raises(SystemCrashed):
        fleecing.observe([])
    with pytest.raises(SystemFailed):
        driver.do(Write("cbw", 0, 512, Via.MONITOR))


@pytest.mark.parametrize("stopped", [Read("src", 0, 512), Inspect("src"), RemoveNode("src")])
def test_a_hang_is_told_in_time_and_can_be_ended(driver, stopped):
    system = driver.start(QsdSystem, PLAIN, Export("src"), Read("src", 0, 512), timeout=0.3)
    os.kill(system.process.child.pid, signal.SIGSTOP)
    with pytest.raises(SystemHung) as caught:
        driver.do(stopped)
    assert caught.value.seconds == 0.3
    system.close()
    assert system.process.child.exit.signal == "SIGKILL"


def test_nothing_is_left_behind(fleecing, driver):
    driver.do(Read("snap", 0, 512, Via.QEMU_IO))
    child, folder = fleecing.process.child, fleecing.workspace.path
    assert folder.exists()
    fleecing.close()
    fleecing.close()
    assert child.exit is not None
    assert not folder.exists()


def test_a_good_end_is_told_from_a_bad_one(fleecing, driver):
    driver.do(Write("cbw", 0, 512))
    fleecing.shut_down()
    assert fleecing.process.child.exit.code == 0


def test_warnings_can_be_read(driver):
    system = driver.start(QsdSystem, Configuration((
        Image("src", SIZE), Image("tmp", SIZE, Format.PARALLELS))), AddFilter("f", "src", "tmp"))
    warning = "doesn't provide information about the block size"
    assert system.process.child.stderr.wait(lambda written: warning.encode() in written)
    assert any(warning in line for line in system.stderr())


def test_a_big_disk_is_inspected_quickly_and_in_little_memory(driver):
    size = 64 * GIB
    driver.start(QsdSystem, Configuration((
        Image("src", size, filled=((40 * GIB, 3 * C),)), Image("tmp", size))))
    for operation in (*FLEECING, Write("cbw", 40 * GIB + C, 2 * C), Zero("cbw", 40 * GIB, C),
                      Discard("snap", 50 * GIB, C)):
        assert driver.do(operation).error is None
    answer = driver.do(Inspect("snap"))
    assert answer.denied == ((50 * GIB, 50 * GIB + C),)
    found = b"".join(data for offset, data in answer.parts
                     if 40 * GIB <= offset < 40 * GIB + 3 * C)
    assert found == stamps.data(initial_stamp(0), 40 * GIB, 3 * C)


def test_without_libnbd_qemu_io_carries_the_run(driver, monkeypatch):
    monkeypatch.setattr(qmp_system, "libnbd_available", lambda: False)
    system = driver.start(QsdSystem)
    for operation in (*FLEECING, Write("cbw", 0, C), Discard("snap", C, C)):
        answer = driver.do(operation)
        assert (answer.refused, answer.error) == (None, None)
    assert set(system.channels) == {Via.QEMU_IO}
    assert driver.do(Read("snap", 0, 512)).data == OLD[:512]
    answer = driver.do(Inspect("snap"))
    assert (answer.data, answer.denied) == (OLD[:C] + bytes(C) + OLD[2 * C:], ((C, 2 * C),))
    assert driver.do(Inspect("tmp")).data == OLD[:C] + bytes(SIZE - C)


def broken(tmp_path, script):
    path = tmp_path / STORAGE_DAEMON
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    tool = Tool(STORAGE_DAEMON, path, (str(path),), "0")
    return Build("broken", tmp_path, "0", {STORAGE_DAEMON: tool})


@pytest.mark.parametrize("script", ["echo no such thing >&2; exit 1", "exit 0", "kill -ABRT $$"])
def test_a_binary_that_does_not_start_is_one_line(store, tmp_path, script):
    with pytest.raises(EnvironmentProblem) as caught:
        QsdSystem(broken(tmp_path, script), PLAIN, store)
    assert "does not start" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_that_the_build_cannot_take_on_is_one_line(driver):
    bad = Configuration((Image("src", SIZE, backing="nobody"),))
    with pytest.raises(EnvironmentProblem, match="cannot take on src"):
        driver.start(QsdSystem, bad)


def test_a_daemon_with_its_graph_starts_fast(driver):
    driver.start(QsdSystem)
    times = []
    # The bound is 60 ms; the best of many keeps other work on this machine out of it.
    while len(times) < 50 and min(times, default=1) >= 0.060:
        begin = time.perf_counter()
        driver.start(QsdSystem, PLAIN, *FLEECING)
        times.append(time.perf_counter() - begin)
        driver.systems[-1].close()
    assert min(times) < 0.060


def test_a_megabyte_is_no_special_case(driver):
    driver.start(QsdSystem, Configuration((Image("src", 8 * MIB),)), Export("src"),
                 Write("src", 1, 8 * MIB - 1))
    data = stamps.data(driver.number, 1, 8 * MIB - 1)
    assert driver.do(Read("src", 0, 8 * MIB)).data == b"\0" + data
