# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import signal
import sys

from harness.processes import Child
from harness.processes.asleep import is_asleep, wait_until_asleep


def python(script: str) -> Child:
    return Child((sys.executable, "-c", script))


def said(child: Child, word: bytes) -> None:
    assert child.stdout.wait(lambda data: word in data, timeout=10) is not None


def test_one_that_waits_is_asleep() -> None:
    with python("import threading; print('up', flush=True); threading.Event().wait()") as child:
        said(child, b"up")
        assert wait_until_asleep(child.pid, 10)
        assert is_asleep(child.pid)


def test_a_thread_that_works_is_enough() -> None:
    script = """
import signal, threading
working = True
def work():
    while working:
        pass
def stop(*_):
    global working
    working = False
signal.signal(signal.SIGUSR1, stop)
threading.Thread(target=work).start()
print('up', flush=True)
while True:
    signal.pause()
"""
    with python(script) as child:
        said(child, b"up")
        assert not any(is_asleep(child.pid) for _ in range(20))
        assert not wait_until_asleep(child.pid, 0)
        child.send_signal(signal.SIGUSR1)
        assert wait_until_asleep(child.pid, 10)


def test_one_that_runs_now_and_then_is_caught_at_it() -> None:
    """Whenever it is looked at it sleeps, but not all the while that it is looked at."""
    pipes = "import os; r, w = os.pipe(); s, v = os.pipe()"
    script = pipes + """
import threading
def echo(source, sink):
    while True:
        os.write(sink, os.read(source, 1))
threading.Thread(target=echo, args=(r, v)).start()
os.write(w, b'x')
print('up', flush=True)
echo(s, w)
"""
    with python(script) as child:
        said(child, b"up")
        assert not any(is_asleep(child.pid) for _ in range(20))


def test_what_is_stopped_is_not_asleep() -> None:
    with python("import threading; print('up', flush=True); threading.Event().wait()") as child:
        said(child, b"up")
        child.send_signal(signal.SIGSTOP)
        assert not wait_until_asleep(child.pid, 0)
        child.send_signal(signal.SIGCONT)
        assert wait_until_asleep(child.pid, 10)


def test_what_is_gone_does_nothing() -> None:
    with python("") as child:
        child.wait(10)
        assert is_asleep(child.pid)
