# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a failure: in whose words, whose data, which state."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import replace

import pytest

from harness import stamps
from harness.lockstep import human
from harness.lockstep.explain import explain
from harness.lockstep.origin import Piece, origins
from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms
from harness.stamps import Origin
from harness.systems.base import Answer
from harness.systems.lies import catalogue
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.configuration import Configuration, Fault, Format, Image, Protocol, RequestKind
from model.job_operations import Backup, JobFinalize, Transaction
from model.machine import Machine
from model.operations import (
    AddFilter,
    AddSnapshot,
    BitmapAdd,
    BitmapMerge,
    BitmapRef,
    Discard,
    Export,
    Flush,
    Inspect,
    Operation,
    Read,
    Resize,
    Status,
    Unexport,
    Via,
    Write,
    Zero,
    vocabulary,
)
from model.rules import RULES
from tests.unit import lockstep_lab as lab

K = 1024


# Words


@pytest.mark.parametrize(("count", "text"), [
    (0, "0"), (1, "1"), (512, "512"), (1000, "1k-24"), (1024, "1k"), (1536, "1k+512"),
    (65536, "64k"), (65535, "64k-1"), (65537, "64k+1"), (1 << 20, "1M"),
    ((1 << 20) + 512, "1M+512"), ((1 << 20) + 65536, "1088k"), (64 << 30, "64G"),
    (1 << 40, "1T"), (-65536, "-64k"),
])
def test_sizes_are_written_as_qemu_developers_write_them(count: int, text: str) -> None:
    assert human.size(count) == text


def test_one_is_no_plural() -> None:
    told = [human.counted(count, "step") for count in (0, 1, 2)]
    assert told == ["0 steps", "1 step", "2 steps"]


@pytest.mark.parametrize(("operation", "text"), [
    (Write("cbw", 64 * K + 512, 4 * K), "write cbw 64k+512 4k"),
    (Write("cbw", 0, 4 * K, fua=True), "write cbw 0 4k fua"),
    (Read("snap", 0, 192 * K, Via.NBD_DF), "read snap 0 192k via nbd-df"),
    (Zero("cbw", 0, 512, Via.MONITOR, unmap=True, fast=True),
     "zero cbw 0 512 unmap fast via monitor"),
    (Flush("cbw"), "flush cbw"),
    (Status("snap", 0, 64 * K, context="qemu:allocation-depth", one=True),
     "status snap 0 64k context=qemu:allocation-depth one"),
    (AddFilter("cbw", "src", "tmp"), "add-filter cbw file=src target=tmp"),
    (AddFilter("cbw", None, "tmp", BitmapRef("src", "b"), min_cluster_size=128 * K, discard=False),
     "add-filter cbw file=none target=tmp bitmap=src/b min-cluster-size=128k no-discard"),
    (Export("cbw", writable=False, bitmaps=(BitmapRef("src", "b"), BitmapRef("src", "c"))),
     "export cbw no-writable bitmaps=src/b,src/c"),
    (Unexport("cbw"), "unexport cbw"),
    (BitmapAdd("src", "b", granularity=64 * K, persistent=True),
     "bitmap-add src/b granularity=64k persistent"),
    (BitmapMerge("src", "b", sources=(BitmapRef("tmp", "c"),)),
     "bitmap-merge src/b sources=tmp/c"),
    (Inspect("snap"), "inspect snap"),
    (JobFinalize("job0"), "job-finalize job0"),
    (Backup("job0", "src", "tmp", "full", max_workers=1),
     "backup job0 device=src target=tmp sync=full max-workers=1"),
    (Transaction((BitmapAdd("src", "b"), Backup("j", "src", "tmp", "none"))),
     "transaction actions=(bitmap-add src/b),(backup j device=src target=tmp sync=none)"),
])
def test_operations_are_written_in_a_line(operation: Operation, text: str) -> None:
    assert human.operation(operation) == text


