# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed schedules of requests that have their blocks, or clusters, to themselves: writes of
parts of blocks, reads that are kept, and writes that fill a cluster; of flushes that writes
overtake; and of more than one time-out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from harness.exploration.building import Check, Plan
from harness.exploration.directed.script import (
    CLUSTER,
    ROOM,
    Play,
    Script,
    disks,
    if_possible,
    look,
    overlays,
)
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER
from harness.lockstep.trace import Trace
from model import operations as ops
from model.configuration import KIB, Configuration, RequestKind
from model.operations import Via
from model.turns import MOST_IN_FLIGHT

READ, WRITE, FLUSH = RequestKind.READ, RequestKind.WRITE, RequestKind.FLUSH
_BLOCK: Final = 4 * KIB


def checks() -> Iterator[Check]:
    """All of them."""
    for area, name, make in (
            ("concurrency", "parts of blocks", blocks),
            ("concurrency", "reads that are kept and writes into their clusters", kept),
            ("concurrency", "writes that fill one cluster", filled),
            ("failures", "flushes that writes overtake", overtaken),
            ("timeouts", "one time-out after the other", again),
            ("failures", "flushes in their order, of a disk", functools.partial(ordered, SOURCE)),
            ("failures", "flushes in their order, below a filter",
             functools.partial(ordered, FILTER)),
            ("concurrency", "two that wait for one fleecing read, in source and filter", woken),
            ("concurrency", "reads that copy-on-read has nothing to keep of", unkept),
            ("failures", "two that wait for one fleecing read that fails",
             functools.partial(woken, error="EIO")),
            ("concurrency", "a part of a block that waits for two reads", again_in_turn),
            ("concurrency", "a write that waits for who fills its second cluster",
             filled_later)):
        yield Check(area, f"schedule: {name}", functools.partial(if_possible, make))


def _one_by_one(script: Script, plays: Sequence[Play]) -> Trace:
    """The plays, each in its own place, and a look at what they leave."""
    for index, play in enumerate(plays):
        script.base = index * ROOM
        play(script)
        script.finish()
    script.add(ops.Inspect(script.guest))
    return script.trace()


def _in_blocks(clusters: int, block: int) -> Configuration:
    """A source whose blocks are of so many bytes."""
    images = disks(clusters)
    return replace(images, images=tuple(
        replace(image, request_alignment=block) if image.node == SOURCE else image
        for image in images.images))


# Parts of blocks


def blocks(plan: Plan) -> Trace:
    """What is beside a part of a block is read first and written back, so nobody may change it
    meanwhile."""
    plays: tuple[Play, ...] = (_two_parts, _part_and_whole, _part_meets_read, _parts_of_two,
                               _part_meets_write, _many_parts, _zeroed_part)
    script = Script(plan, _in_blocks(ROOM * len(plays), _BLOCK))
    script.must(ops.BitmapAdd(SOURCE, "b0", CLUSTER), ops.Export(SOURCE))
    script.guest = SOURCE
    return _one_by_one(script, plays)


def _put(script: Script, offset: int, length: int) -> None:
    script.start(ops.Write(script.guest, offset, length))


def _get(script: Script, offset: int, length: int) -> None:
    script.start(ops.Read(script.guest, offset, length, Via.NBD_DF))


def _two_parts(script: Script) -> None:
    """The second write waits for the first one, and the first goes on though it has a second one
    behind it."""
    _put(script, 512, 512)
    _put(script, 1024, 512)


def _part_and_whole(script: Script) -> None:
    """All that comes later waits, but what is beside the block."""
    _put(script, 512, 512)
    _put(script, 0, _BLOCK)
    _get(script, 0, _BLOCK)
    _put(script, _BLOCK, _BLOCK)
    _get(script, 2 * _BLOCK, _BLOCK)
    script.finish(latest=True)


def _part_meets_read(script: Script) -> None:
    """It waits for reads under way; a read that comes while it waits does not wait for it."""
    _get(script, 0, 512)
    _get(script, _BLOCK - 512, 1024)
    _put(script, 512, 512)
    _get(script, 0, _BLOCK)
    script.finish(latest=True)


