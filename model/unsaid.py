# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the model has nothing to say: no trace has such an operation.

Its outcome depends on what cannot be seen, or no client could send it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from . import operations as ops
from . import resizing
from .capabilities import Capabilities
from .configuration import MIB, Configuration, Format, Image, Protocol, RequestKind
from .content import ZERO
from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import CommandRefused, RequestFailed
from .graph import Graph
from .held_image import HeldImage
from .image import Image as ImageNode
from .links import shown_filter
from .node import Node
from .operations import Context, Request, Via
from .overlays import copies_snapshot, shows_snapshot
from .permissions import parents_first
from .program import look
from .qcow2 import Qcow2
from .qcow2_cells import DEFAULT_CLUSTER, cell_size
from .requests import CHANGES
from .snapshot_access import SnapshotAccess

DURABLE_IS_UNSAID: Final = "whether a durable write flushes differs between formats and builds"
FAST_IS_UNSAID: Final = "whether such an image zeroes fast is up to the storage below it"
SIZES_ARE_UNSAID: Final = "what sizes copy-on-read goes by nobody has found out"
MOST_RESIZED: Final = 64 * MIB
"""Bytes; no image that may be resized becomes larger."""


class Impossible(ValueError):
    """An operation that no trace may contain; nothing has been done."""


def check_request(configuration: Configuration, request: Request) -> None:
    """Refuse what no client sends, and what over these images cannot be told."""
    if request.offset < 0 or request.length < 0:
        raise Impossible("a negative offset or length")
    if isinstance(request, ops.Status) and not request.via.is_nbd:
        raise Impossible("block status is asked over NBD only")
    images = configuration.images
    if isinstance(request, ops.Status) and any(image.tells_status for image in images) and (
            request.one or request.context == Context.DEPTH):
        raise Impossible("how held storage is asked for this kind of block status, and which of "
                         "its answers QEMU remembers then, nobody has found out")
    if isinstance(request, CHANGES) and any(
            fault.kind is RequestKind.STATUS and any(each.backing == image.node for each in images)
            for image in images for fault in image.faults):
        raise Impossible("whether a format asks for its backing file's block status before it "
                         "writes nobody has found out")
    if any(image.detect_zeroes and (image.faults or image.request_alignment) for image in images):
        raise Impossible("what is detected as zeroes by a node over which requests are widened")
    aligned = [image.request_alignment for image in images if image.request_alignment]
    if isinstance(request, ops.Discard) and any(
            (request.offset | request.length) % alignment for alignment in aligned):
        raise Impossible("an unaligned discard, of which QEMU's blkdebug itself dies")
    if isinstance(request, CHANGES) and any(map(_has_cells_below_blocks, images)):
        raise Impossible("how much a write fills of cells smaller than the blocks it goes by")
    if isinstance(request, ops.Discard):
        _check_discard(images, request)
    if isinstance(request, ops.Zero) and request.fast and (
            aligned or any(image.backing for image in images)):
        raise Impossible(FAST_IS_UNSAID)
    if _is_durable(request) and any(
            fault.kind is RequestKind.FLUSH for image in images for fault in image.faults):
        raise Impossible(DURABLE_IS_UNSAID)


def check_pieces(configuration: Configuration, node: Node, request: Request) -> None:
    """Refuse a write of nothing while a node below may not change; and, over a filter whose source
    is a snapshot, where the copy of one piece can be denied, a discard that may be cut at clusters
    of some image."""
    if isinstance(request, ops.Write) and not request.length and any(
            bitmap.read_only for below in parents_first([node])[1:] for bitmap in below.bitmaps):
        raise Impossible("whether a write of nothing is passed on differs between nodes")
    if isinstance(request, ops.Discard) and copies_snapshot(node):
        _check_uncut(configuration.images, request)
    if isinstance(request, ops.Zero) and request.fast and shows_snapshot(node):
        raise Impossible(FAST_IS_UNSAID)


def monitored(graph: Graph, request: Request) -> Node:
    """The node that the human monitor's qemu-io is given; refused where it could not use it,
    which is said in words only."""
    node = graph.nodes.get(request.node)
    if node is None:
        raise Impossible(f"there is no node {request.node!r}")
    try:
        graph.check_look(node, writes=isinstance(request, CHANGES))
    except CommandRefused as why:
        raise Impossible(f"the human monitor cannot use the node: {why}") from why
    return node


def _has_cells_below_blocks(image: Image) -> bool:
    """Whether an image over a backing file allocates less than a block at a time."""
    return image.backing is not None and cell_size(image) < (image.request_alignment or 1)


