# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring the QEMU of a Debian suite into the user's cache, without root and without touching the
system: apt-get with a configuration of its own downloads and verifies, dpkg-deb unpacks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from harness.builds.suites import SUITES, directory_of
from harness.errors import EnvironmentProblem

MIRROR: Final = "http://deb.debian.org/debian"  # what comes is verified, whoever brings it
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# The user's apt configuration is read first, for the sake of a proxy.  Its hooks are not for us,
# and whatever it says about unsigned repositories does not hold here.  As root, apt would download
# as the user _apt, who cannot enter root's cache.
_CONFIGURATION = """\
#clear APT::Update;
#clear APT::Architectures;
Dir "{work}/";
Dir::State::status "{work}/status";
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "{suite}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
"""

_WORK_FOLDERS = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "var/lib/apt/lists/partial",
    "var/cache/apt/archives/partial",
    "var/cache/apt/none/partial",
)
_PACKAGES: Final = ("qemu-system-x86", "qemu-utils")
_URI: Final = re.compile(r"^'.*' (?P<file>\S+) \d+ SHA256:(?P<digest>\w+)$")


def fetch(
    suite: str,
    destination: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
    *,
    mirror: str = MIRROR,
    keyring: Path = KEYRING,
) -> Path:
    """The folder with `suite` (one of SUITES) unpacked; at once if it is there already.

    `progress` is called with a line a step and a line a file.  An interrupted fetch is taken up
    where it stopped; `destination` (default: in the user's cache) appears only when complete.
    """
    if suite not in SUITES:
        raise EnvironmentProblem(f"unknown suite {suite}; known are {', '.join(SUITES)}")
    destination = destination or directory_of(suite)
    if destination.is_dir():
        return destination
    for program in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(program) is None:
            raise EnvironmentProblem(
                f"fetching {suite} needs {program}, which only Debian and its relatives have; "
                "build QEMU here and name it with --qemu-build"
            )
    if not keyring.is_file():
        raise EnvironmentProblem(
            f"no {keyring} to verify {suite} with; apt-get install debian-archive-keyring"
        )
    work = destination.with_name(f".{destination.name}.fetch")
    try:
        with _locked(work, progress):
            if not destination.is_dir():
                _download(suite.removeprefix("debian:"), work, progress, mirror, keyring)
                _unpack(work, destination, progress)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot fetch {suite} into {destination}: {error.strerror}; "
            "XDG_CACHE_HOME chooses another place"
        ) from error
    return destination


@contextmanager
def _locked(work: Path, progress: Callable[[str], None]) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for the process that fetches into {work}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _download(
    suite: str, work: Path, progress: Callable[[str], None], mirror: str, keyring: Path
) -> None:
    for folder in _WORK_FOLDERS:
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    (work / "etc/apt/sources.list").write_text(
        "".join(
            f"deb [signed-by={keyring}] {mirror} {source} main\n"
            for source in dict.fromkeys((suite.removesuffix("-backports"), suite))
        )
    )
    architecture = subprocess.check_output(
        ["dpkg", "--print-architecture"], stderr=subprocess.DEVNULL, text=True
    ).strip()
    configuration = work / "apt.conf"
    configuration.write_text(
        _CONFIGURATION.format(work=work, architecture=architecture, suite=suite)
    )
    apt = ("apt-get", "-q", "-y", "-c", str(configuration))
    progress(f"reading the package lists of {suite}")
    _run((*apt, "update"), progress)
    _drop_damaged(apt, work, progress)
    progress(f"downloading QEMU of {suite} and its libraries")
    _run((*apt, "install", "--download-only", *_PACKAGES), progress)
    # An earlier, interrupted fetch may have left versions that the suite no longer has.
    _run((*apt, "autoclean"), progress)


def _drop_damaged(apt: tuple[str, ...], work: Path, progress: Callable[[str], None]) -> None:
    """Remove what an earlier fetch has left and is not as the archive says: apt verifies what it
    downloads, but of a package that is there it looks at the size only."""
    packages = work / "var/cache/apt/archives"
    if not any(packages.glob("*.deb")):
        return
    none = ("-o", f"Dir::Cache::archives={work}/var/cache/apt/none/")
    for line in _run((*apt, *none, "-o", "Acquire::ForceHash=SHA256", "install", "--print-uris",
                      *_PACKAGES), progress):
        match = _URI.match(line)
        if match is None:
            continue
        path = packages / match["file"]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != match["digest"]:
            progress(f"{path.name} is damaged: downloading it again")
            path.unlink()


def _unpack(work: Path, destination: Path, progress: Callable[[str], None]) -> None:
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    packages = sorted((work / "var/cache/apt/archives").glob("*.deb"))
    progress(f"unpacking {len(packages)} packages")
    for package in packages:
        _run(("dpkg-deb", "-x", str(package), str(root)), progress)
    for folder, _, files in os.walk(root):
        for path in (Path(folder, file) for file in files):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(mode & 0o777)  # nobody would ever update this passwd or chsh
    root.rename(destination)
    shutil.rmtree(work, ignore_errors=True)


def _run(argv: tuple[str, ...], progress: Callable[[str], None]) -> list[str]:
    """What the command prints, line by line."""
    output = []
    with subprocess.Popen(
        argv,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        try:
            for line in map(str.rstrip, child.stdout):
                output.append(line)
                if line.startswith("Get:"):
                    progress(line)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise EnvironmentProblem(f"{argv[0]} failed: {_reason(output)}")
    return output


def _reason(output: list[str]) -> str:
    if any(re.search("NO_PUBKEY|[Mm]issing key", line) for line in output):
        return (
            "the archive is signed by a key that is not in the keyring; "
            "apt-get install a newer debian-archive-keyring"
        )
    errors = (line for line in output if line.startswith(("E:", "dpkg-deb: error:")))
    error = next(errors, output[-1] if output else "it says nothing")
    # apt tells why a mirror cannot be reached below the line of what could not be brought.
    causes = (below.strip() for line, below in pairwise(output)
              if line.startswith("Err:") and below.startswith("  "))
    cause = next(causes, "")
    return error if cause in error else f"{error} ({cause})"
