# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces survive being written and read; what is wrong with one is said by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.lockstep.codec import from_plain, to_plain
from harness.lockstep.trace import (
    Build,
    Header,
    Step,
    SystemKind,
    Trace,
    TraceError,
    TraceWriter,
    header_line,
    load,
    parse,
    save,
    step_line,
)
from model.capabilities import Capabilities
from model.configuration import Configuration, Fault, Format, Image, Protocol, RequestKind
from model.operations import Operation, Read, Write, vocabulary
from tests.unit import lockstep_lab as lab

HEADER = header_line(Header(lab.FLEECING))


@pytest.mark.parametrize("kind", vocabulary().values(), ids=lambda kind: kind.name)
@settings(max_examples=25)
@given(st.data())
def test_any_operation_survives(kind: type[Operation], data: st.DataObject) -> None:
    step = Step(data.draw(st.integers(1, 1 << 40)), data.draw(lab.record(kind)))
    assert parse(f"{HEADER}\n{step_line(step)}\n").steps == (step,)


def test_a_header_with_a_capability_of_another_time_is_read(tmp_path: Path) -> None:
    line = header_line(Header(Configuration((Image("a", 512),)), capabilities=Capabilities(
        min_cluster_size=False)))
    old = json.dumps(json.loads(line) | {"capabilities": {
        "min-cluster-size": False, "has-a-former-name": True}})
    header = parse(old + "\n").header
    assert header.capabilities == Capabilities(min_cluster_size=False)
    assert header.unknown_capabilities == ("has-a-former-name",)
    save(tmp_path / "again", Trace(header))
    assert load(tmp_path / "again").header == header
    with pytest.raises(TraceError, match="expected bool"):
        parse(json.dumps(json.loads(line) | {"capabilities": {"min-cluster-size": 3}}))


@given(lab.record(Configuration), lab.record(Capabilities), lab.record(Build),
       st.none() | st.integers(), st.sampled_from(SystemKind),
       st.sampled_from([(), ("short-target-aborts", "empty-merge-crashes")]))
def test_any_header_survives(
    configuration: Configuration, capabilities: Capabilities, build: Build, seed: int | None,
    system: SystemKind, unexcused: tuple[str, ...],
) -> None:
    header = Header(configuration, system, build, seed, capabilities, unexcused=unexcused)
    assert from_plain(Header, json.loads(json.dumps(to_plain(header)))) == header


def test_a_whole_trace_survives_on_disk(tmp_path: Path) -> None:
    images = (
        Image("base", 3 << 20, Format.QCOW2, Protocol.NBD, 65536, True, "metadata",
              filled=((0, 512),), faults=(Fault(RequestKind.READ, 0, "EIO", True),)),
        Image("top", 3 << 20, Format.QCOW2, backing="base", discard=False),
    )
    header = Header(Configuration(images), SystemKind.QEMU_SYSTEM, Build("debian", "7.2.22"), 4,
                    Capabilities(min_cluster_size=False))
    trace = Trace(header, lab.THOROUGH.steps)
    save(tmp_path / "a trace", trace)
    assert load(tmp_path / "a trace") == trace


def test_a_line_is_short_enough_to_type() -> None:
    step = Step(7, Write("cbw", 65536, 512))
    assert step_line(step) == (
        '{"n": 7, "op": "write", "node": "cbw", "offset": 65536, "length": 512}')
    assert HEADER == (
        '{"cbw-lockstep": 1, "configuration": {"images": ['
        '{"node": "src", "size": 1048576, "filled": [[0, 1048576]]}, '
        '{"node": "tmp", "size": 1048576}]}}')


def test_lines_can_be_commented_out() -> None:
    text = (f"\n{HEADER}\n# a remark\n\n"
            '{"n": 3, "op": "read", "node": "src", "length": 512}\n'
            '  # {"n": 4, "op": "read", "node": "src", "length": 1024}\n')
    assert parse(text).steps == (Step(3, Read("src", 0, 512)),)


def test_the_last_line_needs_no_end() -> None:
    assert len(parse(f'{HEADER}\n{{"n": 1, "op": "inspect", "node": "src"}}').steps) == 1


READ = '{"n": 1, "op": "read", "node": "src"}'


