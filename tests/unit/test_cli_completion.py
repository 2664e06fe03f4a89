# SPDX-License-Identifier: GPL-2.0-or-later
"""``completion``, tried in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

from harness.cli.completion import levels
from harness.cli.main import main
from harness.cli.parser import SHELLS, make_parser

LINES = {
    "python -m harness ver": ["verify"],
    "python3 -m harness verify --se": ["--seconds", "--seed"],
    "python -m harness verify --simulated no-wa": ["no-wait", "no-wait-for-copies"],
    "python -m harness verify --known-defects ": ["avoid", "fail", "report"],
    "python -m harness builds ": ["fetch", "list", "show"],
    "python -m harness golden up": ["update"],
    "python script.py ver": [],
}
ASK = {
    "bash": ("-c", 'source "$0"; complete -p python python3 > /dev/null || exit; COMP_LINE=$1; '
             "COMP_POINT=${#1}; _cbw_lockstep; printf '%s\\n' \"${COMPREPLY[@]}\""),
    "fish": ("--no-config", "-c", "source $argv[1]; complete -C $argv[2]"),
}


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What the shell is to read."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} (Debian: {shell})")
    assert main(["completion", shell]) == 0
    path = folder / shell
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def completed(path: Path, line: str) -> list[str]:
    done = subprocess.run([path.name, *ASK[path.name], str(path), line], check=True,
                          capture_output=True, text=True, cwd=path.parent,
                          env={"HOME": str(path.parent), "PATH": "/usr/bin:/bin"})
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("shell", ASK)
def test_words_are_completed(shell: str, line: str, tmp_path: Path,
                             capsys: pytest.CaptureFixture[str]) -> None:
    assert completed(script(shell, tmp_path, capsys), line) == LINES[line]


@pytest.mark.parametrize(("line", "words"), [
    ("python -m harness builds fetch debian:trixie-", ["trixie-backports"]),
    ("python -m harness verify --area tails,dis", ["tails,discard"]),
    ("python -m harness verify --area=dis", ["discard"]),
])
def test_bash_replaces_what_comes_after_a_colon_or_equals_sign(
        line: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert completed(script("bash", tmp_path, capsys), line) == words


def test_zsh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It completes at a prompt only."""
    path = script("zsh", tmp_path, capsys)
    with pexpect.spawn("zsh", ["-f", "-i"], encoding="utf-8", timeout=30, cwd=tmp_path,
                       dimensions=(24, 200), env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin",
                                                  "TERM": "dumb"}) as zsh:
        # Quotes inside of the words: they are not to be seen in the echo of the line.
        zsh.sendline(f"python() {{ echo GI''VEN $@ EN''D }}; source {path}")
        for typed, given in (("verify --see", "verify --seed"),
                             ("verify --area=dis", "verify --area=discard"),
                             ("builds fetch debian:bullse", "builds fetch debian:bullseye")):
            zsh.send(f"python -m harness {typed}\t\r")
            zsh.expect("GIVEN -m harness (.*) END")
            assert zsh.match[1].rstrip() == given


def test_every_command_is_known() -> None:
    known = {level.command for level in levels(make_parser())}
    assert {"", "verify", "builds", "builds fetch", "completion"} <= known
    assert next(each.words for each in levels(make_parser())
                if each.command == "completion") == SHELLS