def test_every_operation_has_words() -> None:
    for name, kind in vocabulary().items():
        samples = {"node": "n", "job": "j", "bitmap": "b", "file": "f", "target": "t",
                   "device": "d", "sync": "full", "request": Read("n"), "kind": "read",
                   "offset": 0, "length": 1, "number": 1, "size": 512,
                   "options": AddSnapshot("n", "f"), "backing": "b"}
        needed = {field.name: samples[field.name] for field in dataclasses.fields(kind)
                  if field.default is dataclasses.MISSING}
        assert human.operation(kind(**needed)).startswith(name)


def test_images_are_written_in_a_line() -> None:
    image = Image("src", 1 << 20, Format.QCOW2, Protocol.NBD, 65536, True, "metadata", "base",
                  ((0, 512), (1024, 1024)), False,
                  (Fault(RequestKind.READ, 512, "EIO", True),), 512)
    assert human.image(image) == (
        "src: 1M qcow2 over nbd, cluster-size=64k, subclusters, preallocation=metadata, "
        "backing=base, request-alignment=512, no-discard, data in 0..512, 1k..2k, "
        "EIO for the first read at 512")
    assert human.image(Image("tmp", 512)) == "tmp: 512 raw"
    held = Image("tmp", 512, protocol=Protocol.HELD, tells_status=True)
    assert human.image(held) == "tmp: 512 raw over held with block status"


# Whose data


def test_each_piece_is_traced_to_its_writer_and_place() -> None:
    found = (
        stamps.data(5, 10_000, 3_000)
        + stamps.data(-1, 13_000, 100)
        + bytes(500)
        + random.Random(1).randbytes(48)
        + stamps.data(5, 13_648 + 65_536, 2_000)
        + stamps.data(7, 15_648, 5_000))
    assert origins(found, 10_000, [5, 7, -1], 1 << 20) == [
        Piece(10_000, 13_000, Origin(5, 10_000)),
        Piece(13_000, 13_100, Origin(-1, 13_000)),
        Piece(13_100, 13_600, Origin(0, 13_100)),
        Piece(13_600, 13_648, None),
        Piece(13_648, 15_648, Origin(5, 13_648 + 65_536)),
        Piece(15_648, 20_648, Origin(7, 15_648)),
    ]


def test_too_few_bytes_are_nobodys() -> None:
    assert origins(stamps.data(5, 0, 3), 0, [5], 1 << 20) == [Piece(0, 3, None)]
    assert origins(stamps.data(5, 0, 4), 0, [5], 1 << 20) == [Piece(0, 4, Origin(5, 0))]


def test_shifts_are_said_with_their_direction() -> None:
    (piece,) = origins(stamps.data(5, 4096, 512), 0, [5], 1 << 20)
    assert piece.shift == -4096
    (piece,) = origins(stamps.data(5, 0, 512), 4096, [5], 1 << 20)
    assert piece.shift == 4096


def test_much_noise_of_nobody_takes_no_long_time() -> None:
    noise = random.Random(2).randbytes(256 * K)
    assert origins(noise, 0, list(range(1, 100)), 1 << 20) == [Piece(0, 256 * K, None)]


# Stories


def story(trace: Trace, stand: Stand) -> str:
    """The story of how the trace fails on the stand."""
    failure = replay(trace, stand)
    assert not isinstance(failure, Conforms)
    told = explain(trace, failure, stand.model)
    assert told.endswith("\n")
    assert all(line == line.rstrip() for line in told.splitlines())
    return told


ON_SOURCE = Capabilities(copy_bitmap_on_filter=False)
OLD = Capabilities(snapshot_reads_source_before_done_run_ends=True)


