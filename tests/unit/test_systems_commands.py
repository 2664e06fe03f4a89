# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands of operations and images."""

import pytest

from harness.storage.place import FilePlace, NbdPlace
from harness.systems import commands
from harness.systems.commands import (
    Command,
    NoSuchCommand,
    attach_command,
    command_of,
    image_commands,
    image_nodes,
    needs_secret,
    overlay_command,
    reopen_command,
    serves_raw_bytes,
)
from model import operations as ops
from model.configuration import Fault, Format, Image, Protocol, RequestKind
from model.operations import BitmapRef

FILE = FilePlace("/t/src.raw")


@pytest.mark.parametrize(("operation", "name", "arguments"), [
    (ops.AddFilter("cbw", "src", "tmp"), "blockdev-add",
     {"driver": "copy-before-write", "node-name": "cbw", "file": "src", "target": "tmp",
      "discard": "unmap"}),
    (ops.AddFilter("cbw", None, None, BitmapRef("src", "b"), "break-snapshot", 5, 131072, False),
     "blockdev-add",
     {"driver": "copy-before-write", "node-name": "cbw", "bitmap": {"node": "src", "name": "b"},
      "on-cbw-error": "break-snapshot", "cbw-timeout": 5, "min-cluster-size": 131072}),
    (ops.AddSnapshot("snap", "cbw"), "blockdev-add",
     {"driver": "snapshot-access", "node-name": "snap", "file": "cbw", "discard": "unmap"}),
    (ops.AddSnapshot("snap", "cbw", discard=False), "blockdev-add",
     {"driver": "snapshot-access", "node-name": "snap", "file": "cbw"}),
    (ops.RemoveNode("cbw"), "blockdev-del", {"node-name": "cbw"}),
    (ops.Export("cbw"), "block-export-add",
     {"type": "nbd", "id": "cbw", "node-name": "cbw", "name": "cbw", "writable": True}),
    (ops.Export("cbw", called=""), "block-export-add",
     {"type": "nbd", "id": "cbw", "node-name": "cbw", "name": "", "writable": True}),
    (ops.Export("s", False, (BitmapRef("src", "b"),), True), "block-export-add",
     {"type": "nbd", "id": "s", "node-name": "s", "name": "s", "writable": False,
      "bitmaps": [{"node": "src", "name": "b"}], "allocation-depth": True}),
    (ops.Unexport("cbw"), "block-export-del", {"id": "cbw", "mode": "hard"}),
    (ops.BitmapAdd("src", "b"), "block-dirty-bitmap-add", {"node": "src", "name": "b"}),
    (ops.BitmapAdd("src", "b", 512, True, True), "block-dirty-bitmap-add",
     {"node": "src", "name": "b", "granularity": 512, "persistent": True, "disabled": True}),
    (ops.BitmapRemove("src", "b"), "block-dirty-bitmap-remove", {"node": "src", "name": "b"}),
    (ops.BitmapClear("src", "b"), "block-dirty-bitmap-clear", {"node": "src", "name": "b"}),
    (ops.BitmapEnable("src", "b"), "block-dirty-bitmap-enable", {"node": "src", "name": "b"}),
    (ops.BitmapDisable("src", "b"), "block-dirty-bitmap-disable", {"node": "src", "name": "b"}),
    (ops.BitmapMerge("src", "b", (BitmapRef("tmp", "c"),)), "block-dirty-bitmap-merge",
     {"node": "src", "target": "b", "bitmaps": [{"node": "tmp", "name": "c"}]}),
    (ops.BitmapMerge("src", "b", (BitmapRef("tmp", "c"), BitmapRef("src", "d")), local=True),
     "block-dirty-bitmap-merge",
     {"node": "src", "target": "b", "bitmaps": [{"node": "tmp", "name": "c"}, "d"]}),
])
def test_command_of_operation(operation, name, arguments):
    assert command_of(operation) == Command(name, arguments)


