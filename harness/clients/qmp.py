# SPDX-License-Identifier: GPL-2.0-or-later
"""A synchronous QMP client on qemu.qmp.

qemu.qmp is asynchronous.  Here its event loop is private and runs in the calling thread, only
while a call waits: no thread, no hand-over, nothing that happens between two calls.

The best way to a monitor is a socket pair whose other end the process inherits (option
`--chardev socket,id=ID,fd=N`, N being the number of the inherited descriptor): the connection
exists before the process does, so there is nothing to wait for but the greeting, no path to
clean up, and the end of the process is the end of the stream.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from qemu.qmp import ExecuteError, Runstate
from qemu.qmp.message import DeserializationError
from qemu.qmp.qmp_client import BadReplyError

from harness.clients.errors import ClientError, PeerGone, PeerNonsense, PeerSilent
from harness.clients.qmp_session import QmpEvent, Session, root_cause
from harness.clients.uninterrupted import Uninterrupted

CHANNEL = "QMP"

DEFAULT_TIMEOUT = 30.0
"""Seconds that a command may take when the caller gives no bound."""

_GOODBYE_TIMEOUT = 5.0


class QmpRefused(ClientError):
    """The command was answered with an error: its class and its text, as QEMU gave them."""

    def __init__(self, command: str, error_class: str, desc: str) -> None:
        self.command = command
        self.error_class = error_class
        self.desc = desc
        super().__init__(f"{CHANNEL}: {command}: {error_class}: {desc}")


class QmpGone(PeerGone):
    """The process closed its monitor, most often because it died."""


class QmpTimeout(PeerSilent):
    """The monitor gave no answer (or no event) within the bound."""


class QmpNonsense(PeerNonsense):
    """The peer does not speak QMP."""


@dataclass(frozen=True, slots=True, eq=False)
class QmpPending:
    """A command that was sent by `Qmp.submit` and whose answer was not taken yet."""

    asked: str
    task: "asyncio.Task[object]"


class Qmp:
    """One connection to a QMP monitor; made by `connect` or `from_socket`."""

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._session = Session(self._progress)
        self._awaited: Callable[[], bool] | None = None
        self._unanswered: set[asyncio.Task[object]] = set()
        self._waking: asyncio.Handle | None = None
        self._socket: socket.socket | None = None
        self._lost = False
        self._cause: Exception | None = None
        self._closed = False

    @classmethod
    def connect(cls, path: str, timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Connect to a UNIX socket that is already listening.

        `timeout` (seconds) bounds the greeting, and is the default bound of every command.
        """
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.settimeout(timeout)
        try:
            end.connect(path)
        except TimeoutError:
            end.close()
            raise QmpTimeout(CHANNEL, f"connect to {path}", timeout) from None
        except OSError as error:
            end.close()
            raise QmpGone(CHANNEL, f"connect to {path}", error.strerror or str(error)) from None
        return cls.from_socket(end, timeout)

    @classmethod
    def from_socket(cls, end: socket.socket, timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Speak QMP over a connected socket, which this object owns from now on."""
        qmp = cls(timeout)
        try:
            qmp._greet(end)
        except BaseException:
            qmp.close()
            raise
        return qmp

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version as its greeting says: (major, minor, micro)."""
        numbers = self._greeting_version().get("qemu")
        if not isinstance(numbers, dict):
            raise QmpNonsense(CHANNEL, "greeting", "no version in the greeting")
        return (int(numbers["major"]), int(numbers["minor"]), int(numbers["micro"]))

    @property
    def package(self) -> str:
        """The distribution's name for this build as its greeting says; may be empty."""
        return str(self._greeting_version().get("package", ""))

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, /, *,
                timeout: float | None = None, **more: object) -> object:
        """Execute a command and return what it returns.

        Arguments are a mapping, or keywords in which `_` stands for `-`, or both.  Raises
        `QmpRefused`, `QmpGone`, `QmpNonsense`, or `QmpTimeout` (the command is then abandoned:
        it may still be running, and its answer, if it comes, is dropped).
        """
        task = self._start(command, arguments, more)
        bound = self.timeout if timeout is None else timeout
        if not self._drive(task, bound):
            task.cancel()
            raise QmpTimeout(CHANNEL, _asked(command, arguments, more), bound)
        error = task.exception()
        if error is None:
            return task.result()
        raise self._failure(error, command, _asked(command, arguments, more))

    def submit(self, command: str, arguments: Mapping[str, object] | None = None, /,
               **more: object) -> QmpPending:
        """Send a command and return at once; take the answer with `result`.

        QEMU answers in the order of sending, so several commands may be on their way.
        """
        due = self._session.sent + 1
        task = self._start(command, arguments, more)
        pending = QmpPending(_asked(command, arguments, more), task)
        self._wait(lambda: self._session.sent >= due or task.done(), self.timeout)
        return pending

    def result(self, pending: QmpPending, timeout: float | None = None) -> object:
        """The answer to a submitted command; after `QmpTimeout` it may be asked for again."""
        bound = self.timeout if timeout is None else timeout
        if not self._drive(pending.task, bound):
            raise QmpTimeout(CHANNEL, pending.asked, bound)
        error = pending.task.exception()
        if error is None:
            return pending.task.result()
        raise self._failure(error, pending.asked.split(" ", 1)[0], pending.asked)

    def execute_raw(self, data: bytes, timeout: float | None = None) -> list[Mapping[str, object]]:
        """Send bytes as they are, be they QMP or not, and return the answers they provoke.

        A harmless command with an identifier follows the bytes as a fence: all answers before
        its answer belong to the bytes.  Bytes that open an object or a string without closing
        it swallow the fence, which ends in `QmpTimeout`.
        """
        bound = self.timeout if timeout is None else timeout
        self._check_open(repr(data))
        answers: list[Mapping[str, object]] = []
        self._session.unrouted = answers
        task = self._adopt(self._loop.create_task(self._session.verbatim(data)))
        done = self._drive(task, bound)
        self._session.unrouted = None
        if not done:
            task.cancel()
            raise QmpTimeout(CHANNEL, repr(data), bound)
        error = task.exception()
        if error is not None:
            raise self._failure(error, "(raw)", repr(data))
        return answers

    def events(self) -> list[QmpEvent]:
        """Take the events received so far, oldest first.

        QEMU sends events and answers in one stream: after a command was answered, every event
        that QEMU sent before that answer is here.
        """
        taken = list(self._session.inbox)
        self._session.inbox.clear()
        return taken

    def wait_event(self, match: str | Callable[[QmpEvent], bool],
                   timeout: float | None = None) -> QmpEvent:
        """Wait for an event of a name, or one that `match` accepts, and take it.

        Events received before are looked at first; those that do not match stay for `events`.
        """
        bound = self.timeout if timeout is None else timeout
        inbox = self._session.inbox

        def place() -> int | None:
            for index, event in enumerate(inbox):
                if event.name == match if isinstance(match, str) else match(event):
                    return index
            return None

        self._wait(lambda: place() is not None or self._lost, bound)
        index = place()
        if index is not None:
            event = inbox[index]
            del inbox[index]
            return event
        asked = f"event {match}" if isinstance(match, str) else "event"
        if self._lost:
            raise self._gone(asked)
        raise QmpTimeout(CHANNEL, asked, bound)

    def close(self) -> None:
        """Close the connection; never fails, may be called again."""
        if self._closed:
            return
        self._closed = True
        if self._socket is not None:
            # Ends the reader at once; else a peer that does not read could hold up the flush.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        with Uninterrupted():  # Whatever wants to interrupt may wait for so short a time.
            goodbye = self._loop.create_task(self._goodbye())
            self._drive(goodbye, _GOODBYE_TIMEOUT)
            self._loop.close()
        if self._socket is not None:
            self._socket.close()

    # How it works.

    def _greet(self, end: socket.socket) -> None:
        self._socket = end
        task = self._adopt(self._loop.create_task(self._connect(end)))
        if not self._drive(task, self.timeout):
            raise QmpTimeout(CHANNEL, "greeting", self.timeout)
        error = task.exception()
        if isinstance(error, Exception):
            self._cause = error
            raise self._gone("greeting") from None

    async def _connect(self, end: socket.socket) -> object:
        self._adopt(self._loop.create_task(self._mourn()))
        await self._session.connect(end)
        return None

    async def _mourn(self) -> object:
        """Note the loss of the connection and wake up who waits for something else."""
        while await self._session.runstate_changed() is not Runstate.DISCONNECTING:
            pass
        self._lost = True
        self._progress()
        return None

    async def _goodbye(self) -> None:
        for task in self._unanswered:
            task.cancel()
        await asyncio.gather(*self._unanswered, return_exceptions=True)
        if self._session.runstate is not Runstate.IDLE:
            with contextlib.suppress(Exception):  # How the peer ended no longer matters.
                await self._session.disconnect()

    def _greeting_version(self) -> Mapping[str, object]:
        greeting = self._session.greeting
        return greeting.QMP.version if greeting else {}

    def _start(self, command: str, arguments: Mapping[str, object] | None,
               more: Mapping[str, object]) -> "asyncio.Task[object]":
        if self._closed or self._lost:
            self._check_open(_asked(command, arguments, more))
        if more:
            arguments = _merged(arguments, more)
        return self._adopt(self._loop.create_task(self._session.execute(command, arguments)))

    def _adopt(self, task: "asyncio.Task[object]") -> "asyncio.Task[object]":
        """Remember a task, so that `close` ends it if nothing else does."""
        self._unanswered.add(task)
        task.add_done_callback(self._unanswered.discard)
        return task

    def _drive(self, task: "asyncio.Task[object] | asyncio.Task[None]", seconds: float) -> bool:
        """Run the loop until the task is done; False if that takes longer than `seconds`."""
        if not task.done():
            alarm = self._loop.call_later(seconds, self._loop.stop)
            task.add_done_callback(self._stop)
            try:
                self._run()
            finally:
                task.remove_done_callback(self._stop)
                alarm.cancel()
        return task.done()

    def _wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Receive answers and events until `reached`; False after `timeout`."""
        if reached():
            return True
        self._check_open("(wait)")
        self._awaited = reached
        alarm = self._loop.call_later(timeout, self._loop.stop)
        try:
            self._run()
        finally:
            self._awaited = None
            alarm.cancel()
        return reached()

    def _run(self) -> None:
        """Run the loop until it is stopped, or something else wants to interrupt."""
        try:
            with Uninterrupted(self._wake):
                self._loop.run_forever()
        finally:
            if self._waking is not None:
                self._waking.cancel()
                self._waking = None

    def _wake(self) -> None:
        self._waking = self._loop.call_soon_threadsafe(self._loop.stop)

    def _stop(self, _task: object) -> None:
        self._loop.stop()

    def _progress(self) -> None:
        if self._awaited is not None and (self._lost or self._awaited()):
            self._loop.stop()

    def _check_open(self, asked: str) -> None:
        if self._closed:
            raise QmpGone(CHANNEL, asked, "this client was closed")
        if self._lost:
            raise self._gone(asked)

    def _failure(self, error: BaseException, command: str, asked: str) -> ClientError:
        if isinstance(error, ExecuteError):
            return QmpRefused(command, error.error_class, error.error.error.desc)
        if isinstance(error, BadReplyError):
            return QmpNonsense(CHANNEL, asked, f"{error.error_message} {dict(error.msg)}")
        if isinstance(error, (TypeError, ValueError)) or not isinstance(error, Exception):
            raise error  # The arguments cannot be said in JSON, or we are being interrupted.
        return self._gone(asked)

    def _gone(self, asked: str) -> ClientError:
        """Why the connection ended, which qemu.qmp tells only when it is disconnected."""
        if self._cause is None:
            self._cause = EOFError()
            task = self._loop.create_task(self._session.disconnect())
            self._drive(task, _GOODBYE_TIMEOUT)
            error = task.exception() if task.done() else None
            if isinstance(error, Exception):
                self._cause = error
        cause = root_cause(self._cause)
        cut_short = isinstance(cause, DeserializationError) and not cause.raw.endswith(b"\n")
        if cut_short or isinstance(cause, (OSError, EOFError)):
            return QmpGone(CHANNEL, asked, str(cause) if isinstance(cause, OSError) else "")
        return QmpNonsense(CHANNEL, asked, " ".join(str(cause).split()) or repr(cause))


def _merged(arguments: Mapping[str, object] | None,
            more: Mapping[str, object]) -> dict[str, object]:
    return {**(arguments or {}), **{key.replace("_", "-"): value for key, value in more.items()}}


def _asked(command: str, arguments: Mapping[str, object] | None,
           more: Mapping[str, object]) -> str:
    merged = _merged(arguments, more)
    return f"{command} {json.dumps(merged, default=repr)}" if merged else command
