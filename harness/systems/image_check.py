# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``qemu-img check`` says of images that no QEMU has open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.builds import Build
from harness.processes import run
from harness.storage.place import FilePlace, Place
from harness.systems.failure import SystemDamaged
from model.configuration import Configuration, Format

_LEAKS: Final = 3
"""The exit status where nothing but leaked clusters was found."""


def check(build: Build, configuration: Configuration, places: Mapping[str, Place],
          leaks: bool) -> None:
    """Raise SystemDamaged if one of the images that are kept in qcow2 is not as it should be."""
    for image in configuration.images:
        place = places[image.node]
        if image.format is Format.QCOW2 and isinstance(place, FilePlace):
            wrong = damage(build, image.format, Path(place.path), leaks=leaks)
            if wrong is not None:
                raise SystemDamaged(image.node, wrong)


def damage(build: Build, image_format: Format, path: Path, *, leaks: bool) -> str | None:
    """What is wrong with an image, None if nothing is; ``leaks``: leaked clusters may be, as they
    are where a QEMU was killed."""
    tool = build.tool("qemu-img")
    done = run([*tool.argv, "check", "-f", image_format.value, str(path)], env=tool.env)
    if done.exit.code == 0 or (leaks and done.exit.code == _LEAKS):
        return None
    said = " ".join(done.stdout.decode(errors="replace").split())
    return f"{done.exit} {said[-300:]}"
