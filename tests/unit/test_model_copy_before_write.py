# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of copy-before-write and snapshot-access, one by one, in the sequential grain."""

from __future__ import annotations

import pytest

from model.capabilities import Capabilities
from model.configuration import Fault, Format, Image, RequestKind
from model.errors import Errno
from model.operations import (
    AddFilter,
    BitmapAdd,
    BitmapRef,
    Discard,
    Export,
    Flush,
    Inspect,
    Read,
    Status,
    Unexport,
    Via,
    Write,
    Zero,
)
from tests.unit.fleecing import CLUSTER, OLD, Fleecing, K

ALL = list(range(10))
WITH_BITMAP = AddFilter("", "", "", bitmap=BitmapRef("src", "b"))


def test_at_first_all_may_be_read_and_is_to_be_copied() -> None:
    fleecing = Fleecing()
    assert (fleecing.clusters("access"), fleecing.clusters("done"), fleecing.clusters("copy")) == (
        ALL, [], ALL)


def test_a_write_over_a_border_of_clusters_copies_both() -> None:
    fleecing = Fleecing()
    new = fleecing.write(3 * CLUSTER - 1, 2)
    assert fleecing.clusters("done") == [2, 3]
    assert fleecing.holds("tmp") == [(2 * CLUSTER, 4 * CLUSTER, OLD)]
    assert fleecing.holds("src") == [(0, 3 * CLUSTER - 1, OLD),
                                     (3 * CLUSTER - 1, 3 * CLUSTER + 1, new),
                                     (3 * CLUSTER + 1, 10 * CLUSTER, OLD)]


@pytest.mark.parametrize("change", [Zero("cbw", 5, 6), Zero("cbw", 5, 6, unmap=True),
                                    Discard("cbw", 5, 6), Write("cbw", 5, 6)])
def test_every_change_keeps_the_point_in_time(change: Write | Zero | Discard) -> None:
    fleecing = Fleecing()
    assert fleecing.do(change).error is None
    assert fleecing.clusters("done") == [0]
    assert [run.value for run in fleecing.snapshot(0, 10 * CLUSTER).runs()] == [OLD]


def test_a_second_write_copies_nothing() -> None:
    fleecing = Fleecing()
    fleecing.write(0, 512)
    before = fleecing.machine.rules["block-copy.failed-clusters-come-back"]
    fleecing.write(1024, 512)
    assert fleecing.machine.rules["block-copy.failed-clusters-come-back"] == before


def test_the_tail_is_a_whole_cluster_of_which_only_what_exists_is_copied() -> None:
    fleecing = Fleecing(3 * CLUSTER + 512)
    fleecing.write(3 * CLUSTER + 511, 1)
    assert fleecing.clusters("done") == [3]
    assert fleecing.holds("tmp") == [(3 * CLUSTER, 3 * CLUSTER + 512, OLD)]
    assert fleecing.filter.done.count == CLUSTER


@pytest.mark.parametrize(("granularity", "written", "accessible"), [
    (4 * K, [(5 * CLUSTER + 5000, 1), (8 * CLUSTER - 1, 2)], [5, 7, 8]),
    (4 * CLUSTER, [(5 * CLUSTER, 1)], [4, 5, 6, 7]),
])
def test_a_bitmap_limits_access_in_whole_clusters(
    granularity: int, written: list[tuple[int, int]], accessible: list[int],
) -> None:
    writes = [Write("src", offset, length) for offset, length in written]
    fleecing = Fleecing(10 * CLUSTER, Export("src"), BitmapAdd("src", "b", granularity), *writes,
                        Unexport("src"), cbw=WITH_BITMAP)
    assert fleecing.clusters("access") == fleecing.clusters("copy") == accessible


def test_one_cluster_without_access_refuses_the_whole_read() -> None:
    fleecing = Fleecing(10 * CLUSTER, Export("src"), BitmapAdd("src", "b"),
                        Write("src", 0, 1), Unexport("src"), cbw=WITH_BITMAP)
    assert fleecing.do(Read("snap", 0, CLUSTER, Via.MONITOR)).error is None
    assert fleecing.do(Read("snap", 0, CLUSTER + 1, Via.MONITOR)).error is Errno.EACCES
    assert fleecing.do(Read("snap", 0, CLUSTER + 1, Via.NBD)).error is Errno.EINVAL
    assert fleecing.do(Status("snap", 0, CLUSTER + 1)).error is Errno.EINVAL


