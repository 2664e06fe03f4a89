# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine in the small-step grain: requests overlap, storage completes as a schedule says.

The rules are those of :class:`model.machine.Machine`; only who completes storage requests, and
when, is different.
"""

from __future__ import annotations

import itertools
from collections import Counter

from . import backup_commands, flushing, job_steering, requests, turns, unsaid
from .backup_job import JobGroup
from .capabilities import Capabilities
from .configuration import Configuration, Protocol, RequestKind
from .content import Content
from .copy_before_write import CopyBeforeWrite, Timer
from .defects import says_allocated
from .errors import Errno
from .held_image import HeldImage
from .job_operations import Backup, JobOperation, OnError, Sync
from .machine import Impossible, Machine
from .operations import Kill, Operation, Read, Request, Status
from .outcome import Observation, Outcome
from .program import Program, StorageRequest
from .rules import rule
from .schedule import Back, Complete, CompleteAll, Cut, Expire, Gone, Start
from .small_steps import Pending, SmallSteps
from .snapshot_access import SnapshotAccess
from .turns import MOST_IN_FLIGHT


def machine_for(configuration: Configuration,
                capabilities: Capabilities | None = None) -> Machine:
    """The machine for these images: the concurrent one if any is on held storage."""
    held = any(image.protocol is Protocol.HELD for image in configuration.images)
    return (ConcurrentMachine if held else Machine)(configuration, capabilities)


def _errno(name: str | None) -> Errno | None:
    if name is not None and name not in Errno.__members__:
        raise Impossible(f"no errno is called {name!r}")
    return None if name is None else Errno[name]


def _insist_on_apart(asked: list[StorageRequest]) -> None:
    """Refuse two changes of one place: nobody could tell which one came last."""
    for one, other in itertools.combinations(asked, 2):
        if one.node == other.node and requests.overlap(one, other):
            raise Impossible("changes of one place that take effect when QEMU is killed")


class ConcurrentMachine(Machine):
    """A machine whose images with protocol ``held`` complete nothing by themselves."""

    def __init__(self, configuration: Configuration,
                 capabilities: Capabilities | None = None) -> None:
        super().__init__(configuration, capabilities)
        self.fired = self.rules
        self._started: dict[int, Operation] = {}
        self._held = {image.node for image in configuration.images
                      if image.protocol is Protocol.HELD}
        self._forget_all()

    def _forget_all(self) -> None:
        """Nothing is under way."""
        self._timers: dict[Timer, int] = {}
        """The time-outs that are running, oldest first, and the operation in which each began."""
        self._steps: SmallSteps[int, Outcome] = SmallSteps(self._completes_at_once)
        self._away: set[str] = set()
        self._passed: list[StorageRequest] = []

    def _completes_at_once(self, request: StorageRequest) -> bool:
        if request.node in self._held and (
                request.kind is not RequestKind.FLUSH
                or flushing.reaches_storage(self.graph, request.node)):
            return False
        self._keep_account(request)
        return True

    # Doing

    def apply(self, number: int, operation: Operation) -> Outcome:
        """See :meth:`Machine.apply`."""
        outcome = super().apply(number, operation)
        running = self._running_timers()
        self._timers = {timer: since for timer, since in self._timers.items() if timer in running}
        self._timers |= {timer: number for timer in running if timer not in self._timers}
        return outcome

    def _do(self, number: int, operation: Operation) -> Outcome:
        """One step.  The answers of started requests are in :meth:`answers`.

        Commands, inspections and requests that are not started have the graph to themselves:
        they are :class:`~model.machine.Impossible` while anything is under way.
        """
        match operation:
            case CompleteAll():
                return self._complete_all(operation)
            case _ if self.silent:
                raise Impossible(f"{operation.name} while QEMU waits for requests to end")
            case Complete():
                return self._complete_one(operation)
            case Start():
                return self._start(number, operation)
            case Expire():
                return self._expire()
            case Cut(node):
                return self._cut(node)
            case Gone(node):
                return self._gone(node)
            case Back(node):
                return self._back(node)
            case Kill(landed) if self.busy:
                return self._kill(landed)
        if self.busy:
            raise Impossible(f"{operation.name} while requests are under way")
        return super()._do(number, operation)

    @property
    def busy(self) -> bool:
        """Whether anything is under way, be it what no client waits for, or storage is gone."""
        return bool(self._steps.unanswered or self._steps.pending or self._away)

    @property
    def silent(self) -> bool:
        """Whether QEMU answers no command, as it waits for requests to end so that a job can."""
        return any(job.is_leaving for job in self.graph.jobs.values())

    def _start(self, number: int, start: Start) -> Outcome:
        if isinstance(start.request, Backup):
            return self._start_job(number, start.request)
        if isinstance(start.request, JobOperation):
            return self._steer(number, start.request)
        try:
            request = start.sent
        except TypeError as why:
            raise Impossible(str(why)) from why
        export = self._export(request)
        job_steering.check_client(self.graph, request)
        self._started[number] = request
        self._steps.start(number, self._of_client(
            number, request, requests.program(number, request, export)))
        return Outcome()

    def _of_client(self, number: int, request: Request,
                   program: Program[Outcome]) -> Program[Outcome]:
        under_way = self.graph.under_way
        under_way[number] = request
        try:
            return (yield from program)
        finally:
            del under_way[number]

    def _steer(self, number: int, command: JobOperation) -> Outcome:
        job_steering.check(self.graph, command)
        if self._away:
            raise Impossible("a command about a job while storage is gone")
        if self.configuration.iothread:
            raise Impossible("a command about a job that an I/O thread works for")
        self._started[number] = command
        self._steps.start(number, job_steering.steer(self.graph, command))
        return Outcome()

    def _start_job(self, number: int, command: Backup) -> Outcome:
        actions = {command.on_source_error, command.on_target_error}
        held = isinstance(self.graph.nodes.get(command.device), HeldImage)
        # What is not held may fail at once, again and again.
        lasting = {OnError.STOP, OnError.IGNORE} if held else {OnError.STOP}
        if (self.busy or command.auto_finalize or command.discard_source or actions - lasting
                or command.compress or command.speed or (command.sync is Sync.TOP and not held)):
            raise Impossible("a job that cannot be started beside requests")
        backup_commands.check_arguments(self.capabilities, command)
        with self._all_or_nothing():
            job = backup_commands.start(self.graph, command, JobGroup())
        job.in_small_steps = True
        self._started[number] = command
        self._steps.start(number, job_steering.until_rest(self.graph, job, job.run()))
        return Outcome()

    def _complete_one(self, operation: Complete) -> Outcome:
        if operation.kind not in set(RequestKind):
            raise Impossible(f"no kind of storage request is called {operation.kind!r}")
        alike = [pending for pending in self._sent() if pending.request == operation.asked]
        if not 0 <= operation.younger < len(alike):
            raise Impossible(f"no such storage request is pending: {operation.asked}")
        error = _errno(operation.error)
        pending = alike[operation.younger]
        if error is not None and self._is_choice_of_job(pending):
            raise Impossible("a job that ends while storage is held, which QEMU then flushes")
        if self._is_full(operation.node) and turns.asks_again(
                self.graph, self._started[pending.thread.owner], pending.request, error):
            raise Impossible("who asks the same storage again at once may go before those who "
                             "wait for their turn, or notice the answer late: docs/defects.md")
        self._steps.complete(pending, error)
        return Outcome()

    def _complete_all(self, operation: CompleteAll) -> Outcome:
        if not self.silent:
            raise Impossible("completing all where QEMU does not wait for that")
        sent = [each for each in self._sent() if each.request.node == operation.node]
        if not sent:
            raise Impossible(f"nothing is pending to {operation.node}")
        error = _errno(operation.error)
        for pending in sent:
            self._steps.complete(pending, error)
        while passing := [each for each in self._sent() if each.request.node == operation.node
                          and isinstance(self._started[each.thread.owner], Request)]:
            for pending in passing:
                self._passed.append(pending.request)
                self._steps.complete(pending)
        return Outcome()

    def _is_full(self, node: str) -> bool:
        """Whether there are as many requests to the node's storage as QEMU sends at a time."""
        return sum(each.request.node == node for each in self._steps.pending) >= MOST_IN_FLIGHT

    def _is_choice_of_job(self, pending: Pending) -> bool:
        """Whether a job finds out by that request what it has to copy."""
        command = self._started[pending.thread.owner]
        return isinstance(command, Backup) and self.graph.jobs[command.job].chooses

    def _expire(self) -> Outcome:
        if not self._timers:
            raise Impossible("no time-out is running")
        for timer in self._timers:
            if timer in self._running_timers():
                timer.expired = True
                self._steps.settle()
        return Outcome()

    @rule("storage.asked-again", source="option reconnect-delay of the nbd driver (experiment)")
    def _cut(self, node: str) -> Outcome:
        """When the connection to an image's storage is lost, QEMU makes a new one if it can, and
        repeats the requests that had no answer: nobody above notices."""
        if not any(each.request.node == node for each in self._sent()):
            raise Impossible("cutting a connection with nothing pending")
        self._insist_on_distinct(node)
        return Outcome()

    @rule("storage.waited-for", source="option reconnect-delay of the nbd driver (experiment)")
    def _gone(self, node: str) -> Outcome:
        """While the server of an image's storage is gone, but for less than ``reconnect-delay``,
        the requests that need it wait.  None fails: all that shows above is that they take
        longer."""
        if node not in self._held or node in self._away:
            raise Impossible(f"no server that is there serves {node}")
        if any(job.is_cancelled for job in self.graph.jobs.values()):
            raise Impossible("storage that is gone while a job ends")
        self._insist_on_distinct(node)
        self._away.add(node)
        return Outcome()

    def _back(self, node: str) -> Outcome:
        if node not in self._away:
            raise Impossible(f"the server of {node} is not gone")
        self._insist_on_distinct(node)
        self._away.remove(node)
        return Outcome()

    @rule("storage.survives-a-kill", source="a raw image keeps nothing in QEMU's memory "
          "(experiment)")
    def _kill(self, landed: bool) -> Outcome:
        """QEMU is killed with requests under way.  What storage had completed is there, each write
        whole.  Of the rest no client hears; whether it takes effect is up to the storage."""
        unsaid.check_kill(self.configuration, self._unsaved)
        changes = [each for each in self._sent() if each.request.kind.changes]
        if landed:
            _insist_on_apart([each.request for each in changes])
            for each in changes:
                # The change takes effect as the program runs on to its next request.
                next(each.thread.program, None)
        self._forget_all()
        self._begin()
        return Outcome()

    def _insist_on_distinct(self, node: str) -> None:
        """Refuse what would leave the order open: which of equal requests is repeated first, and
        in which order those come that were not sent yet."""
        pending = [each.request for each in self._steps.pending if each.request.node == node]
        if len(set(pending)) < len(pending):
            raise Impossible("losing a connection with equal requests pending")
        if len(pending) >= MOST_IN_FLIGHT:
            raise Impossible("losing a connection that has requests waiting for their turn")

    def _running_timers(self) -> list[Timer]:
        return [timer for node in self.graph.nodes.values() if isinstance(node, CopyBeforeWrite)
                for timer in node.timers]

    # Looking

    @property
    def away(self) -> list[str]:
        """The nodes whose storage has no server now."""
        return sorted(self._away)

    def observe(self) -> Observation:
        """See :meth:`Machine.observe`; nothing while QEMU answers no command."""
        return Observation({}, {}) if self.silent else super().observe()

    def pending(self) -> list[StorageRequest]:
        """The storage requests that QEMU must have made and that are not completed, oldest
        first."""
        return [pending.request for pending in self._sent()]

    def _sent(self) -> list[Pending]:
        """The storage requests that QEMU has sent, oldest first."""
        pending = [each for each in self._steps.pending if each.request.node not in self._away]
        nodes = Counter(each.request.node for each in pending)
        if any(count > MOST_IN_FLIGHT for count in nodes.values()):
            return list(turns.in_turn(self.graph, pending))
        return pending

    def standing(self) -> dict[int, list[StorageRequest | str]]:
        """What each client request that is under way waits for, by number: a storage request or,
        for people, a condition.  One whose time ran out has been answered and may be here."""
        found: dict[int, list[StorageRequest | str]] = {
            number: [] for number in sorted(self._steps.unanswered)}
        for pending in self._steps.pending:
            found.setdefault(pending.thread.owner, []).append(pending.request)
        for number, reason in self._steps.waits():
            found.setdefault(number, []).append(reason)
        return found

    def stored(self) -> dict[str, Content]:
        """What the storage of each held image holds, by node."""
        return {node.name: node.content for node in self.graph.nodes.values()
                if isinstance(node, HeldImage)}

    def unanswered(self) -> set[int]:
        """The numbers of the started requests that must not have been answered yet."""
        return set(self._steps.unanswered)

    def expirable(self) -> list[int]:
        """The numbers of the operations in which the time-outs began that are running."""
        return list(self._timers.values())

    def passed(self) -> list[StorageRequest]:
        """The storage requests since the last call that were completed as they came."""
        passed, self._passed = self._passed, []
        return passed

    def answers(self) -> dict[int, Outcome]:
        """The answers of started requests since the last call, by number."""
        answered, self._steps.answered = self._steps.answered, {}
        return answered

    def deadly(self, operation: Operation) -> str | None:
        """The known defect by which the operation would kill a build with these capabilities."""
        if isinstance(operation, (Complete, CompleteAll)) and self._fails_status(operation):
            return "failed_target_status_aborts"
        if not isinstance(operation, Start):
            return super().deadly(operation)
        request = operation.request
        if not isinstance(request, Request):
            return super().deadly(request)
        if self.capabilities.overlapping_snapshot_reads_abort and self._meets_a_read(request):
            return "overlapping_snapshot_reads_abort"
        return super().deadly(request)

    def _fails_status(self, complete: Complete | CompleteAll) -> bool:
        """Whether block status of a filter's target fails in such a way that a build which takes
        the error for a status dies of it."""
        error = Errno.__members__.get(complete.error or "")
        status = complete.kind == RequestKind.STATUS if isinstance(complete, Complete) else any(
            each.node == complete.node and each.kind is RequestKind.STATUS
            for each in self.pending())
        return (status and error is not None
                and self.capabilities.failed_target_status_aborts and not says_allocated(error)
                and any(isinstance(node, CopyBeforeWrite) and node.target.name == complete.node
                        for node in self.graph.nodes.values()))

    def _meets_a_read(self, request: Request) -> bool:
        """Whether it is a fleecing request while another one is under way in the same place."""
        if not self._fleeces(request):
            return False
        others = [self._started[number] for number in self._steps.unanswered]
        return any(requests.overlap(request, other) for other in others
                   if isinstance(other, Request) and self._fleeces(other))

    def _fleeces(self, request: Request) -> bool:
        return isinstance(request, (Read, Status)) and isinstance(
            self.graph.nodes.get(request.node), SnapshotAccess)

    def request(self, number: int) -> Operation:
        """What was started under the number."""
        return self._started[number]
