# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP client, with a real storage daemon and with monitors that lie."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clients.errors import PeerGone, PeerNonsense, PeerSilent
from harness.clients.qmp import Qmp, QmpGone, QmpNonsense, QmpRefused, QmpTimeout
from tests.unit.clients_lab import DONE, GREETING, MIB, Liar, Process, image, messages, monitor_of

EVENT = b'{"event": "%s", "data": {"n": 1}, "timestamp": {"seconds": 5, "microseconds": 6}}\r\n'


@pytest.fixture(name="daemon")
def fixture_daemon() -> Iterator[Process]:
    with Process.daemon() as daemon:
        yield daemon


@pytest.fixture(name="qmp")
def fixture_qmp(daemon: Process) -> Iterator[Qmp]:
    with Qmp.from_socket(daemon.monitor) as qmp:
        yield qmp


def test_greeting_says_the_version(qmp: Qmp) -> None:
    assert qmp.version >= (5, 0, 0)
    assert isinstance(qmp.package, str)


def test_execute_returns_what_the_command_returns(qmp: Qmp) -> None:
    answer = qmp.execute("query-version")
    assert isinstance(answer, dict)
    numbers = answer["qemu"]
    assert qmp.version == (numbers["major"], numbers["minor"], numbers["micro"])


def test_arguments_by_keyword_and_by_mapping(qmp: Qmp, tmp_path: Path) -> None:
    path = str(image(tmp_path / "disk", MIB))
    qmp.execute("blockdev-add", driver="file", node_name="byword", filename=path)
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "bymap", "file": "byword"})
    nodes = qmp.execute("query-named-block-nodes", flat=True)
    assert isinstance(nodes, list)
    assert {node["node-name"] for node in nodes} == {"byword", "bymap"}


def test_a_refusal_has_class_and_text(qmp: Qmp) -> None:
    with pytest.raises(QmpRefused) as caught:
        qmp.execute("blockdev-del")
    assert caught.value.error_class == "GenericError"
    assert caught.value.desc == "Parameter 'node-name' is missing"
    with pytest.raises(QmpRefused) as caught:
        qmp.execute("no-such-command")
    assert caught.value.error_class == "CommandNotFound"


def test_a_long_answer(qmp: Qmp) -> None:
    schema = qmp.execute("query-qmp-schema")
    assert isinstance(schema, list)
    assert len(schema) > 300


def test_commands_in_flight_are_answered_in_order(qmp: Qmp) -> None:
    first = qmp.submit("query-version")
    second = qmp.submit("nonsense")
    third = qmp.submit("query-named-block-nodes", flat=True)
    assert qmp.result(third) == []
    with pytest.raises(QmpRefused):
        qmp.result(second)
    assert isinstance(qmp.result(first), dict)


def test_malformed_input_is_answered_and_the_connection_lives(qmp: Qmp) -> None:
    answers = qmp.execute_raw(b'{"execute": 1}')
    assert [list(answer) for answer in answers] == [["error"]]
    answers = qmp.execute_raw(b'} {"execute": "query-version", "id": "mine"}')
    assert answers[-1]["id"] == "mine"
    assert "error" in answers[0]
    assert qmp.execute_raw(b"") == []
    assert qmp.execute("query-named-block-nodes") == []


def test_unterminated_input_swallows_the_fence(qmp: Qmp) -> None:
    with pytest.raises(QmpTimeout):
        qmp.execute_raw(b'{"execute": ', timeout=0.05)


def test_a_killed_daemon_is_gone_and_the_command_named(daemon: Process, qmp: Qmp) -> None:
    daemon.kill()
    with pytest.raises(QmpGone, match="query-version"):
        qmp.execute("query-version")
    with pytest.raises(PeerGone, match="query-status"):
        qmp.execute("query-status")
    with pytest.raises(QmpGone):
        qmp.execute_raw(b"{}")
    with pytest.raises(QmpGone, match="JOB"):
        qmp.wait_event("JOB", timeout=5)


def test_a_daemon_that_does_not_answer(daemon: Process, qmp: Qmp) -> None:
    daemon.freeze()
    start = time.monotonic()
    with pytest.raises(QmpTimeout, match=r'blockdev-del \{"node-name": "x"\}') as caught:
        qmp.execute("blockdev-del", {"node-name": "x"}, timeout=0.05)
    assert isinstance(caught.value, PeerSilent)
    assert time.monotonic() - start < 5


def test_the_answer_of_a_submitted_command_may_come_late(daemon: Process, qmp: Qmp) -> None:
    daemon.freeze()
    pending = qmp.submit("query-version")
    with pytest.raises(QmpTimeout):
        qmp.result(pending, timeout=0.02)
    daemon.thaw()
    assert isinstance(qmp.result(pending), dict)


def test_a_dropped_answer_does_not_disturb_the_next(daemon: Process, qmp: Qmp) -> None:
    daemon.freeze()
    with pytest.raises(QmpTimeout):
        qmp.execute("query-version", timeout=0.02)
    daemon.thaw()
    assert qmp.execute("query-named-block-nodes") == []


