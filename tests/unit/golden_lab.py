# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of the golden machinery share: a build that is the model, truthful or lying."""

from __future__ import annotations

from harness.golden.scenario import Absent, Scenario
from harness.lockstep.trace import SystemKind
from harness.systems.base import System
from harness.systems.held_simulated import SimulatedHeld
from harness.systems.lies import Lie
from harness.systems.lies.forgotten import Forgotten
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.concurrent_machine import ConcurrentMachine, machine_for
from model.configuration import KIB, Configuration, Format, Image
from model.job_operations import Backup, Sync, Transaction
from model.operations import (
    AddFilter,
    Attach,
    BitmapAdd,
    BitmapRef,
    Discard,
    Export,
    Flush,
    Reopen,
    Resize,
    Restart,
    Unexport,
    Via,
)

C = 64 * KIB


class SimulatedHost:
    """A build whose systems are machines of the model."""

    label = "QEMU 0.0"

    def __init__(self, capabilities: Capabilities | None = None, lie: Lie | None = None, *,
                 absent: str | None = None, forgotten: Forgotten | None = None,
                 forgotten_by_jobs: Forgotten | None = None) -> None:
        self._capabilities = capabilities or Capabilities()
        self._lie = lie
        self._absent = absent
        self.forgotten = forgotten
        """The rule that filters over held storage do not keep."""
        self._forgotten_by_jobs = forgotten_by_jobs
        self.systems: list[Simulated] = []

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def start(self, kind: SystemKind, configuration: Configuration) -> System:
        if self._absent is not None:
            raise Absent(self._absent)
        machine = machine_for(configuration, self._capabilities)
        if isinstance(machine, ConcurrentMachine):
            return SimulatedHeld(machine, forgotten=self.forgotten,
                                 forgotten_by_jobs=self._forgotten_by_jobs)
        self.systems.append(Simulated(machine, self._lie))
        return self.systems[-1]

    def folders(self, system: System) -> dict[str, str]:
        return {}

    @property
    def told(self) -> int:
        """How often the lie was told."""
        return sum(system.told for system in self.systems)


def everything(iotest: Scenario) -> None:
    """A scenario with a chance for every lie: all kinds of requests, refusals, bitmaps."""
    size = 8 * C
    iotest.images(Image("base", size, filled=((0, 4 * C),)),
                  Image("src", size, Format.QCOW2, backing="base", filled=((2 * C, 4 * C),)),
                  Image("tmp", size),
                  *(Image(name, size) for name in ("copy", "other", "copy2")))
    iotest.do(Resize("tmp", 9 * C))
    iotest.do(Reopen("tmp", read_only=True))
    iotest.do(Export("tmp"))
    iotest.do(Reopen("tmp", read_only=False))
    iotest.do(BitmapAdd("src", "dirty", granularity=32 * KIB))
    iotest.do(BitmapAdd("src", "dirty"))
    iotest.export("src")
    iotest.write("src", C + 512, 3 * C)
    iotest.do(Unexport("src"))
    iotest.fleecing("src", "tmp", BitmapRef("src", "dirty"))
    iotest.do(AddFilter("cbw", "src", "tmp"))
    iotest.write("cbw", 2 * C, 4 * KIB)
    iotest.zero("cbw", 3 * C, C, unmap=True)
    iotest.discard("cbw", 4 * C, C)
    iotest.do(Flush("cbw"))
    iotest.bitmaps("cbw", "src")
    iotest.digest("src", "dirty")
    for via in (Via.NBD, Via.NBD_DF):
        iotest.read("acc", 2 * C, C, via)
        iotest.read("acc", C, 3 * C, via)
        iotest.read("acc", 0, C, via)
        iotest.read("cbw", 0, size, via)
    iotest.write("acc", 0, C)
    iotest.status("acc", C, C)
    iotest.status("acc", 0, C)
    iotest.do(Export("src", writable=False, bitmaps=(BitmapRef("src", "dirty"),)))
    iotest.status("src", 0, size)
    iotest.status("src", 0, size, "qemu:dirty-bitmap:dirty", others=("base:allocation",))
    for node in ("src", "tmp", "acc"):
        iotest.content(node)
    iotest.do(Discard("acc", C, C))
    iotest.content("acc")
    iotest.do(Attach("cbw"))
    iotest.do(Transaction((Backup("job", "src", "copy", Sync.TOP, auto_dismiss=False),
                           Backup("job2", "other", "copy2", Sync.FULL, auto_dismiss=False))))
    iotest.jobs()
    iotest.do(Restart())
