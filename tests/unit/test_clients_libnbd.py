# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding libnbd's binding, in interpreters that see nothing but this project."""

import importlib.machinery
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.clients.libnbd import SYSTEM_FOLDER

PROJECT = Path(__file__).parents[2]

ASK = """
import sys
from pathlib import Path
from harness.clients import libnbd
from harness.errors import EnvironmentProblem
libnbd.SYSTEM_FOLDER = Path({folder!r})
print(libnbd.libnbd_available())
print(libnbd.libnbd_problem())
try:
    libnbd.require_libnbd()
    import nbd
    print(hasattr(nbd.NBD, "aio_pread"))
except EnvironmentProblem as error:
    print(error)
"""


def ask(folder: Path, *path: Path) -> list[str]:
    """What an interpreter without site-packages finds when the system's folder is `folder`."""
    paths = os.pathsep.join(map(str, (*path, PROJECT)))
    done = subprocess.run([sys.executable, "-S", "-B", "-c", ASK.format(folder=str(folder))],
                          env={**os.environ, "PYTHONPATH": paths}, check=True,
                          capture_output=True, text=True)
    return done.stdout.splitlines()


def test_found_where_the_distribution_puts_it() -> None:
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    if not list(SYSTEM_FOLDER.glob(f"libnbdmod.cpython-{version}-*.so")):
        pytest.skip("the system's binding is absent, or for another Python")
    assert ask(SYSTEM_FOLDER) == ["True", "None", "True"]


def test_missing(tmp_path: Path) -> None:
    available, problem, error = ask(tmp_path)
    assert available == "False"
    assert "apt-get install python3-libnbd" in problem
    assert problem == error


def test_built_for_another_python(tmp_path: Path) -> None:
    (tmp_path / "libnbdmod.cpython-27-x86_64-linux-gnu.so").touch()
    available, problem, _ = ask(tmp_path)
    assert available == "False"
    assert "is not for Python 3" in problem


def test_broken(tmp_path: Path) -> None:
    (tmp_path / f"libnbdmod{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    available, problem, _ = ask(tmp_path)
    assert available == "False"
    assert "file too short" in problem


def test_another_module_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "nbd.py").write_text("NBD = None\n")
    available, problem, _ = ask(tmp_path / "none", tmp_path)
    assert available == "False"
    assert "apt-get install" in problem
