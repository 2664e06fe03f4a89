# SPDX-License-Identifier: GPL-2.0-or-later
"""How things go wrong: errno for requests, class and text for QMP commands.

An errno is compared by number, since its text differs between C libraries.  The number a client
sees depends on the channel it came through: see :mod:`model.channels`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Errno(IntEnum):
    """The errno values that block requests can end with (Linux numbers)."""

    EPERM = errno.EPERM
    ENOENT = errno.ENOENT
    EIO = errno.EIO
    ENOMEM = errno.ENOMEM
    EACCES = errno.EACCES
    EBUSY = errno.EBUSY
    EINVAL = errno.EINVAL
    EFBIG = errno.EFBIG
    ENOSPC = errno.ENOSPC
    EROFS = errno.EROFS
    ENOTSUP = errno.ENOTSUP
    EOVERFLOW = errno.EOVERFLOW
    ESHUTDOWN = errno.ESHUTDOWN
    ETIMEDOUT = errno.ETIMEDOUT
    ECANCELED = errno.ECANCELED


ERROR_TEXT: Final = {
    Errno.EIO: "Input/output error", Errno.ENOSPC: "No space left on device",
    Errno.EACCES: "Permission denied", Errno.EPERM: "Operation not permitted",
    Errno.EINVAL: "Invalid argument", Errno.ENOMEM: "Cannot allocate memory",
    Errno.ENOTSUP: "Operation not supported", Errno.ECANCELED: "Operation canceled"}
"""The C library's words for the errors that a job ends with."""


class Undetermined(Exception):
    """What an operation does cannot be told, as is found out in the middle of it.

    The machine undoes it, and raises :class:`model.unsaid.Impossible`.
    """


class RequestFailed(Exception):
    """A request ended with an errno."""

    def __init__(self, error: Errno) -> None:
        super().__init__(error.name)
        self.error = error


@dataclass(frozen=True, slots=True)
class QmpError:
    """A QMP command was refused: error class (nearly always ``GenericError``) and its text."""

    desc: str
    error_class: str = "GenericError"

    def __str__(self) -> str:
        return f"{self.error_class}: {self.desc}"


class CommandRefused(Exception):
    """A QMP command was refused."""

    def __init__(self, desc: str, error_class: str = "GenericError") -> None:
        super().__init__(desc)
        self.error = QmpError(desc, error_class)
