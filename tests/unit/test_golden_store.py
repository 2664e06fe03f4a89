# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of golden outputs."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from harness.golden.store import Change, Store, StoreError, golden_name, variant, variants
from model.capabilities import Capabilities

OLD = dataclasses.replace(Capabilities(), copy_bitmap_on_filter=False, min_cluster_size=False,
                          unaligned_snapshot_discard_aborts=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "golden")


@pytest.mark.parametrize(("test", "name"), [
    ("test_101_access_control", "101-access-control"),
    ("test_601_temporary_image[qcow2-4k]", "601-temporary-image.qcow2-4k"),
    ("test_x[a/b c]", "x.a-b-c"),
])
def test_names(test: str, name: str) -> None:
    assert golden_name(test) == name


def test_variants_are_named_after_capabilities() -> None:
    assert variant("t", [], OLD) == "t"
    assert variant("t", ["min_cluster_size"], Capabilities()) == "t"
    assert variant("t", ["min_cluster_size"], OLD) == "t@no-min-cluster-size"
    assert variant("t", ["unaligned_snapshot_discard_aborts"], OLD) == (
        "t@unaligned-snapshot-discard-aborts")
    both = ["min_cluster_size", "copy_bitmap_on_filter"]
    assert variant("t", both, OLD) == "t@no-copy-bitmap-on-filter+no-min-cluster-size"
    assert variant("t", both[::-1], OLD) == variant("t", both, OLD)


def test_every_variant_and_what_it_stands_for() -> None:
    both = ["min_cluster_size", "copy_bitmap_on_filter"]
    found = variants("t", both)
    assert len(found) == 4
    assert found["t"] == Capabilities()
    assert all(variant("t", both, each) == name for name, each in found.items())
    with pytest.raises(ValueError, match="no capability is called 'hovering'"):
        variants("t", ["hovering"])


def test_writing(store: Store) -> None:
    assert store.read("a") is None
    assert store.change("a", "1\n") is Change.CREATED
    assert store.write("a", "1\n") is Change.CREATED
    assert store.write("a", "1\n") is None
    assert store.change("a", "2\n") is Change.CHANGED
    assert store.write("a", "2\n") is Change.CHANGED
    assert store.read("a") == "2\n"
    assert store.names() == ["a"]
    assert [path.name for path in store.folder.iterdir()] == ["a.out"], "no draft is left"
    assert store.path("a").stat().st_mode & 0o777 == 0o644


def test_pending(store: Store) -> None:
    store.write("a", "1\n")
    store.write_pending("a", "2\n")
    store.write_pending("b", "3\n")
    assert store.pending() == ["a", "b"]
    assert store.names() == ["a"], "what waits is no golden output"
    assert store.read("a") == "1\n"
    assert store.accept("a") is Change.CHANGED
    assert store.accept("b") is Change.CREATED
    assert (store.read("a"), store.read("b")) == ("2\n", "3\n")
    assert store.pending() == []
    with pytest.raises(StoreError, match="nothing waits for review under the name 'a'"):
        store.accept("a")
    store.write_pending("a", "9\n")
    store.reject("a")
    store.reject("a")
    assert store.pending() == []
    assert store.read("a") == "2\n"


def test_writing_settles_what_waits(store: Store) -> None:
    store.write_pending("a", "old\n")
    store.write("a", "new\n")
    assert store.pending() == []


def test_unused(store: Store) -> None:
    for name in ("a", "a@no-min-cluster-size", "b"):
        store.write(name, "text\n")
    store.write_pending("b", "other\n")
    (store.folder / "README").write_text("not one of ours")
    assert store.unused(["a", "c"]) == ["a@no-min-cluster-size", "b"]
    assert store.prune(["a", "c"]) == ["a@no-min-cluster-size", "b"]
    assert store.names() == ["a"]
    assert store.pending() == []
    assert (store.folder / "README").exists()


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path / "golden")
    store.path("a").mkdir(parents=True)
    for action in (lambda: store.read("a"), lambda: store.write("a", "1\n")):
        with pytest.raises(StoreError) as caught:
            action()
        assert "\n" not in str(caught.value)
        assert str(store.path("a")) in str(caught.value)
    assert sorted(path.name for path in store.folder.iterdir()) == ["a.out"]


def test_nothing_is_done_to_a_folder_where_nothing_is_to_be_done(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be read-only, where unlink fails also for what is not there."""
    store = Store(tmp_path)
    store.write("101-write", "text\n")
    store.write_pending("102-bitmap", "text\n")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert store.write("101-write", "text\n") is None
    with pytest.raises(StoreError, match=r"cannot remove .*: Read-only file system"):
        store.reject("102-bitmap")
