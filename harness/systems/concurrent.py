# SPDX-License-Identifier: GPL-2.0-or-later
"""What a system is in which requests overlap, over storage that completes nothing by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from harness.systems.base import Answer, System
from model.content import Content
from model.program import StorageRequest


@dataclass(frozen=True, slots=True)
class Awaited:
    """What must come before all is quiet: storage requests, and answers by number."""

    pending: Collection[StorageRequest] = ()
    """All storage requests that must be pending then, those from before included."""
    answers: Collection[int] = ()
    timed: Collection[int] = ()
    """The numbers of the operations in which the time-outs began that are running and must not
    run out."""
    silent: bool = False
    """Whether the system must answer no command, as it waits for requests to end."""
    passing: Collection[StorageRequest] = ()
    """Storage requests that must come too, and are to be completed as they come."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand once all is quiet: what came, whether it was awaited or not."""

    pending: tuple[StorageRequest, ...] = ()
    """The storage requests that are pending, oldest first."""
    answers: Mapping[int, Answer] = field(default_factory=dict)
    """The answers since the last time, by number."""
    late: bool = False
    """A time-out has perhaps run out that must not have."""
    silent: bool = False
    """Whether it answers no command; looked at only where it must not."""
    passed: tuple[StorageRequest, ...] = ()
    """Those of the passing storage requests that have come."""


@runtime_checkable
class ConcurrentSystem(System, Protocol):
    """A system that takes the operations of :mod:`model.schedule` too."""

    def settle(self, awaited: Awaited) -> Standing:
        """Wait until what is awaited has come, and then until nothing else can come.

        What is awaited and does not come is not waited for without bound: it is then missing
        from the answer.  Raises SystemFailed.
        """

    def wrongly_stored(self, node: str, expected: Content) -> tuple[int, bytes] | None:
        """The first place where an image's storage, nothing being under way, does not hold what
        is expected, and what it holds from there on for a while; None: all is well."""