def test_a_change_outside_the_bitmap_copies_nothing_and_is_done() -> None:
    fleecing = Fleecing(10 * CLUSTER, BitmapAdd("src", "b"), cbw=WITH_BITMAP)
    fleecing.write(0, 1)
    assert fleecing.clusters("done") == [0]
    assert fleecing.holds("tmp") == []


def test_a_discarded_cluster_is_not_read_and_not_copied_any_more() -> None:
    fleecing = Fleecing()
    fleecing.write(2 * CLUSTER, 1)
    fleecing.discard(2 * CLUSTER, 2 * CLUSTER)
    fleecing.write(3 * CLUSTER, 1)
    assert fleecing.holds("tmp") == []
    assert fleecing.do(Read("snap", 4 * CLUSTER - 1, 1, Via.MONITOR)).error is Errno.EACCES
    assert fleecing.clusters("done") == [2, 3]
    assert fleecing.clusters("copy") == [0, 1, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("offset", "length", "given_up"), [
    (1, CLUSTER, []), (1, 2 * CLUSTER, [1]), (CLUSTER, 2 * CLUSTER - 1, [1]),
    (3 * CLUSTER, 512, []), (2 * CLUSTER, CLUSTER + 512, [2]),
])
def test_a_snapshot_discard_is_rounded_inwards_the_end_too(
    offset: int, length: int, given_up: list[int],
) -> None:
    fleecing = Fleecing(3 * CLUSTER + 512)
    fleecing.discard(offset, length)
    assert fleecing.clusters("access") == [place for place in range(4) if place not in given_up]


def test_an_older_build_dies_of_an_unaligned_discard_and_takes_the_tail() -> None:
    older = Capabilities(snapshot_discard_rounds_inwards=False,
                         unaligned_snapshot_discard_aborts=True)
    fleecing = Fleecing(3 * CLUSTER + 512, capabilities=older)
    assert fleecing.machine.deadly(Discard("snap", 512, 512)) is not None
    assert fleecing.machine.deadly(Discard("snap", CLUSTER, 2 * CLUSTER + 512)) is None
    fleecing.discard(CLUSTER, 2 * CLUSTER + 512)
    assert fleecing.clusters("access") == [0]


@pytest.mark.parametrize(("source", "temporary", "aborts"), [
    (None, None, False), (4 * K, None, True), (None, 4 * K, True), (4 * K, 64 * K, False),
    (64 * K, 4 * K, False), (4 * K, 8 * K, False), (8 * K, 4 * K, False),
])
def test_the_largest_clusters_below_decide_where_the_tail_of_a_discard_is_cut(
    source: int | None, temporary: int | None, aborts: bool,
) -> None:
    """As QEMU 7.2 was seen to do: 198k cut at 4k is cut at 196k, at 8k or 64k it is at 192k."""
    size = 3 * CLUSTER + 6 * K
    images = {name: Image(name, size) if cluster is None else Image(
        name, size, Format.QCOW2, cluster_size=cluster)
        for name, cluster in (("src", source), ("tmp", temporary))}
    fleecing = Fleecing(
        size, source=images["src"], temporary=images["tmp"],
        capabilities=Capabilities(snapshot_discard_rounds_inwards=False,
                                  unaligned_snapshot_discard_aborts=True))
    for start in (0, 3 * CLUSTER):
        deadly = fleecing.machine.deadly(Discard("snap", start, size - start))
        assert (deadly is not None) is aborts


def test_an_older_build_reads_newer_data_past_the_end_of_a_done_run() -> None:
    older = Capabilities(snapshot_reads_source_before_done_run_ends=True)
    fleecing = Fleecing(capabilities=older)
    new = fleecing.write(0, CLUSTER)
    assert [run.value for run in fleecing.snapshot(0, 2 * CLUSTER).runs()] == [new, OLD]
    assert [run.value for run in fleecing.snapshot(0, CLUSTER).runs()] == [OLD]
    # A server that asks the status of each extent first reads extent by extent: it is not fooled.
    assert [run.value for run in fleecing.snapshot(0, 2 * CLUSTER, Via.NBD).runs()] == [OLD]


def test_without_discard_unmap_a_discard_does_nothing_layer_by_layer() -> None:
    fleecing = Fleecing(temporary=Image("tmp", 10 * CLUSTER, discard=False))
    fleecing.write(0, CLUSTER)
    fleecing.discard(0, CLUSTER)
    assert 0 not in fleecing.clusters("access")
    assert fleecing.holds("tmp") == [(0, CLUSTER, OLD)]
    deaf = Fleecing(cbw=AddFilter("", "", "", discard=False))
    assert deaf.do(Discard("cbw", 0, CLUSTER)).error is None
    assert deaf.clusters("done") == []


