# SPDX-License-Identifier: GPL-2.0-or-later
"""Python source in lines of a bounded width: calls and literals, as people wrap them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Final

WIDTH: Final = 79
_STEP: Final = "    "


class Name(str):
    """A word that stands in the source as it is: a name or an expression."""

    __slots__ = ()


def source(value: object) -> str:
    """The value as it is written, in one line."""
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{source(key)}: {source(each)}"
                               for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(source, value)) + "]"
    if isinstance(value, tuple):
        inside = ", ".join(map(source, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    # A member of an enumeration that is a string or a number is written as that.
    if isinstance(value, Enum):
        value = value.value
    return repr(value)


def call(function: str, arguments: Sequence[object], indent: int,
         named: dict[str, object] | None = None) -> list[str]:
    """The call, in lines that stay within the width when they are indented by ``indent``."""
    words: list[tuple[str, object]] = [("", each) for each in arguments]
    words += [(f"{name}=", each) for name, each in (named or {}).items()]
    line = f"{function}({', '.join(name + source(each) for name, each in words)})"
    room = WIDTH - indent
    if len(line) <= room:
        return [line]
    head = f"{function}({', '.join(name + source(each) for name, each in words[:-1])}"
    last = words[-1][1]
    if isinstance(last, (dict, list)) and not words[-1][0] and last and len(head) + 4 <= room:
        opening = head + (", " if len(words) > 1 else "")
        brackets = "{}" if isinstance(last, dict) else "[]"
        return [opening + brackets[0], *_indented(_members(last, room - len(_STEP))),
                brackets[1] + ")"]
    return [f"{function}(", *_indented(
        line for name, each in words for line in _item(name, each, room - len(_STEP))), ")"]


def _members(value: dict[Any, Any] | list[Any] | tuple[Any, ...], room: int) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _item(f"{source(key)}: ", each, room)
    else:
        for each in value:
            yield from _item("", each, room)


def _item(head: str, value: object, room: int) -> Iterator[str]:
    """``head`` and the value, with a comma after it."""
    line = f"{head}{source(value)},"
    if len(line) <= room or not value:
        yield line
    elif isinstance(value, (dict, list, tuple)):
        brackets = {dict: "{}", list: "[]", tuple: "()"}[type(value)]
        yield head + brackets[0]
        yield from _indented(_members(value, room - len(_STEP)))
        yield brackets[1] + ","
    elif isinstance(value, str) and not isinstance(value, Name):
        yield f"{head}("
        size = max(room - len(_STEP) - 8, 8)
        yield from _indented(repr(value[place:place + size])
                             for place in range(0, len(value), size))
        yield "),"
    else:
        yield line


def _indented(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    return (_STEP + line for line in lines)
