# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP command for an operation where it depends on the images that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.storage.place import Place, path_of
from harness.systems import commands, job_commands
from harness.systems.command import Command
from model import operations as ops
from model.configuration import Image
from model.operations import Operation


def spelled(operation: Operation, images: Iterable[Image], places: Mapping[str, Place], *,
            plugged: bool = False) -> Command:
    """The command; ``places``: where each image is, by its node; ``plugged``: whether the guest's
    device is there already.  Raises NoSuchCommand as :func:`harness.systems.commands.command_of`.
    """
    if isinstance(operation, ops.Attach):
        return commands.attach_command(operation.node, plugged)
    if isinstance(operation, ops.Reopen):
        return commands.reopen_command(operation, images, places)
    if isinstance(operation, ops.AddOverlay):
        return commands.overlay_command(operation, images, places)
    return job_commands.located(commands.command_of(operation),
                                lambda image: path_of(image, places.get(image)))
