# SPDX-License-Identifier: GPL-2.0-or-later
"""Images: the nodes at the bottom, which hold content.

What a format does with alignment, discards and block status is in :data:`TRAITS`; only qcow2,
whose allocation can be seen exactly, has a class of its own (:mod:`model.qcow2`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from . import configuration
from .bitmap import align_down, align_up
from .configuration import KIB, MIB, Format, RequestKind
from .content import ZERO, Content, initial_stamp, is_zero, zeroes
from .errors import CommandRefused, Undetermined
from .node import DATA, PERHAPS_HOLE, SECTOR, Node, Status, Zeroing
from .program import Program, StorageRequest
from .rules import rule


@dataclass(frozen=True, slots=True)
class Traits:
    """What is peculiar to an image format; sizes in bytes.

    ``cluster``: what the node reports as its cluster size when the configuration names none
    (0: it has none; None: it cannot say).  ``request_alignment``: smaller requests are widened to
    it before they reach the driver.  ``discards``: the driver can discard.  ``tells_holes``:
    block status tells ranges that read as zero from data; otherwise all is data.  ``resizes``,
    ``shrinks``: the driver can give the image another size, a smaller one.
    """

    cluster: int | None = 0
    request_alignment: int = 1
    discards: bool = False
    tells_holes: bool = True
    resizes: bool = False
    shrinks: bool = True


TRAITS: Final[dict[Format, Traits]] = {
    Format.RAW: Traits(discards=True, resizes=True),
    Format.QCOW2: Traits(cluster=64 * KIB, discards=True, resizes=True),
    Format.QED: Traits(cluster=64 * KIB, request_alignment=SECTOR, resizes=True, shrinks=False),
    Format.VDI: Traits(cluster=1 * MIB),
    Format.VMDK: Traits(cluster=64 * KIB),
    Format.VHDX: Traits(cluster=8 * MIB, request_alignment=SECTOR, tells_holes=False),
    Format.VPC: Traits(cluster=2 * MIB),
    Format.PARALLELS: Traits(request_alignment=SECTOR),
    Format.LUKS: Traits(request_alignment=SECTOR, tells_holes=False, resizes=True),
}
"""Source: experiments with every format; ``bdrv_get_info`` for the clusters, ``block_resize`` for
the sizes."""


def size_of(spec: configuration.Image) -> int:
    """The node's size in bytes: the configured one, rounded up to whole sectors."""
    return align_up(spec.size, SECTOR)


