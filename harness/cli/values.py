# SPDX-License-Identifier: GPL-2.0-or-later
"""What the options of commands take: from a word to a value, or an error that says what is
expected."""

from __future__ import annotations

import argparse
from enum import StrEnum

from harness.exploration.batches import Part
from harness.systems.lies import texts


class KnownDefects(StrEnum):
    """What becomes of known defects."""

    REPORT = "report"
    FAIL = "fail"
    AVOID = "avoid"


def known_defects(text: str) -> KnownDefects:
    """What becomes of known defects."""
    try:
        return KnownDefects(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(KnownDefects)}, not {text!r}") from None


def lie(name: str) -> str:
    """The name of a lie; none: the truth."""
    if name and name not in texts():
        raise argparse.ArgumentTypeError(
            f"no lie is called {name!r}; there are: {', '.join(texts())}")
    return name


def seconds(text: str) -> float:
    """A time."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, not {text!r}")
    return value


def positive(text: str) -> int:
    """A number above 0."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return value


def whole(text: str) -> int:
    """A number, 0 included."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r}")
    return value


def part(text: str) -> Part:
    """A part of many, such as 2/3."""
    number, _, of = text.partition("/")
    found = Part(positive(number), positive(of))
    if found.number > found.of:
        raise argparse.ArgumentTypeError(f"expected a part such as 2/3, not {text!r}")
    return found


def names(text: str) -> list[str]:
    """Names with commas between them."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"expected names, not {text!r}")
    return found
