# SPDX-License-Identifier: GPL-2.0-or-later
"""The small-step grain: many requests under way, their storage requests completed in any order.

At each moment the model says which storage requests must be pending and which client requests
have been answered.  A step starts a client request, completes (or fails) one storage request, or
lets a time-out expire; then everything that can go on does, until all wait again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .errors import Errno, RequestFailed
from .program import Ended, Program, StorageRequest, Task, Wait

Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class Pending:
    """A storage request that QEMU has made and that has not been completed."""

    request: StorageRequest
    thread: Thread


@dataclass(slots=True, eq=False)
class Thread:
    """A program under way: a client request, or a task that one spawned.

    ``owner`` is the key of the client request.
    """

    owner: Any
    program: Program[Any]
    finish: Callable[[Any], None]
    wait: Wait | None = field(default=None)


class SmallSteps(Generic[Key, Result]):
    """Programs under way, by the key of the client request that each one is.

    None may fail: what becomes of a request whose storage fails, its program says.
    """

    def __init__(self, completes_at_once: Callable[[StorageRequest], bool]) -> None:
        """``completes_at_once`` tells storage requests that nobody holds."""
        self.pending: list[Pending] = []
        self.answered: dict[Key, Result] = {}
        self.unanswered: set[Key] = set()
        self._completes_at_once = completes_at_once
        self._waiting: list[Thread] = []

    def start(self, key: Key, program: Program[Result]) -> None:
        """Start a client request; its answer will be in :attr:`answered` under ``key``."""
        self.unanswered.add(key)

        def finish(result: Result) -> None:
            self.unanswered.remove(key)
            self.answered[key] = result

        self._run([Thread(key, program, finish)])

    def complete(self, pending: Pending, error: Errno | None = None) -> None:
        """Complete a pending storage request, or fail it with ``error``."""
        self.pending.remove(pending)
        self._run([pending.thread], error)

    def settle(self) -> None:
        """Let go on what can, after a condition has changed from outside (a time-out expired)."""
        self._run(self._woken())

    def waits(self) -> list[tuple[Any, str]]:
        """The client requests that wait for a condition, and for which, longest first; for
        people."""
        return [(thread.owner, thread.wait.reason) for thread in self._waiting
                if thread.wait is not None]

    def _run(self, threads: list[Thread], error: Errno | None = None) -> None:
        """Run threads one after the other, each followed by those that it woke: the order in
        which QEMU's coroutines run.  ``error`` is for the first."""
        ready = deque(threads)
        while ready:
            thread = ready.popleft()
            if thread.wait is not None:
                if not thread.wait.condition():  # somebody else was quicker
                    self._waiting.append(thread)
                    continue
                thread.wait = None
            self._advance(thread, error)
            error = None
            ready.extendleft(reversed(self._woken()))

    def _woken(self) -> list[Thread]:
        """Those whose condition has come true, in the order in which they are woken."""
        woken = [thread for thread in self._waiting
                 if thread.wait is not None and thread.wait.condition()]
        self._waiting = [thread for thread in self._waiting if thread not in woken]
        return sorted(woken, key=lambda thread: thread.wait is not None and thread.wait.last)

    def _advance(self, thread: Thread, error: Errno | None) -> None:
        """Run a thread until it waits for storage or a condition, or ends."""
        failure = None if error is None else RequestFailed(error)
        while True:
            try:
                step = next(thread.program) if failure is None else thread.program.throw(failure)
            except StopIteration as end:
                thread.finish(end.value)
                return
            failure = None
            if isinstance(step, StorageRequest):
                if not self._completes_at_once(step):
                    self.pending.append(Pending(step, thread))
                    return
            elif isinstance(step, Task):
                self._spawn(thread.owner, step)
            elif isinstance(step, Ended):
                self._waiting[:0] = self._woken()
            elif not step.condition():
                thread.wait = step
                self._waiting.append(thread)
                return

    def _spawn(self, owner: Any, task: Task) -> None:
        def finish(result: None) -> None:
            task.finished = True

        # Whom the spawning program has woken goes on when that program waits.
        woken = self._woken()
        self._run([Thread(owner, task.program, finish)])
        self._waiting[:0] = woken
