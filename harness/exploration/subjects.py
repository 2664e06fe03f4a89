# SPDX-License-Identifier: GPL-2.0-or-later
"""Subjects: a build, what is known of it, and the grounds on which it is verified."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.builds import PACKAGES, STORAGE_DAEMON, SYSTEM, Build
from harness.clients.libnbd import libnbd_available
from harness.exploration.building import Plan
from harness.exploration.grounds import TOOLS, Ground, RealGround, kind, simulated
from harness.lockstep.trace import SystemKind
from harness.systems.capabilities import Profile, find_profile
from harness.systems.lies import texts
from harness.systems.starting import starter
from model.capabilities import Capabilities
from model.configuration import Configuration
from model.operations import Via

SHARES: Final = {SystemKind.QSD: 3, SystemKind.QEMU_SYSTEM: 1, SystemKind.SIMULATED: 1}
"""A storage daemon starts faster and runs the same block layer, so it gets most of the traces."""
_ONLY_THERE: Final = {
    SYSTEM: "the human monitor's requests, the guest's device, drive-backup",
    STORAGE_DAEMON: "the storage daemon's set-up of all of it",
}


@dataclass(frozen=True)
class Subject:
    """A build to be verified."""

    build: Build
    profile: Profile
    grounds: tuple[Ground, ...]
    not_checked: tuple[str, ...]
    """What cannot be checked here, in words."""

    @property
    def shares(self) -> tuple[int, ...]:
        """How many of the traces each ground gets, relative to the others."""
        return tuple(SHARES[ground.plan.system] for ground in self.grounds)


def subject_of(build: Build, *, cache: bool = True, deadly: bool = True,
               jobs_only: bool = False) -> Subject:
    """Probe the build and lay out its grounds; raises HarnessError if nothing can be verified.

    ``cache``, ``deadly``, ``jobs_only``: see
    :func:`harness.systems.capabilities.find_profile`.
    """
    kinds = [kind for kind, tool in TOOLS.items() if build.has(tool)]
    with starter(build, TOOLS[kinds[0]]) as start:
        profile = find_profile(build, start, cache=cache, deadly=deadly, jobs_only=jobs_only)
    channels = {kind: channels_of(build, kind) for kind in kinds}
    grounds = tuple(RealGround(build, Plan.of(kind, profile.capabilities, channels[kind]))
                    for kind in kinds)
    return Subject(build, profile, grounds, (
        *profile.not_checked, *_missing(build, set().union(*channels.values()))))


def simulated_subject(lie: str = "") -> Subject:
    """Today's QEMU as the model simulates it, or as it would be with a defect: a name of
    :func:`harness.systems.lies.texts`."""
    ground = simulated(Capabilities(), lie)
    build = Build(kind(ground), Path(SystemKind.SIMULATED.value), kind(ground), {})
    defect = f", in which {texts()[lie]}" if lie else ""
    return Subject(build, Profile(ground.plan.capabilities), (ground,), (
        f"any QEMU: this is a simulation{defect}",))


def channels_of(build: Build, kind: SystemKind) -> Collection[Via]:
    """The channels of a kind of system of the build, on this machine."""
    with starter(build, TOOLS[kind]) as start, closing(start(Configuration())) as system:
        return system.channels


def _missing(build: Build, channels: Collection[Via]) -> list[str]:
    missing = [f"{_ONLY_THERE[tool]}: {build.path} has no {tool} (Debian: {PACKAGES[tool]})"
               for tool in (STORAGE_DAEMON, SYSTEM) if not build.has(tool)]
    if not libnbd_available():
        missing.append("block status, reads without fragments, reads without structured replies: "
                       "libnbd's Python binding is not here (Debian: python3-libnbd)")
    if Via.QEMU_IO not in channels:
        missing.append(f"requests by qemu-io: there is none (Debian: {PACKAGES['qemu-io']})")
    return missing