def _parts_of_two(script: Script) -> None:
    """One that has a part of each of two blocks has both to itself."""
    _put(script, _BLOCK - 512, 1024)
    _put(script, 2 * _BLOCK - 512, 512)
    _put(script, 0, 512)
    script.finish(latest=True)


def _part_meets_write(script: Script) -> None:
    """It waits for whoever writes the block."""
    _put(script, 0, 2 * _BLOCK)
    _put(script, _BLOCK, 512)
    _put(script, 2 * _BLOCK, _BLOCK)
    script.finish(latest=True)


def _many_parts(script: Script) -> None:
    """As many as a connection carries at a time: all that wait are woken, and the connection goes
    on."""
    part = _BLOCK // MOST_IN_FLIGHT
    for place in range(0, _BLOCK, part):
        _put(script, place, part)


def _zeroed_part(script: Script) -> None:
    """Zeroes of a part of a block, in front of a durable write and a flush."""
    script.start(ops.Zero(script.guest, 512, _BLOCK))
    script.start(ops.Write(script.guest, _BLOCK, _BLOCK, fua=True))
    script.flush()


def woken(plan: Plan, error: str | None = None) -> Trace:
    """A fleecing read ends, or fails, in the source before it does in the filter: who waits for it
    there, since a broken snapshot holds up nobody, goes first, although it came last."""
    script = Script(plan, _in_blocks(ROOM, 1 * KIB))
    script.fleecing(breaks=True)
    _put(script, 0, 512)
    script.read(0)
    script.write(1)
    script.copy(0)
    script.done(READ, SOURCE, 1, error="EIO")
    _put(script, 0, _BLOCK + 512)
    script.done(READ, SOURCE, 0, error=error)
    script.finish()
    look(script)
    return script.trace()


# Clusters


def kept(plan: Plan) -> Trace:
    """A read that is kept has all of its clusters to itself, however little it reads."""
    plays: tuple[Play, ...] = (_keep_meets_write, _keep_twice, _write_meets_keep, _kept_before)
    script = Script(plan, overlays(ROOM * len(plays)))
    script.must(ops.AddCopyOnRead("cor", TARGET), ops.Export("cor"))
    script.guest = "cor"
    return _one_by_one(script, plays)


