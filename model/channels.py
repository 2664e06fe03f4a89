# SPDX-License-Identifier: GPL-2.0-or-later
"""What an errno looks like to a client, channel by channel.

Inside QEMU a refused fleecing read is EACCES.  NBD has no such error on the wire.
"""

from __future__ import annotations

from typing import Final

from .errors import Errno
from .operations import Via

NBD_ERRNO: Final[dict[Errno, Errno]] = {
    Errno.EPERM: Errno.EPERM,
    Errno.EROFS: Errno.EPERM,
    Errno.EIO: Errno.EIO,
    Errno.ENOMEM: Errno.ENOMEM,
    Errno.ENOSPC: Errno.ENOSPC,
    Errno.EFBIG: Errno.ENOSPC,
    Errno.EOVERFLOW: Errno.EOVERFLOW,
    Errno.ENOTSUP: Errno.ENOTSUP,
    Errno.ESHUTDOWN: Errno.ESHUTDOWN,
}
"""What QEMU's NBD server sends; whatever is not in here goes out as EINVAL (EACCES, ETIMEDOUT).

Source: the NBD protocol's list of errors; ``nbd/server.c``.
"""


def seen_through(via: Via, error: Errno) -> Errno:
    """The errno that a client of channel ``via`` gets when QEMU's block layer says ``error``."""
    if via.is_local:
        return error
    return NBD_ERRNO.get(error, Errno.EINVAL)
