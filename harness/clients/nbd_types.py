# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of the NBD client: what it raises, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.clients.errors import (
    ClientError,
    PeerGone,
    PeerNonsense,
    PeerSilent,
    RequestFailed,
)

CHANNEL = "NBD"


class NbdError(RequestFailed):
    """The server answered a request with an error."""


class NbdRefused(ClientError):
    """The server does not have the export, or refused the negotiation."""


class NbdDisconnected(PeerGone):
    """The server closed the connection, or could not be reached."""


class NbdTimeout(PeerSilent):
    """The server did not answer within the bound."""


class NbdNonsense(PeerNonsense):
    """The server broke the NBD protocol."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of `length` bytes with the same status; what `flags` mean is up to the context.

    For `base:allocation`: 1 a hole, 2 reads as zeroes.  For `qemu:dirty-bitmap:NAME`: 1 dirty.
    For `qemu:allocation-depth`: the depth, 0 for unallocated.
    """

    length: int
    flags: int


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What the server says about an export; sizes in bytes, 0 where it gave none."""

    size: int
    read_only: bool
    can_flush: bool
    can_fua: bool
    can_trim: bool
    can_zero: bool
    can_fast_zero: bool
    can_df: bool
    can_cache: bool
    can_multi_conn: bool
    structured: bool
    minimum_block: int
    preferred_block: int
    maximum_block: int


@dataclass(frozen=True, slots=True)
class Token:
    """A request in flight."""

    number: int
    verb: str
    offset: int
    length: int

    def __str__(self) -> str:
        return asked(self.verb, self.offset, self.length)


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a submitted request: `errno` is 0 if it succeeded.

    `data` is set for a successful read, `extents` (by context) for a successful block status.
    """

    token: Token
    errno: int
    data: bytes | None = None
    extents: Mapping[str, tuple[Extent, ...]] | None = None


def asked(verb: str, offset: int, length: int) -> str:
    """A request in words, for messages."""
    return verb if verb == "flush" else f"{verb} {length} at {offset}"
