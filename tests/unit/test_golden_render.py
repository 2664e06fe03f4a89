# SPDX-License-Identifier: GPL-2.0-or-later
"""How operations, and what came of them, are written down."""

from __future__ import annotations

import hashlib

import pytest

from harness import stamps
from harness.golden.render import Renderer
from harness.golden.seen import of_answer, of_outcome
from harness.golden.words import error_text, json_line, size
from harness.systems.base import Answer
from model import operations as ops
from model.configuration import (
    KIB,
    MIB,
    Configuration,
    Fault,
    Format,
    Image,
    Protocol,
    RequestKind,
)
from model.content import ZERO, stamped, zeroes
from model.errors import Errno, QmpError
from model.operations import BitmapRef, Context, Operation, Via
from model.outcome import Allocation, BitmapView, Extent, Outcome

C = 64 * KIB
IMAGES = Configuration((Image("src", 1 * MIB, filled=((0, C),)), Image("tmp", 1 * MIB)))
WRITERS = [-1, -2, 3]


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(IMAGES)


def model(renderer: Renderer, operation: Operation, outcome: Outcome) -> list[str]:
    return renderer.answer(operation, of_outcome(operation, outcome))


def system(renderer: Renderer, operation: Operation, answer: Answer,
           outcome: Outcome) -> list[str]:
    return renderer.answer(operation, of_answer(operation, answer, outcome, WRITERS))


@pytest.mark.parametrize(("count", "text"), [
    (0, "0"), (512, "512"), (1024, "1k"), (65536, "64k"), (65537, "65537"), (3 << 19, "1536k"),
    (1 << 20, "1M"), (5 << 30, "5G")])
def test_sizes_are_those_of_qemu_io(count: int, text: str) -> None:
    assert size(count) == text


def test_every_errno_has_a_text_that_no_host_changes() -> None:
    assert {error_text(each) for each in Errno}.isdisjoint({"", None})
    assert all("Unknown" not in error_text(each) for each in Errno)
    assert error_text(Errno.ETIMEDOUT) == "Connection timed out"
    assert error_text(9999) == "Unknown error 9999"


def test_qmp_messages() -> None:
    assert json_line({"arguments": {"b": 1, "a": [True]}, "execute": "x"}) == (
        '{"execute": "x", "arguments": {"a": [true], "b": 1}}')
    assert json_line({"execute": "stop"}) == '{"execute": "stop", "arguments": {}}'


@pytest.mark.parametrize(("operation", "line"), [
    (ops.Read("acc", 0, 128 * KIB), 'qemu-io -c "read 0 128k" nbd:///acc'),
    (ops.Read("acc", 1, 10, Via.NBD_DF), 'qemu-io -c "read 1 10" nbd:///acc  # not fragmented'),
    (ops.Read("acc", 0, C, Via.MONITOR), '(qemu) qemu-io acc "read 0 64k"'),
    (ops.Write("cbw", C, C, Via.DEVICE), '(qemu) qemu-io -d guest "write -P 1 64k 64k"'),
    (ops.Write("cbw", C, C, fua=True), 'qemu-io -c "write -f -P 1 64k 64k" nbd:///cbw'),
    (ops.Zero("cbw", 0, C), 'qemu-io -c "write -z 0 64k" nbd:///cbw'),
    (ops.Zero("cbw", 0, C, unmap=True, fast=True), 'qemu-io -c "write -z -u -n 0 64k" nbd:///cbw'),
    (ops.Discard("acc", 0, C), 'qemu-io -c "discard 0 64k" nbd:///acc'),
    (ops.Flush("cbw"), 'qemu-io -c "flush" nbd:///cbw'),
    (ops.Status("acc", C, 2 * C), "qemu-img map --output=json --start-offset=64k "
                                  "--max-length=128k nbd:///acc"),
    (ops.Status("acc", 0, C, context=Context.DEPTH, one=True),
     "qemu-img map --output=json --start-offset=0 --max-length=64k nbd:///acc "
     "qemu:allocation-depth  # one extent"),
    (ops.Inspect("tmp"), "content of tmp:"),
    (ops.RemoveNode("cbw"), '{"execute": "blockdev-del", "arguments": {"node-name": "cbw"}}'),
    (ops.AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "b"), discard=False),
     '{"execute": "blockdev-add", "arguments": {"bitmap": {"name": "b", "node": "src"}, '
     '"driver": "copy-before-write", "file": "src", "node-name": "cbw", "target": "tmp"}}'),
])
def test_commands(renderer: Renderer, operation: Operation, line: str) -> None:
    assert renderer.operation(7, operation) == [line]


def test_the_device_is_plugged_in_once(renderer: Renderer) -> None:
    assert '"device_add"' in renderer.operation(1, ops.Attach("src"))[0]
    assert '"qom-set"' in renderer.operation(2, ops.Attach("cbw"))[0]


