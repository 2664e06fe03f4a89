# SPDX-License-Identifier: GPL-2.0-or-later
"""From what a client noticed to how the system failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.clients.errors import PeerGone, PeerNonsense, PeerSilent
from harness.clients.qmp import CHANNEL, QmpRefused
from harness.storage.monitored import END_TIMEOUT, Monitored
from harness.systems.failure import SystemCrashed, SystemGarbled, SystemHung, SystemHungUp


@contextmanager
def translated(process: Callable[[], Monitored], asked: str) -> Iterator[None]:
    """Tell how the process failed, when a client only tells that its peer did; ``asked``: what it
    was asked for, should the client not know."""
    try:
        yield
    except PeerGone as why:
        end = process().child.wait(END_TIMEOUT)
        if end is not None:
            raise SystemCrashed(end) from why
        raise SystemHungUp(why.channel, why.asked or asked, process().stderr()) from why
    except PeerSilent as why:
        end = process().child.exit
        if end is not None:
            raise SystemCrashed(end) from why
        raise SystemHung(why.asked or asked, why.seconds) from why
    except PeerNonsense as why:
        raise SystemGarbled(why.channel, why.asked or asked, why.detail) from why


@contextmanager
def unrefused() -> Iterator[None]:
    """For questions that no QEMU refuses, but one that has lost an image: it calls a qcow2 image
    "ejected" whose tables make no sense to it."""
    try:
        yield
    except QmpRefused as why:
        raise SystemGarbled(CHANNEL, why.command, f"{why.error_class}: {why.desc}") from why
