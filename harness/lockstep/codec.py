# SPDX-License-Identifier: GPL-2.0-or-later
"""Frozen dataclasses to JSON and back, strictly: what is not understood is refused by name.

Field names are written with dashes, as in QMP; fields at their default are left out.  An operation
has its name besides, as ``op``.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from model.operations import Operation, vocabulary

Record = TypeVar("Record")


class CodecError(ValueError):
    """JSON that is not what was asked for; the text says where in it and why."""


def to_plain(value: Any) -> Any:
    """The value as what ``json`` can write."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = {"op": value.name} if isinstance(value, Operation) else {}
        return name | {
            field.name.replace("_", "-"): to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != _default(field)
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [to_plain(each) for each in value]
    return value


def from_plain(kind: type[Record], value: Any) -> Record:
    """The ``kind``, a dataclass, that ``value`` was written from; raises CodecError."""
    record = _record(kind, value, "")
    assert isinstance(record, kind)
    return record


def operation_from(value: Mapping[str, Any], where: str = "") -> Operation:
    """The operation that ``value`` was written from; raises CodecError."""
    fields = dict(value)
    name = fields.pop("op", None)
    kind = vocabulary().get(name) if isinstance(name, str) else None
    if kind is None:
        raise CodecError(_join(where, f"no operation is called {_short(name)}"))
    try:
        operation = _record(kind, fields, "")
    except CodecError as why:
        raise CodecError(_join(where, f"operation {name!r}: {why}")) from why
    assert isinstance(operation, Operation)
    return operation


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _record(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise CodecError(f"{where or 'here'}: expected an object, not {_short(value)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(kind)}
    arguments: dict[str, Any] = {}
    for key, each in value.items():
        if key not in fields:
            known = ", ".join(fields)
            raise CodecError(f"{_join(where, key)}: no such field (there are: {known})")
        name = fields[key].name
        arguments[name] = _typed(hints[name], each, _join(where, key))
    for key, field in fields.items():
        if field.name not in arguments and _default(field) is dataclasses.MISSING:
            raise CodecError(f"{_join(where, key)}: missing")
    return kind(**arguments)


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(hint):
            return None
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
        return _typed(hint, value, where)
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, where)
    if hint is Operation:
        if not isinstance(value, dict):
            raise CodecError(f"{where}: expected an operation, not {_short(value)}")
        return operation_from(value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = [each.value for each in hint]
        if value not in known:
            raise CodecError(f"{where}: {_short(value)} is none of {', '.join(map(str, known))}")
        return hint(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise CodecError(f"{where}: expected {hint.__name__}, not {_short(value)}")
    return value


def _tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise CodecError(f"{where}: expected a list, not {_short(value)}")
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise CodecError(f"{where}: expected {len(hints)} items, not {len(value)}")
    return tuple(_typed(hint, each, f"{where}[{index}]")
                 for index, (hint, each) in enumerate(zip(hints, value, strict=True)))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
