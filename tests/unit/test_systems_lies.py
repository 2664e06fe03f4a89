# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulated system tells the truth, or exactly the lie it was given."""

import pytest

from harness.processes import Exit
from harness.systems import lies
from harness.systems.base import WHOLE, sent_as
from harness.systems.failure import (
    SystemCrashed,
    SystemFailed,
    SystemHung,
    SystemHungUp,
)
from harness.systems.lies import Oracle
from harness.systems.simulated import Simulated, rendered
from model import operations as ops
from model.configuration import GIB, KIB, Configuration, Format, Image
from model.content import stamped, zeroes
from model.errors import Errno
from model.job_operations import Backup, Sync, Transaction
from model.machine import Machine
from model.operations import BitmapRef, Context, Via
from model.outcome import Outcome

SIZE = 512 * KIB
CONFIGURATION = Configuration((
    Image("src", SIZE, filled=((0, 192 * KIB),)), Image("tmp", SIZE),
    *(Image(name, SIZE) for name in ("copy", "other", "copy2")),
    Image("qcow", SIZE, Format.QCOW2)))
NAMED = (BitmapRef("src", "b"),)

SCRIPT = (
    ops.Resize("tmp", 2 * SIZE),
    ops.BitmapAdd("src", "b", 64 * KIB),
    ops.BitmapAdd("src", "b"),  # refused: it exists
    ops.Export("src"),
    ops.Write("src", 4 * KIB, 256 * KIB),
    ops.Unexport("src"),
    ops.AddFilter("cbw", "src", "tmp", BitmapRef("src", "b")),
    ops.AddSnapshot("snap", "cbw"),
    ops.Export("cbw"),
    ops.Export("snap", allocation_depth=True),
    ops.Write("cbw", 8 * KIB, 16 * KIB),
    ops.Write("cbw", 128 * KIB + 512, 512),
    ops.Zero("cbw", 192 * KIB, 64 * KIB),
    ops.Read("cbw", 0, 128 * KIB),
    ops.Read("snap", 4 * KIB, 60 * KIB),
    ops.Read("snap", SIZE - 4 * KIB, 4 * KIB),  # refused: not dirty
    ops.Status("cbw", 0, SIZE),
    ops.Status("snap", 64 * KIB, 64 * KIB, context=Context.DEPTH, others=(Context.ALLOCATION,)),
    ops.Discard("snap", 0, 64 * KIB),
    ops.Inspect("src"),
    ops.Inspect("snap"),
    ops.Inspect("tmp"),
    ops.Reopen("copy2", read_only=True),
    ops.Export("copy2"),  # refused: it is read-only
    ops.Reopen("copy2"),
    ops.Attach("cbw"),
    Transaction((Backup("job", "src", "copy", Sync.FULL, auto_dismiss=False),
                 Backup("job2", "other", "copy2", Sync.FULL, auto_dismiss=False))),
    ops.Restart(),
)


def run(system, script=SCRIPT):
    """Everything that one sees of a run."""
    seen = []
    for number, operation in enumerate(script, 1):
        try:
            seen.append(system.apply(number, operation))
            seen.append(system.observe(NAMED))
        except SystemFailed as why:
            seen.append(type(why))
            break
    system.close()
    return seen


def test_without_a_lie_a_run_is_repeatable():
    first = run(Simulated(Machine(CONFIGURATION)))
    assert first == run(Simulated(Machine(CONFIGURATION)))
    assert any(seen.digests for seen in first[1::2])


@pytest.mark.parametrize("lie", lies.catalogue().values(), ids=lambda lie: lie.name)
def test_every_lie_can_be_told_and_shows(lie):
    liar = Simulated(Machine(CONFIGURATION), lie)
    told = run(liar)
    assert liar.told
    assert told != run(Simulated(Machine(CONFIGURATION)))
    assert [lie.answer, lie.observation, lie.deed, lie.failure].count(None) == 3


def test_every_oracle_has_lies_to_catch():
    assert {lie.oracle for lie in lies.catalogue().values()} == set(Oracle)


def test_a_liar_may_be_truthful_first():
    lie = lies.catalogue()["wrong-byte"]
    liar = Simulated(Machine(CONFIGURATION), lie, truthful_for=len(SCRIPT))
    assert run(liar) == run(Simulated(Machine(CONFIGURATION)))
    assert not liar.told


def test_rendering_has_the_bytes_of_the_place():
    answer = rendered(ops.Read("src", 1000, 24), Outcome(content=stamped(24, 7)))
    whole = rendered(ops.Inspect("src"), Outcome(content=stamped(2048, 7)))
    assert answer.data == whole.data[1000:1024]
    assert len(set(answer.data)) > 8


def test_rendering_has_the_errno_of_the_channel():
    outcome = Outcome(error=Errno.EACCES)
    assert rendered(ops.Read("snap", 0, 1), outcome).error == Errno.EINVAL
    assert rendered(ops.Read("snap", 0, 1, Via.MONITOR), outcome).error == Errno.EACCES


def test_a_big_disk_is_shown_by_its_parts():
    content = zeroes(64 * GIB)
    content.set(5 * GIB, 5 * GIB + 512, 3)
    answer = rendered(ops.Inspect("src"), Outcome(content=content))
    assert content.size > WHOLE
    assert answer.data is None
    assert [(offset, len(data)) for offset, data in answer.parts] == [(5 * GIB, 512)]


def test_a_channel_that_is_missing_is_replaced():
    read = ops.Read("src", 0, 1, Via.DEVICE)
    assert sent_as(read, {Via.NBD, Via.QEMU_IO}).via is Via.NBD
    assert sent_as(read, {Via.QEMU_IO}).via is Via.QEMU_IO
    assert sent_as(read, set(Via)) is read
    assert sent_as(ops.Inspect("src"), set()) == ops.Inspect("src")


def test_failures_say_what_happened_in_one_line():
    crash = SystemCrashed(Exit.of(-6, "qemu-x: ../a.c:1: f: Assertion `a == b' failed.\nx\n"))
    assert (crash.signal, crash.status) == ("SIGABRT", None)
    assert str(crash).endswith("SIGABRT: qemu-x: ../a.c:1: f: Assertion `a == b' failed.")
    assert crash.stderr[-1] == "x"
    assert "status 1: no such option" in str(SystemCrashed(Exit.of(1, "no such option\n")))
    assert "30 s" in str(SystemHung("read", 30))
    assert "Failed to send reply" in str(SystemHungUp("NBD", "read", ["Failed to send reply"]))
