# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's command parser checks of numbers and names, before a command is looked at.

Texts and ranges by experiment.  An unsigned number may be given as the negative one of the same
64 bits.  ``where`` says where in a command an argument is (``actions[0].data.``).  The parser
does not say it of a number that does not fit into 32 bits, nor of a word that it does not know.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import CommandRefused

LONGEST_NODE_NAME: Final = 31
"""Characters, all of them ASCII."""
_WELL_FORMED: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


def check_int64(name: str, value: int | None, where: str = "") -> None:
    """An ``int`` of QEMU's schema."""
    if value is not None and not -1 << 63 <= value < 1 << 63:
        raise CommandRefused(f"Invalid parameter type for '{where}{name}', expected: integer")


def check_uint64(name: str, value: int | None, where: str = "") -> None:
    """A ``uint64`` or ``size`` of QEMU's schema; see :func:`as_uint64`."""
    if value is not None and not -1 << 63 <= value < 1 << 64:
        raise CommandRefused(f"Parameter '{where}{name}' expects uint64")


def check_uint32(name: str, value: int | None, where: str = "") -> None:
    """A ``uint32`` of QEMU's schema."""
    check_uint64(name, value, where)
    if value is not None and not 0 <= value < 1 << 32:
        raise CommandRefused(f"Parameter '{name}' expects uint32_t")


def as_uint64(value: int | None) -> int:
    """What a ``uint64`` is taken for; 0 if it was left out."""
    return (value or 0) % (1 << 64)


def is_well_formed(name: str) -> bool:
    """Whether a name is one that nodes and jobs can have."""
    return _WELL_FORMED.fullmatch(name) is not None
