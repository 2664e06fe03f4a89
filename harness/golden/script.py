# SPDX-License-Identifier: GPL-2.0-or-later
"""What a scenario does, as plain data: so the model can play it again as another QEMU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from model.capabilities import Capabilities
from model.configuration import Configuration
from model.job_operations import Backup
from model.operations import BitmapRef, Operation


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment of one or more lines."""

    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading."""

    title: str


@dataclass(frozen=True, slots=True)
class Images:
    """A QEMU with these images starts; the one before it, if any, is gone."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Do:
    """Operation number ``number``."""

    number: int
    operation: Operation


@dataclass(frozen=True, slots=True)
class ShowBitmaps:
    """The bitmaps of some nodes are written down."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShowDigest:
    """The checksum of a named bitmap is written down."""

    bitmap: BitmapRef


@dataclass(frozen=True, slots=True)
class ShowJobs:
    """The jobs are written down."""


Entry: TypeAlias = Remark | Section | Images | Do | ShowBitmaps | ShowDigest | ShowJobs


def suited(entry: Entry, capabilities: Capabilities) -> Entry:
    """The entry as it is done on a build of these capabilities.

    A job of a build without x-perf has one worker anyway, which takes one cluster after the other:
    a scenario that wants that order says so only where it has to be said.
    """
    if (isinstance(entry, Do) and isinstance(entry.operation, Backup) and not capabilities.x_perf
            and entry.operation.max_workers == 1):
        return Do(entry.number, replace(entry.operation, max_workers=None, max_chunk=None))
    return entry
