# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands behind the vocabulary: pure, no I/O.

A real system sends them; the golden log shows them.  Names follow one rule everywhere: an image's
node has the image's name, its protocol node that name with ``-file``, and the export of a node
has the node's name as its id, and as its name if it is not called otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from harness.storage.luks import LUKS_PASSPHRASE, LUKS_SECRET
from harness.storage.place import FilePlace, NbdPlace, Place
from harness.systems import job_commands
from harness.systems.command import Arguments, Command
from model import job_operations as jobs
from model import operations as ops
from model.configuration import Fault, Format, Image, Protocol, RequestKind
from model.errors import Errno
from model.node import SECTOR
from model.operations import BitmapRef, Operation

DEVICE: Final = "guest"
"""The id of the guest's device; its QOM path is ``/machine/peripheral/guest``."""
DEVICE_BUS: Final = "scsi.0"
"""The SCSI bus that the device is plugged into."""


class NoSuchCommand(TypeError):
    """The operation is a request or an inspection: no single QMP command stands for it."""


def command_of(operation: Operation) -> Command:
    """The QMP command that does an operation on graph, exports, bitmaps or jobs.

    :class:`~model.operations.Attach` has two forms, so it is :func:`attach_command`'s, and
    :class:`~model.operations.Reopen` needs the image: :func:`reopen_command`.  Requests and
    inspections have none: :class:`NoSuchCommand`.
    """
    maker = _MAKERS.get(type(operation))
    if maker is None:
        raise NoSuchCommand(f"no QMP command stands for {operation!r}")
    return maker(operation)


def attach_command(node: str, plugged: bool) -> Command:
    """Put the guest's device on the node: ``device_add``, or ``qom-set`` once it is plugged in.

    ``share-rw``: a guest that lets other writers be, so that a node may also be exported.
    """
    if plugged:
        return Command("qom-set", {"path": f"/machine/peripheral/{DEVICE}",
                                   "property": "drive", "value": node})
    return Command("device_add", {"driver": "scsi-hd", "id": DEVICE, "bus": DEVICE_BUS,
                                  "drive": node, "share-rw": True})


def temporary_export(node: str, identity: str) -> Command:
    """A read-only export for looking at the node, apart from any export of the run itself."""
    return Command("block-export-add", {"type": "nbd", "id": identity, "node-name": node,
                                        "name": identity, "writable": False})


def export_removal(identity: str) -> Command:
    """block-export-del; done only when the event BLOCK_EXPORT_DELETED has come."""
    return Command("block-export-del", {"id": identity, "mode": "hard"})


def image_commands(image: Image, place: Place) -> tuple[Command, ...]:
    """The commands that make an image's nodes, lowest first.

    The image's own name goes to the topmost node, so that what is built over it need not know
    whether faults are injected between.
    """
    return tuple(Command("blockdev-add", node) for node in image_nodes(image, place))


def reopen_command(operation: ops.Reopen, images: Iterable[Image],
                   places: Mapping[str, Place]) -> Command:
    """Reopen an image's topmost node, with the options that it was attached with but for those
    that the operation has; the options of whatever else are of no matter."""
    options = {**_options(operation.node, images, places), "read-only": operation.read_only}
    if operation.discard is not None:
        options["discard"] = "unmap" if operation.discard else "ignore"
    return _reopening(options)


def overlay_command(operation: ops.AddOverlay, images: Iterable[Image],
                    places: Mapping[str, Place]) -> Command:
    """Open an image's topmost node again, over another backing file: what is below it is still
    there; the options of whatever else are of no matter."""
    options = _options(operation.node, images, places)
    return Command("blockdev-add", {**options, "backing": operation.backing})


def _options(node: str, images: Iterable[Image], places: Mapping[str, Place]) -> Arguments:
    for image in images:
        if image.node == node:
            return image_nodes(image, places[node])[-1]
    return {"driver": Format.RAW.value, "node-name": node, "file": f"{node}-file"}


def _reopening(options: Arguments) -> Command:
    return Command("blockdev-reopen", {"options": [options]})