@pytest.mark.parametrize(("text", "line", "what"), [
    ("", 1, "the trace is empty: its first line is the header"),
    ("# nothing\n", 1, "the trace is empty: its first line is the header"),
    (READ, 1, 'not a trace: the first line has no "cbw-lockstep" field'),
    ('{"cbw-lockstep": 2}', 1,
     "trace format version 2 is not known here; this harness reads version 1"),
    ('{"cbw-lockstep": 1}', 1, "header: configuration: missing"),
    ('{"cbw-lockstep": 1, "configuration": 5}', 1,
     "header: configuration: expected an object, not 5"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a"}]}}', 1,
     "header: configuration.images[0].size: missing"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": true}]}}', 1,
     "header: configuration.images[0].size: expected int, not True"),
    ('{"cbw-lockstep": 1, "configuration": {"images": {}}}', 1,
     "header: configuration.images: expected a list, not {}"),
    ('{"cbw-lockstep": 1, "configuration": {}, "system": "bochs"}', 1,
     "header: system: 'bochs' is none of qsd, qemu-system, simulated"),
    ('{"cbw-lockstep": 1, "configuration": {}, "sead": 1}', 1,
     "header: sead: no such field (there are: configuration, system, build, seed, capabilities, "
     "unknown-capabilities, drawn, unexcused)"),
    ('{"cbw-lockstep": 1, "configuration": {}, "unexcused": ["min-cluster-size"]}', 1,
     "header: unexcused: no known defect is called 'min-cluster-size'"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": 512, '
     '"filled": [[0]]}]}}', 1,
     "header: configuration.images[0].filled[0]: expected 2 items, not 1"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": 512, '
     '"filled": [[0, 1024]]}]}}', 1, "header: image 'a': data in 0..1024 is outside of it"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": -1}]}}', 1,
     "header: image 'a': a size below zero"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": 1}, '
     '{"node": "a", "size": 1}]}}', 1, "header: image 'a' is there twice"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": 1, '
     '"backing": "b"}]}}', 1, "header: image 'a': its backing image 'b' is not before it"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": 1, '
     '"tells-status": true}]}}', 1,
     "header: image 'a': only storage that is held tells block status as a schedule says"),
    ('{"cbw-lockstep": 1, "configuration": {"images": [{"node": "a", "size": 1, '
     '"protocol": "held", "tells-status": true}, {"node": "b", "size": 1, "backing": "a"}]}}', 1,
     "header: image 'b': its backing image 'a' must not tell block status"),
    (f"{HEADER}\n{READ}\n" + '{"n": 2, "op": "re', 3,
     "the line is cut off; delete it to replay what comes before"),
    (f"{HEADER}\n" + '{"n": 2 "op"}\n', 2, "not JSON: Expecting ',' delimiter at column 9"),
    (f"{HEADER}\n" + '{"n": 2, "n": 3, "op": "read"}\n', 2, "not JSON: field 'n' is there twice"),
    (f"{HEADER}\n[]\n", 2, "expected a JSON object"),
    (f"{HEADER}\n" + "[" * 100_000 + "\n", 2, None),
    (f"{HEADER}\n{READ}\n{READ}\n", 3, "operation number 1 is already that of line 2"),
    (f"{HEADER}\n" + '{"op": "read"}\n', 2, 'an operation needs its number: "n", from 1 up'),
    (f"{HEADER}\n" + '{"n": 0, "op": "read"}\n', 2,
     'an operation needs its number: "n", from 1 up'),
    (f"{HEADER}\n" + '{"n": true, "op": "read"}\n', 2,
     'an operation needs its number: "n", from 1 up'),
    (f"{HEADER}\n" + '{"n": 1}\n', 2, 'an operation needs its name: "op"'),
    (f"{HEADER}\n" + '{"n": 1, "op": ["read"]}\n', 2, 'an operation needs its name: "op"'),
    (f"{HEADER}\n" + '{"n": 1, "op": "scrub"}\n', 2, "no operation is called 'scrub'"),
    (f"{HEADER}\n" + '{"n": 1, "op": "read", "node": "a", "size": 5}\n', 2,
     "operation 'read': size: no such field (there are: node, offset, length, via)"),
    (f"{HEADER}\n" + '{"n": 1, "op": "read"}\n', 2, "operation 'read': node: missing"),
    (f"{HEADER}\n" + '{"n": 1, "op": "read", "node": 5}\n', 2,
     "operation 'read': node: expected str, not 5"),
    (f"{HEADER}\n" + '{"n": 1, "op": "add-filter", "node": "a", "file": "b", "target": "c", '
     '"bitmap": "d"}\n', 2, None),
])
def test_what_is_wrong_is_said_in_a_line(text: str, line: int, what: str | None) -> None:
    with pytest.raises(TraceError) as caught:
        parse(text, "some.trace")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"some.trace:{line}: ")
    assert caught.value.line == line
    if what is not None:
        assert caught.value.what == what


def test_trace_errors_are_errors_of_the_user() -> None:
    assert issubclass(TraceError, HarnessError)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"cannot read the trace: No such file"):
        load(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not a trace: not UTF-8 text"):
        load(tmp_path / "binary")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"cannot write a trace here: No such file"):
        TraceWriter(tmp_path / "none" / "trace", Header(lab.FLEECING))


def test_a_full_disk_is_an_error_of_the_user() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(TraceError, match="cannot write the trace: No space left on device"):
        TraceWriter(full, Header(lab.FLEECING))


def test_each_step_is_on_disk_when_recorded(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with TraceWriter(path, Header(lab.FLEECING)) as writer:
        assert load(path).steps == ()
        for count, step in enumerate(lab.THOROUGH.steps, start=1):
            writer.record(step)
            assert load(path).steps == lab.THOROUGH.steps[:count]
