# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands and their options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from harness.builds import SUITES
from harness.cli import values
from harness.errors import HarnessError
from harness.exploration.areas import AREAS, EVERYTHING
from harness.exploration.batches import Part
from harness.exploration.steering import CANDIDATES
from harness.invocation import command, program

EXIT_CODES: Final = ("exit codes: 0 conforms (known defects may be listed), 1 diverges (also "
                     "crash and hang), 2 usage or environment, 130 interrupted")

SHELLS: Final = ("bash", "zsh", "fish")


class UsageError(HarnessError):
    """The command line cannot be understood."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the user asks for; raises UsageError."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes no more words once it has seen an option after the first of them.
    if options.command == "golden" and not any(word.startswith("-") for word in rest):
        options.tests += rest
    elif rest:
        words = (program(), options.command, getattr(options, "verb", None))
        raise UsageError(f"unrecognized arguments: {' '.join(rest)} "
                         f"(see {' '.join(filter(None, words))} --help)")
    if options.command is None:
        raise UsageError(f"no command given (see {program()} --help)")
    return options


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog=program(), description="Verify QEMU's copy-before-write and snapshot-access against "
        "an executable model.", epilog=EXIT_CODES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _verify(commands)
    _replay(commands)
    _shrink(commands)
    _compare(commands)
    _bisect(commands)
    _golden(commands)
    _builds(commands)
    _report(commands)
    _bench(commands)
    _rules(commands)
    _completion(commands)
    return parser


def _command(commands: Any, name: str, text: str, *examples: str,
             codes: str = EXIT_CODES) -> argparse.ArgumentParser:
    lines = [f"  {command(example)}" for example in examples]
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".",
        epilog="\n".join(["examples:", *lines, "", codes]))
    return made


def _verify(commands: Any) -> None:
    parser = _command(
        commands, "verify", "say whether a QEMU build conforms to the model",
        "verify", "verify --qemu-build ~/qemu/build --seconds 600",
        "verify --area tails,discard --seed 7 --output found",
        "verify --qemu-build ~/qemu/build --coverage ~/qemu/build --steer lines",
        "verify --simulated no-wait --report page.html")
    where = parser.add_mutually_exclusive_group()
    _build_option(where, repeated=True)
    _simulated_option(where, "today's QEMU as the model simulates it, in place of a real one")
    _budget(parser, seconds=120)
    _exploration(parser)
    parser.add_argument("--no-directed", action="store_true",
                        help="explore only, without the directed checks")
    _looks(parser, " (not in directed checks, which look where they need to)")
    parser.add_argument("--load", type=values.seconds, metavar="N",
                        help="seconds of free-running load, beside the budget (default: a twelfth "
                             "of it, if area concurrency is chosen)")
    parser.add_argument("--kill-rounds", type=values.positive, metavar="N",
                        help="how often to kill QEMU under load and start it again, beside the "
                             "budget (default: for a part of it, if area persistence is chosen)")
    parser.add_argument("--known-defects", type=values.known_defects,
                        default=values.KnownDefects.REPORT, metavar="report|fail|avoid",
                        help="of known defects that the build has: list them (default); let each "
                             "be a divergence; or do nothing at all that one may make the end of "
                             "QEMU, probes included")
    parser.add_argument("--exhaustive", type=values.positive, metavar="N", default=0,
                        help="instead of drawn traces, every sequence of up to N operations over "
                             "three clusters, on each of three graphs, without a budget unless "
                             "one is given (N of 2: 24,570 sequences)")
    parser.add_argument("--steer", choices=("rules", "lines", "none"), default="rules",
                        help=f"of {CANDIDATES} traces drawn, do the one that fires rules in the "
                             "most orders not yet seen (default); also, with --coverage, have "
                             "more traces of areas that execute new lines of QEMU; or do each "
                             "trace that is drawn")
    parser.add_argument("--part", type=values.part, metavar="K/N", default=Part(),
                        help="do only the K-th of each N batches of traces, for N machines that "
                             "share a seed")
    parser.add_argument("--coverage", type=Path, metavar="DIR",
                        help="say how many lines of QEMU's block layer are executed; DIR is the "
                             "build tree, of a build made with --enable-gcov")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--corpus", type=Path, metavar="DIR",
                      help="where the traces of finds are kept, one of each kind, which later "
                           "runs do first (default: in the user's cache)")
    kept.add_argument("--no-corpus", action="store_true",
                      help="neither do earlier finds first nor keep new ones")
    parser.add_argument("--no-cache", action="store_true",
                        help="probe the build anew, whatever is known of it")
    _results(parser)


def _looks(parser: Any, but: str = "") -> None:
    parser.add_argument("--looks", action="store_true",
                        help="after each operation look at all there is to see (content, block "
                             "status, allocation), not only at what it answered and the bitmaps"
                             + but)


def _replay(commands: Any) -> None:
    parser = _command(
        commands, "replay", "run a saved trace again, step by step",
        "replay lockstep-output/1-access.jsonl", "replay found.jsonl --simulated")
    parser.add_argument("trace", type=Path, metavar="TRACE")
    where = parser.add_mutually_exclusive_group()
    _build_option(where)
    _simulated_option(where, "on the model alone, in place of a QEMU")
    parser.add_argument("--stop-at", type=values.positive, metavar="N",
                        help="stop after operation number N")
    watched = parser.add_mutually_exclusive_group()  # looks are steps that the trace has not
    watched.add_argument("--record", action="store_true",
                        help="put down what is seen, beside the trace, for report elsewhere")
    _reproducer_option(parser)
    _looks(watched)
    _verbosity(parser, "show the bitmaps after each step", "also the rules that it used")


def _shrink(commands: Any) -> None:
    parser = _command(
        commands, "shrink", "make a diverging trace minimal",
        "shrink found.jsonl", "shrink found.jsonl --qemu-build ~/qemu/build --to small.jsonl")
    parser.add_argument("trace", type=Path, metavar="TRACE")
    _build_option(parser)
    parser.add_argument("--to", type=Path, metavar="FILE",
                        help="where to put the result (default: TRACE.shrunk)")
    _reproducer_option(parser)
    parser.add_argument("--seconds", type=values.seconds, default=120.0, metavar="N",
                        help="when to stop (default: 120)")


def _compare(commands: Any) -> None:
    parser = _command(
        commands, "compare", "the same operations on two builds; the model is the third opinion",
        "compare debian:bookworm debian:trixie", "compare PATH ~/qemu/build --seconds 30",
        codes="exit codes: 0 conforms (all differences are explained by what is known), 1 a build "
              "deviates from the model of its own capabilities, 2 usage or environment, "
              "130 interrupted")
    parser.add_argument("builds", nargs=2, metavar="BUILD",
                        help="as for --qemu-build of verify")
    _budget(parser, seconds=60)
    _exploration(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE",
                        help="write a page to look at: the two builds side by side")
    _output(parser, "compare-output")


def _bisect(commands: Any) -> None:
    parser = _command(
        commands, "bisect", "judge a build by one trace, in the exit codes of git bisect run",
        "bisect found.shrunk.jsonl --script bisect.sh", "bisect found.sh --script bisect.sh",
        "bisect found.shrunk.jsonl --qemu-build ~/qemu/build",
        codes="exit codes: 0 conforms, 1 diverges at the trace's last operation, 125 cannot be "
              "judged (no such build, the trace is impossible there or diverges earlier)")
    parser.add_argument("trace", type=Path, metavar="TRACE",
                        help="a trace that diverges; with --script also its reproducer, a .sh")
    _build_option(parser)
    parser.add_argument("--script", type=Path, metavar="FILE",
                        help="judge nothing, but write what git bisect run is to run")


def _golden(commands: Any) -> None:
    parser = _command(
        commands, "golden", "check, show or renew the golden outputs of tests/iotests",
        "golden check", "golden diff 101", "golden update --qemu-build ~/qemu/build",
        "golden review", "golden accept 101", "golden prune",
        "golden diff 1001 --variants no-snapshot-access no-copy-bitmap-on-filter",
        "golden check --qemu-build debian:bookworm --save-logs logs",
        "golden diff --qemu-build ~/qemu/build --against logs")
    parser.add_argument(
        "action", choices=("check", "diff", "update", "review", "accept", "reject", "prune"),
        help="compare; compare and show all; make what model and QEMU agree on golden, after "
        "asking; walk through what waits for review; settle it in bulk; remove what no test has")
    parser.add_argument("tests", nargs="*", metavar="TEST",
                        help="golden names, or beginnings of them (default: all)")
    parser.add_argument("--yes", action="store_true", help="update: write without asking")
    parser.add_argument("--trust", choices=("qemu",),
                        help="update: where model and QEMU differ, write what QEMU says, and name "
                        "what the model lacks (default: refuse)")
    parser.add_argument("--save-logs", metavar="DIR",
                        help="check, diff: keep QEMU's log of each test in a folder")
    parser.add_argument("--against", metavar="DIR",
                        help="check, diff: compare QEMU with such a folder, of another QEMU")
    parser.add_argument("--variants", nargs=2, metavar=("FROM", "TO"),
                        help="diff: of two variants of the golden outputs, no QEMU asked; named "
                        "by the marks in their names, joined by +, or today")
    _build_option(parser, repeated=True)
    _outputs(parser)


def _builds(commands: Any) -> None:
    parser = _command(
        commands, "builds", "which QEMUs are here and what each can do; bring one from Debian",
        "builds list", "builds show ~/qemu/build", "builds fetch debian:trixie-backports")
    verbs = parser.add_subparsers(dest="verb", metavar="list|show|fetch", required=True,
                                  parser_class=_Parser)
    usual = "exit codes: 0 done, 2 usage or environment, 130 interrupted"
    _command(verbs, "list", "the build on PATH and those fetched, side by side", "builds list",
             codes=usual)
    show = _command(verbs, "show", "one build: tools, capabilities, known defects", "builds show",
                    "builds show ~/qemu/build", "builds show debian:trixie --no-cache",
                    codes="exit codes: 0 done, 1 a probe is answered as by no known build, "
                          "2 usage or environment, 130 interrupted")
    show.add_argument("build", nargs="?", metavar="BUILD",
                      help="as for --qemu-build of verify (default: PATH)")
    show.add_argument("--no-cache", action="store_true", help="probe it anew")
    fetch = _command(verbs, "fetch", "bring a Debian suite's QEMU into the user's cache",
                     *(f"builds fetch {suite}" for suite in SUITES[-2:]), codes=usual)
    fetch.add_argument("suite", metavar="SUITE", choices=SUITES,
                       help=f"one of: {', '.join(SUITES)}")


def _report(commands: Any) -> None:
    parser = _command(
        commands, "report", "make the page to look at: one HTML file, for any browser",
        "report lockstep-output", "report lockstep-output/1-tails.shrunk.jsonl",
        "report result.json --to result.html")
    parser.add_argument("about", type=Path, metavar="TRACE|DIR|JSON",
                        help="a trace, the folder of a run's output, or what --json wrote")
    parser.add_argument("--to", type=Path, metavar="FILE",
                        help="where to put the page (default: beside it, with .html)")
    where = parser.add_mutually_exclusive_group()
    _build_option(where)
    _simulated_option(where, "do a trace on the model alone, in place of a QEMU")


def _bench(commands: Any) -> None:
    parser = _command(
        commands, "bench", "lockstep against the raw client loop, as a ratio",
        "bench", "bench --seconds 20 --json bench.json")
    _build_option(parser)
    parser.add_argument("--seconds", type=values.seconds, default=10.0, metavar="N",
                        help="how long to measure the ratio, and exploration with one worker "
                             "and with two (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def _rules(commands: Any) -> None:
    parser = _command(
        commands, "rules", "the specification, rule by rule, with sources",
        "rules", "rules access discard", "rules --markdown > docs/semantics.md")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("words", nargs="*", default=[], metavar="WORD",
                      help="only rules with one of these in their names")
    what.add_argument("--markdown", action="store_true",
                      help="all of it as a document, which is docs/semantics.md")


def _completion(commands: Any) -> None:
    parser = _command(
        commands, "completion", "print what lets a shell complete these commands",
        "completion bash > ~/.cbw-lockstep; echo 'source ~/.cbw-lockstep' >> ~/.bashrc",
        "completion fish > ~/.config/fish/conf.d/cbw-lockstep.fish")
    parser.add_argument("shell", choices=SHELLS)


# Groups of options


def _build_option(parser: Any, *, repeated: bool = False) -> None:
    again = "; may be repeated" if repeated else ""
    parser.add_argument(
        "--qemu-build", metavar="PATH", action="append" if repeated else "store",
        help="a QEMU build tree, a folder of binaries, one binary, or a fetched suite such as "
             f"debian:trixie{again} (default: $QEMU_BUILD, else PATH)")


def _simulated_option(parser: Any, what: str) -> None:
    parser.add_argument("--simulated", type=values.lie, nargs="?", const="", metavar="LIE",
                        help=f"{what}; LIE is a defect that it is to have, such as lost-write or "
                             "no-wait (a wrong name: all there are)")


def _reproducer_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reproducer", type=Path, metavar="NAME",
                        help="write what shows a divergence without this project: NAME.sh, and "
                             "NAME.iotest for QEMU's tests/qemu-iotests/tests")


def _budget(parser: argparse.ArgumentParser, seconds: float) -> None:
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=values.seconds, metavar="N",
                        help=f"how long to explore, directed checks included "
                             f"(default: {seconds:g})")
    budget.add_argument("--steps", type=values.positive, metavar="N",
                        help="do at least so many steps: a trace or directed check that is begun "
                             "is done to its end")
    parser.set_defaults(default_seconds=seconds)


def _exploration(parser: argparse.ArgumentParser) -> None:
    names = ", ".join((EVERYTHING.name, *AREAS))
    parser.add_argument("--seed", type=values.whole, metavar="N",
                        help="which traces to draw (default: random, and printed)")
    parser.add_argument("--area", type=values.names, metavar="NAME[,NAME...]", action="extend",
                        help=f"what to dwell on (default: all): {names}")
    parser.add_argument("--workers", type=values.positive, metavar="N",
                        default=os.cpu_count() or 1,
                        help="processes (default: one for each processor, here %(default)s)")


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write it as JUnit XML")
    parser.add_argument("--tap", type=Path, metavar="FILE",
                        help="write it as TAP, for meson; - is standard output, for this as for "
                             "the other files of results")
    parser.add_argument("--code-quality", type=Path, metavar="FILE",
                        help="write what is wrong as GitLab's code quality report")
    parser.add_argument("--github", action="store_true",
                        help="print what is wrong as annotations of a GitHub workflow")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page to look at")


def _results(parser: argparse.ArgumentParser) -> None:
    _outputs(parser)
    _output(parser, "lockstep-output")
    _verbosity(parser, "explain divergences and known defects at length, list the rules that "
               "fired", "also each trace and check as it is done")


def _verbosity(parser: argparse.ArgumentParser, once: str, twice: str) -> None:
    parser.add_argument("-v", "--verbose", action="count", default=0,
                        help=f"{once}; -vv: {twice}")


def _output(parser: argparse.ArgumentParser, folder: str) -> None:
    parser.add_argument("--output", type=Path, metavar="DIR", default=Path(folder),
                        help="folder for traces of divergences (default: %(default)s; made when "
                             "there is one)")
