# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a machine whose storage has decided conforms to the model."""

from __future__ import annotations

from harness.lockstep.replay import Stand, replay
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Verdict
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.machine import Machine
from tests.undecided.storage import Deciding, Storage


def verdict(trace: Trace, storage: Storage, capabilities: Capabilities) -> Verdict:
    """How the trace goes on a machine over such storage."""
    return replay(trace, Stand(
        lambda images: Simulated(Deciding(storage, images, capabilities)),
        lambda images: Machine(images, capabilities)))
