# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that the user asked for: tried before a long run, written after it."""

from __future__ import annotations

from pathlib import Path

from harness.errors import EnvironmentProblem


def check_file(file: Path) -> None:
    """Make sure that the file can be written; leaves things as they were."""
    new = not file.exists()
    try:
        with file.open("a", encoding="utf-8"):
            pass
        if new:
            file.unlink()
    except OSError as why:
        raise _problem(file, why) from why


def check_folder(folder: Path, option: str = "--output") -> None:
    """Make sure that files can be made in the folder, itself made if need be; leaves things as
    they were.  ``option`` is what chooses the folder."""
    if folder.exists() and not folder.is_dir():
        raise EnvironmentProblem(f"cannot write to {folder}: it is not a folder; {option} "
                                 "chooses another place")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        for each in made:
            each.rmdir()
    except OSError as why:
        raise EnvironmentProblem(f"cannot write to {folder}: {why.strerror}; {option} "
                                 "chooses another place") from why


def write(file: Path, text: str) -> None:
    """Write a file; raises EnvironmentProblem."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as why:
        raise _problem(file, why) from why


def _problem(path: Path, why: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(f"cannot write to {path}: {why.strerror}; give another place")
