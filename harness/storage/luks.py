# SPDX-License-Identifier: GPL-2.0-or-later
"""What LUKS images are opened with; nothing secret is ever kept in them."""

from typing import Final

LUKS_SECRET: Final = "luks-secret"
"""The id of the secret object."""
LUKS_PASSPHRASE: Final = "lockstep"
"""What the secret says."""
