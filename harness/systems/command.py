# SPDX-License-Identifier: GPL-2.0-or-later
"""What a QMP command is, before it is sent."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

Arguments: TypeAlias = dict[str, Any]


class Command(NamedTuple):
    """A QMP command."""

    name: str
    arguments: Arguments
