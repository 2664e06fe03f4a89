# SPDX-License-Identifier: GPL-2.0-or-later
"""blockdev-reopen: images become read-only, or writable again; filters cannot be reopened.

A command that is refused raises CommandRefused with QEMU's text.
"""

from __future__ import annotations

from . import bitmap_directory, filters, flushing
from .configuration import Format
from .errors import ERROR_TEXT, CommandRefused, RequestFailed, Undetermined
from .graph import Graph
from .image import Image
from .node import Node
from .operations import AddCopyOnRead, AddFilter, AddSnapshot, Reopen, ReopenAs
from .program import Program
from .qcow2 import Qcow2
from .rules import rule


def reopen(graph: Graph, command: Reopen) -> Program[None]:
    """blockdev-reopen of an image; of anything else it is refused."""
    node = graph.blockdev(command.node)
    if not isinstance(node, Image) or node.spec.format is Format.PARALLELS:
        yield from _refuse(node)
        return
    if command.read_only:
        _make_read_only(graph, node)
    else:
        _make_writable(node)
    _take_on(node, command)


def reopen_as(graph: Graph, command: ReopenAs) -> Program[None]:
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
    yield from _refuse(node)


def _refuse(node: Node) -> Program[None]:
    try:
        yield from flushing.before_removal(node)
    except RequestFailed as why:
        raise CommandRefused(f"Error flushing drive: {ERROR_TEXT[why.error]}") from why
    raise _cannot(node)


def _cannot(node: Node) -> CommandRefused:
    return CommandRefused(f"Block format '{node.driver}' used by node '{node.name}' does not "
                          "support reopening files")


@rule("reopen.read-only", source="blockdev-reopen; experiment")
def _make_read_only(graph: Graph, image: Image) -> None:
    """An image becomes read-only if nobody may write to it.  The bitmaps that it keeps are stored,
    so that a kill loses none, and cannot be changed from then on.  An image that is read-only
    already stays so; it is refused if a persistent bitmap was added meanwhile."""
    if image.read_only:
        if any(map(bitmap_directory.must_store, image.bitmaps)):
            raise CommandRefused("No write access")
        return
    try:
        graph.check_no_writer(image)
    except CommandRefused:
        if graph.capabilities.refused_readonly_reopen_blocks_writes:
            _keep_bitmaps_all_the_same(image)
        raise
    _keep_bitmaps(image)
    image.read_only = True


@rule("reopen.refused-blocks-writes", source="experiment: a defect of QEMU")
def _keep_bitmaps_all_the_same(image: Image) -> None:
    """Only when all else is done QEMU looks whether anybody may write to the image.  If so, the
    command is refused; but the bitmaps that the image keeps have been stored and cannot be
    changed.  So the image cannot be written to until it is reopened as what it is."""
    _keep_bitmaps(image)


@rule("reopen.discard", source="blockdev-reopen; experiment")
def _take_on(image: Image, command: Reopen) -> None:
    """Whether discards and zeroes free space is for the last command to say: one that does not
    name the option goes back to what the image was attached with."""
    if command.discard is not None and not image.spec.discard:
        raise Undetermined("what reaches a file that was not opened to discard")
    image.discard_enabled = image.spec.discard if command.discard is None else command.discard


def _keep_bitmaps(image: Image) -> None:
    if isinstance(image, Qcow2):
        bitmap_directory.store(image)
        bitmap_directory.protect(image)


@rule("reopen.writable", source="blockdev-reopen; experiment")
def _make_writable(image: Image) -> None:
    """An image becomes writable, and the bitmaps that it keeps are in use again.  One that was
    opened read-only in the first place does not: what is below it is read-only for good."""
    if image.spec.read_only:
        raise CommandRefused("Block node is read-only")
    if isinstance(image, Qcow2):
        bitmap_directory.release(image)
    image.read_only = False