def _is_durable(request: Request) -> bool:
    """Whether what is written is to be on disk when the request is answered: all that qemu-io
    writes is."""
    if request.via is Via.QEMU_IO:
        return isinstance(request, (ops.Write, ops.Zero))
    return isinstance(request, (ops.Write, ops.Zero)) and request.fua


def _check_discard(images: tuple[Image, ...], discard: ops.Discard) -> None:
    if any(image.format is Format.PARALLELS and image.discard for image in images):
        raise Impossible("what a discard does to parallels images differs between builds")
    if any(image.faults for image in images):
        _check_uncut(images, discard)


def _check_uncut(images: tuple[Image, ...], discard: ops.Discard) -> None:
    cluster = max(image.cluster_size or DEFAULT_CLUSTER for image in images)
    if (discard.offset | discard.length) % cluster:
        raise Impossible("a discard is cut at clusters of the images; which piece fails matters")


def check_order(node: Node, request: Request, *, failing: bool) -> None:
    """Refuse, over storage that fails or a target that takes no data, a change that copies more
    than one cluster, or one that may be copied as zeroes: how the storage's block status cuts the
    copy up, and what it says of zeroes, decides which requests are made, and so which one
    fails."""
    below = parents_first([node]) if failing else []
    fails = any(isinstance(each, ImageNode) and each.spec.faults for each in below)
    if fails and any(isinstance(each, CopyOnRead) for each in below):
        raise Impossible("what copy-on-read makes of failures nobody has found out")
    if fails and isinstance(request, CHANGES) and shows_snapshot(node):
        raise Impossible("what an overlay reads of its backing file before it writes is up to the "
                         "storage below")
    if isinstance(request, CHANGES):
        check_copies(node, request.offset, request.offset + request.length, failing=failing)


def check_copies(node: Node, start: int, end: int, *, failing: bool) -> None:
    """Refuse the copies before a change of the range, filter after filter, and those that these
    make in their turn where a target is a filter."""
    end = min(end, node.size)
    kept = shown_filter(node)
    if kept is not None:
        check_copies(kept.target, start, end, failing=failing)
    while isinstance(node, CopyBeforeWrite) and start < end:
        copied = node.block_copy.to_copy(start, end) if (
            failing or isinstance(node.target, SnapshotAccess)) else []
        if sum(high - low for low, high in copied) > node.cluster_size:
            raise Impossible("copies several clusters over failing storage")
        if any(_has_zeroes(node.source, low, high) for low, high in copied):
            raise Impossible("copies what may be told to be zero, over failing storage")
        for low, high in copied:
            check_copies(node.target, low, high, failing=failing)
        node = node.source


def _has_zeroes(node: Node, start: int, end: int) -> bool:
    try:
        content = look(node.read(start, end))
    except RequestFailed:
        return True
    return any(run.value == ZERO for run in content.runs())


def check_export(graph: Graph, command: ops.Export) -> None:
    """Refuse names and I/O threads of their own for the exports of a schedule, and durable writes
    where flushes fail."""
    if any(isinstance(each, HeldImage) for each in graph.nodes.values()):
        if command.called is not None:
            raise Impossible("the clients of a schedule ask for an export by its node's name")
        if command.iothread is not None:
            raise Impossible("the exports of a schedule all run in one thread")
    if command.writethrough and any(
            fault.kind is RequestKind.FLUSH for node in graph.nodes.values()
            if isinstance(node, ImageNode) for fault in node.spec.faults):
        raise Impossible(DURABLE_IS_UNSAID)


def check_inspect(graph: Graph, node: Node) -> None:
    """Refuse to look at a node through the export of its name if that shows another node: it was
    one of the filter of that name of an earlier job."""
    export = graph.exports.get(node.name)
    if export is not None and node not in resizing.resized_with(export.node) and (
            export.node not in resizing.resized_with(node)):
        raise Impossible(f"the export {node.name!r} shows node {export.node.name!r}")


def check_thread(configuration: Configuration, capabilities: Capabilities) -> None:
    """Refuse exports in an I/O thread where requests cannot overlap, or clients cannot leave."""
    if not configuration.iothread:
        return
    if not any(image.protocol is Protocol.HELD for image in configuration.images):
        raise Impossible("only the exports of a schedule run in an I/O thread")
    if capabilities.threaded_client_aborts:
        raise Impossible("the first client to leave an export in an I/O thread kills this build")