def test_the_snapshot_is_not_written() -> None:
    fleecing = Fleecing()
    for request in (Write("snap", 0, 1), Zero("snap", 0, 1)):
        assert fleecing.do(request).error is Errno.ENOTSUP
    assert fleecing.do(Flush("snap")).error is None


FAULTY_TARGET = Image("tmp", 10 * CLUSTER, faults=(
    Fault(RequestKind.WRITE, 0, "ENOSPC", once=True),))


def test_a_failed_copy_breaks_the_guest_write_and_can_be_tried_again() -> None:
    fleecing = Fleecing(temporary=FAULTY_TARGET)
    assert fleecing.do(Write("cbw", 0, 512)).error is Errno.ENOSPC
    assert fleecing.clusters("copy") == ALL
    assert fleecing.clusters("done") == []
    assert fleecing.holds("src") == [(0, 10 * CLUSTER, OLD)]
    fleecing.write(0, 512)
    assert fleecing.clusters("done") == [0]


def test_a_failed_copy_breaks_the_snapshot_for_good() -> None:
    fleecing = Fleecing(temporary=FAULTY_TARGET,
                        cbw=AddFilter("", "", "", on_cbw_error="break-snapshot"))
    fleecing.write(0, 512)
    assert fleecing.do(Read("snap", 9 * CLUSTER, 1, Via.MONITOR)).error is Errno.EACCES
    fleecing.write(CLUSTER, 512)
    assert fleecing.holds("tmp") == []
    assert (fleecing.clusters("access"), fleecing.clusters("done"), fleecing.clusters("copy")) == (
        ALL, [], ALL)
    fleecing.discard(CLUSTER, CLUSTER)
    assert fleecing.clusters("access") == [0, *range(2, 10)]


def test_zeroes_are_copied_as_zeroes() -> None:
    fleecing = Fleecing(source=Image("src", 10 * CLUSTER, Format.QCOW2),
                        temporary=Image("tmp", 10 * CLUSTER, Format.QCOW2))
    fleecing.write(0, 1)
    status = fleecing.do(Status("snap", 0, 10 * CLUSTER)).extents
    assert status is not None
    assert [(extent.length, set(extent.allowed)) for extent in status] == [(10 * CLUSTER, {3})]


@pytest.mark.parametrize(("minimum", "target_cluster", "cluster"), [
    (None, 4 * K, 64 * K), (None, 1024 * K, 1024 * K),
    (128 * K, 64 * K, 128 * K), (1, None, 64 * K),
])
def test_the_cluster_is_the_largest_of_three(
    minimum: int | None, target_cluster: int | None, cluster: int,
) -> None:
    fleecing = Fleecing(
        4096 * K, cbw=AddFilter("", "", "", min_cluster_size=minimum),
        temporary=Image("tmp", 4096 * K, Format.QCOW2, cluster_size=target_cluster))
    assert fleecing.filter.cluster_size == cluster


def test_inspecting_tells_data_from_denied() -> None:
    fleecing = Fleecing()
    fleecing.discard(CLUSTER, 2 * CLUSTER)
    outcome = fleecing.do(Inspect("snap"))
    assert outcome.denied == ((CLUSTER, 3 * CLUSTER),)


@pytest.mark.parametrize(("command", "text"), [
    (AddFilter("x", "src", None), "Parameter 'target' is missing"),
    (AddFilter("x", "nope", "tmp"), "Cannot find device='nope' nor node-name='nope'"),
    (AddFilter("x", "src", "tmp", on_cbw_error="foo"),
     "Parameter 'on-cbw-error' does not accept value 'foo'"),
    (AddFilter("x", "src", "tmp", cbw_timeout=1 << 32),
     "Parameter 'cbw-timeout' expects uint32_t"),
    (AddFilter("x", "src", "tmp", bitmap=BitmapRef("src", "b")), "Dirty bitmap 'b' not found"),
    (AddFilter("x", "src", "tmp", min_cluster_size=3 * K),
     "Cannot create block-copy-state: min-cluster-size needs to be a power of 2"),
])
def test_options_are_checked(command: AddFilter, text: str) -> None:
    refused = Fleecing().do(command).refused
    assert refused is not None
    assert refused.desc == text