def test_patterns_number_the_writes_not_the_operations(renderer: Renderer) -> None:
    renderer.operation(4, ops.Write("cbw", 0, C))
    renderer.operation(9, ops.Write("cbw", C, C))
    read = ops.Read("acc", 0, 3 * C)
    content = zeroes(3 * C)
    content.set(0, C, 9)
    content.set(C, C + 512, 4)
    content.set(C + 512, 2 * C, -1)
    assert model(renderer, read, Outcome(content=content)) == [
        "read 196608/196608 bytes at offset 0",
        "    0x0..0x10000 -P 2",
        "    0x10000..0x10200 -P 1",
        "    0x10200..0x20000 src",
        "    0x20000..0x30000 zeroes"]


@pytest.mark.parametrize(("operation", "line"), [
    (ops.Read("acc", 0, C), "read failed: Permission denied"),
    (ops.Write("acc", 0, C), "write failed: Permission denied"),
    (ops.Zero("acc", 0, C), "write failed: Permission denied"),
    (ops.Discard("acc", 0, C), "discard failed: Permission denied"),
    (ops.Flush("acc"), "flush failed: Permission denied"),
    (ops.Status("acc", 0, C), "qemu-img: Failed to get allocation status: Permission denied"),
])
def test_errors(renderer: Renderer, operation: Operation, line: str) -> None:
    answer = Answer(error=int(Errno.EACCES))
    assert system(renderer, operation, answer, Outcome(error=Errno.EACCES)) == [line]


def test_the_model_speaks_as_its_channel_does(renderer: Renderer) -> None:
    denied = Outcome(error=Errno.EACCES)
    assert model(renderer, ops.Read("acc", 0, C), denied) == ["read failed: Invalid argument"]
    assert model(renderer, ops.Read("acc", 0, C, Via.MONITOR), denied) == [
        "read failed: Permission denied"]


def test_refusals(renderer: Renderer) -> None:
    assert model(renderer, ops.RemoveNode("x"), Outcome(refused=QmpError("No x", "Foo"))) == [
        '{"error": {"class": "Foo", "desc": "No x"}}']
    assert model(renderer, ops.RemoveNode("x"), Outcome()) == ['{"return": {}}']


def test_a_server_that_hangs_up(renderer: Renderer) -> None:
    assert model(renderer, ops.Read("acc", 0, C), Outcome(disconnected=True)) == [
        "the server hung up"]


def test_data_of_a_system_is_told_by_who_wrote_it(renderer: Renderer) -> None:
    renderer.operation(3, ops.Write("cbw", 0, C))
    read = ops.Read("acc", C, 2048)
    expected = Outcome(content=stamped(2048, -1))
    data = (stamps.data(3, C, 512) + stamps.data(3, 0, 512) + bytes(512)
            + hashlib.shake_128(b"nobody").digest(512))
    assert system(renderer, read, Answer(data=data), expected) == [
        "read 2048/2048 bytes at offset 65536",
        "    0x10000..0x10200 -P 1",
        "    0x10200..0x10400 -P 1, but that of offset 0x0",
        "    0x10400..0x10600 zeroes",
        "    0x10600..0x10800 unknown data"]
    right = Answer(data=stamps.data(-1, C, 2048))
    assert system(renderer, read, right, expected) == model(renderer, read, expected)


def test_short_data_is_seen(renderer: Renderer) -> None:
    read = ops.Read("acc", 0, 1024)
    expected = Outcome(content=stamped(1024, -1))
    assert system(renderer, read, Answer(data=stamps.data(-1, 0, 512)), expected) == [
        "read 512/1024 bytes at offset 0", "    0x0..0x200 src"]


def test_data_that_may_be_zeroes_instead(renderer: Renderer) -> None:
    read = ops.Read("acc", C, 2048)
    expected = Outcome(content=stamped(2048, -1), perhaps_zero=((C + 512, C + 1024),
                                                                (C + 1536, C + 2048)))
    lines = ["read 2048/2048 bytes at offset 65536",
             "    0x10000..0x10200 src",
             "    0x10200..0x10400 src, or zeroes",
             "    0x10400..0x10600 src",
             "    0x10600..0x10800 src, or zeroes"]
    assert model(renderer, read, expected) == lines
    full = stamps.data(-1, C, 2048)
    for data in (full, full[:512] + bytes(512) + full[1024:]):
        assert system(renderer, read, Answer(data=data), expected) == lines
    wrong = Answer(data=bytes(512) + full[512:])
    assert system(renderer, read, wrong, expected)[1] == "    0x10000..0x10200 zeroes"


def test_inspection_of_a_snapshot(renderer: Renderer) -> None:
    inspect = ops.Inspect("acc")
    content = zeroes(4 * C)
    content.set(0, 2 * C, -1)
    outcome = Outcome(content=content, denied=((C, 3 * C),))
    assert model(renderer, inspect, outcome) == [
        "    0x0..0x10000 src",
        "    0x10000..0x30000 Permission denied",
        "    0x30000..0x40000 zeroes"]
    answer = Answer(data=stamps.data(-1, 0, C) + bytes(3 * C), denied=((C, 2 * C), (2 * C, 3 * C)))
    assert system(renderer, inspect, answer, outcome) == model(renderer, inspect, outcome)
    answer = Answer(data=stamps.data(-1, 0, 2 * C) + bytes(2 * C), denied=((2 * C, 3 * C),))
    assert "    0x20000..0x30000 Permission denied" in system(renderer, inspect, answer, outcome)


