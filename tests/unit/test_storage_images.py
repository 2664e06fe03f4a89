# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files: right in size and content, in every format, and cheap the second time."""

import errno
import os
import subprocess

import pytest

from harness import stamps
from harness.builds import find
from harness.errors import EnvironmentProblem
from harness.storage import images
from harness.storage.images import ImageStore, creation_options
from harness.storage.luks import LUKS_PASSPHRASE, LUKS_SECRET
from harness.storage.sparse import copy_sparse
from model.configuration import GIB, KIB, MIB, Configuration, Format, Image, Protocol

SIZE = 1000 * KIB + 512
FILLED = ((0, 3 * KIB), (70_001, 100_000), (900 * KIB, 10 * MIB))
"""Begins at the start, in the middle of a sector, and is cut at the end."""


@pytest.fixture(scope="module")
def build():
    try:
        found = find()
    except EnvironmentProblem as why:
        pytest.skip(str(why))
    for tool in ("qemu-img", "qemu-io"):
        if not found.has(tool):
            pytest.skip(f"no {tool} here")
    return found


@pytest.fixture(scope="module")
def store(build):
    store = ImageStore(build)
    yield store
    store.close()


def content(build, path, image_format):
    """What QEMU says that the image holds."""
    raw = path.with_suffix(".read")
    options = f"driver={image_format},file.driver=file,file.filename={path}"
    secret = []
    if image_format is Format.LUKS:
        options += f",key-secret={LUKS_SECRET}"
        secret = ["--object", f"secret,id={LUKS_SECRET},data={LUKS_PASSPHRASE}"]
    tool = build.tool("qemu-img")
    subprocess.run([*tool.argv, "convert", *secret, "--image-opts", "-O", "raw", options, raw],
                   env={**os.environ, **tool.env}, check=True)
    return raw.read_bytes()


def expected(size=SIZE, index=0):
    data = bytearray(size)
    for start, length in FILLED:
        end = min(start + length, size)
        data[start:end] = stamps.data(-1 - index, start, end - start)
    return bytes(data)


@pytest.mark.parametrize("protocol", [Protocol.FILE, Protocol.NBD])
@pytest.mark.parametrize("image_format", Format)
def test_every_format_holds_what_it_was_filled_with(
        build, store, tmp_path, image_format, protocol):
    image = Image("x", SIZE, image_format, protocol, filled=FILLED)
    try:
        path = store.make_image(image, 0, tmp_path)
    except EnvironmentProblem as why:
        if "Unknown file format" not in str(why):
            raise
        pytest.skip(str(why))
    assert content(build, path, image_format) == expected()


def test_a_size_that_is_no_multiple_of_a_sector_is_rounded_up_by_formats_only(
        build, store, tmp_path):
    raw = store.make_image(Image("raw", 1001, filled=FILLED), 0, tmp_path)
    assert raw.read_bytes() == expected(1001)
    qcow2 = store.make_image(Image("q", 1001, Format.QCOW2, filled=FILLED), 0, tmp_path)
    luks = store.make_image(Image("l", 1001, Format.LUKS, filled=FILLED), 0, tmp_path)
    padded = expected(1001) + bytes(23)
    assert content(build, qcow2, Format.QCOW2) == padded
    assert content(build, luks, Format.LUKS) == padded


def test_the_fill_tells_the_images_of_a_configuration_apart(build, store, tmp_path):
    pair = Configuration((Image("a", SIZE, Format.QCOW2, filled=FILLED),
                          Image("b", SIZE, Format.QCOW2, filled=FILLED)))
    files = store.make(pair, tmp_path)
    assert content(build, files["a"], Format.QCOW2) == expected(index=0)
    assert content(build, files["b"], Format.QCOW2) == expected(index=1)


def test_a_template_serves_every_image_of_its_kind(store, tmp_path, monkeypatch):
    first = Image("first", MIB, Format.QCOW2, cluster_size=4096)
    store.make_image(first, 0, tmp_path)

    def nothing(*_, **__):
        raise AssertionError("a tool was run")
    monkeypatch.setattr(images, "run", nothing)
    store.make_image(Image("second", MIB, Format.QCOW2, cluster_size=4096, discard=False), 1,
                     tmp_path)
    with pytest.raises(AssertionError):
        store.make_image(Image("third", MIB, Format.QCOW2, cluster_size=8192), 0, tmp_path)


def test_templates_do_not_pile_up(build, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TEMPLATES", 2)
    store = ImageStore(build)
    for size in (KIB, 2 * KIB, 3 * KIB):
        store.make_image(Image("x", size, Format.QCOW2), 0, tmp_path)
    assert len(os.listdir(store._folder)) == 2
    folder = store._folder
    store.close()
    assert not folder.exists()


def test_a_big_disk_takes_no_space(store, tmp_path):
    for image_format in (Format.RAW, Format.QCOW2):
        path = store.make_image(Image("x", 64 * GIB, image_format), 0, tmp_path)
        assert path.stat().st_blocks * 512 < MIB


def test_holes_are_copied_as_holes(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(32 * MIB + 1)
        file.seek(MIB + 3)
        file.write(b"data")
    copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks == source.stat().st_blocks


def test_options_of_formats():
    assert creation_options(Image("x", MIB, Format.QCOW2, cluster_size=512, subclusters=True,
                                  preallocation="metadata")) == [
        "cluster_size=512", "extended_l2=on", "preallocation=metadata"]
    assert creation_options(Image("x", MIB, Format.VHDX, cluster_size=MIB)) == [
        "block_size=1048576"]
    assert creation_options(Image("x", MIB, Format.VPC)) == ["force_size=on"]
    with pytest.raises(EnvironmentProblem, match="no cluster size"):
        creation_options(Image("x", MIB, Format.VDI, cluster_size=MIB))


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there_is_one_line(store, tmp_path):
    for image_format in (Format.RAW, Format.QCOW2):
        with pytest.raises(EnvironmentProblem) as caught:
            store.make_image(Image("x", MIB, image_format), 0, tmp_path / "nowhere")
        assert "No such file or directory" in one_line(caught)


def test_a_full_disk_is_one_line(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "pwrite", full)
    for image_format in (Format.RAW, Format.QCOW2):
        with pytest.raises(EnvironmentProblem) as caught:
            store.make_image(Image("x", MIB, image_format, filled=((0, 512),)), 0, tmp_path)
        assert "No space left on device" in one_line(caught)


def test_what_qemu_img_refuses_is_one_line(store, tmp_path):
    with pytest.raises(EnvironmentProblem) as caught:
        store.make_image(Image("x", MIB, Format.QCOW2, cluster_size=1000), 0, tmp_path)
    assert "qemu-img" in one_line(caught)


def test_a_luks_header_is_made_once_for_all_runs(build, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make(self, path):
        made.append(path)
        path.write_bytes(images._LUKS_MAGIC + bytes(1000))

    def use():
        store = ImageStore(build)
        store.make_image(Image("l", 512, Format.LUKS), 0, tmp_path)
        store.close()
        return len(made)

    monkeypatch.setattr(ImageStore, "_make_luks_header", make)
    monkeypatch.setattr(ImageStore, "_fill", lambda *arguments: None)
    assert (use(), use()) == (1, 1)
    header, = (tmp_path / "cbw-lockstep/luks").iterdir()
    header.write_bytes(b"")  # what a machine may leave that lost its power
    assert (use(), use()) == (2, 2)
