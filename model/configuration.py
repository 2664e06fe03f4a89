# SPDX-License-Identifier: GPL-2.0-or-later
"""What is there before the first operation: the images, each attached as a node.

Everything later (filters, snapshot-access, exports, bitmaps) is an operation of the trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


class Format(StrEnum):
    """The image formats that QEMU can write."""

    RAW = "raw"
    QCOW2 = "qcow2"
    QED = "qed"
    VDI = "vdi"
    VMDK = "vmdk"
    VHDX = "vhdx"
    VPC = "vpc"
    PARALLELS = "parallels"
    LUKS = "luks"


class Protocol(StrEnum):
    """What an image's node reads and writes through."""

    FILE = "file"
    NBD = "nbd"
    """Another QEMU serves the image's raw bytes; the format, if any, is on this side."""
    HELD = "held"
    """The harness serves the image and decides when each storage request completes, and how.
    Raw only; whether it tells block status is for the image to say."""


class RequestKind(StrEnum):
    """The kinds of storage request; also what a fault can be limited to."""

    READ = "read"
    WRITE = "write"
    ZERO = "write-zeroes"
    DISCARD = "discard"
    FLUSH = "flush"
    STATUS = "block-status"

    @property
    def changes(self) -> bool:
        """Whether it changes what the storage holds."""
        return self in (RequestKind.WRITE, RequestKind.ZERO, RequestKind.DISCARD)


@dataclass(frozen=True, slots=True)
class Fault:
    """A storage error, injected below the image's node (QEMU's ``blkdebug``).

    Every request of ``kind`` that touches the sector at ``offset`` fails with ``errno`` (a name
    such as ``EIO``); with ``once``, only the first one does.
    """

    kind: RequestKind
    offset: int
    errno: str = "EIO"
    once: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """One image and the node it becomes."""

    node: str
    size: int
    format: Format = Format.RAW
    protocol: Protocol = Protocol.FILE
    cluster_size: int | None = None
    """qcow2 and others that let one choose; None: the format's default."""
    subclusters: bool = False
    """qcow2's ``extended_l2``."""
    preallocation: str | None = None
    backing: str | None = None
    """The node that is this image's backing file: an earlier image of the configuration."""
    filled: tuple[tuple[int, int], ...] = ()
    """Ranges (offset, length) that hold data from the start; the rest reads as zero, or shows
    the backing file."""
    discard: bool = True
    """Whether the node has ``discard=unmap``."""
    faults: tuple[Fault, ...] = ()
    request_alignment: int | None = None
    """The alignment that a ``blkdebug`` above the image asks for; None: no such node for that."""
    max_transfer: int | None = None
    """The largest read or write that a ``blkdebug`` above the image takes; None: no such node for
    that."""
    max_discard: int | None = None
    """The same of a discard: of a longer one the rest is another one."""
    fails_first: str | None = None
    """The errno (a name such as ``EIO``) with which the first write of data to the file of a qcow2
    image fails, by a ``blkdebug`` below it."""
    read_only: bool = False
    detect_zeroes: str | None = None
    """``detect-zeroes`` of the image's node: on, unmap; None: the default, off."""
    tells_status: bool = False
    """For held storage: whether it offers block status.  If not, QEMU takes all for data."""

    @property
    def is_instrumented(self) -> bool:
        """Whether a ``blkdebug`` that injects faults, asks for alignment or takes no larger
        requests is on top, and has the node's name."""
        return bool(self.faults or self.request_alignment or self.max_transfer
                    or self.max_discard)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The images of a run, in the order in which they are attached."""

    images: tuple[Image, ...] = field(default=())
    iothread: bool = False
    """Whether exports, and all that they are over, run in an I/O thread; in schedules only."""

    def image(self, node: str) -> Image:
        """The image that becomes the node; raises KeyError if there is none."""
        for image in self.images:
            if image.node == node:
                return image
        raise KeyError(node)