def test_the_story_of_a_known_defect() -> None:
    trace = lab.fleecing(
        Write("cbw", 640 * K, 512), Write("cbw", 0, 64 * K), Write("cbw", 128 * K, 512),
        Read("snap", 512, 128 * K, Via.NBD_DF))
    told = story(trace, lab.stand(lying=OLD))
    assert told.splitlines()[:22] == [
        "Divergence at operation 8: read snap 512 128k via nbd-df",
        "  data: 63k+512 differ, in 512..64k",
        "",
        "What was done (> the last; * touches the wrong bytes; + the same clusters)",
        "        src: 1M raw, data in 0..1M",
        "        tmp: 1M raw",
        "     1  add-filter cbw file=src target=tmp",
        "     2  add-snapshot snap file=cbw",
        "     3  export cbw allocation-depth",
        "     4  export snap",
        "     5  write cbw 640k 512",
        "   * 6  write cbw 0 64k",
        "     7  write cbw 128k 512",
        "  >* 8  read snap 512 128k via nbd-df",
        "",
        "Whose data",
        "  512..64k: expected the first data of src, found the data of operation 6 "
        "(write cbw 0 64k)",
        "",
        "State of filter cbw, clusters of 64k",
        "                                      access  done  copy",
        "  clusters set, model and QEMU alike      16     3    13",
        "  cluster 0 (0..64k)                       1     1     0",
    ]
    assert "cbw.point-in-time: " in told


def test_the_story_of_a_wrong_bitmap() -> None:
    class Forgets(Simulated):
        def apply(self, number: int, operation: Operation) -> Answer:
            if isinstance(operation, Write) and operation.length > 64 * K:
                operation = replace(operation, length=64 * K)
            return super().apply(number, operation)

    trace = lab.fleecing(Write("cbw", 0, 64 * K), Write("cbw", 100 * K, 100 * K))
    told = story(trace, Stand(lambda images: Forgets(Machine(images)), Machine))
    assert told.splitlines()[1:6] == [
        "  bitmaps of node cbw:",
        "    1: expected (anonymous), count 256k, granularity 64k",
        "       found    (anonymous), count 192k, granularity 64k",
        "    2: expected (anonymous), count 768k, granularity 64k",
        "       found    (anonymous), count 832k, granularity 64k",
    ]
    assert "State of filter cbw, clusters of 64k\n" in told
    rows = [line.split() for line in told.splitlines()]
    assert ["clusters", "set,", "model", "16", "4", "12"] in rows
    assert ["clusters", "set,", "QEMU", "16", "3", "13"] in rows
    assert ["differs", "differs"] in rows
    assert ["clusters", "1-3", "(64k..256k)", "1", "0>1", "1>0"] in rows


def test_bitmaps_of_a_filter_whose_disk_was_resized_may_differ_in_size() -> None:
    """The copy bitmap, where it is the source's, has been cut; access and done have not."""
    trace = lab.trace_of(AddFilter("cbw", "src", "tmp"), Resize("src", 128 * K), Export("cbw"),
                         Write("cbw", 192 * K, 512))
    told = story(trace, lab.stand(catalogue()["no-error"], ON_SOURCE))
    rows = [line.split() for line in told.splitlines()]
    assert ["clusters", "set,", "model", "and", "QEMU", "alike", "16", "1", "2"] in rows
    assert ["cluster", "3", "(192k..256k)", "1", "0>1", "-"] in rows


def test_the_story_of_shifted_data() -> None:
    trace = lab.fleecing(Read("snap", 0, 4 * K))
    told = story(trace, lab.stand(catalogue()["shifted-data"]))
    assert ("0..4k: expected the first data of src, found the first data of src, "
            "shifted by -4k: it belongs at 4k") in told


def test_the_story_of_a_filter_of_which_one_bitmap_is_shorter() -> None:
    """Where its copy bitmap is the source's, and that was resized below it."""
    trace = lab.trace_of(AddFilter("cbw", "src", "tmp"), AddFilter("other", "src", "tmp"),
                         Resize("other", 0), Export("tmp"), Read("tmp", 0, 4 * K))
    capabilities = Capabilities(copy_bitmap_on_filter=False)
    told = story(trace, lab.stand(catalogue()["wrong-byte"], capabilities))
    assert "State of filter cbw, clusters of 64k\n" in told