def check_copy_on_read(graph: Graph, command: ops.AddCopyOnRead) -> None:
    """Refuse copy-on-read over a filter whose source was resized below it."""
    node = graph.nodes.get(command.file)
    while isinstance(node, CopyBeforeWrite):
        if node.size != node.source.size:
            raise Impossible(SIZES_ARE_UNSAID)
        node = node.source


def check_resize(graph: Graph, configuration: Configuration, command: ops.Resize) -> None:
    """Refuse sizes that the storage below may or may not have, and images of which resizing
    leaves what cannot be foretold."""
    if any(isinstance(each, CopyOnRead) for each in graph.nodes.values()):
        raise Impossible(SIZES_ARE_UNSAID)
    node = graph.nodes.get(command.node)
    if node is None:
        return
    resized = resizing.resized_with(node)
    if any(job.is_active and job.filter in resized[1:] for job in graph.jobs.values()):
        raise Impossible("a job whose disk is resized above its filter backs up what is not "
                         "there: docs/defects.md")
    image = resized[-1]
    if not isinstance(image, ImageNode):
        return
    if image.traits.resizes and MOST_RESIZED < command.size <= resizing.LARGEST:
        raise Impossible("whether a file can be so large is up to the file system")
    if image.spec.protocol is not Protocol.FILE:
        raise Impossible("the size of what a server has is the server's")
    if image.spec.format is Format.LUKS:
        raise Impossible("what a grown luks image holds is noise")
    if command.size % image.request_alignment and image.format_node != image.name:
        raise Impossible("blkdebug's alignment is that of its image's size")
    if isinstance(image, Qcow2) and image.compressed:
        raise Impossible("what becomes of compressed clusters at the end nobody has found out")
    if image.spec.subclusters and image.spec.preallocation:
        raise Impossible("which clusters have space cannot be seen of subclusters")
    if isinstance(image, Qcow2) and image.backing is not None and (shows_snapshot(image) or any(
            each.faults for each in configuration.images)):
        raise Impossible("growing an overlay may read a backing file that fails")


def check_reopen(graph: Graph, command: ops.Reopen) -> None:
    """Refuse to reopen an image that is more than a format over a file, whose backing file has
    been replaced, or of which the file alone is read-only; and to store a bitmap that a job
    holds."""
    node = graph.find(command.node)
    if not graph.capabilities.snapshot_access:
        raise Impossible("whether a build so old can reopen nodes nobody has asked")
    if not isinstance(node, ImageNode):
        return
    if node.format_node != node.name or node.spec.protocol is Protocol.HELD:
        raise Impossible("what is below an instrumented or held image is not reopened with it")
    if isinstance(node, Qcow2) and node.backing is not None and (
            node.backing.name != node.spec.backing):
        raise Impossible("reopening an overlay of what a job filters would put it elsewhere")
    if any(job.is_held and node in parents_first([job.filter.source])
           for job in graph.jobs.values()):
        raise Impossible("when a slow job has looked again at what was reopened is not known")
    if not command.read_only and node.spec.read_only and (
            node.spec.format in (Format.RAW, Format.LUKS)):
        raise Impossible("who could write to an image whose file alone is read-only")
    if command.read_only:
        check_close(node)
        if any(bitmap.persistent and bitmap.successor for bitmap in node.bitmaps):
            raise Impossible("a bitmap that a job holds when it is stored misses what comes after "
                             "it: docs/defects.md")


def check_attach(graph: Graph, command: ops.Attach) -> None:
    """Refuse to make a guest's disk of a read-only node: it would be a read-only disk, before
    whose writes nothing can be copied."""
    node = graph.nodes.get(command.node)
    if graph.device is None and node is not None and node.read_only:
        raise Impossible(f"a disk on the read-only node {command.node!r} cannot be written to")


def check_close(*nodes: Node) -> None:
    """Refuse to close an image that has become empty and should keep bitmaps: it loses them."""
    if any(isinstance(node, Qcow2) and not node.size and any(
            bitmap.persistent for bitmap in node.bitmaps) for node in nodes):
        raise Impossible("QEMU cannot store the bitmaps of an empty image")


def check_kill(configuration: Configuration, unsaved: Collection[str]) -> None:
    """Refuse to kill a QEMU where that loses data: qcow2 keeps tables in memory until a flush,
    and what other formats keep nobody has found out.  Raw images keep nothing."""
    for image in configuration.images:
        if image.format is Format.QCOW2 and image.node in unsaved:
            raise Impossible(f"what of image {image.node} survives is not known")
        if image.format not in (Format.RAW, Format.QCOW2):
            raise Impossible(f"what a killed QEMU leaves of format {image.format} is not known")
