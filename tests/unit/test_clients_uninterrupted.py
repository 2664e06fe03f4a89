# SPDX-License-Identifier: GPL-2.0-or-later
"""An interrupt waits for the end of a block, and is neither lost nor raised in its middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.clients import nbd
from harness.clients.libnbd import libnbd_available
from harness.clients.nbd import NbdClient
from harness.clients.nbd_types import Extent
from harness.clients.qmp import Qmp
from harness.clients.uninterrupted import Uninterrupted
from tests.unit.clients_lab import Process, image

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As the command line sets them."""
    before = [signal.signal(number, signal.default_int_handler) for number in INTERRUPTS]
    yield
    for number, handler in zip(INTERRUPTS, before, strict=True):
        signal.signal(number, handler)


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", INTERRUPTS)
def test_an_interrupt_comes_at_the_end(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        with Uninterrupted():
            with Uninterrupted():
                interrupt(number)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt):
        interrupt(number)


def test_an_interrupt_takes_the_place_of_an_error() -> None:
    def work() -> None:
        with Uninterrupted():
            interrupt()
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        work()


def test_only_the_outermost_block_is_woken() -> None:
    woken: list[str] = []
    with (pytest.raises(KeyboardInterrupt), Uninterrupted(lambda: woken.append("outer")),
          Uninterrupted(lambda: woken.append("inner"))):
        interrupt()
    with pytest.raises(KeyboardInterrupt), Uninterrupted(), Uninterrupted(
            lambda: woken.append("inner")):
        interrupt()
    assert woken == ["outer"]


def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Uninterrupted():
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_do_not_hold_up_interrupts() -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with Uninterrupted():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    leave.set()
    thread.join()


def test_a_wait_for_a_monitor_ends_at_once_and_in_good_order() -> None:
    with Process.daemon() as daemon, Qmp.from_socket(daemon.monitor, timeout=60) as qmp:
        daemon.freeze()
        begun = time.monotonic()
        threading.Timer(0.05, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            qmp.execute("query-version")
        assert time.monotonic() - begun < 30
        daemon.thaw()
        assert qmp.execute("query-named-block-nodes") == []


@pytest.mark.skipif(not libnbd_available(), reason="no libnbd")
def test_an_interrupt_within_a_callback_of_libnbd_is_not_lost(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into = nbd._into

    def interrupted(runs: dict[str, tuple[Extent, ...]]) -> Callable[..., int]:
        extend = into(runs)

        def callback(*arguments: Any) -> int:
            interrupt()
            return extend(*arguments)

        return callback

    monkeypatch.setattr(nbd, "_into", interrupted)
    disk, path = image(tmp_path / "disk", 65536), str(tmp_path / "nbd")
    with (Process.daemon(
            "--blockdev", f"file,node-name=disk,filename={disk}",
            "--nbd-server", f"addr.type=unix,addr.path={path}",
            "--export", "nbd,id=disk,node-name=disk") as daemon,
          Qmp.from_socket(daemon.monitor),
          NbdClient.connect(path, "disk", contexts=["base:allocation"]) as client):
        with pytest.raises(KeyboardInterrupt):
            client.block_status(0, 65536)
        assert client.read(0, 512) == bytes(512)
