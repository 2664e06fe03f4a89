# SPDX-License-Identifier: GPL-2.0-or-later
"""blockdev-reopen: images become read-only, or writable again; filters cannot be reopened.

A command that is refused raises CommandRefused with QEMU's text.
"""

from __future__ import annotations

from . import bitmap_directory, filters
from .configuration import Format
from .errors import CommandRefused, Undetermined
from .graph import Graph
from .image import Image
from .node import Node
from .operations import AddCopyOnRead, AddFilter, AddSnapshot, Reopen, ReopenAs
from .qcow2 import Qcow2
from .rules import rule


def reopen(graph: Graph, command: Reopen) -> None:
    """blockdev-reopen of an image; of anything else it is refused."""
    node = graph.blockdev(command.node)
    if not isinstance(node, Image) or node.spec.format is Format.PARALLELS:
        raise _cannot(node)
    reopening = _Reopening(graph, node)
    if command.read_only:
        reopening.make_read_only()
    else:
        reopening.make_writable()


def reopen_as(graph: Graph, command: ReopenAs) -> None:
    """blockdev-reopen of a node with the options of a filter or of snapshot-access, which cannot
    be: no option may change, and none need."""
    options = command.options
    if not isinstance(options, (AddFilter, AddSnapshot, AddCopyOnRead)):
        raise Undetermined("options of no node that could be reopened so")
    if isinstance(options, AddFilter):
        filters.check_options(options, graph.capabilities, "options[0].")
    node = graph.blockdev(options.node)
    if isinstance(node, Image) and node.spec.format is not Format.PARALLELS:
        raise Undetermined("an image reopened as something else")
    raise _cannot(node)


def _cannot(node: Node) -> CommandRefused:
    return CommandRefused(f"Block format '{node.driver}' used by node '{node.name}' does not "
                          "support reopening files")


class _Reopening:
    """An image being reopened."""

    def __init__(self, graph: Graph, image: Image) -> None:
        self.graph = graph
        self.image = image
        self.fired = graph.fired

    @rule("reopen.read-only", source="blockdev-reopen; experiment")
    def make_read_only(self) -> None:
        """An image becomes read-only if nobody may write to it.  The bitmaps that it keeps are
        stored, so that a kill loses none, and cannot be changed from then on.  An image that is
        read-only already stays so; it is refused if a persistent bitmap was added meanwhile."""
        image = self.image
        if image.read_only:
            if any(map(bitmap_directory.must_store, image.bitmaps)):
                raise CommandRefused("No write access")
            return
        if self.graph.capabilities.refused_readonly_reopen_blocks_writes:
            self._keep_bitmaps_first()
        self.graph.check_no_writer(image)
        self._keep_bitmaps()
        image.read_only = True

    @rule("reopen.refused-blocks-writes", source="experiment: a defect of QEMU")
    def _keep_bitmaps_first(self) -> None:
        """Only when all else is done QEMU looks whether anybody may write to the image.  If so,
        the command is refused; but the bitmaps that the image keeps have been stored and cannot
        be changed.  So the image cannot be written to until it is reopened as what it is."""
        self._keep_bitmaps()

    def _keep_bitmaps(self) -> None:
        if isinstance(self.image, Qcow2):
            bitmap_directory.store(self.image)
            bitmap_directory.protect(self.image)

    @rule("reopen.writable", source="blockdev-reopen; experiment")
    def make_writable(self) -> None:
        """An image becomes writable, and the bitmaps that it keeps are in use again.  One that was
        opened read-only in the first place does not: what is below it is read-only for good."""
        image = self.image
        if image.spec.read_only:
            raise CommandRefused("Block node is read-only")
        if isinstance(image, Qcow2):
            bitmap_directory.release(image)
        image.read_only = False
