# SPDX-License-Identifier: GPL-2.0-or-later
"""How a node is read whole, on readers that keep account of what they were asked."""

import errno

from harness.clients.errors import RequestFailed
from harness.ranges import merged
from harness.systems.base import WHOLE
from harness.systems.inspection import Snapshot, inspect
from harness.systems.observation import bitmaps_by_node, bitmaps_of, cluster_size
from model.configuration import GIB, KIB, MIB
from model.outcome import BitmapView

CLUSTER = 64 * KIB


class Disk:
    """A sparse disk of which some clusters cannot be read."""

    def __init__(self, size, data=(), denied=(), error=errno.EINVAL, liar=False):
        self.size = size
        self.data = dict(data)
        self.denied = denied
        self.error = error
        self.liar = liar
        self.reads = []

    def check(self, start, end):
        if any(cluster * CLUSTER < end and start < (cluster + 1) * CLUSTER
               for cluster in self.denied):
            raise RequestFailed("NBD", "read", self.error)

    def read(self, start, end):
        self.reads.append((start, end))
        self.check(start, end)
        found = bytearray(end - start)
        for place, byte in self.data.items():
            if start <= place < end:
                found[place - start] = byte
        return bytes(found)

    def nonzero(self, start, end):
        self.check(start, end)
        if self.liar:
            return []
        return [(place, place + 1) for place in self.data if start <= place < end]


def test_a_small_disk_is_read_whole():
    disk = Disk(5 * MIB, {0: 1, 5 * MIB - 1: 2})
    answer = inspect(disk)
    assert (len(answer.data), answer.data[0], answer.data[-1]) == (5 * MIB, 1, 2)
    assert answer.denied == ()
    assert answer.parts is None


def test_a_snapshot_is_read_cluster_by_cluster_and_denied_ones_are_told():
    disk = Disk(5 * CLUSTER + 512, {CLUSTER: 7}, denied=(0, 2, 3, 5))
    answer = inspect(disk, Snapshot(CLUSTER))
    assert answer.denied == ((0, CLUSTER), (2 * CLUSTER, 4 * CLUSTER),
                             (5 * CLUSTER, 5 * CLUSTER + 512))
    assert len(answer.data) == disk.size
    assert answer.data[CLUSTER] == 7
    assert {end - start for start, end in disk.reads} == {CLUSTER, 512}


def test_only_a_snapshot_can_be_denied():
    assert inspect(Disk(CLUSTER, denied=(0,))).error == errno.EINVAL
    assert inspect(Disk(CLUSTER, denied=(0,), error=errno.EIO),
                   Snapshot(CLUSTER)).error == errno.EIO


def test_of_a_big_disk_only_what_may_be_other_than_zero_is_read():
    disk = Disk(64 * GIB, {40 * GIB + 5: 9})
    answer = inspect(disk)
    assert answer.data is None
    assert [offset for offset, data in answer.parts if any(data)] == [40 * GIB]
    assert sum(end - start for start, end in disk.reads) <= 4 * MIB


def test_of_a_big_snapshot_each_denied_cluster_is_found():
    last = WHOLE * 2 // CLUSTER - 1
    disk = Disk(WHOLE * 2, {CLUSTER: 3}, denied=(5, 6, last))
    answer = inspect(disk, Snapshot(CLUSTER))
    assert answer.denied == ((5 * CLUSTER, 7 * CLUSTER), (last * CLUSTER, WHOLE * 2))
    assert [offset for offset, data in answer.parts if any(data)] == [CLUSTER]


def test_what_was_touched_is_read_whatever_block_status_says():
    disk = Disk(WHOLE * 2, {3 * CLUSTER + 1: 3}, liar=True)
    assert not inspect(disk, Snapshot(CLUSTER)).parts
    answer = inspect(disk, Snapshot(CLUSTER), [(3 * CLUSTER + 1, 3 * CLUSTER + 2)])
    assert [(offset, len(data)) for offset, data in answer.parts] == [(3 * CLUSTER, CLUSTER)]


def test_ranges_melt():
    assert merged([(4, 6), (0, 2), (2, 3), (5, 9)]) == ((0, 3), (4, 9))
    assert merged([]) == ()


def test_bitmaps_are_told_as_qmp_lists_them():
    access = {"granularity": CLUSTER, "count": CLUSTER, "recording": False, "busy": False,
              "persistent": False}
    named = {**access, "name": "b", "recording": True, "inconsistent": True, "granularity": 512}
    nodes = [{"node-name": "a"}, {"node-name": "cbw", "dirty-bitmaps": [named, access]}]
    views = (BitmapView("b", 512, CLUSTER, True, inconsistent=True),
             BitmapView(None, CLUSTER, CLUSTER))
    assert bitmaps_by_node(nodes) == {"cbw": views}
    assert bitmaps_of(nodes[0]) == ()
    assert cluster_size(views) == CLUSTER
    assert cluster_size(()) is None