def test_the_story_of_data_that_nobody_wrote() -> None:
    class Garbles(Simulated):
        def apply(self, number: int, operation: Operation) -> Answer:
            answer = super().apply(number, operation)
            if isinstance(operation, Read) and answer.data is not None:
                noise = random.Random(3).randbytes(4 * K)
                return replace(answer, data=answer.data[:-4 * K] + noise)
            return answer

    trace = lab.fleecing(Zero("cbw", 0, 64 * K), Discard("cbw", 0, 4 * K),
                         Read("cbw", 0, 64 * K))
    told = story(trace, Stand(lambda images: Garbles(Machine(images)), Machine))
    assert ("60k..64k: expected zeroes (perhaps of operation 5, zero cbw 0 64k), "
            "found what nobody wrote") in told
    assert "  + 6  discard cbw 0 4k" in told


def test_the_story_of_a_digest() -> None:
    trace = lab.trace_of(BitmapAdd("src", "b"), Export("src"), Write("src", 64 * K, 512))
    stand = Stand(lambda images: Simulated(
        Machine(images), catalogue()["wrong-digest"], truthful_for=2), Machine)
    assert "In the model, bitmap src/b is dirty in 64k..128k\n" in story(trace, stand)
    stand = Stand(lambda images: Simulated(
        Machine(images), catalogue()["wrong-digest"]), Machine)
    assert "In the model, bitmap src/b is clean\n" in story(trace, stand)


def test_the_story_of_a_refusal() -> None:
    trace = lab.trace_of(BitmapAdd("nowhere", "b"))
    told = story(trace, lab.stand(catalogue()["accepted"]))
    assert told.splitlines()[:6] == [
        "Divergence at operation 1: bitmap-add nowhere/b",
        "  expected: GenericError: Cannot find device='nowhere' nor node-name='nowhere'",
        "  found:    the command is accepted",
        "",
        "What was done (> the last)",
        "        src: 1M raw, data in 0..1M",
    ]


def test_the_story_of_a_crash_has_the_last_words() -> None:
    told = story(lab.fleecing(), lab.stand(catalogue()["crash"]))
    assert told.startswith("Crash at operation 1: add-filter cbw file=src target=tmp\n  QEMU ")
    assert told.endswith("QEMU's last words\n  qemu: lie.c:1: lie: Assertion `truthful' failed.\n")


def test_of_a_long_trace_only_what_matters_is_told() -> None:
    elsewhere = [Write("cbw", 512 * K + place, 16) for place in range(0, 800, 16)]
    trace = lab.fleecing(Write("cbw", 0, 512), *elsewhere, Read("snap", 0, 128 * K, Via.NBD_DF))
    told = story(trace, lab.stand(lying=OLD))
    assert "(50 requests elsewhere)" in told
    assert "   *  5  write cbw 0 512\n" in told
    assert "write cbw 512k" not in told


def test_many_wrong_ranges_are_cut_short() -> None:
    class Spotted(Simulated):
        def apply(self, number: int, operation: Operation) -> Answer:
            answer = super().apply(number, operation)
            if isinstance(operation, Read) and answer.data is not None:
                data = bytearray(answer.data)
                for place in range(0, len(data), 4 * K):
                    data[place:place + 512] = bytes(512)
                return replace(answer, data=bytes(data))
            return answer

    told = story(lab.fleecing(Read("snap", 0, lab.SIZE)),
                 Stand(lambda images: Spotted(Machine(images)), Machine))
    assert "and 248 more" in told
    assert "  and more\n" in told


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_lie_makes_a_story(name: str) -> None:
    lie = catalogue()[name]
    trace = lab.PLAIN if lie.deed else lab.THOROUGH
    assert "What was done" in story(trace, lab.stand(lie))


def test_no_images_no_data_no_trouble() -> None:
    trace = lab.trace_of(BitmapAdd("nowhere", "b"), configuration=Configuration())
    assert "nowhere" in story(trace, lab.stand(catalogue()["wrong-text"]))


def test_a_table_of_a_rule_stays_one() -> None:
    text = "One two\nthree four:\n\n===  ===\na    b\n\nFive six."
    assert human.rule(text, 14, "  ", "    ") == [
        "  One two", "    three", "    four:", "", "    ===  ===", "    a    b", "",
        "    Five six."]
    assert human.rule("One two\n\nthree", 80) == ["One two three"]
    told = "\n".join(human.rule(RULES["backup.bitmap-after"].text, 90))
    assert "\non-success  S          B and S\n" in told