def test_connect_by_path(tmp_path: Path) -> None:
    path = str(tmp_path / "monitor")
    listening = ("--chardev", f"socket,id=two,path={path},server=on,wait=off",
                 "--monitor", "chardev=two,id=two")
    with (Process.daemon(*listening) as daemon, Qmp.from_socket(daemon.monitor) as first,
          Qmp.connect(path) as second):
        assert first.version == second.version
        assert second.execute("query-named-block-nodes") == []


def test_unanswered_arguments_are_the_callers_mistake(qmp: Qmp) -> None:
    with pytest.raises(TypeError):
        qmp.execute("query-version", {"x": object()})
    assert qmp.execute("query-named-block-nodes") == []


def test_an_interrupt_leaves_a_client_that_can_be_closed(daemon: Process, qmp: Qmp) -> None:
    daemon.freeze()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            qmp.execute("query-version")
    finally:
        signal.signal(signal.SIGALRM, before)
    qmp.close()


def test_close_twice_and_use_after_close(daemon: Process) -> None:
    qmp = Qmp.from_socket(daemon.monitor)
    qmp.close()
    qmp.close()
    with pytest.raises(QmpGone, match="closed"):
        qmp.execute("query-version")


# Monitors that lie.

def test_no_socket(tmp_path: Path) -> None:
    with pytest.raises(QmpGone, match="No such file"):
        Qmp.connect(str(tmp_path / "none"))


def test_no_greeting() -> None:
    with Liar(lambda far: far.recv(1)) as liar, pytest.raises(QmpTimeout, match="greet"):
        Qmp.from_socket(liar.end, timeout=0.05)


def test_hang_up_instead_of_greeting() -> None:
    with Liar(lambda far: None) as liar, pytest.raises(QmpGone, match="greeting"):
        Qmp.from_socket(liar.end)


@pytest.mark.parametrize("garbage", [b"SSH-2.0-lie\r\n", b'{"QMP": 7}\r\n', b"[]\r\n",
                                     b"\xff\xfe\r\n"])
def test_garbage_instead_of_greeting(garbage: bytes) -> None:
    with Liar(lambda far: far.sendall(garbage)) as liar, pytest.raises(QmpNonsense):
        Qmp.from_socket(liar.end)


def test_capabilities_refused() -> None:
    with (Liar(lambda far: far.sendall(GREETING + b'{"error": {}}\r\n')) as liar,
          pytest.raises(QmpNonsense)):
        Qmp.from_socket(liar.end)


@pytest.mark.parametrize("garbage", [
    b"what?\r\n",
    b"[1]\r\n",
    b'{"id": "%ID%"}\r\n',
    b'{"error": "bad", "id": "%ID%"}\r\n',
    b'{"error": {"class": "GenericError", "desc": "parse"}}\r\n',
    b'{"event": 3}\r\n',
    b'"' + b"x" * (11 * MIB) + b'"\r\n',
], ids=["text", "array", "neither", "error", "no id", "event", "endless"])
def test_garbage_instead_of_an_answer(garbage: bytes) -> None:
    with (monitor_of(garbage) as liar, Qmp.from_socket(liar.end) as qmp,
          pytest.raises(QmpNonsense, match="query-status") as caught):
        qmp.execute("query-status")
    assert isinstance(caught.value, PeerNonsense)


@pytest.mark.parametrize("last", [b'{"return": {"a": ', b""])
def test_hang_up_in_an_answer(last: bytes) -> None:
    def play(far: socket.socket) -> None:
        far.sendall(GREETING + b'{"return": {}}\r\n')
        commands = messages(far)
        next(commands)
        next(commands)
        far.sendall(last)

    with (Liar(play) as liar, Qmp.from_socket(liar.end) as qmp,
          pytest.raises(QmpGone, match="query-status")):
        qmp.execute("query-status")


def test_an_answer_to_somebody_else_is_not_ours() -> None:
    with (monitor_of(b'{"return": 1, "id": "other"}\r\n', b"") as liar,
          Qmp.from_socket(liar.end) as qmp, pytest.raises(QmpTimeout)):
        qmp.execute("query-status", timeout=0.05)


def test_events_stay_in_order_and_are_taken_once() -> None:
    burst = EVENT % b"A" + EVENT % b"B" + EVENT % b"C"
    with monitor_of(burst + DONE, EVENT % b"D" + DONE) as liar, Qmp.from_socket(liar.end) as qmp:
        qmp.execute("one")
        assert qmp.wait_event("B").timestamp == (5, 6)
        qmp.execute("two")
        assert [event.name for event in qmp.events()] == ["A", "C", "D"]
        assert qmp.events() == []


def test_an_event_that_comes_later_and_one_that_never_comes() -> None:
    with monitor_of(DONE + EVENT % b"A", b"") as liar, Qmp.from_socket(liar.end) as qmp:
        qmp.execute("one")
        assert qmp.wait_event(lambda event: event.data.get("n") == 1).name == "A"
        with pytest.raises(QmpTimeout, match="event Z"):
            qmp.wait_event("Z", timeout=0.02)


def test_events_before_the_end_are_kept() -> None:
    with monitor_of(EVENT % b"A") as liar, Qmp.from_socket(liar.end) as qmp:
        with pytest.raises(QmpGone, match="one"):
            qmp.execute("one")
        assert [event.name for event in qmp.events()] == ["A"]
        with pytest.raises(QmpGone, match="event B"):
            qmp.wait_event("B")
