# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model says of an operation, and where it must say nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from model.machine import Impossible


def said_if(known: bool, otherwise: str) -> AbstractContextManager[Any]:
    """What is done in here the model says; or, of what is not known, that it is impossible, in
    these words."""
    return nullcontext() if known else pytest.raises(Impossible, match=otherwise)
