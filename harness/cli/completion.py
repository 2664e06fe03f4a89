# SPDX-License-Identifier: GPL-2.0-or-later
"""``completion``: what lets a shell complete ``python -m harness …``, made from the parser.

Words of options that the parser checks by itself, such as areas, are looked up here by the name
of the option.  What has no words is completed as a file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.builds import SUITES
from harness.cli.parser import make_parser
from harness.cli.values import KnownDefects
from harness.exploration.areas import AREAS, EVERYTHING
from harness.systems.lies import texts

PYTHONS: Final = ("python", "python3")
_WORDS: Final[Mapping[str, Iterable[str]]] = {
    "area": (EVERYTHING.name, *AREAS), "simulated": texts(), "known_defects": tuple(KnownDefects),
    "qemu_build": SUITES, "build": SUITES, "builds": SUITES}

_BASH: Final = """\
_cbw_lockstep() {{
    local line=${{COMP_LINE:0:$COMP_POINT}} all=() word= before= lead= found= at
    if [[ -n $BASH_VERSION ]]; then read -ra all <<< "$line"; else read -rA all <<< "$line"; fi
    if [[ $line == *' ' ]]; then all+=(""); fi
    COMPREPLY=()
    if [[ "${{all[@]:1:2}}" != "-m harness" ]]; then return; fi
    at=${{#all[@]}}
    word=${{all[@]:$((at - 1)):1}} before=${{all[@]:$((at - 2)):1}}
    if [[ $word == --*=* ]]; then
        before=${{word%%=*}} word=${{word#*=}}
        if [[ -z $BASH_VERSION ]]; then lead=$before=; fi
    fi
    if [[ $before == --area && $word == *,* ]]; then lead+=${{word%,*}}, word=${{word##*,}}; fi
    case "${{all[@]:3:$((at - 4))}} " in
{cases}
    esac
    COMPREPLY=($(compgen -P "$lead" -W "$found" -- "$word"))
    # Bash replaces only what comes after the last = or :, zsh all of the word.
    if [[ -n $BASH_VERSION && $word == *:* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{word%:*}}:"}}")
    fi
}}
complete -o default -F _cbw_lockstep {pythons}
"""
_ZSH: Final = """\
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""
_FISH: Final = """\
function __cbw_lockstep
    set -l words (commandline -opc)
    test "$words[2..3]" = "-m harness"; or return 1
    set -l last (math 3 + (count $argv))
    test (count $argv) = 0; and test (count $words) = 3; and return
    test (count $argv) != 0; and test "$words[4..$last]" = "$argv"
end
"""


def completion(options: argparse.Namespace) -> int:
    """The command."""
    print({"bash": _bash, "zsh": lambda: _ZSH + _bash(), "fish": _fish}[options.shell](), end="")
    return 0


@dataclass(frozen=True)
class Level:
    """What can follow a command, such as ``builds fetch``; the first level is that of no
    command."""

    command: str
    words: tuple[str, ...]
    """Commands, or what the first argument can be."""
    options: Mapping[str, tuple[str, ...]]
    """Their words; none: a file, or nothing that can be completed."""
    flags: tuple[str, ...]
    """Options that take nothing."""
    closed: bool
    """Whether the first argument can be nothing else, such as a file."""


def levels(parser: argparse.ArgumentParser, command: str = "") -> Iterator[Level]:
    """Each command's, the longest first."""
    words: list[str] = []
    closed = False
    options: dict[str, tuple[str, ...]] = {}
    flags: list[str] = []
    for action in parser._actions:
        choices = tuple(map(str, action.choices or _WORDS.get(action.dest, ())))
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from levels(each, f"{command} {name}".strip())
        if not action.option_strings:
            words += choices
            closed = closed or bool(action.choices)
        elif action.nargs == 0:
            flags += action.option_strings
        else:
            options.update(dict.fromkeys(action.option_strings, choices))
    yield Level(command, tuple(words), options, tuple(flags), closed)


def _bash() -> str:
    return _BASH.format(pythons=" ".join(PYTHONS), cases="\n".join(
        line for level in levels(make_parser()) for line in _case(level)))


def _case(level: Level) -> Iterator[str]:
    """The lines of a level's case: words for an option's value, options, or other words."""
    yield f'    {"" if not level.command else f"{chr(34)}{level.command} {chr(34)}"}*)'
    yield "        case $before:$word in"
    if wordless := [f"{option}:*" for option, words in level.options.items() if not words]:
        yield f"        {'|'.join(wordless)}) ;;"
    for option, words in level.options.items():
        if words:
            yield f'        {option}:*) found="{" ".join(words)}" ;;'
    yield f'        *:-*) found="{" ".join((*level.options, *level.flags))}" ;;'
    yield f'        *) found="{" ".join(level.words)}" ;;'
    yield "        esac ;;"


def _fish() -> str:
    lines = [_FISH]
    for python in PYTHONS:
        for level in levels(make_parser()):
            here = f"complete -c {python} -n '__cbw_lockstep {level.command}'"
            if level.words:
                lines.append(f"{here} {'-f ' if level.closed else ''}"
                             f"-a '{' '.join(level.words)}'\n")
            for option, words in level.options.items():
                if option.startswith("--"):
                    only = f" -f -a '{' '.join(words)}'" if words else ""
                    lines.append(f"{here} -l {option[2:]} -r{only}\n")
            lines += [f"{here} -l {flag[2:]}\n" for flag in level.flags if flag.startswith("--")]
    return "".join(lines)