def test_an_inspection_in_parts(renderer: Renderer) -> None:
    inspect = ops.Inspect("src")
    expected = Outcome(content=zeroes(4 * C))
    answer = Answer(parts=((C, stamps.data(-1, C, 512)), (3 * C, stamps.data(-1, 3 * C, C))))
    assert system(renderer, inspect, answer, expected) == [
        "    0x0..0x10000 zeroes",
        "    0x10000..0x10200 src",
        "    0x10200..0x30000 zeroes",
        "    0x30000..0x40000 src"]


HOLE = int(Allocation.HOLE | Allocation.ZERO)
FREE = frozenset({0, HOLE})


def test_block_status(renderer: Renderer) -> None:
    status = ops.Status("acc", C, 3 * C)
    outcome = Outcome(extents=(Extent(C, frozenset({0})), Extent(C, frozenset({HOLE})),
                               Extent(C, FREE)))
    lines = ['{"start": 65536, "length": 65536, "zero": false, "data": true}',
             '{"start": 131072, "length": 65536, "zero": true, "data": false}',
             '{"start": 196608, "length": 65536, "zero": "either", "data": "either"}']
    assert model(renderer, status, outcome) == lines
    for free in (0, HOLE):
        answer = Answer(extents=((C, 0), (512, HOLE), (C - 512, HOLE), (C, free)))
        assert system(renderer, status, answer, outcome) == lines, "however it is cut up"
    wrong = Answer(extents=((C, HOLE), (C, HOLE), (C, HOLE)))
    assert system(renderer, status, wrong, outcome) == [
        '{"start": 65536, "length": 131072, "zero": true, "data": false}', lines[2]]


@pytest.mark.parametrize(("context", "shown"), [
    ("qemu:allocation-depth", '"depth": 1}'), ("qemu:dirty-bitmap:b", '"dirty": true}')])
def test_other_contexts(renderer: Renderer, context: str, shown: str) -> None:
    status = ops.Status("acc", 0, C, context=context)
    lines = model(renderer, status, Outcome(extents=(Extent(C, frozenset({1})),)))
    assert lines == ['{"start": 0, "length": 65536, ' + shown]


def test_one_extent_is_one_line(renderer: Renderer) -> None:
    status = ops.Status("acc", 0, 2 * C, one=True)
    outcome = Outcome(extents=(Extent(C, frozenset({0})), Extent(C, frozenset({HOLE}))))
    assert len(model(renderer, status, outcome)) == 1
    assert system(renderer, status, Answer(extents=((C, 0),)), outcome) == model(
        renderer, status, outcome)


def test_bitmaps_have_the_shape_of_query_block(renderer: Renderer) -> None:
    views = {"src": (BitmapView(None, C, 0), BitmapView("b", C, 2 * C, recording=True),
                     BitmapView("i", C, 0, inconsistent=True))}
    assert renderer.bitmaps(views, ["cbw", "src"]) == [
        "{",
        '  "cbw": [],',
        '  "src": [',
        '    {"busy": false, "count": 0, "granularity": 65536, "persistent": false, '
        '"recording": false},',
        '    {"busy": false, "count": 131072, "granularity": 65536, "name": "b", '
        '"persistent": false, "recording": true},',
        '    {"busy": false, "count": 0, "granularity": 65536, "inconsistent": true, '
        '"name": "i", "persistent": false, "recording": false}',
        "  ]",
        "}"]


def test_images() -> None:
    images = Configuration((
        Image("src", 1 * MIB, Format.QCOW2, cluster_size=4 * KIB, subclusters=True,
              filled=((0, C), (2 * C, C)), faults=(Fault(RequestKind.READ, 512),)),
        Image("tmp", 1 * MIB, Format.LUKS, protocol=Protocol.NBD),
        Image("top", 1 * MIB, Format.QCOW2, backing="src", preallocation="metadata")))
    text = "\n".join(Renderer(images).images())
    for line in ("qemu-img create -f qcow2 -o cluster_size=4k,extended_l2=on src.qcow2 1M",
                 'qemu-io -f qcow2 -c "write -P src 128k 64k" src.qcow2',
                 "qemu-img create -f qcow2 -o preallocation=metadata -b src top.qcow2 1M"):
        assert line in text.splitlines()
    assert '"filename": "TEST_DIR/src.qcow2"' in text
    assert '"path": "SOCK_DIR/nbd.sock"' in text
    assert '"qom-type": "secret"' in text
    assert '"inject-error"' in text
    assert "/tmp" not in text


def test_zero_is_nobody() -> None:
    assert ZERO == 0, "so that no operation's number can be it"
