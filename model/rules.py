# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules: the named parts of the specification, and the count of how often each one fired.

A rule is a small function with a docstring; ``@rule("name", source="where the fact is from")``
puts it into :data:`RULES`.  Whatever carries the rule has a ``fired`` counter, shared by the whole
machine: after a run it says which parts of the specification were exercised.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class CountsRules(Protocol):
    """Something that rules are methods of."""

    fired: Counter[str]


Carrier = TypeVar("Carrier", bound=CountsRules)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule's identifier, what it says, and where the fact is from."""

    name: str
    text: str
    source: str
    where: str


RULES: Final[dict[str, Rule]] = {}
"""Every rule of the model by its identifier."""


def rule(
    name: str, *, source: str,
) -> Callable[[Callable[Concatenate[Carrier, Parameters], Result]],
              Callable[Concatenate[Carrier, Parameters], Result]]:
    """Make a method a rule of the specification; its docstring is the rule's text."""

    def declare(
        method: Callable[Concatenate[Carrier, Parameters], Result],
    ) -> Callable[Concatenate[Carrier, Parameters], Result]:
        if name in RULES:
            raise ValueError(f"two rules are called {name!r}")
        RULES[name] = Rule(name, inspect.getdoc(method) or "", source,
                           f"{method.__module__}.{method.__qualname__}")

        @functools.wraps(method)
        def counted(
            carrier: Carrier, /, *args: Parameters.args, **kwargs: Parameters.kwargs,
        ) -> Result:
            carrier.fired[name] += 1
            return method(carrier, *args, **kwargs)

        return cast("Callable[Concatenate[Carrier, Parameters], Result]", counted)

    return declare
