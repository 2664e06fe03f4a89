# SPDX-License-Identifier: GPL-2.0-or-later
"""The vocabulary of schedules: requests that overlap in time, over storage that is held.

A schedule is a trace whose requests are started and not waited for, and whose storage requests are
completed one by one, in an order and with results that the schedule decides.  Operations of other
kinds have the graph to themselves: they come when nothing is under way, and storage then completes
by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .configuration import RequestKind
from .operations import Operation, Request
from .program import StorageRequest


@dataclass(frozen=True, slots=True)
class Start(Operation):
    """Send a request and do not wait for its answer; it is known by this operation's number.

    A backup job can be started too, when nothing else is under way; it is answered when it rests.
    It must not have ``auto-finalize``, nor end for an error, since then it might end by itself
    while requests are under way.

    A command about the job can be started at any time, except while the job is ending and QEMU
    waits for requests to end first.  It is answered when it is refused, or when the job rests.
    """

    name: ClassVar[str] = "start"
    request: Operation

    @property
    def sent(self) -> Request:
        """The request; raises TypeError if it is some other operation."""
        if not isinstance(self.request, Request):
            raise TypeError(f"{self.request.name} cannot be started")
        return self.request


@dataclass(frozen=True, slots=True)
class Complete(Operation):
    """Complete the pending storage request of that node, kind and range.

    With ``error``, an errno name such as ``EIO``, it fails.  ``younger``: of several requests
    that are alike, skip so many older ones.  ``unmap``: a request of zeroes that may free space.
    """

    name: ClassVar[str] = "complete"
    node: str
    kind: str
    offset: int
    length: int
    error: str | None = None
    younger: int = 0
    unmap: bool = False

    @classmethod
    def of(cls, asked: StorageRequest, error: str | None = None, younger: int = 0) -> Complete:
        """To complete such a request."""
        return cls(asked.node, asked.kind, asked.offset, asked.length, error, younger,
                   asked.unmap)

    @property
    def asked(self) -> StorageRequest:
        """The request that is to be completed."""
        return StorageRequest(self.node, RequestKind(self.kind), self.offset, self.length,
                              self.unmap)


@dataclass(frozen=True, slots=True)
class CompleteAll(Operation):
    """Complete all that is pending to the storage of a node, the oldest first, or fail it; what
    clients' requests then still ask of it is completed as it comes.

    For use while a job is ending and QEMU waits for requests to end first, and the only way then:
    QEMU up to 10.0 may not notice the answer to a request before others of the node are answered.
    """

    name: ClassVar[str] = "complete-all"
    node: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Expire(Operation):
    """Wait until every ``cbw-timeout`` that is running has run out, the oldest first."""

    name: ClassVar[str] = "expire"


@dataclass(frozen=True, slots=True)
class Cut(Operation):
    """Cut the connection to an image's storage, which goes on serving.

    What was pending is asked for again on a new connection, as the images of a schedule are
    attached with ``reconnect-delay``.
    """

    name: ClassVar[str] = "cut"
    node: str


@dataclass(frozen=True, slots=True)
class Gone(Operation):
    """The server of an image's storage is gone: the connection is lost, and no other is made."""

    name: ClassVar[str] = "gone"
    node: str


@dataclass(frozen=True, slots=True)
class Back(Operation):
    """The server that is gone is back, well before QEMU gives up on it (``reconnect-delay``)."""

    name: ClassVar[str] = "back"
    node: str


def place_of(operation: Operation) -> Request | Complete | None:
    """What says which range of which node the operation is about, if anything does."""
    return operation if isinstance(operation, Complete) else request_of(operation)


def request_of(operation: Operation) -> Request | None:
    """The request that the operation is, or starts."""
    if isinstance(operation, Start):
        operation = operation.request
    return operation if isinstance(operation, Request) else None
