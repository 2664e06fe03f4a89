# SPDX-License-Identifier: GPL-2.0-or-later
"""Find a QEMU build and make sure that its tools run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.builds.build import (
    HELPERS,
    INSTALL,
    ON_PATH,
    STORAGE_DAEMON,
    SUBJECTS,
    SYSTEM,
    TOOLS,
    Build,
    Tool,
)
from harness.builds.suites import SUITES, directory_of
from harness.errors import EnvironmentProblem
from harness.invocation import command

VERSION_TIMEOUT = 20.0  # seconds; an instrumented qemu-system needs several on a busy machine

_FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")  # of a Debian suite

_VERSION = re.compile(
    r"^(?P<product>.*?)(?:version )?(?P<version>\d+\.\d+\S*(?: \(.*\))?)$", re.MULTILINE
)


@dataclass(frozen=True)
class _Candidate:
    """A file that ought to be a tool, not yet tried."""

    name: str
    path: Path
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    borrowed: bool = False


def find(spec: str | None = None) -> Build:
    """The build that `spec` names: a QEMU build (or source, or install) tree, a folder of
    binaries or wrapper scripts, an unpacked Debian suite, one binary, or a fetched suite as
    `debian:trixie`, or `PATH`.  None: the environment variable QEMU_BUILD, else PATH.
    """
    spec = spec or os.environ.get("QEMU_BUILD") or ON_PATH
    if spec == ON_PATH:
        return _build(ON_PATH, None, _on_path(TOOLS))
    if spec.startswith("debian:"):
        return _fetched(spec)
    path = Path(spec).expanduser().absolute()
    try:
        if path.is_dir():
            return _build(spec, path, _in_folder(path))
        if path.is_file():
            return _build(spec, path, _one_binary(path))
        problem = "is no file" if os.path.lexists(path) else "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise EnvironmentProblem(
        f"QEMU build {spec} {problem}; give a QEMU build tree, a folder of binaries or one binary"
    )


def _fetched(suite: str) -> Build:
    if suite not in SUITES:
        raise EnvironmentProblem(f"unknown suite {suite}; known are {', '.join(SUITES)}")
    path = directory_of(suite)
    if not path.is_dir():
        raise EnvironmentProblem(
            f"{suite} is not in {path}; fetch it: {command(f'builds fetch {suite}')}"
        )
    return _build(suite, path, _in_folder(path))


def _build(name: str, path: Path | None, candidates: list[_Candidate]) -> Build:
    own = {candidate.name for candidate in candidates}
    if not own.intersection(SUBJECTS):
        where = f"in {path} or its bin, build and usr/bin" if path else "on PATH"
        raise EnvironmentProblem(
            f"no {STORAGE_DAEMON} and no {SYSTEM} {where}; {INSTALL}, "
            "or give another build with --qemu-build"
        )
    lent = _on_path((tool for tool in HELPERS if tool not in own), borrowed=path is not None)
    tools = _try(candidates + lent)
    subject = next(tools[tool] for tool in SUBJECTS if tool in tools)
    return Build(name, path or subject.path.parent, subject.version, tools)


def _on_path(names: Iterable[str], *, borrowed: bool = False) -> list[_Candidate]:
    paths = ((name, shutil.which(name)) for name in names)
    return [
        _Candidate(name, Path(path), (path,), borrowed=borrowed) for name, path in paths if path
    ]


def _in_folder(folder: Path) -> list[_Candidate]:
    """The tools of the first place under `folder` that has any."""
    for place in (folder, folder / "usr/bin", folder / "bin", folder / "build"):
        paths = {name: place / name for name in TOOLS}
        if not paths[STORAGE_DAEMON].is_file():
            paths[STORAGE_DAEMON] = place / "storage-daemon" / STORAGE_DAEMON
        found = [_candidate(name, path) for name, path in paths.items() if path.is_file()]
        if found:
            return found
    return []


def _one_binary(path: Path) -> list[_Candidate]:
    """`path` is what is verified; its neighbours only help."""
    if path.name in HELPERS:
        raise EnvironmentProblem(
            f"{path} only helps; give a {STORAGE_DAEMON}, a {SYSTEM} or a folder with one"
        )
    # Another name, such as Red Hat's qemu-kvm, is settled by what --version says.
    name = path.name if path.name in SUBJECTS else SYSTEM
    neighbours = [tool for tool in _in_folder(path.parent) if tool.name in HELPERS]
    return [_candidate(name, path), *neighbours]


def _candidate(name: str, path: Path) -> _Candidate:
    root = path.parent.parent.parent
    loader = _loader(root) if path.parent == root / "usr/bin" and root != Path("/") else None
    if loader is None:
        return _Candidate(name, path, (str(path),))
    # An unpacked Debian suite.  QEMU finds neither its modules nor, as the running program is the
    # loader, its firmware by itself.
    triplet = loader.parent.name
    libraries = [root / base / triplet for base in ("lib", "usr/lib")]
    firmware = tuple(word for folder in _FIRMWARE for word in ("-L", str(root / folder)))
    return _Candidate(
        name,
        path,
        (str(loader), "--library-path", ":".join(map(str, libraries)), str(path)),
        {"QEMU_MODULE_DIR": str(root / "usr/lib" / triplet / "qemu")},
        firmware if name == SYSTEM else (),
    )


def _loader(root: Path) -> Path | None:
    """The dynamic loader of an unpacked suite (its name in lib64 may be a link to the host's)."""
    for base in ("usr/lib", "lib"):
        for path in sorted((root / base).glob("*-linux-gnu*/ld-*.so*")):
            if path.is_file():
                return path
    return None


def _try(candidates: list[_Candidate]) -> dict[str, Tool]:
    """Run `--version` of all at the same time: qemu-system takes ten times what others take."""
    started: list[tuple[_Candidate, subprocess.Popen[str]]] = []
    try:
        for candidate in candidates:
            started.append((candidate, _start(candidate)))
        tools = [_finish(candidate, child) for candidate, child in started]
    finally:
        for _, child in started:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
            with child:
                pass
    return {tool.name: tool for tool in tools}


def _start(candidate: _Candidate) -> subprocess.Popen[str]:
    path = candidate.path
    if not os.access(path, os.X_OK):
        raise EnvironmentProblem(f"{path} is not executable; chmod +x it, or give another build")
    try:
        return subprocess.Popen(
            [*candidate.argv, "--version"],
            env=os.environ | dict(candidate.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        # The file is there, so ENOENT is about what should run it.
        reason = (
            "its interpreter or loader is missing"
            if isinstance(error, FileNotFoundError)
            else error.strerror
        )
        raise EnvironmentProblem(f"{path} does not run: {reason}") from error


def _finish(candidate: _Candidate, child: subprocess.Popen[str]) -> Tool:
    path = candidate.path
    try:
        out, err = child.communicate(timeout=VERSION_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"{path} does not answer --version within {VERSION_TIMEOUT:g} s"
        ) from None
    match = _VERSION.search(out)
    if match is None:
        said = next(iter((err + out).splitlines()), "nothing")
        raise EnvironmentProblem(
            f"{path} is no working {candidate.name}: --version gives exit status "
            f"{child.returncode} and says: {said}"
        )
    products = {"QEMU emulator ": SYSTEM, "qemu-storage-daemon ": STORAGE_DAEMON}
    name = candidate.name if path.name in TOOLS else products.get(match["product"], SYSTEM)
    return Tool(
        name=name,
        path=path,
        argv=(*candidate.argv, *candidate.arguments),
        version=match["version"],
        env=candidate.env,
        borrowed=candidate.borrowed,
    )