class Image(Node):
    """An image that holds its content flat: every format but qcow2, as far as can be seen."""

    def __init__(self, spec: configuration.Image, index: int, fired: Counter[str]) -> None:
        super().__init__(spec.node, size_of(spec), discard=spec.discard, fired=fired)
        if (spec.max_transfer or spec.max_discard) and (
                spec.faults or spec.protocol is configuration.Protocol.HELD):
            raise Undetermined("which of the pieces of a request fails or is held")
        self.driver = spec.format
        self.spec = spec
        self.read_only = spec.read_only
        self.traits = TRAITS[spec.format]
        self.request_alignment = (
            self.traits.request_alignment if self.format_node == self.name
            else spec.request_alignment or 1)
        self.reported_cluster_size = spec.cluster_size or self.traits.cluster
        self.most_at_once = spec.max_transfer
        self.detects = spec.detect_zeroes
        """``detect-zeroes`` as the image is open now."""
        self.was_target = False
        """Whether a job has opened the file by itself, or made it anew."""
        self.zeroes_fast = spec.format in (Format.RAW, Format.QCOW2)
        self._flushed = 0
        """What :attr:`changes` was at the last flush that succeeded."""
        self.content: Content = zeroes(self.size)
        for offset, length in spec.filled:
            self.content.set(offset, min(offset + length, self.size), initial_stamp(index))

    def open_for_job(self) -> None:
        """A job opens the image by itself, and so that it frees space."""
        self.was_target = self.discard_enabled = True
        self.detects = "unmap"

    def forget_content(self) -> None:
        """The image is made anew, empty."""
        self.was_target = True
        self.content.set(0, self.content.size, ZERO)

    @property
    def format_node(self) -> str:
        """The name of the node that has the format: not the image's own if a ``blkdebug`` is on
        top."""
        return f"{self.name}-format" if self.spec.is_instrumented else self.name

    @rule("image.cannot-discard", source="experiment, format by format")
    def _heeds_discard(self) -> bool:
        """A format whose driver cannot discard answers a discard with success and does nothing:
        data and dirty bitmaps stay as they are.  A ``blkdebug`` on top of it passes the discard
        on, and records it in its own bitmaps."""
        return self.discard_enabled and (self.traits.discards or self.format_node != self.name)

    def _request(self, kind: RequestKind, start: int, end: int, *,
                 unmap: bool = False) -> StorageRequest:
        start = align_down(start, self.request_alignment)
        end = align_up(end, self.request_alignment)
        return StorageRequest(self.name, kind, start, end - start, unmap)

    def _flush_request(self) -> StorageRequest:
        return StorageRequest(self.name, RequestKind.FLUSH, 0, 0)

    def _may_unmap(self, how: Zeroing) -> bool:
        """An image is two nodes, format and protocol, with the same ``discard``: if the upper one
        is not asked, the lower one is.  But space within a qcow2 is its own."""
        of_its_own = self.spec.format is Format.QCOW2 and self.format_node == self.name
        return (how.insists and of_its_own) or self._heeds_unmap()

    def _read(self, start: int, end: int) -> Program[Content]:
        yield self._request(RequestKind.READ, start, end)
        return self.content.slice(start, end)

    def _changed_by(self, start: int, content: Content) -> Program[None]:
        if self.detects and is_zero(content):
            return self._detected(start, start + content.size)
        return super()._changed_by(start, content)

    @rule("image.detects-zeroes", source="option detect-zeroes of blockdev-add; experiment")
    def _detected(self, start: int, end: int) -> Program[None]:
        """Data that are nothing but zeroes are written as zeroes, of which with ``unmap`` the
        space may be freed; to the bitmaps it is a write like any other."""
        return self._write_zeroes(start, end, Zeroing(unmap=self.detects == "unmap"))

    def _write(self, start: int, content: Content) -> Program[None]:
        yield self._request(RequestKind.WRITE, start, start + content.size)
        self.content.paste(start, content)

    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        yield self._request(RequestKind.ZERO, start, end)
        self.content.set(start, end, ZERO)

    @rule("image.discarded-reads-as-zero", source="experiment, format by format")
    def _discard(self, start: int, end: int) -> Program[None]:
        """What a raw image was told to discard reads as zero, to the byte."""
        yield self._request(RequestKind.DISCARD, start, end)
        if self.traits.discards:
            self.content.set(start, end, ZERO)

    def _flush(self) -> Program[None]:
        changes = self.changes
        if not self._is_flushed(changes):
            yield self._flush_request()
        self._flushed = changes

    @rule("image.flushed-already", source="experiment: no flush reaches a blkdebug that was not "
          "written to")
    def _is_flushed(self, changes: int) -> bool:
        """A flush reaches a ``blkdebug`` on top of an image only if something had changed since
        the last flush that succeeded; a write or a discard of no bytes counts as a change.
        ``changes``: how many there were when the flush came."""
        return self.format_node != self.name and self._flushed == changes

    @rule("image.status-tells-no-lie", source="block status of files is the file system's")
    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """What holds data is never a hole.  What reads as zero may be a hole or not, as the format
        or the file system below sees fit."""
        yield self._request(RequestKind.STATUS, start, end)
        if not self.traits.tells_holes:
            return end, DATA
        place, is_zero = self._run_of_zero(start, end)
        if not is_zero:
            return place, DATA
        return place, (PERHAPS_HOLE if self.spec.format is Format.RAW
                       else replace(PERHAPS_HOLE, depths=frozenset({0, 1})))

    def _run_of_zero(self, start: int, end: int) -> tuple[int, bool]:
        """Where in ``(start, end]`` the run stops that begins at ``start``, of zeroes or of other
        data; and whether it is one of zeroes."""
        is_zero = self.content.at(start) == ZERO
        for run in self.content.runs(start, end):
            if (run.value == ZERO) != is_zero:
                return run.start, is_zero
        return end, is_zero

    @rule("image.resize", source="block_resize, format by format (experiment)")
    def check_resize(self, size: int) -> None:
        """Images in raw, qcow2 and luks can be resized, those in qed can only grow; in qcow2 and
        qed the size must be whole sectors.  An image that is open read-only is not resized."""
        if self.read_only:
            raise CommandRefused("Image is read-only")
        if not self.traits.resizes:
            super().check_resize(size)
        if self.spec.format is Format.QED and size % SECTOR:
            raise CommandRefused("Invalid image size specified")
        if size < self.size and not self.traits.shrinks:
            raise CommandRefused("Shrinking images is currently not supported")

    @rule("image.resize-rounds-up", source="block_resize; experiment")
    def resize(self, size: int) -> None:
        """The size is rounded up to whole sectors of 512 bytes.  What is new reads as zero, even
        where there was data before the image was made smaller."""
        self._resized(align_up(size, SECTOR))
        self.content.resize(size, ZERO)
        self.content.resize(self.size, ZERO)
