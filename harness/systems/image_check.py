# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``qemu-img check`` says of images that no QEMU has open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.builds import Build
from harness.processes import run
from harness.storage.place import FilePlace, Place
from harness.systems.base import Answer
from harness.systems.failure import SystemDamaged
from model.configuration import Configuration, Format

_LEAKS: Final = 3
"""The exit status where nothing but leaked clusters was found."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is to know of an image."""

    damage: str | None
    """What is wrong with it, None if nothing is."""
    compressed: int = 0
    """How many clusters hold compressed data."""


def look(build: Build, configuration: Configuration, places: Mapping[str, Place],
         leaks: bool) -> Answer:
    """What has become of the images that are kept in qcow2; SystemDamaged if one is not as it
    should be."""
    compressed: dict[str, int] = {}
    for image in configuration.images:
        place = places[image.node]
        if image.format is Format.QCOW2 and isinstance(place, FilePlace):
            checked = examine(build, image.format, Path(place.path), leaks=leaks)
            if checked.damage is not None:
                raise SystemDamaged(image.node, checked.damage)
            compressed[image.node] = checked.compressed
    return Answer(compressed=compressed)


def examine(build: Build, image_format: Format, path: Path, *, leaks: bool) -> Checked:
    """Look an image through; ``leaks``: leaked clusters may be, as they are where a QEMU was
    killed."""
    tool = build.tool("qemu-img")
    done = run([*tool.argv, "check", "--output=json", "-f", image_format.value, str(path)],
               env=tool.env)
    if done.exit.code == 0 or (leaks and done.exit.code == _LEAKS):
        return Checked(None, json.loads(done.stdout).get("compressed-clusters", 0))
    return Checked(str(done.exit))
