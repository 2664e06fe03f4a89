# SPDX-License-Identifier: GPL-2.0-or-later
"""The vocabulary: everything a guest, a backup client or a QMP client can do.

An operation is plain data.  It is given to the model and to the system under test alike, is a
line of a trace, and is drawn, dropped and made smaller by exploration.  Offsets and lengths are
bytes.  Nodes are named by their QEMU node-name.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Via(StrEnum):
    """The channel that a request takes to its node."""

    NBD = "nbd"
    """NBD with structured replies: the server asks block status before it reads."""
    NBD_DF = "nbd-df"
    """NBD with structured replies and the "don't fragment" flag on reads: one plain read."""
    NBD_SIMPLE = "nbd-simple"
    """NBD without structured replies: one plain read; no block status."""
    QEMU_IO = "qemu-io"
    """An interactive qemu-io, itself an NBD client."""
    MONITOR = "monitor"
    """The human monitor's qemu-io on the node: no server between, so the errno is QEMU's own."""
    DEVICE = "device"
    """The human monitor's qemu-io on the guest's device."""

    @property
    def is_nbd(self) -> bool:
        """Whether the client itself speaks NBD."""
        return self in (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE)

    @property
    def is_local(self) -> bool:
        """Whether no server stands between the client and the node."""
        return self in (Via.MONITOR, Via.DEVICE)


class OnCbwError(StrEnum):
    """What a failed copy-before-write breaks (option ``on-cbw-error``, since QEMU 7.1)."""

    BREAK_GUEST_WRITE = "break-guest-write"
    BREAK_SNAPSHOT = "break-snapshot"


class Context(StrEnum):
    """What a block status request asks for; dirty bitmaps are ``qemu:dirty-bitmap:NAME``."""

    ALLOCATION = "base:allocation"
    DEPTH = "qemu:allocation-depth"


@dataclass(frozen=True, slots=True)
class BitmapRef:
    """A dirty bitmap, named by node and name."""

    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing done to the system.  Subclasses are the vocabulary."""

    name: ClassVar[str] = ""


# Requests: what the users of a node send.


@dataclass(frozen=True, slots=True)
class Request(Operation):
    """A request to an exported node."""

    node: str
    offset: int = 0
    length: int = 0
    via: Via = Via.NBD


@dataclass(frozen=True, slots=True)
class Read(Request):
    """Read a range: EACCES where a fleecing client has no right."""

    name: ClassVar[str] = "read"


@dataclass(frozen=True, slots=True)
class Write(Request):
    """Write a range with data of this operation's own, or with ``zeroes`` for data; ``fua``:
    durable when answered."""

    name: ClassVar[str] = "write"
    fua: bool = False
    zeroes: bool = False


@dataclass(frozen=True, slots=True)
class Zero(Request):
    """Write zeroes; ``unmap``: the space may be freed; ``fast``: ENOTSUP rather than slowly;
    ``fua``: durable when answered."""

    name: ClassVar[str] = "zero"
    unmap: bool = False
    fast: bool = False
    fua: bool = False


@dataclass(frozen=True, slots=True)
class Discard(Request):
    """Discard a range (NBD TRIM); ``fua``: flushed when answered, which only NBD can ask for."""

    name: ClassVar[str] = "discard"
    fua: bool = False


@dataclass(frozen=True, slots=True)
class Flush(Request):
    """Flush the node; the range is not used."""

    name: ClassVar[str] = "flush"


@dataclass(frozen=True, slots=True)
class Status(Request):
    """Ask block status in one metadata context; ``one``: a single extent (NBD REQ_ONE).

    ``others``: further contexts that the connection has negotiated, as backup clients do; the
    server then tells of all of them, and the answer is what it tells of ``context``.
    """

    name: ClassVar[str] = "status"
    context: str = Context.ALLOCATION
    one: bool = False
    others: tuple[str, ...] = ()


# Graph: nodes and exports.


@dataclass(frozen=True, slots=True)
class AddFilter(Operation):
    """blockdev-add of a copy-before-write filter; options left out are None."""

    name: ClassVar[str] = "add-filter"
    node: str
    file: str | None
    target: str | None
    bitmap: BitmapRef | None = None
    on_cbw_error: str | None = None
    cbw_timeout: int | None = None
    min_cluster_size: int | None = None
    discard: bool = True


@dataclass(frozen=True, slots=True)
class AddSnapshot(Operation):
    """blockdev-add of a snapshot-access node over ``file``, normally a copy-before-write."""

    name: ClassVar[str] = "add-snapshot"
    node: str
    file: str
    discard: bool = True


@dataclass(frozen=True, slots=True)
class AddCopyOnRead(Operation):
    """blockdev-add of a copy-on-read node over ``file``."""

    name: ClassVar[str] = "add-copy-on-read"
    node: str
    file: str


@dataclass(frozen=True, slots=True)
class AddOverlay(Operation):
    """blockdev-add of an image whose node was removed, with the node ``backing``, a
    snapshot-access, as its backing file."""

    name: ClassVar[str] = "add-overlay"
    node: str
    backing: str


@dataclass(frozen=True, slots=True)
class RemoveNode(Operation):
    """blockdev-del."""

    name: ClassVar[str] = "remove-node"
    node: str


