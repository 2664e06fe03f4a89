# SPDX-License-Identifier: GPL-2.0-or-later
"""The concurrent machine behind the interface of a system over held storage, perhaps lying."""

from __future__ import annotations

from collections.abc import Collection

from harness import stamps
from harness.systems.base import ALL_CHANNELS, Answer
from harness.systems.concurrent import Awaited, Standing
from harness.systems.failure import SystemHung
from harness.systems.lies.forgotten import Forgotten
from harness.systems.lies.held import Misdeed, Misreport
from harness.systems.simulated import Simulated, rendered
from model.concurrent_machine import ConcurrentMachine
from model.content import Content
from model.copy_before_write import CopyBeforeWrite
from model.job_operations import Backup
from model.machine import Impossible
from model.operations import AddFilter, Operation, Via
from model.program import Deadlock
from model.schedule import Start


class SimulatedHeld(Simulated):
    """A system under test that is a concurrent machine of the model."""

    def __init__(self, machine: ConcurrentMachine, *, forgotten: Forgotten | None = None,
                 forgotten_by_jobs: Forgotten | None = None, misreport: Misreport | None = None,
                 misdeed: Misdeed | None = None, eager: bool = False,
                 channels: Collection[Via] = ALL_CHANNELS) -> None:
        """``forgotten``: the rule that its filters do not keep, or its jobs; ``misreport``: how
        what stands is told; ``misdeed``: what is done in an operation's place; ``eager``: a
        started request is answered at once."""
        super().__init__(machine, channels=channels)
        self._held = machine
        self._forgotten = forgotten
        self._forgotten_by_jobs = forgotten_by_jobs
        self._misreport = misreport
        self._misdeed = misdeed
        self._eager = eager
        self._filters: set[str] = set()
        self._early: dict[int, Answer] = {}

    def apply(self, number: int, operation: Operation) -> Answer:
        """Have the machine do or start the operation; what is impossible for it is not done."""
        done = self._misdeed.deed(self._held, operation) if self._misdeed is not None else None
        if done is not None:
            self.told += 1
            operation = done
        graph = self._held.graph
        try:
            answer = super().apply(number, operation)
        except Impossible:
            return Answer()
        except Deadlock as why:  # who forgets whom to wake may wait for ever
            raise SystemHung(operation.name, 0) from why
        if self._eager and isinstance(operation, Start):
            self._early[number] = Answer()
        if isinstance(operation, AddFilter):
            self._forget(operation.node)
            self._filters.add(operation.node)
        elif self._held.graph is not graph:
            for name in self._filters:
                self._forget(name)
        if self._forgotten_by_jobs is not None and isinstance(operation, Start):
            job = self._held.graph.jobs.get(getattr(operation.request, "job", ""))
            if job is not None and isinstance(operation.request, Backup):
                self._forgotten_by_jobs.forget(job)
        return answer

    def _forget(self, name: str) -> None:
        """Have a filter forget; one that has forgotten before was copied when a command was
        refused, and what it forgets with belongs to what was copied."""
        node = self._held.nodes.get(name)
        if self._forgotten is None or not isinstance(node, CopyBeforeWrite):
            return
        for part in (node, node.block_copy):
            for method in [each for each in vars(part) if hasattr(type(part), each)]:
                if callable(getattr(type(part), method)):
                    delattr(part, method)
        self._forgotten.forget(node)

    def settle(self, awaited: Awaited) -> Standing:
        """How things stand with the machine, as it is told."""
        answers = {number: rendered(self._held.request(number), outcome)
                   for number, outcome in self._held.answers().items()}
        early, self._early = self._early, {}
        seen = Standing(tuple(self._held.pending()), {**answers, **early},
                        silent=self._held.silent, passed=tuple(self._held.passed()))
        forged = self._misreport.forge(seen) if self._misreport is not None else None
        if forged is None:
            return seen
        self.told += 1
        return forged

    def wrongly_stored(self, node: str, expected: Content) -> tuple[int, bytes] | None:
        """Where the machine's own content is other than expected."""
        content = self._held.stored()[node]
        if content == expected:
            return None
        return 0, stamps.render(content, 0)