def luks_secret() -> Command:
    """The object that LUKS images are opened with."""
    return Command("object-add", {"qom-type": "secret", "id": LUKS_SECRET,
                                  "data": LUKS_PASSPHRASE})


def needs_secret(images: tuple[Image, ...]) -> bool:
    """Whether any image is LUKS."""
    return any(image.format is Format.LUKS for image in images)


def image_nodes(image: Image, place: Place) -> tuple[Arguments, ...]:
    """The ``blockdev-add`` options of an image's nodes, lowest first: protocol, format, and,
    if it is instrumented, a ``blkdebug`` on top that takes the image's name."""
    top = f"{image.node}-format" if image.is_instrumented else image.node
    nodes = [_protocol(image, place), *_failing(image), _format(image, top)]
    if image.is_instrumented:
        nodes.append(_blkdebug(image, top))
    general: Arguments = {"discard": "unmap"} if image.discard else {}
    if image.read_only:
        general["read-only"] = True
    return tuple({**node, **general} for node in nodes)


def _protocol(image: Image, place: Place) -> Arguments:
    name = f"{image.node}-file"
    match place:
        case FilePlace():
            return {"driver": "file", "node-name": name, "filename": place.path}
        case NbdPlace():
            options: Arguments = {"driver": "nbd", "node-name": name, "export": place.export,
                                  "server": {"type": "unix", "path": place.socket}}
            if place.reconnect_delay:
                options["reconnect-delay"] = place.reconnect_delay
            return options


def _format(image: Image, name: str) -> Arguments:
    below = "failing" if image.fails_first else "file"
    options: Arguments = {"driver": image.format.value, "node-name": name,
                          "file": f"{image.node}-{below}"}
    if image.format is Format.LUKS:
        options["key-secret"] = LUKS_SECRET
    if image.backing is not None:
        options["backing"] = image.backing
    if image.detect_zeroes is not None:
        options["detect-zeroes"] = image.detect_zeroes
    return options


def _failing(image: Image) -> tuple[Arguments, ...]:
    """What fails the first write of data, between the format and its file."""
    if image.fails_first is None:
        return ()
    # The event tells data from the format's own tables.
    rule = {"event": "write_aio", "errno": Errno[image.fails_first].value, "once": True}
    return ({"driver": "blkdebug", "node-name": f"{image.node}-failing",
             "image": f"{image.node}-file", "inject-error": [rule]},)


def _blkdebug(image: Image, below: str) -> Arguments:
    options: Arguments = {"driver": "blkdebug", "node-name": image.node, "image": below}
    if image.request_alignment is not None:
        options["align"] = image.request_alignment
    if image.max_transfer is not None:
        options["max-transfer"] = image.max_transfer
    if image.max_discard is not None:
        options["max-discard"] = image.max_discard
    if image.faults:
        options["inject-error"] = [_injection(fault) for fault in image.faults]
    return options


def _injection(fault: Fault) -> Arguments:
    # The event "none" stands for "at once and always": other events come from format drivers,
    # and raw has none.
    rule: Arguments = {"event": "none", "iotype": fault.kind.value,
                       "errno": Errno[fault.errno].value}
    if fault.kind is not RequestKind.FLUSH:  # a flush has no place, so no sector matches it
        rule["sector"] = fault.offset // SECTOR
    if fault.once:
        rule["once"] = True
    return rule


def serves_raw_bytes(images: tuple[Image, ...]) -> bool:
    """Whether any image is reached through NBD, so that another QEMU must serve its bytes."""
    return any(image.protocol is Protocol.NBD for image in images)


def _bitmap(bitmap: BitmapRef) -> Arguments:
    return {"node": bitmap.node, "name": bitmap.name}


