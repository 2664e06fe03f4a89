# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reproducer does, apart from how it is written: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from harness.lockstep.trace import SystemKind
from model.configuration import Image

OK: Final = 0
"""The errno of a request that succeeds."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes ``start`` to ``end`` of a disk, all of them ``pattern``."""

    start: int
    end: int
    pattern: int

    @property
    def length(self) -> int:
        """In bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Command:
    """A QMP command, and the text of the refusal that must come; None: it is accepted.

    ``refusal`` "": refused with whatever text, as the text has names that QEMU makes up.
    ``gone``: the export whose deletion is then waited for.
    """

    name: str
    arguments: dict[str, Any]
    refusal: str | None = None
    gone: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Requests in qemu-io's words, which all end with ``errno``.

    They go to the export of a node; or with ``monitor``, the beginning of the human monitor's
    command (``qemu-io cbw``), to QEMU itself.
    """

    node: str
    commands: tuple[str, ...]
    errno: int = OK
    writable: bool = True
    monitor: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run of block status: its length in bytes and the values that it may have."""

    length: int
    allowed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskNbd:
    """A request that qemu-io cannot make, or not in this way: libnbd does.

    ``verb`` is one of ``read``, ``write``, ``zero``, ``trim``, ``flush``, ``status``; ``flags``
    are names as in libnbd (``DF``).  ``errno`` None: the server hangs up.  ``pieces``: what is
    written, or must be read; ``runs``: what block status must say in the first of ``context``,
    which has all that are negotiated, with commas between them.
    """

    node: str
    verb: str
    offset: int
    length: int
    errno: int | None = OK
    structured: bool = True
    context: str = ""
    flags: tuple[str, ...] = ()
    pieces: tuple[Piece, ...] = ()
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Bitmaps:
    """The dirty bitmaps of a node, a line each, as :func:`bitmap_line` writes them."""

    node: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a named bitmap."""

    node: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs there are once they rest, a line each: ``ID STATUS DONE TOTAL``."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Again:
    """QEMU ends, killed or by itself, and another one starts over the same images."""

    kill: bool
    attach: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class End:
    """QEMU is told to end, and must, with exit status 0; nothing comes after it."""


Act: TypeAlias = Command | Ask | AskNbd | Bitmaps | Digest | Jobs | Again | End


@dataclass(frozen=True, slots=True)
class Part:
    """What stands for one operation of the trace."""

    number: int
    title: str
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class Disk:
    """An image file to be made: ``pieces`` is what it holds."""

    image: Image
    file: str
    pieces: tuple[Piece, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Script:
    """All of a reproducer."""

    system: SystemKind
    summary: str
    """How the trace ended, in one line."""
    version: str
    """Of the QEMU it was found on."""
    disks: tuple[Disk, ...]
    attach: tuple[Command, ...]
    """What puts the images into QEMU."""
    parts: tuple[Part, ...]

    def has(self, *kinds: type[Any]) -> bool:
        """Whether any act is of one of these kinds."""
        return any(isinstance(act, kinds) for part in self.parts for act in part.acts)

    @property
    def asks_monitor(self) -> bool:
        """Whether the human monitor is used."""
        return any(isinstance(act, Ask) and act.monitor is not None
                   for part in self.parts for act in part.acts)

    @property
    def last(self) -> int:
        """The number of the operation at which it shows."""
        return self.parts[-1].number if self.parts else 0
