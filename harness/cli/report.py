# SPDX-License-Identifier: GPL-2.0-or-later
"""``report``: the page to look at."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from harness.builds import ON_PATH
from harness.cli.console import Progress, output
from harness.cli.files import check_file, write
from harness.cli.single import check, ground_of
from harness.errors import EnvironmentProblem
from harness.exploration.grounds import replay_command, where
from harness.lockstep import recording, trace
from harness.lockstep.recording import Recording
from harness.report.campaign import campaign_page
from harness.report.comparison import comparison_page
from harness.report.goldens import golden_page
from harness.report.traces import Told, trace_page

RUN: Final = "run.json"
"""In a run's folder: what ``verify --json`` writes."""
MOST: Final = 12
"""So many divergences of a run have their maps on the page."""


def report(options: argparse.Namespace) -> int:
    """The command."""
    about: Path = options.about
    if not about.exists():
        raise EnvironmentProblem(f"{about}: no such file or folder; give a trace, the folder of a "
                                 "run's output, or what --json wrote")
    target = options.to or about.resolve().with_suffix(".html")
    check_file(target)
    with Progress() as progress:
        if about.is_dir():
            page = _folder(about)
        elif about.suffix == ".json" and not about.name.endswith(".seen.json"):
            page = _json(about)
        else:
            page = trace_page(_told_of(about, options, progress))
    write(target, page)
    here = Path.cwd()
    near = target.relative_to(here) if target.is_relative_to(here) else target
    output().print(f"{near}: open it in a browser")
    return 0


def _folder(folder: Path) -> str:
    if (folder / RUN).exists():
        return _json(folder / RUN)
    found = sorted(folder.glob(f"*/{RUN}"))
    if found:
        return campaign_report([run for each in found for run in runs_of(_load(each))], folder)
    raise EnvironmentProblem(f"{folder}: no {RUN} in it; verify writes one into the folder of "
                             "--output when something diverges")


def _json(path: Path) -> str:
    plain = _load(path)
    try:
        if "explained" in plain:
            return comparison_report(plain, path.parent)
        if "golden" in plain:
            return golden_page(plain)
        return campaign_report(runs_of(plain), path.parent)
    except (KeyError, TypeError, AttributeError) as why:
        raise EnvironmentProblem(f"{path}: not what --json of verify, compare or golden writes: "
                                 f"{why!r}") from why


def runs_of(plain: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs in what ``verify --json`` writes."""
    runs: list[Mapping[str, Any]] = plain.get("builds", [plain])
    return runs


def _load(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise EnvironmentProblem(f"cannot read {path}: {why.strerror}") from why
    except ValueError as why:
        raise EnvironmentProblem(f"{path}: not JSON: {why}") from why
    if not isinstance(plain, dict):
        raise EnvironmentProblem(f"{path}: expected a JSON object")
    return plain


# A run


def campaign_report(runs: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The page of a run; its traces are where the run put them or in ``folder``."""
    told: list[Told] = []
    shown = [{**run, "divergences": _with_maps(run["divergences"], [run["build"]], folder, told)}
             for run in runs]
    return campaign_page(shown, told)


def comparison_report(plain: Mapping[str, Any], folder: Path) -> str:
    """The page about two builds; the traces are as in :func:`campaign_report`."""
    told: list[Told] = []
    unexplained = _with_maps(plain["unexplained"], plain["builds"], folder, told)
    return comparison_page({**plain, "unexplained": unexplained}, told)


def _with_maps(divergences: Sequence[Mapping[str, Any]], builds: Sequence[Mapping[str, Any]],
               folder: Path, told: list[Told]) -> list[Mapping[str, Any]]:
    """The divergences, of one of the builds each, with where in ``told``, to which it is added,
    its map is."""
    shown: list[Mapping[str, Any]] = []
    for each in divergences:
        build = builds[each.get("build", 0)].get("name", ON_PATH)
        one = _divergence(each, build, folder) if len(told) < MOST else None
        if one is None:
            shown.append(each)
        else:
            shown.append({**each, "shown": len(told)})
            told.append(one)
    return shown


def _divergence(each: Mapping[str, Any], build: str, folder: Path) -> Told | None:
    path = _there(each["trace"], folder)
    if path is None:
        return None
    loaded = trace.load(path)
    seen = recording.path_of(path)
    known = recording.load(seen) if seen.exists() else Recording(
        each["system"], each["verdict"], each["summary"], each["step"])
    script = _there(each.get("reproducer"), folder)
    reproducer = "" if script is None else script.read_text(encoding="utf-8", errors="replace")
    return _told(path, loaded, known, reproducer, build)


def _there(name: str | None, folder: Path) -> Path | None:
    """The file, where it was put or, if the folder has been moved since, where it is now."""
    if name is None:
        return None
    places = [Path(name), folder / Path(name).name, folder / Path(name).parent.name /
              Path(name).name]
    return next((each for each in places if each.is_file()), None)


# A trace


def _told_of(path: Path, options: argparse.Namespace, progress: Progress) -> Told:
    """A trace, and what was seen when it was done: then or, if nobody put that down, now."""
    loaded = trace.load(path)
    seen = recording.path_of(path)
    if seen.exists() and options.qemu_build is None and options.simulated is None:
        return _told(path, loaded, recording.load(seen), _reproducer(path))
    ground = ground_of(loaded, options.qemu_build, lie=options.simulated)
    with ground.open() as stand:
        check(loaded, stand, ground, path)
        progress.phase(f"doing {path} on {where(ground)}")
        return _told(path, loaded, recording.record(loaded, stand, where(ground)),
                     _reproducer(path), options.qemu_build or ON_PATH)


def _told(path: Path, loaded: trace.Trace, seen: Recording, reproducer: str,
          build: str = ON_PATH) -> Told:
    """``build``: its name, as far as that is known."""
    return Told(loaded, seen, path.name, replay_command(path, seen.system, build), reproducer)


def _reproducer(path: Path) -> str:
    """The stand-alone script beside a trace, if one was made."""
    return "".join(each.read_text(encoding="utf-8") for each in _scripts(path))


def _scripts(path: Path) -> Iterator[Path]:
    stem = path.name.removesuffix(".jsonl").removesuffix(".shrunk")
    yield from sorted(path.parent.glob(f"{stem}*.sh"))[:1]
