# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU does when something is to end, or to change, while requests are under way.

An export is taken away, QEMU is told to quit, a filter goes with a copy behind it, a job wants the
disk for itself: storage that is held says who has to wait for whom.  Before, the model and QEMU go
in lockstep; what must come afterwards is what the model has when all requests have ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeAlias

from harness.clients.errors import PeerGone
from harness.clients.qmp import QmpRefused, QmpTimeout
from harness.clients.qmp_session import QmpEvent
from harness.exploration.building import Plan
from harness.exploration.directed.script import Script, disks
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.openings import FILTER, SNAPSHOT
from harness.lockstep import human
from harness.lockstep.compare import compare
from harness.lockstep.run import run
from harness.lockstep.verdict import Conforms
from harness.systems import commands
from harness.systems.base import Answer
from harness.systems.command import Command
from harness.systems.concurrent import Awaited
from harness.systems.failure import SystemFailed
from harness.systems.held_daemon import MOMENT, HeldDaemon
from model import operations as ops
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine
from model.configuration import Configuration, RequestKind
from model.job_operations import Backup, Sync
from model.operations import Request

Begin: TypeAlias = Callable[[Configuration], HeldDaemon]


class Scene:
    """A daemon with requests under way, and the model that knows how they end."""

    def __init__(self, script: Script, daemon: HeldDaemon) -> None:
        self.script = script
        self.daemon = daemon
        self.machine: ConcurrentMachine = script.held

    # What is

    def awaited(self, numbers: Iterator[int]) -> Awaited:
        """All that is pending stays so, and these are answered."""
        return Awaited(self.machine.pending(), set(numbers), ())

    def numbers(self, node: str) -> Iterator[int]:
        """The requests under way to a node."""
        for number in sorted(self.machine.unanswered()):
            request = self.machine.request(number)
            if isinstance(request, Request) and request.node == node:
                yield number

    def changed(self, answers: Mapping[int, Answer], hung_up: Iterator[int]) -> Iterator[str]:
        """What came, if it is not that these requests' clients lost their connections."""
        expected = set(hung_up)
        for number in sorted(expected | answers.keys()):
            words = f"request {number} ({human.operation(self.machine.request(number))})"
            if number not in answers:
                yield f"{words}: expected a closed connection, nothing came"
            elif number not in expected:
                yield f"{words}: expected no answer yet, one came"
            elif not answers[number].disconnected:
                yield f"{words}: expected a closed connection, an answer came"
        found = [each.asked for each in self.daemon.storage.pending()]
        if Counter(found) != Counter(self.machine.pending()):
            yield f"storage: expected the same requests to be pending as before, found {found}"

    # What comes

    def let_go(self) -> None:
        """Storage completes what it has and what comes."""
        self.script.finish()
        self.daemon.storage.let_go()

    def stored(self) -> Iterator[str]:
        """Where storage holds something else than in the model, in which all has ended."""
        for node, content in self.machine.stored().items():
            wrong = self.daemon.wrongly_stored(node, content)
            if wrong is not None:
                yield f"storage of {node} is wrong from {human.size(wrong[0])} on"

    def answered(self, numbers: Iterator[int]) -> Iterator[str]:
        """What is wrong with the answers to these, now that all has ended."""
        outcomes = self.machine.answers()
        wanted = set(numbers)
        answers = self.daemon.settle(Awaited([], wanted, ())).answers
        for number in sorted(wanted):
            request = self.machine.request(number)
            if number not in answers:
                yield f"request {number} ({human.operation(request)}): no answer came"
                continue
            for each in compare(request, outcomes[number], answers[number]):
                yield f"request {number} ({human.operation(request)}): {' '.join(each.words())}"

    def is_held_up(self, command: Command, *,
                   fences: bool = True) -> Callable[[], Iterator[str]]:
        """Send a command that must wait; what it returns says whether it has an answer at last.

        Raises QmpRefused if it is refused, and Early if it does not wait: that is not always seen
        without ``fences``, which a QEMU that drains all of its nodes does not answer.
        """
        qmp = self.daemon.process.qmp
        pending = qmp.submit(*command)
        self.daemon.settle(self.awaited(iter(())), fences=fences)
        try:
            qmp.result(pending, MOMENT)
        except QmpTimeout:
            pass
        else:
            raise Early(command.name)

        def end() -> Iterator[str]:
            try:
                qmp.result(pending)
            except QmpTimeout:
                yield f"{command.name}: no answer though nothing is under way any more"

        return end

    def refused(self, text: str, command: str, **arguments: object) -> Iterator[str]:
        """What is wrong if the command is not refused with that text."""
        try:
            self.daemon.process.qmp.execute(command, arguments)
        except QmpRefused as why:
            if why.desc != text:
                yield f"{command}: expected to be refused with {text!r}, found {why.desc!r}"
        else:
            yield f"{command}: expected to be refused with {text!r}, found success"


class Early(Exception):
    """A command was answered that must wait."""


@dataclass(frozen=True, slots=True)
class End:
    """``before``: what is under way; ``act``: what is then done, and what is wrong."""

    name: str
    before: Callable[[Script], None]
    act: Callable[[Scene], Iterator[str]]

    def script(self, capabilities: Capabilities) -> Script:
        """What is under way when it ends: its trace can be done again."""
        script = Script(Plan(capabilities=capabilities), disks(8))
        self.before(script)
        return script


def _requests(script: Script) -> None:
    """Copies, reads, writes and a flush, at different stages."""
    script.fleecing()
    script.read(0)
    script.write(0)
    script.write(2, 2)
    script.done(RequestKind.READ, SOURCE, 2)
    script.read(4)
    script.flush()
    script.write(5)


