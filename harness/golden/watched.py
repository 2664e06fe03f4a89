# SPDX-License-Identifier: GPL-2.0-or-later
"""Capabilities that take note of which of them are looked at.

What the model did not look at cannot have changed its log.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from model.capabilities import Capabilities

_NAMES: Final = frozenset(each.name for each in dataclasses.fields(Capabilities))


class Watched(Capabilities):
    """The same as other capabilities, and :attr:`asked`: the names of those looked at."""

    asked: set[str]

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(**{name: getattr(capabilities, name) for name in _NAMES})
        object.__setattr__(self, "asked", set())

    def __getattribute__(self, name: str) -> Any:
        if name in _NAMES:
            object.__getattribute__(self, "asked").add(name)
        return object.__getattribute__(self, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Watched:
        """A machine that is put aside still asks these ones."""
        return self
