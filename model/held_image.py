# SPDX-License-Identifier: GPL-2.0-or-later
"""An image on storage that the harness holds, so that every request to it can be seen.

What is exact here is what QEMU's NBD client and the layer above it make of a request.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from . import configuration
from .configuration import MIB, RequestKind
from .content import ZERO
from .image import Image
from .node import DATA, Status, Zeroing
from .program import Program
from .rules import rule

LARGEST: Final = 32 * MIB
"""Bytes of zeroes in one request, at most."""


class HeldImage(Image):
    """A raw image whose storage tells no block status."""

    def __init__(self, spec: configuration.Image, index: int, fired: Counter[str]) -> None:
        super().__init__(spec, index, fired)
        self._known_data: tuple[int, int] | None = None

    @rule("image.remembers-data", source="block layer: the last range that the storage said is "
          "data is not asked about again (experiment)")
    def _block_status(self, start: int, end: int) -> Program[tuple[int, Status]]:
        """Storage that tells no block status makes all of what is asked about data.  Asked about
        a place in the range that it was last asked about, QEMU answers by itself, and no further
        than that range; until part of it is discarded or written with zeroes."""
        yield self._request(RequestKind.STATUS, start, end)
        known = self._known_data
        if known is not None and known[0] <= start < known[1]:
            return min(end, known[1]), DATA
        self._known_data = (start, end)
        return end, DATA

    def _forget(self, start: int, end: int) -> None:
        known = self._known_data
        if known is not None and known[0] < end and start < known[1]:
            self._known_data = None

    @rule("image.zeroes-in-pieces", source="NBD protocol: what every server must take; experiment")
    def _write_zeroes(self, start: int, end: int, how: Zeroing) -> Program[None]:
        """Zeroes are written 32 MiB at a time, one after the other."""
        self._forget(start, end)
        for place in range(start, end, LARGEST):
            stop = min(place + LARGEST, end)
            yield self._request(RequestKind.ZERO, place, stop, unmap=how.unmap)
            self.content.set(place, stop, ZERO)

    def _discard(self, start: int, end: int) -> Program[None]:
        self._forget(start, end)
        yield from super()._discard(start, end)
