# SPDX-License-Identifier: GPL-2.0-or-later
"""``rules``: the specification, rule by rule, for a terminal or as docs/semantics.md."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from typing import Final

from harness.cli.console import output
from harness.cli.markdown import semantics
from harness.errors import HarnessError
from harness.exploration import confirmed
from harness.lockstep import human
from model import concurrent_machine  # noqa: F401  every rule is declared by importing its module
from model.rules import RULES, Rule

_WIDTH: Final = 96


class UnknownRule(HarnessError):
    """No rule has that word in its name."""


def rules(options: argparse.Namespace) -> int:
    """The command."""
    if options.markdown:
        print(semantics(), end="")
        return 0
    console = output()
    known = confirmed.load()
    wanted = chosen(options.words)
    fired = [each for each in wanted if _fired(each, known)]
    never = [each for each in wanted if each not in fired]
    if never:
        console.print(f"never fired on a real QEMU by verify, as far as is known here: "
                      f"{len(never)}", style="bold red")
    for each in (*never, *fired):
        console.print(each.name, style="bold")
        for line in (*_lines(each), *_fired(each, known)):
            console.print(line)
    return 0


def _fired(each: Rule, known: confirmed.Confirmed) -> list[str]:
    """On which QEMU how often, in at most one line."""
    counts = [f"{counts[each.name]:,} on {version}" for version, counts in known.items()
              if counts[each.name]]
    return [textwrap.indent(f"fired: {', '.join(counts)}", "    ")] if counts else []


def chosen(words: Iterable[str]) -> list[Rule]:
    """The rules with any of the words in their names; all if there are no words."""
    words = list(words)
    for word in words:
        if not any(word in name for name in RULES):
            raise UnknownRule(f"no rule has {word!r} in its name; without words, all are shown")
    return [each for name, each in RULES.items()
            if not words or any(word in name for word in words)]


def _lines(each: Rule) -> list[str]:
    text = "\n".join(human.rule(each.text, _WIDTH))
    source = textwrap.fill(f"source: {each.source}", _WIDTH)
    return [textwrap.indent(part, "    ") for part in (text, source, each.where)]
