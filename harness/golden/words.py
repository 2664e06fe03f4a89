# SPDX-License-Identifier: GPL-2.0-or-later
"""How numbers are spelled in a log: sizes as qemu-io takes them, errors as Linux words them.

Nothing here asks the host: the same run gives the same log on any C library.
"""

from __future__ import annotations

import json
from typing import Any, Final

from model.errors import Errno

ERROR_TEXT: Final[dict[Errno, str]] = {
    Errno.EPERM: "Operation not permitted",
    Errno.ENOENT: "No such file or directory",
    Errno.EIO: "Input/output error",
    Errno.ENOMEM: "Cannot allocate memory",
    Errno.EACCES: "Permission denied",
    Errno.EBUSY: "Device or resource busy",
    Errno.EINVAL: "Invalid argument",
    Errno.EFBIG: "File too large",
    Errno.ENOSPC: "No space left on device",
    Errno.EROFS: "Read-only file system",
    Errno.ENOTSUP: "Operation not supported",
    Errno.EOVERFLOW: "Value too large for defined data type",
    Errno.ESHUTDOWN: "Cannot send after transport endpoint shutdown",
    Errno.ETIMEDOUT: "Connection timed out",
    Errno.ECANCELED: "Operation canceled",
}
"""The text of each errno: of glibc, whose words QEMU's own golden outputs have."""

_UNITS: Final = (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10))


def error_text(number: int) -> str:
    """The text of errno ``number``; one that no request should end with is shown as a number."""
    try:
        return ERROR_TEXT[Errno(number)]
    except (ValueError, KeyError):
        return f"Unknown error {number}"


def size(count: int) -> str:
    """``count`` bytes in qemu-io's vocabulary: ``64k``, ``1M``; plain where no unit divides it."""
    for unit, worth in _UNITS:
        if count and count % worth == 0:
            return f"{count // worth}{unit}"
    return str(count)


def span(start: int, end: int) -> str:
    """The bytes of ``[start, end)``."""
    return f"{start:#x}..{end:#x}"


def json_line(message: Any) -> str:
    """A QMP message on one line, its keys sorted as in QEMU's golden outputs (``execute`` first).

    >>> json_line({"return": {}})
    '{"return": {}}'
    """
    if isinstance(message, dict) and "execute" in message:
        rest = json.dumps(message.get("arguments", {}), sort_keys=True)
        name = json.dumps(message["execute"])
        return f'{{"execute": {name}, "arguments": {rest}}}'
    return json.dumps(message, sort_keys=True)
