# SPDX-License-Identifier: GPL-2.0-or-later
"""The iotests run by hand: what ``python -m harness golden`` does behind its options."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from harness.errors import EnvironmentProblem

from .ledger import Ledger
from .mode import Action
from .plugin import PROPERTY, GoldenOutputs
from .store import Store

ROOT: Final = Path(__file__).parents[2]
"""The project's folder."""
TESTS: Final = "tests/iotests"
EXIT_CODES: Final = {
    pytest.ExitCode.OK: 0,
    pytest.ExitCode.TESTS_FAILED: 1,
    pytest.ExitCode.INTERRUPTED: 130,
    pytest.ExitCode.INTERNAL_ERROR: 2,
    pytest.ExitCode.USAGE_ERROR: 2,
}
"""What pytest ends with, and what the harness ends with then."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run of the iotests."""

    ledger: Ledger
    broken: tuple[tuple[str, str], ...]
    """Tests that failed by something else than a golden output, and what they said."""
    elapsed: float
    """Seconds."""


def golden_store(root: Path = ROOT) -> Store:
    """The project's golden outputs."""
    return Store(root / "golden")


def run(action: Action, tests: Sequence[str] = (), builds: Sequence[str] = (), *,
        workers: int = 1, root: Path = ROOT, more: Sequence[str] = (),
        tell: Callable[[Outcome], None] = lambda outcome: None) -> int:
    """Run the iotests, or those named, and check, show or update their golden outputs.

    ``tests``: golden names, or beginnings of them such as ``101``.  The exit code of the harness:
    0 all agree (or are updated), 1 something differs, 2 usage, 130 interrupted.  ``more``: other
    options of the plugin.  ``tell`` is given what came of it.  Raises EnvironmentProblem if
    there is no such test, and at the first one that the machine cannot do.
    """
    # pytest's own summary would, under CI, print every difference a second time.
    arguments = [f"--golden={action}", "--quiet", "-rN", *more, *_where(root)]
    arguments += [f"--qemu-build={build}" for build in builds]
    if tests:
        arguments += ["-k", " or ".join(_keyword(test) for test in tests)]
    if workers > 1:
        arguments += ["-n", str(workers)]
    spy, machine = _Spy(), _Machine()
    began = time.monotonic()
    code = pytest.main(arguments, plugins=[spy, machine])
    if machine.problem is not None:
        raise machine.problem
    if spy.ledger is not None:
        tell(Outcome(spy.ledger, tuple(spy.broken), time.monotonic() - began))
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise EnvironmentProblem(f"no test has the golden name {' or '.join(tests)}, nor one that "
                                 f"begins so; the tests are in {root / TESTS}")
    return EXIT_CODES.get(pytest.ExitCode(code), 2)


def collected(root: Path = ROOT) -> Ledger:
    """The golden names that the tests of the project have; raises EnvironmentProblem."""
    spy = _Spy()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = pytest.main(["--collect-only", "--quiet", *_where(root)], plugins=[spy])
    if code != pytest.ExitCode.OK or spy.ledger is None:
        why = output.getvalue().strip().splitlines()[-1:] or ["no test found"]
        raise EnvironmentProblem(f"cannot collect {root / TESTS}: {why[0]}")
    return spy.ledger


def unused(root: Path = ROOT) -> list[str]:
    """The golden outputs that no test has."""
    return golden_store(root).unused(collected(root).used)


def prune(root: Path = ROOT) -> list[str]:
    """Remove them; their names."""
    return golden_store(root).prune(collected(root).used)


def _where(root: Path) -> list[str]:
    # That this module is imported before pytest could rewrite its assertions is no news.
    return ["--rootdir", str(root), "-c", str(root / "pyproject.toml"), "-p", "no:cacheprovider",
            "-W", "ignore::pytest.PytestAssertRewriteWarning", str(root / TESTS)]


def _keyword(test: str) -> str:
    """A golden name, or the beginning of one, as pytest's -k has it."""
    name, _, case = test.removeprefix("test_").partition("@")[0].partition(".")
    keyword = "test_" + name.replace("-", "_")
    return f"({keyword} and {case})" if case else keyword


class _Machine:
    """Ends a run when the machine lacks something: no other test would tell more."""

    problem: EnvironmentProblem | None = None

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None and isinstance(call.excinfo.value, EnvironmentProblem):
            self.problem = call.excinfo.value
            item.session.shouldstop = str(self.problem)


class _Spy:
    """Takes the ledger of a run, and what failed otherwise."""

    ledger: Ledger | None = None

    def __init__(self) -> None:
        self.broken: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not any(name == PROPERTY for name, _ in report.user_properties):
            self.broken.append((report.nodeid, report.longreprtext))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        plugin = session.config.pluginmanager.get_plugin("cbw-lockstep-golden")
        assert isinstance(plugin, GoldenOutputs)
        self.ledger = plugin.ledger
