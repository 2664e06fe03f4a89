# SPDX-License-Identifier: GPL-2.0-or-later
"""The concurrent machine behind the interface of a system over held storage, perhaps lying."""

from __future__ import annotations

from collections.abc import Collection

from harness import stamps
from harness.systems.base import Answer
from harness.systems.concurrent import Awaited, Standing
from harness.systems.lies.forgotten import Forgotten
from harness.systems.lies.held import Misreport
from harness.systems.simulated import ALL_CHANNELS, Simulated, rendered
from model.concurrent_machine import ConcurrentMachine
from model.content import Content
from model.copy_before_write import CopyBeforeWrite
from model.machine import Impossible
from model.operations import AddFilter, Operation, Via
from model.schedule import Start


class SimulatedHeld(Simulated):
    """A system under test that is a concurrent machine of the model."""

    def __init__(self, machine: ConcurrentMachine, *, forgotten: Forgotten | None = None,
                 misreport: Misreport | None = None, eager: bool = False,
                 channels: Collection[Via] = ALL_CHANNELS) -> None:
        """``forgotten``: the rule that its filters do not keep; ``misreport``: how what stands is
        told; ``eager``: a started request is answered at once."""
        super().__init__(machine, channels=channels)
        self._held = machine
        self._forgotten = forgotten
        self._misreport = misreport
        self._eager = eager
        self._early: dict[int, Answer] = {}

    def apply(self, number: int, operation: Operation) -> Answer:
        """Have the machine do or start the operation; what is impossible for it is not done."""
        try:
            answer = super().apply(number, operation)
        except Impossible:
            return Answer()
        if self._eager and isinstance(operation, Start):
            self._early[number] = Answer()
        if self._forgotten is not None and isinstance(operation, AddFilter):
            node = self._held.nodes.get(operation.node)
            if isinstance(node, CopyBeforeWrite):
                self._forgotten.forget(node)
        return answer

    def settle(self, awaited: Awaited) -> Standing:
        """How things stand with the machine, as it is told."""
        answers = {number: rendered(self._held.request(number), outcome)
                   for number, outcome in self._held.answers().items()}
        early, self._early = self._early, {}
        seen = Standing(tuple(self._held.pending()), {**answers, **early})
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
