# SPDX-License-Identifier: GPL-2.0-or-later
"""drive-backup: the older command for a backup, which opens its target, or makes it, by itself.

Here a target is an image of the configuration whose node has been removed: its file.  The node
that QEMU opens over it has no name that anybody could use, frees space and detects zeroes, and is
gone when the job has ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .configuration import Format, Protocol
from .errors import CommandRefused, Undetermined
from .graph import Graph
from .image import Image
from .job_operations import DriveBackup, NewImage, Sync
from .node import Node
from .qcow2 import Qcow2
from .qcow2_cells import DEFAULT_CLUSTER
from .rules import rule

NO_FORMATS: Final = frozenset({"", "none", "some"})
"""Words that no format has for its name; QEMU knows more formats than the model does."""


def settled(command: DriveBackup, device: Node) -> DriveBackup:
    """The command as QEMU takes it: ``top`` of a device without a backing file is ``full``."""
    return replace(command, sync=Sync.FULL) if (
        command.sync == Sync.TOP and not _has_backing(device)) else command


def _has_backing(device: Node) -> bool:
    return isinstance(device, Qcow2) and device.backing is not None


def open_target(graph: Graph, command: DriveBackup, device: Node) -> Node:
    """The node over the target's file, the file made anew if the command says so."""
    graph.check_unblocked(device, by_overlays=False)
    if not isinstance(device, Image) or device.format_node != device.name:
        raise Undetermined("a drive-backup of anything but a plain image")
    image_format = _format(command, device)
    image = graph.closed.get(command.target)
    if not isinstance(image, Image) or not _is_plain(image) or (
            image_format != image.spec.format):
        raise Undetermined("the target of a drive-backup is the file of a plain image of its "
                           "format, whose node has been removed")
    if isinstance(image, Qcow2) and not device.traits.tells_holes:
        raise Undetermined("a target that finds zeroes in data by itself")
    if command.mode != NewImage.EXISTING:
        _make(graph, command, device, image)
    elif command.sync == Sync.NONE:
        raise Undetermined("a target that has its source as backing file")
    image.open_for_job()
    graph.open_target(image, command.job)
    return image


def _format(command: DriveBackup, device: Image) -> str:
    existing = command.mode == NewImage.EXISTING
    if command.format is None:
        # What is probed as raw may not be written to everywhere.
        return Format.QCOW2 if existing else device.spec.format
    if command.format in NO_FORMATS:
        what = "driver" if existing else "file format"
        raise CommandRefused(f"Unknown {what} '{command.format}'")
    return command.format


def _is_plain(image: Image) -> bool:
    spec = image.spec
    odd = (spec.is_instrumented, spec.fails_first, spec.backing, spec.read_only, spec.subclusters,
           spec.preallocation)
    return (spec.protocol is Protocol.FILE and not any(odd)
            and spec.format in (Format.RAW, Format.QCOW2)
            and not (isinstance(image, Qcow2) and image.directory))


@rule("drive-backup.new-target", source="argument mode of drive-backup")
def _make(graph: Graph, command: DriveBackup, device: Image, image: Image) -> None:
    """With mode ``existing`` the target is used as it is.  Otherwise it is made anew, with the
    device's size and, unless told otherwise, its format; what was in the file is lost, even if
    the command is refused after that.  A target that is to show through what it has no copy of
    must be of a format with backing files."""
    shows_through = command.sync == Sync.NONE or (
        command.sync == Sync.TOP and _has_backing(device))
    if shows_through:
        if image.spec.format is not Format.RAW:
            raise Undetermined("a target that has a backing file")
        raise CommandRefused("Backing file not supported for file format 'raw'")
    if image.size != device.size or image.spec.cluster_size not in (None, DEFAULT_CLUSTER):
        raise Undetermined("an image that would be made otherwise than the next QEMU finds it")
    graph.remade.add(image.name)
    image.forget_content()
