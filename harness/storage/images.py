# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the image files of a configuration.

A raw image is made here, in microseconds.  Any other is made once by qemu-img and filled by
qemu-io (milliseconds), kept as a *template*, and copied for each further run that wants the same.

Whatever the format, what is not filled reads as zero, as the model has it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness import stamps, user_cache
from harness.builds import Build, Tool
from harness.errors import EnvironmentProblem
from harness.processes import Workspace, run
from harness.ranges import pieces
from harness.storage.luks import LUKS_PASSPHRASE, LUKS_SECRET
from harness.storage.sparse import copy_sparse
from model.configuration import MIB, Configuration, Format, Image, Protocol
from model.content import Stamp, initial_stamp
from model.image import size_of

TEMPLATES: Final = 64
"""How many templates are kept; the one that was used longest ago goes first."""
TIMEOUT: Final = 60.0  # seconds for one run of a tool, LUKS key derivation on a busy machine
_PIECE: Final = 4 * MIB
_LUKS_ATTEMPTS: Final = 20
_LUKS_MAGIC: Final = b"LUKS\xba\xbe"
_CLUSTER_OPTION: Final = {
    Format.QCOW2: "cluster_size", Format.QED: "cluster_size",
    Format.PARALLELS: "cluster_size", Format.VHDX: "block_size",
}
# Formats that take new space at the end of their file.  An NBD server's end does not move, so
# behind one the space must be taken beforehand.  (qcow2 finds free space inside its file.)
APPENDING: Final = frozenset({
    Format.QED, Format.VDI, Format.VMDK, Format.VHDX, Format.VPC, Format.PARALLELS})