def _keep_meets_write(script: Script) -> None:
    _get(script, 0, _BLOCK)
    _put(script, CLUSTER // 2, _BLOCK)
    _put(script, CLUSTER, CLUSTER)
    script.done(READ, SOURCE, 0)


def _keep_twice(script: Script) -> None:
    """Who reads the cluster after that finds it kept."""
    _get(script, 0, _BLOCK)
    _get(script, CLUSTER - 512, 1024)
    _get(script, CLUSTER // 2, _BLOCK)
    script.done(READ, SOURCE, 0)


def _write_meets_keep(script: Script) -> None:
    """A read that is kept waits for a write of another part of its cluster."""
    _put(script, CLUSTER // 2, _BLOCK)
    _get(script, 0, _BLOCK)
    script.done(READ, SOURCE, 0)


def _kept_before(script: Script) -> None:
    """Even a read of what is kept already has its clusters to itself."""
    _put(script, 0, CLUSTER)
    _get(script, CLUSTER - 512, 1024)
    _put(script, 0, 512)
    _put(script, 2 * CLUSTER, CLUSTER)
    script.finish()


def unkept(plan: Plan) -> Trace:
    """Over storage that has no clusters, a read has its bytes to itself, and none beside, be it
    read or written."""
    script = Script(plan, disks(ROOM))
    script.must(ops.AddCopyOnRead("cor", SOURCE), ops.Export("cor"))
    script.guest = "cor"
    for offset, length in ((0, 513), (513, 511), (512, 2)):
        _get(script, offset, length)
    script.finish(latest=True)
    _get(script, 0, 513)
    _put(script, 513, 511)
    script.finish(latest=True)
    return script.trace()


def filled(plan: Plan) -> Trace:
    """What a write leaves out of its cluster is read of the backing file; who writes to another
    part of it meanwhile waits, and need not read any more; who reads does not wait."""
    plays: tuple[Play, ...] = (_fill_twice, _fill_and_read, _fill_neighbours)
    script = Script(plan, overlays(ROOM * len(plays)))
    script.must(ops.Export(TARGET))
    script.guest = TARGET
    return _one_by_one(script, plays)


def _fill_twice(script: Script) -> None:
    for place in (2, 8, 15):
        _put(script, place * _BLOCK, _BLOCK)


def _fill_and_read(script: Script) -> None:
    _put(script, 2 * _BLOCK, _BLOCK)
    _get(script, 8 * _BLOCK, _BLOCK)
    _put(script, 4 * _BLOCK, CLUSTER)
    script.finish(latest=True)


def _fill_neighbours(script: Script) -> None:
    _put(script, 0, CLUSTER + _BLOCK)
    _put(script, CLUSTER + 8 * _BLOCK, _BLOCK)
    _put(script, 2 * CLUSTER + _BLOCK, _BLOCK)
    script.finish(latest=True)


def again_in_turn(plan: Plan) -> Trace:
    """A part of two blocks waits for the latest of two reads first, then for the other one, and so
    comes after who has waited for that one all the time, though later."""
    script = Script(plan, _in_blocks(ROOM, _BLOCK))
    script.must(ops.Export(SOURCE))
    script.guest = SOURCE
    _get(script, 0, 512)
    _get(script, _BLOCK, 512)
    _put(script, _BLOCK - 512, 1024)
    _put(script, 512, 512)
    script.finish(latest=True)
    script.add(ops.Inspect(SOURCE))
    return script.trace()


def filled_later(plan: Plan) -> Trace:
    """A write that has waited, and then only writes to the first of its clusters, waits for who
    fills the second one before it writes anything."""
    script = Script(plan, overlays(ROOM))
    script.must(ops.Export(TARGET))
    script.guest = TARGET
    _put(script, _BLOCK, _BLOCK)
    _put(script, 4 * _BLOCK, CLUSTER)
    _put(script, CLUSTER + 8 * _BLOCK, _BLOCK)
    script.done(READ, SOURCE, 0)
    _get(script, 4 * _BLOCK, _BLOCK)
    script.finish(latest=True)
    script.add(ops.Inspect(TARGET))
    return script.trace()


# Flushes, and time-outs


def overtaken(plan: Plan) -> Trace:
    """A flush says nothing of writes that end while it is under way: the next one is needed, and
    that after it is not."""
    script = Script(plan, _in_blocks(ROOM, 512))
    script.must(ops.Export(SOURCE))
    script.guest = SOURCE
    for latest in (False, True):
        script.write(0)
        script.done(WRITE, SOURCE, 0)
        script.flush()
        script.write(1)
        if latest:
            script.done(FLUSH, SOURCE)
        script.done(WRITE, SOURCE, 1)
        script.finish()
        script.flush()
        script.finish()
        script.flush()
    return script.trace()


def ordered(guest: str, plan: Plan) -> Trace:
    """Of durable writes that wait for one flush, each has its own then: of a disk behind a
    ``blkdebug`` as of when it came; below a filter as of when it has its turn there, when all that
    wait are durable with the first of them."""
    script = Script(plan, _in_blocks(ROOM, 512))
    script.guest = guest
    if guest == FILTER:
        script.fleecing()
    else:
        script.must(ops.Export(guest))
    clusters = range(3)
    for cluster in clusters:
        script.write(cluster)
        script.finish()
    for error in (None, "EIO"):
        for cluster in clusters:
            script.write(cluster, fua=True)
            script.done(WRITE, SOURCE, cluster)
        script.done(FLUSH, SOURCE, error=error)
        script.finish()
    script.flush()
    return script.trace()


def again(plan: Plan) -> Trace:
    """A request has as long as another one had that took too long; and who comes after a copy that
    took too long waits for it, and if it fails, copies for itself."""
    script = Script(plan, disks(ROOM))
    script.fleecing(timeout=1)
    for cluster in (0, 1):
        script.write(cluster)
        script.expire()
        script.finish()
    script.write(2)
    script.expire()
    script.write(2, 0.5)
    script.done(READ, SOURCE, 2, error="EIO")
    script.copy(2)
    script.finish()
    look(script)
    return script.trace()