def _add_filter(operation: ops.AddFilter) -> Command:
    options: Arguments = {"driver": "copy-before-write", "node-name": operation.node}
    if operation.file is not None:
        options["file"] = operation.file
    if operation.target is not None:
        options["target"] = operation.target
    if operation.bitmap is not None:
        options["bitmap"] = _bitmap(operation.bitmap)
    if operation.on_cbw_error is not None:
        options["on-cbw-error"] = operation.on_cbw_error
    if operation.cbw_timeout is not None:
        options["cbw-timeout"] = operation.cbw_timeout
    if operation.min_cluster_size is not None:
        options["min-cluster-size"] = operation.min_cluster_size
    if operation.discard:
        options["discard"] = "unmap"
    return Command("blockdev-add", options)


def _add_snapshot(operation: ops.AddSnapshot) -> Command:
    options: Arguments = {"driver": "snapshot-access", "node-name": operation.node,
                          "file": operation.file}
    if operation.discard:
        options["discard"] = "unmap"
    return Command("blockdev-add", options)


def _add_copy_on_read(operation: ops.AddCopyOnRead) -> Command:
    return Command("blockdev-add", {"driver": "copy-on-read", "node-name": operation.node,
                                    "file": operation.file})


def _remove_node(operation: ops.RemoveNode) -> Command:
    return Command("blockdev-del", {"node-name": operation.node})


def _resize(operation: ops.Resize) -> Command:
    return Command("block_resize", {"node-name": operation.node, "size": operation.size})


def _export(operation: ops.Export) -> Command:
    options: Arguments = {"type": "nbd", "id": operation.node, "node-name": operation.node,
                          "name": operation.node if operation.called is None else operation.called,
                          "writable": operation.writable}
    if operation.bitmaps or operation.own_bitmaps:
        options["bitmaps"] = [*(_bitmap(bitmap) for bitmap in operation.bitmaps),
                              *operation.own_bitmaps]
    if operation.allocation_depth:
        options["allocation-depth"] = True
    if operation.description is not None:
        options["description"] = operation.description
    if operation.writethrough:
        options["writethrough"] = True
    if operation.iothread is not None:
        options["iothread"] = operation.iothread
    return Command("block-export-add", options)


def _unexport(operation: ops.Unexport) -> Command:
    return export_removal(operation.node)


def _about_bitmap(verb: str) -> Callable[[ops.BitmapOperation], Command]:
    def make(operation: ops.BitmapOperation) -> Command:
        return Command(f"block-dirty-bitmap-{verb}",
                       {"node": operation.node, "name": operation.bitmap})
    return make


def _bitmap_add(operation: ops.BitmapAdd) -> Command:
    options: Arguments = {"node": operation.node, "name": operation.bitmap}
    if operation.granularity is not None:
        options["granularity"] = operation.granularity
    if operation.persistent:
        options["persistent"] = True
    if operation.disabled:
        options["disabled"] = True
    return Command("block-dirty-bitmap-add", options)


def _bitmap_merge(operation: ops.BitmapMerge) -> Command:
    return Command("block-dirty-bitmap-merge", {
        "node": operation.node, "target": operation.bitmap,
        "bitmaps": [source.name if operation.local and source.node == operation.node
                    else _bitmap(source) for source in operation.sources]})


def _transaction(operation: jobs.Transaction) -> Command:
    return job_commands.transaction([command_of(action) for action in operation.actions],
                                    grouped=operation.grouped)


_MAKERS: Final[dict[type[Operation], Callable[[Any], Command]]] = {
    **job_commands.MAKERS,
    jobs.Transaction: _transaction,
    ops.AddFilter: _add_filter,
    ops.AddSnapshot: _add_snapshot,
    ops.AddCopyOnRead: _add_copy_on_read,
    ops.RemoveNode: _remove_node,
    ops.Resize: _resize,
    ops.ReopenAs: lambda operation: _reopening(command_of(operation.options).arguments),
    ops.Export: _export,
    ops.Unexport: _unexport,
    ops.BitmapAdd: _bitmap_add,
    ops.BitmapRemove: _about_bitmap("remove"),
    ops.BitmapClear: _about_bitmap("clear"),
    ops.BitmapEnable: _about_bitmap("enable"),
    ops.BitmapDisable: _about_bitmap("disable"),
    ops.BitmapMerge: _bitmap_merge,
}
