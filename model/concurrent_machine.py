# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine in the small-step grain: requests overlap, storage completes as a schedule says.

The rules are those of :class:`model.machine.Machine`; only who completes storage requests, and
when, is different.
"""

from __future__ import annotations

from .capabilities import Capabilities
from .channels import seen_through
from .configuration import Configuration, Protocol
from .copy_before_write import CopyBeforeWrite, Timer
from .errors import Errno, RequestFailed
from .machine import Impossible, Machine
from .nbd_export import Disconnected
from .operations import Inspect, Operation, Request
from .outcome import Outcome
from .program import StorageRequest
from .schedule import Complete, Expire, Start
from .small_steps import SmallSteps


class ConcurrentMachine(Machine):
    """A machine whose images with protocol ``held`` complete nothing by themselves."""

    def __init__(self, configuration: Configuration,
                 capabilities: Capabilities | None = None) -> None:
        super().__init__(configuration, capabilities)
        self._held = {image.node for image in configuration.images
                      if image.protocol is Protocol.HELD}
        self._requests: dict[int, Request] = {}
        self._timers: dict[int, list[Timer]] = {}
        self._steps: SmallSteps[int, Outcome] = SmallSteps(self._completes_at_once)

    def _completes_at_once(self, request: StorageRequest) -> bool:
        return request.node not in self._held or request.kind.tells_nothing_new

    # Doing

    def apply(self, number: int, operation: Operation) -> Outcome:
        """One step.  The answers of started requests are in :meth:`answers`.

        Commands and inspections wait for all requests, as QEMU drains the graph for them: they
        are :class:`~model.machine.Impossible` while a request is under way.
        """
        if isinstance(operation, Start):
            return self._start(number, operation.sent)
        if isinstance(operation, Complete):
            return self._complete_one(operation)
        if isinstance(operation, Expire):
            return self._expire(operation)
        if self._steps.unanswered or self._steps.pending:
            raise Impossible(f"{operation.name} while requests are under way")
        if isinstance(operation, (Request, Inspect)):
            raise Impossible(f"{operation.name} that is not started, over held storage")
        return super().apply(number, operation)

    def _start(self, number: int, request: Request) -> Outcome:
        export = self._export(request)
        self._requests[number] = request
        before = self._running_timers()
        start, end = request.offset, request.offset + request.length
        self._steps.start(number, self._program(number, request, export, start, end))
        self._timers[number] = [timer for timer in self._running_timers() if timer not in before]
        return Outcome()

    def _complete_one(self, operation: Complete) -> Outcome:
        wanted = (operation.node, operation.kind, operation.offset, operation.length)
        for pending in self._steps.pending:
            request = pending.request
            if (request.node, request.kind, request.offset, request.length) == wanted:
                error = None if operation.error is None else Errno[operation.error]
                self._steps.complete(pending, error)
                return Outcome()
        raise Impossible(f"no such storage request is pending: {wanted}")

    def _expire(self, operation: Expire) -> Outcome:
        running = [timer for timer in self._timers.get(operation.request, ())
                   if timer in self._running_timers()]
        if not running:
            raise Impossible(f"request {operation.request} has no time-out running")
        for timer in running:
            timer.expired = True
        self._steps.settle()
        return Outcome()

    def _running_timers(self) -> list[Timer]:
        return [timer for node in self.graph.nodes.values() if isinstance(node, CopyBeforeWrite)
                for timer in node.timers]

    # Looking

    def pending(self) -> list[StorageRequest]:
        """The storage requests that QEMU must have made and that are not completed, oldest
        first."""
        return [pending.request for pending in self._steps.pending]

    def unanswered(self) -> set[int]:
        """The numbers of the started requests that must not have been answered yet."""
        return set(self._steps.unanswered)

    def expirable(self) -> list[int]:
        """The numbers of the requests whose time-out is running."""
        running = self._running_timers()
        return [number for number, timers in self._timers.items()
                if any(timer in running for timer in timers)]

    def answers(self) -> dict[int, Outcome]:
        """The answers of started requests since the last call, by number."""
        answered, self._steps.answered = self._steps.answered, {}
        return {number: self._as_outcome(number, answer) for number, answer in answered.items()}

    def _as_outcome(self, number: int, answer: Outcome | Exception) -> Outcome:
        if isinstance(answer, Outcome):
            return answer
        if isinstance(answer, RequestFailed):
            return Outcome(error=seen_through(self._requests[number].via, answer.error))
        if isinstance(answer, Disconnected):
            return Outcome(disconnected=True)
        raise answer
