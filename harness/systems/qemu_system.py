# SPDX-License-Identifier: GPL-2.0-or-later
"""A real qemu-system: a paused machine without a guest, whose requests the human monitor makes."""

from __future__ import annotations

from harness.builds import SYSTEM, Build
from harness.clients.errors import RequestNotSent
from harness.clients.monitor import MonitorIo
from harness.clients.qmp import DEFAULT_TIMEOUT
from harness.processes import Workspace
from harness.storage.images import ImageStore
from harness.systems.base import Answer
from harness.systems.commands import DEVICE
from harness.systems.qmp_system import QmpSystem
from harness.systems.requests import by_qemu_io
from model import operations as ops
from model.configuration import KIB, MIB, Configuration
from model.errors import Errno
from model.operations import Operation, Request, Via

BIOS_SIZE = 64 * KIB
"""Bytes of a firmware that does nothing: the machine never runs, so any file will do."""


class QemuSystem(QmpSystem):
    """A qemu-system: QMP, requests over NBD, by the human monitor, and as the guest's device."""

    output = 64 * MIB
    """The human monitor's dump of a read takes five bytes for each byte read."""

    def __init__(self, build: Build, configuration: Configuration, store: ImageStore, *,
                 timeout: float = DEFAULT_TIMEOUT, core: bool = False) -> None:
        """Start it with the configuration's images attached; see :class:`QmpSystem`."""
        self._attached: str | None = None
        """The node that the guest's device is on."""
        super().__init__(build, SYSTEM, configuration, store, timeout, core=core)

    def _arguments(self, workspace: Workspace) -> tuple[str, ...]:
        bios = workspace.file("bios")
        bios.write_bytes(bytes(BIOS_SIZE))
        return ("-S", "-nodefaults", "-display", "none", "-accel", "tcg", "-accel", "kvm",
                "-machine", "pc", "-m", "2", "-bios", str(bios),
                "-device", "virtio-scsi-pci,id=scsi")

    def _channels_of(self, build: Build) -> frozenset[Via]:
        return super()._channels_of(build) | {Via.MONITOR, Via.DEVICE}

    def _command(self, operation: Operation) -> Answer:
        answer = super()._command(operation)
        if isinstance(operation, ops.Attach) and answer.refused is None:
            self._attached, self._has_device = operation.node, True
        return answer

    def _replace_process(self, operation: ops.Restart | ops.Kill) -> Answer:
        answer = super()._replace_process(operation)
        self._attached, self._has_device = None, False
        return answer

    def _send(self, number: int, request: Request) -> Answer:
        if isinstance(request, ops.Status) or request.via not in (Via.MONITOR, Via.DEVICE):
            return super()._send(number, request)
        if request.via is Via.DEVICE:
            if self._attached != request.node:
                return Answer(error=int(Errno.ENOENT))
            client = self._monitor(device=DEVICE)
        else:
            client = self._monitor(node=request.node)
        self.process.child.stdout.forget()
        try:
            return by_qemu_io(client, number, request)
        except RequestNotSent as why:
            if "Cannot find device" in why.detail:
                return Answer(error=int(Errno.ENOENT))
            raise
        finally:
            client.close()

    def _monitor(self, *, node: str | None = None, device: str | None = None) -> MonitorIo:
        return MonitorIo(self.process.qmp, self.process.child.stdout, node=node, device=device)