def _quit(scene: Scene) -> Iterator[str]:
    """QEMU hangs up on its clients and ends what they had begun, then itself."""
    daemon, everybody = scene.daemon, sorted(scene.machine.unanswered())
    daemon.process.qmp.submit("quit")
    standing = daemon.settle(scene.awaited(iter(everybody)), fences=False)
    yield from scene.changed(standing.answers, iter(everybody))
    if daemon.process.child.exit is not None:
        yield "quit: QEMU ended with requests under way"
    scene.let_go()
    end = daemon.process.child.wait(daemon.timeout)
    if end is None or end.code != 0:
        yield f"quit: expected exit status 0, found {end or 'a process that goes on'}"
    yield from scene.stored()


def _hard_removal(scene: Scene) -> Iterator[str]:
    """Who is connected is hung up on at once; what they had begun goes on, and holds the filter;
    other exports are as they were."""
    daemon = scene.daemon
    theirs, others = list(scene.numbers(FILTER)), list(scene.numbers(SNAPSHOT))
    yield from scene.refused(f"export '{FILTER}' still in use", "block-export-del", id=FILTER,
                             mode="safe")
    daemon.process.qmp.execute(*commands.export_removal(FILTER))
    standing = daemon.settle(scene.awaited(iter(theirs)))
    yield from scene.changed(standing.answers, iter(theirs))
    yield from scene.refused(f"Node {FILTER} is in use", "blockdev-del", **{"node-name": FILTER})
    if any(map(_is_deletion, daemon.process.qmp.events())):
        yield "block-export-del: the export is gone with requests under way"
        return
    scene.let_go()
    yield from scene.answered(iter(others))
    daemon.process.qmp.wait_event(_is_deletion)
    yield from scene.stored()
    daemon.shut_down()


def _is_deletion(event: QmpEvent) -> bool:
    return event.name == "BLOCK_EXPORT_DELETED" and event.data.get("id") == FILTER


def _late_copies(script: Script) -> None:
    """Copies that nobody waits for any more, as their time ran out, and a client that has had its
    answer."""
    script.fleecing(timeout=1)
    script.read(4)
    script.done(RequestKind.READ, SOURCE, 4)
    script.write(0)
    script.write(2)
    script.done(RequestKind.READ, SOURCE, 2)
    script.expire()


def _removal_behind(scene: Scene) -> Iterator[str]:
    """What the filter still does in the background is waited for before it goes.  An export is
    not removed while a client is connected that has nothing under way, unless it is forced to."""
    daemon = scene.daemon
    yield from scene.refused(f"export '{SNAPSHOT}' still in use", "block-export-del", id=SNAPSHOT)
    for export in (FILTER, SNAPSHOT):
        daemon.hang_up(export)
    removed = scene.is_held_up(commands.export_removal(FILTER))
    scene.let_go()
    yield from removed()
    daemon.process.qmp.wait_event(_is_deletion)
    yield from scene.stored()
    daemon.process.qmp.execute(*commands.export_removal(SNAPSHOT))
    daemon.process.qmp.wait_event("BLOCK_EXPORT_DELETED")
    for node in (SNAPSHOT, FILTER):
        daemon.process.qmp.execute("blockdev-del", {"node-name": node})
    daemon.shut_down()


def _guest_alone(script: Script) -> None:
    """A guest on a disk without a filter."""
    script.guest = SOURCE
    script.must(ops.Export(SOURCE))
    for cluster in (0, 2, 5):
        script.write(cluster)
    script.done(RequestKind.WRITE, SOURCE, 5)  # leaves a connection for another request


def _drain(scene: Scene) -> Iterator[str]:
    """A job that is to begin waits for what is under way, and what comes waits for the job."""
    script, daemon, before = scene.script, scene.daemon, scene.awaited(iter(()))
    earlier = sorted(scene.machine.unanswered())
    job = Backup("job", SOURCE, TARGET, Sync.NONE, filter_node="filter")
    begun = scene.is_held_up(commands.command_of(job), fences=False)
    script.finish()
    script.must(job)
    script.write(0, 2)
    late = script.steps[-1]
    script.finish()
    daemon.apply(late.number, late.operation)
    standing = daemon.settle(before, fences=False)
    if standing.answers or Counter(standing.pending) != Counter(before.pending):
        yield "a write goes on while QEMU drains"
    scene.let_go()
    yield from begun()
    yield from scene.answered(iter([*earlier, late.number]))
    yield from scene.stored()


ENDS: Final = (
    End("quit with requests under way", _requests, _quit),
    End("an export is removed with requests under way", _requests, _hard_removal),
    End("a job begins with requests under way", _guest_alone, _drain),
    End("an export is removed with late copies behind its filter", _late_copies, _removal_behind),
)


def check(end: End, begin: Begin, capabilities: Capabilities) -> list[str]:
    """Do one; what is not as it must be, in words."""
    script = end.script(capabilities)
    trace = script.trace()
    found: list[str] = []
    try:
        with closing(begin(trace.configuration)) as daemon:
            verdict = run(trace.steps, daemon,
                          ConcurrentMachine(trace.configuration, capabilities))
            if not isinstance(verdict, Conforms):
                found.append(verdict.summary)
            else:
                script.held.answers()
                for each in end.act(Scene(script, daemon)):
                    found.append(each)
    except SystemFailed as why:
        found.append(f"{why.verdict}: {why}")
    except Early as why:
        found.append(f"{why}: answered, though it has to wait for storage")
    except (PeerGone, QmpTimeout, QmpRefused) as why:
        found.append(str(why))
    return [f"{end.name}: {each}" for each in found]
