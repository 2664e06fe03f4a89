# SPDX-License-Identifier: GPL-2.0-or-later
"""Where libnbd's Python binding is, if it is anywhere.

The binding is not on PyPI: it comes with the distribution, built for its own interpreter.  A
virtual environment without the system's packages does not see it, so it is also looked for
where Debian puts it, and taken from there if it was built for the interpreter that runs now.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
from functools import cache
from pathlib import Path

from harness.errors import EnvironmentProblem

PACKAGE = "python3-libnbd"
"""Debian's package of the binding."""

SYSTEM_FOLDER = Path("/usr/lib/python3/dist-packages")


def libnbd_available() -> bool:
    """Whether `import nbd` works now, wherever the binding had to be found."""
    return _problem() is None


def libnbd_problem() -> str | None:
    """Why libnbd's binding cannot be used, and which package has it; None if it can."""
    return _problem()


def require_libnbd() -> None:
    """Make `import nbd` work, or raise `EnvironmentProblem`."""
    problem = _problem()
    if problem is not None:
        raise EnvironmentProblem(problem)


@cache
def _problem() -> str | None:
    reason = _import("nbd") and _import_from(SYSTEM_FOLDER)
    if reason is None:
        return None
    return (f"libnbd's Python binding is not usable ({reason}); "
            f"install it with: apt-get install {PACKAGE}")


def _import(name: str) -> str | None:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return str(error)
    if not hasattr(getattr(module, "NBD", None), "aio_pread"):
        sys.modules.pop(name, None)
        return f"{getattr(module, '__file__', name)} is something else"
    return None


def _import_from(folder: Path) -> str | None:
    """Load the binding's two files from a folder that is not on the path; a reason if not."""
    extension = next((folder / f"libnbdmod{suffix}"
                      for suffix in importlib.machinery.EXTENSION_SUFFIXES
                      if suffix != ".so" and (folder / f"libnbdmod{suffix}").is_file()), None)
    if extension is None:
        others = sorted(path.name for path in folder.glob("libnbdmod*"))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        if others:
            return f"{folder}/{others[0]} is not for Python {version}"
        return f"not found in {folder} nor on the path of Python {version}"
    try:
        _load("libnbdmod", extension)
        _load("nbd", folder / "nbd.py")
    except (ImportError, OSError) as error:
        sys.modules.pop("nbd", None)
        sys.modules.pop("libnbdmod", None)
        return str(error)
    return None


def _load(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