def test_every_operation_is_a_command_or_known_not_to_be():
    requests = [kind for kind in ops.vocabulary().values() if issubclass(kind, ops.Request)]
    for kind in (*requests, ops.Inspect, ops.Attach, ops.Reopen):
        with pytest.raises(NoSuchCommand):
            command_of(kind("src"))
    without = {*requests, ops.Inspect, ops.Attach, ops.Reopen, ops.AddOverlay, ops.Restart,
               ops.Kill}
    basic = {kind for kind in ops.vocabulary().values() if kind.__module__ == ops.__name__}
    assert set(commands._MAKERS) >= basic - without


def test_an_image_is_reopened_with_the_options_it_was_attached_with():
    image = Image("over", 1024, Format.QCOW2, backing="src")
    places = {"over": FilePlace("/x/over.qcow2")}
    (attached,) = image_commands(image, places["over"])[-1:]
    for read_only in (True, False):
        reopened = reopen_command(ops.Reopen("over", read_only=read_only), (image,), places)
        assert reopened == Command("blockdev-reopen", {
            "options": [{**attached.arguments, "read-only": read_only}]})
    assert reopen_command(ops.Reopen("else"), (image,), places).arguments["options"][0][
        "node-name"] == "else"
    given = ops.AddFilter("cbw", "src", "tmp", cbw_timeout=3)
    assert command_of(ops.ReopenAs(given)) == Command("blockdev-reopen", {
        "options": [command_of(given).arguments]})


def test_an_image_is_opened_again_over_another_backing_file():
    image = Image("over", 1024, Format.QCOW2, discard=False)
    places = {"over": FilePlace("/x/over.qcow2")}
    assert overlay_command(ops.AddOverlay("over", "snap"), (image,), places) == Command(
        "blockdev-add", {"driver": "qcow2", "node-name": "over", "file": "over-file",
                         "backing": "snap"})


def test_the_device_is_plugged_once_and_then_moved():
    assert attach_command("src", plugged=False).name == "device_add"
    assert attach_command("cbw", plugged=True) == Command("qom-set", {
        "path": "/machine/peripheral/guest", "property": "drive", "value": "cbw"})


def test_nodes_of_a_plain_image():
    assert image_nodes(Image("src", 4096, discard=False), FILE) == (
        {"driver": "file", "node-name": "src-file", "filename": "/t/src.raw"},
        {"driver": "raw", "node-name": "src", "file": "src-file"})


def test_discards_pass_through_every_layer_of_an_image():
    image = Image("src", 4096, faults=(Fault(RequestKind.READ, 0),))
    assert [node["discard"] for node in image_nodes(image, FILE)] == ["unmap"] * 3


def test_nodes_of_an_image_behind_nbd_with_a_backing_file():
    image = Image("top", 4096, Format.QCOW2, Protocol.NBD, backing="base")
    protocol, form = image_nodes(image, NbdPlace("/t/s", "top"))
    assert protocol == {"driver": "nbd", "node-name": "top-file", "export": "top",
                        "server": {"type": "unix", "path": "/t/s"}, "discard": "unmap"}
    assert form == {"driver": "qcow2", "node-name": "top", "file": "top-file",
                    "backing": "base", "discard": "unmap"}
    assert serves_raw_bytes((image,))
    assert not serves_raw_bytes((Image("src", 4096),))


def test_faults_and_alignment_take_a_node_on_top_that_has_the_images_name():
    image = Image("src", 4096, discard=False, request_alignment=4096, faults=(
        Fault(RequestKind.WRITE, 1024, "ENOSPC", once=True), Fault(RequestKind.FLUSH, 0)))
    assert image_nodes(image, FILE)[1:] == (
        {"driver": "raw", "node-name": "src-format", "file": "src-file"},
        {"driver": "blkdebug", "node-name": "src", "image": "src-format", "align": 4096,
         "inject-error": [
             {"event": "none", "iotype": "write", "errno": 28, "sector": 2, "once": True},
             {"event": "none", "iotype": "flush", "errno": 5}]})


def test_luks_needs_its_secret():
    image = Image("src", 4096, Format.LUKS)
    assert needs_secret((image,))
    assert image_nodes(image, FILE)[1]["key-secret"] == "luks-secret"