class ImageStore:
    """Makes image files with one build's tools, from templates in a workspace of its own.

    Not shared between processes: each worker makes a store of its own.
    """

    def __init__(self, build: Build) -> None:
        """Nothing is made before it is needed."""
        self._build = build
        self._workspace: Workspace | None = None
        self._templates: dict[tuple[object, ...], Path] = {}
        self._made = 0

    def make(self, configuration: Configuration, folder: Path) -> dict[str, Path]:
        """The files of all images, in ``folder``, by node.

        Raises EnvironmentProblem, with one line, if there is no space, no permission, or no tool.
        """
        return {image.node: self.make_image(image, index, folder)
                for index, image in enumerate(configuration.images)}

    def make_image(self, image: Image, index: int, folder: Path) -> Path:
        """The file of image number ``index`` of a configuration; see :meth:`make`."""
        path = folder / f"{image.node}.{image.format}"
        try:
            if image.format is Format.RAW:
                _make_raw(image, index, path)
            else:
                copy_sparse(self._template(image, index), path)
        except OSError as why:
            raise _problem(path, why.strerror or str(why)) from why
        return path

    def _template(self, image: Image, index: int) -> Path:
        key = _key(image, index)
        path = self._templates.pop(key, None)
        if path is None:
            if len(self._templates) >= TEMPLATES:
                self._templates.pop(next(iter(self._templates))).unlink(missing_ok=True)
            self._made += 1
            path = self._folder / f"template{self._made}"
            self._create(image, path)
            self._fill(image, index, path)
            if image.protocol is Protocol.NBD and image.format is Format.QCOW2:
                os.truncate(path, path.stat().st_size + growth(image))
        self._templates[key] = path  # at the end: the latest used
        return path

    def close(self) -> None:
        """Delete the templates; images that were made stay."""
        self._templates.clear()
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    @property
    def _folder(self) -> Path:
        if self._workspace is None:
            self._workspace = Workspace()
        return self._workspace.path

    # Making

    def _create(self, image: Image, path: Path) -> None:
        if image.format is Format.LUKS:
            # All LUKS images have the same header; the rest of the file is the disk.
            copy_sparse(self._luks_header(), path)
            os.truncate(path, path.stat().st_size + size_of(image))
        else:
            options = ",".join(creation_options(image))
            self._img("create", "-q", "-f", image.format.value,
                      *(("-o", options) if options else ()), path.name, str(image.size))

    def _luks_header(self) -> Path:
        """The header, made by this qemu-img at some time: that takes two seconds."""
        path = self._folder / "luks-header"
        if path.exists():
            return path
        tool = self._build.tool("qemu-img")
        what = [*user_cache.identity(tool.path, tool.version), LUKS_PASSPHRASE]
        kept = user_cache.place("luks") / user_cache.key(what)
        with suppress(OSError):
            copy_sparse(kept, path)
            with path.open("rb") as header:
                if header.read(len(_LUKS_MAGIC)) == _LUKS_MAGIC:
                    return path
        path.unlink(missing_ok=True)
        self._make_luks_header(path)
        user_cache.save(kept, path.read_bytes())
        return path

    def _make_luks_header(self, path: Path) -> None:
        # QEMU measures how fast this machine derives keys by a clock that may be too coarse: then
        # it gives up, for no fault of ours or the image's.
        for attempt in range(_LUKS_ATTEMPTS):
            try:
                self._img("create", "-q", "-f", "luks", *_secret(), "-o",
                          f"key-secret={LUKS_SECRET},iter-time=10", path.name, "0")
                break
            except EnvironmentProblem as why:
                path.unlink(missing_ok=True)
                if "CPU usage" not in str(why) or attempt == _LUKS_ATTEMPTS - 1:
                    raise

    def _fill(self, image: Image, index: int, path: Path) -> None:
        commands = []
        appending = image.protocol is Protocol.NBD and image.format in APPENDING
        if image.format is Format.LUKS or appending:
            # An untouched part of a LUKS image decrypts to noise.
            commands += [f"write -P 0 {start} {end - start}"
                         for start, end in pieces(0, size_of(image), _PIECE)]
        sources: list[Path] = []
        for offset, length in image.filled:
            for start, end in pieces(offset, min(offset + length, image.size), _PIECE):
                source = self._folder / f"fill{len(sources)}"
                source.write_bytes(stamps.data(initial_stamp(index), start, end - start))
                sources.append(source)
                commands.append(f"write -s {source.name} {start} {end - start}")
        if commands:
            spelled = [word for command in commands for word in ("-c", command)]
            options = f"driver={image.format},file.driver=file,file.filename={path.name}"
            if image.format is Format.LUKS:
                options += f",key-secret={LUKS_SECRET}"
            self._run("qemu-io", *_secret(image.format), *spelled, "--image-opts", options)
        for source in sources:
            source.unlink()

    # Tools, which see names relative to the folder: qemu-io knows no quotes.

    def _img(self, *arguments: str) -> None:
        self._run("qemu-img", *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        tool: Tool = self._build.tool(name)
        done = run([*tool.argv, *arguments], name=name, env=tool.env, cwd=self._folder,
                   timeout=TIMEOUT)
        said = (done.exit.stderr + done.stdout.decode(errors="replace")).strip().splitlines()
        # qemu-io's exit status does not always speak of a failed write; its words do.
        failed = next((line for line in said if "failed" in line), None)
        if done.exit.code != 0 or failed:
            why_not = failed or (said[-1] if said else str(done.exit))
            raise _problem(self._folder, f"{tool.path} {arguments[0]}: {why_not}")


def creation_options(image: Image) -> list[str]:
    """The image's options for ``qemu-img create -o``."""
    options = []
    if image.cluster_size is not None:
        option = _CLUSTER_OPTION.get(image.format)
        if option is None:
            raise EnvironmentProblem(
                f"image {image.node}: in format {image.format} no cluster size can be chosen")
        options.append(f"{option}={image.cluster_size}")
    if image.subclusters:
        options.append("extended_l2=on")
    if image.preallocation is not None:
        options.append(f"preallocation={image.preallocation}")
    if image.format is Format.VPC:
        options.append("force_size=on")  # or the size is rounded up to a disk geometry
    return options


def _key(image: Image, index: int) -> tuple[object, ...]:
    """What tells templates apart: not the node, its discards or its faults."""
    plain = dataclasses.replace(image, node="", backing=None, discard=True, faults=(),
                                request_alignment=None, max_transfer=None, max_discard=None,
                                fails_first=None, detect_zeroes=None)
    return plain, index if image.filled else None


def growth(image: Image) -> int:
    """Room in a qcow2 file for all its data twice, for the tables that grow with it, and for the
    bitmaps that it keeps, which take two clusters each, in their old and their new state."""
    return 2 * image.size + 64 * (image.cluster_size or 64 * 1024) + 4 * MIB


def _make_raw(image: Image, index: int, path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, image.size)
        if image.preallocation not in (None, "off") and image.size:
            os.posix_fallocate(descriptor, 0, image.size)
        for offset, length in image.filled:
            _write(descriptor, initial_stamp(index), offset, min(offset + length, image.size))
    finally:
        os.close(descriptor)


def _write(descriptor: int, stamp: Stamp, start: int, end: int) -> None:
    for begin, stop in pieces(start, end, _PIECE):
        data = memoryview(stamps.data(stamp, begin, stop - begin))
        while data:
            written = os.pwrite(descriptor, data, begin)
            begin, data = begin + written, data[written:]


def _secret(image_format: Format = Format.LUKS) -> Sequence[str]:
    if image_format is not Format.LUKS:
        return ()
    return ("--object", f"secret,id={LUKS_SECRET},data={LUKS_PASSPHRASE}")


def _problem(path: Path, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"an image cannot be made in {path}: {why}")