@dataclass(frozen=True, slots=True)
class Resize(Operation):
    """block_resize, by node name; ``size`` in bytes."""

    name: ClassVar[str] = "resize"
    node: str
    size: int


@dataclass(frozen=True, slots=True)
class Reopen(Operation):
    """blockdev-reopen of an image with the options it was attached with, read-only or not;
    ``discard``: with ``discard=unmap`` or without it, if not as it was attached."""

    name: ClassVar[str] = "reopen"
    node: str
    read_only: bool = False
    discard: bool | None = None


@dataclass(frozen=True, slots=True)
class ReopenAs(Operation):
    """blockdev-reopen of a filter or snapshot-access node, with the options of the command that
    would add it."""

    name: ClassVar[str] = "reopen-as"
    options: Operation


@dataclass(frozen=True, slots=True)
class Export(Operation):
    """block-export-add (NBD), the export's id being the node's name."""

    name: ClassVar[str] = "export"
    node: str
    writable: bool = True
    bitmaps: tuple[BitmapRef, ...] = ()
    allocation_depth: bool = False
    own_bitmaps: tuple[str, ...] = ()
    """Bitmaps of which only the name is given: looked for on the node and in what is below it."""
    called: str | None = None
    """The name by which clients ask for it; None: the node's."""
    description: str | None = None
    """What it says of itself to clients."""
    writethrough: bool = False
    """Each write is durable when answered, whether the client asks for that or not."""
    iothread: str | None = None
    """The I/O thread that it is to run in, by its name; None: what the configuration says."""


@dataclass(frozen=True, slots=True)
class Unexport(Operation):
    """block-export-del of the node's export, waiting until it is gone."""

    name: ClassVar[str] = "unexport"
    node: str


@dataclass(frozen=True, slots=True)
class Attach(Operation):
    """Put the guest's device on the node: ``device_add`` the first time, then ``qom-set``.

    Requests by :attr:`Via.DEVICE` name the node that the device was put on, and reach the one that
    it is on, which may be a job's filter over that; naming another node is ENOENT.  The device
    writes, and lets others write (``share-rw``).  Needs a qemu-system.
    """

    name: ClassVar[str] = "attach"
    node: str


# Dirty bitmaps.


@dataclass(frozen=True, slots=True)
class BitmapOperation(Operation):
    """A command about one dirty bitmap, ``bitmap`` being its name."""

    node: str
    bitmap: str


@dataclass(frozen=True, slots=True)
class BitmapAdd(BitmapOperation):
    """block-dirty-bitmap-add; ``granularity`` None: QEMU's default for the node."""

    name: ClassVar[str] = "bitmap-add"
    granularity: int | None = None
    persistent: bool = False
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class BitmapRemove(BitmapOperation):
    """block-dirty-bitmap-remove."""

    name: ClassVar[str] = "bitmap-remove"


@dataclass(frozen=True, slots=True)
class BitmapClear(BitmapOperation):
    """block-dirty-bitmap-clear."""

    name: ClassVar[str] = "bitmap-clear"


@dataclass(frozen=True, slots=True)
class BitmapEnable(BitmapOperation):
    """block-dirty-bitmap-enable: record writes from now on."""

    name: ClassVar[str] = "bitmap-enable"


@dataclass(frozen=True, slots=True)
class BitmapDisable(BitmapOperation):
    """block-dirty-bitmap-disable: stop recording."""

    name: ClassVar[str] = "bitmap-disable"


@dataclass(frozen=True, slots=True)
class BitmapMerge(BitmapOperation):
    """block-dirty-bitmap-merge: ``bitmap`` takes on the dirty places of all ``sources``.

    ``local``: those of the same node are given by their names alone, as QEMU allows.
    """

    name: ClassVar[str] = "bitmap-merge"
    sources: tuple[BitmapRef, ...] = ()
    local: bool = False


# The process: nodes, exports and jobs end with it; the images are attached to the next one.


@dataclass(frozen=True, slots=True)
class Restart(Operation):
    """QEMU quits by itself, and another one starts with the same images.

    ``read_only`` names images that are then attached read-only; all others are writable.
    """

    name: ClassVar[str] = "restart"
    read_only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kill(Operation):
    """QEMU is killed, and another one starts with the same images, all writable.

    In a schedule what storage has not completed is lost; with ``landed`` it has taken effect,
    only that QEMU did not live to hear of it.
    """

    name: ClassVar[str] = "kill"
    landed: bool = False


# Looking: changes nothing.


@dataclass(frozen=True, slots=True)
class Inspect(Operation):
    """Compare the node's whole content (and, for a snapshot, the access to each cluster)."""

    name: ClassVar[str] = "inspect"
    node: str


def vocabulary() -> dict[str, type[Operation]]:
    """Every operation by its name, as written in traces."""
    found: dict[str, type[Operation]] = {}
    pending: list[type[Operation]] = [Operation]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        # A dataclass with slots leaves behind the class that it was made from, of the same name.
        current = getattr(sys.modules[kind.__module__], kind.__name__, None) is kind
        if current and "name" in vars(kind) and kind.name:
            found[kind.name] = kind
    return found
