# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: the fixture ``iotest``, the option ``--golden``, unused golden outputs.

A test that asks for ``iotest`` has a golden output, named after the test.  The plugin compares
when the test's function has returned; a difference fails the test.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pluggy
import pytest

from harness.errors import EnvironmentProblem, HarnessError
from harness.invocation import command
from harness.lockstep.trace import save

from .hosts import Hosts
from .ledger import Ledger, covers
from .logs import Logs
from .mode import Action, Mode, mode
from .scenario import Host, Scenario
from .settle import Settled, settle
from .store import Store, golden_name, variants

_NAME: Final = "cbw-lockstep-golden"
_SCENARIO: Final = pytest.StashKey[Scenario]()
_FOLDERS: Final = pytest.StashKey[pytest.TempPathFactory]()
PROPERTY: Final = "golden"
_ABSENT: Final = "golden-no-qemu"
_BUILD: Final = "golden-build"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("golden", "golden outputs of iotests")
    group.addoption("--golden", choices=[each.value for each in Action], default=None,
                    help="check: compare (default); diff: compare and show all differences; "
                         "update: make what model and QEMU agree on the golden output; "
                         "propose: leave it beside the golden output")
    group.addoption("--golden-trust", choices=["qemu"], default=None,
                    help="what to propose where model and QEMU differ (default: nothing)")
    group.addoption("--golden-save", type=Path, metavar="DIR", default=None,
                    help="write the log of each test as QEMU gave it into this folder")
    group.addoption("--golden-against", type=Path, metavar="DIR", default=None,
                    help="compare QEMU's logs with those in this folder, saved from another QEMU, "
                         "instead of with golden outputs")
    group.addoption("--qemu-build", action="append", metavar="PATH", default=[],
                    help="a QEMU build: a build tree, a folder of binaries or one binary; may be "
                         "repeated (default: QEMU_BUILD, else what is on PATH)")
    parser.addini("golden_dir", "folder of the golden outputs", default="golden")
    parser.addini("golden_tests", "folder of the tests that have one", default="tests/iotests")


def pytest_configure(config: pytest.Config) -> None:
    """Everything else is one object, so that a process has one state."""
    config.addinivalue_line(
        "markers", "golden(varies=[...], without_snapshots=True): the capabilities that the "
        "golden output depends on; whether builds without snapshot-access run the test too")
    config.pluginmanager.register(GoldenOutputs(config), _NAME)


@pytest.fixture(scope="session")
def golden_hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """The QEMU builds of this run; a test of the plugin itself puts other ones in its place."""
    plugin = request.config.pluginmanager.get_plugin(_NAME)
    assert isinstance(plugin, GoldenOutputs)
    yield plugin.hosts
    plugin.hosts.close()


@pytest.fixture
def qemu_build(request: pytest.FixtureRequest, golden_hosts: Any) -> Host:
    """The build that the test runs on: the only one, or each one given in turn."""
    try:
        host: Host = golden_hosts.host(getattr(request, "param", None))
    except EnvironmentProblem:
        raise
    except HarnessError as why:
        pytest.fail(str(why), pytrace=False)
    return host


@pytest.fixture
def iotest(request: pytest.FixtureRequest, qemu_build: Host,
           tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """A scenario to be told; what it tells is compared with the golden output."""
    if not (qemu_build.capabilities().snapshot_access or _without_snapshots(request.node)):
        pytest.skip(f"{qemu_build.label} has no snapshot-access")
    scenario = Scenario(qemu_build)
    request.node.stash[_SCENARIO] = scenario
    request.node.stash[_FOLDERS] = tmp_path_factory
    description = inspect.getdoc(request.function)
    if description:
        scenario.comment(description)
    yield scenario
    scenario.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With several builds, every iotest runs on each."""
    builds = metafunc.config.getoption("--qemu-build")
    if "iotest" in metafunc.fixturenames and len(builds) > 1:
        metafunc.parametrize("qemu_build", builds, indirect=True, ids=[*map(_build_id, builds)])


class GoldenOutputs:
    """The state of a run, in one process; a controller gathers that of its workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._mode: Mode = mode(config.getoption("--golden"), os.environ,
                                trusts_qemu=config.getoption("--golden-trust") == "qemu")
        self._logs = Logs(config.getoption("--golden-save"), config.getoption("--golden-against"))
        self._store = Store(config.rootpath / config.getini("golden_dir"))
        self.ledger = Ledger(against=self._logs.against)
        self.hosts = Hosts(config.getoption("--qemu-build"))
        self._owners: dict[str, str] = {}

    def pytest_sessionstart(self) -> None:
        """A build that was asked for by name must be there, and have what is tested."""
        if hasattr(self._config, "workerinput"):
            return
        named: list[str | None] = [*self._config.getoption("--qemu-build")]
        if not named and os.environ.get("QEMU_BUILD"):
            named.append(None)
        for spec in named:
            try:
                self.hosts.host(spec)
            except HarnessError as why:
                raise pytest.UsageError(str(why)) from why

    # Collecting: who has which golden output

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note the golden names of the test, before anything is deselected."""
        if "iotest" not in getattr(item, "fixturenames", ()):
            return
        test, varies = _golden_of(item)
        owner = item.nodeid.split("[")[0]
        if self._owners.setdefault(test, owner) != owner:
            raise pytest.UsageError(f"{owner} and {self._owners[test]} have one golden name: "
                                    f"{test}")
        try:
            self.ledger.used.update(variants(test, varies))
        except ValueError as why:
            raise pytest.UsageError(f"{owner}: varies: {why}") from why
        if _without_snapshots(item):
            self.ledger.without_snapshots.add(test)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected may have had the test of a golden output."""
        if report.failed:
            self.ledger.complete = False

    def pytest_collection_finish(self) -> None:
        """Tell the controller, if this is a worker."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["golden_used"] = sorted(self.ledger.used)
            output["golden_complete"] = self.ledger.complete

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker what it collected; every worker collects everything."""
        output = getattr(node, "workeroutput", None) or {}
        self.ledger.used.update(output.get("golden_used", ()))
        if not output.get("golden_complete", False):
            self.ledger.complete = False

    # Running

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """The test's function has returned: compare."""
        scenario = item.stash.get(_SCENARIO, None)
        if scenario is None:
            return
        test, varies = _golden_of(item)
        failures = []
        try:
            for each in self._logs.settle(scenario, test) or settle(
                    scenario, test, varies, self._store, self._mode,
                    without_snapshots=_without_snapshots(item)):
                item.user_properties.append((PROPERTY, each.to_json()))
                if not each.ok:
                    failures.append(each.text)
        except EnvironmentProblem:
            raise
        except HarnessError as why:
            failures.append(str(why))
        if scenario.failure is not None:
            path = item.stash[_FOLDERS].mktemp("trace") / f"{test}.jsonl"
            save(path, scenario.trace())
            failures.append(f"to see it without this test: {command(f'replay {path}')}")
        if scenario.absent is not None:
            item.user_properties.append((_ABSENT, scenario.absent))
        else:
            item.user_properties.append((_BUILD, scenario.label))
        if failures:
            pytest.fail("\n".join(failures), pytrace=False)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
            self, item: pytest.Item,
            call: pytest.CallInfo[None]) -> Generator[None, pluggy.Result[pytest.TestReport]]:
        """What the machine lacks is said in one line, without a traceback."""
        outcome = yield
        if "iotest" in getattr(item, "fixturenames", ()) and call.excinfo is not None and (
                isinstance(call.excinfo.value, EnvironmentProblem)):
            outcome.get_result().longrepr = str(call.excinfo.value)

    # Reporting: here a controller gets the reports of its workers

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather what the test found out."""
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == PROPERTY:
                self.ledger.add(Settled.from_json(str(value)))
            elif name == _ABSENT:
                self.ledger.absent[str(value)] += 1
            elif name == _BUILD:
                self.ledger.builds.add(str(value))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """An unused golden output fails a full run."""
        if self._unused() and session.exitstatus in (pytest.ExitCode.OK,
                                                     pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_report_header(self) -> str | None:
        """What the user should know beforehand."""
        return f"golden: {self._mode.note}" if self._mode.note else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What came of the golden outputs."""
        unused = self._unused()
        if not self.ledger.settled and not unused:
            return
        terminalreporter.section("golden outputs")
        for each in sorted(self.ledger.settled.values(), key=lambda one: one.name):
            if each.ok and each.text:
                terminalreporter.write_line(each.text)
        for line in self.ledger.lines(self._store, unused):
            terminalreporter.write_line(line)

    def _unused(self) -> list[str]:
        """The golden outputs that no test has; none unless this was a full run."""
        if hasattr(self._config, "workerinput") or not self._is_full():
            return []
        return self.ledger.unused(self._store)

    def _is_full(self) -> bool:
        """Whether all iotests were asked for."""
        option = self._config.option
        if any(getattr(option, name, None) for name in _PARTIAL):
            return False
        tests = (self._config.rootpath / self._config.getini("golden_tests")).resolve()
        where = self._config.invocation_params.dir
        return covers(self._config.args, Path(where), tests)


_PARTIAL: Final = ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise",
                   "collectonly")
"""The options with which some tests are left out."""


def _without_snapshots(item: pytest.Item) -> bool:
    """Whether builds without snapshot-access run the test too."""
    return any(mark.kwargs.get("without_snapshots") for mark in item.iter_markers("golden"))


def _build_id(spec: str) -> str:
    """How a build shows in the names of tests."""
    return f"qemu={spec}"


def _golden_of(item: pytest.Item) -> tuple[str, tuple[str, ...]]:
    """The golden name of a test, and the capabilities that its output depends on."""
    name = item.name
    call = getattr(item, "callspec", None)
    if call is not None and "qemu_build" in call.params:
        # The golden output is the same, or has a variant's name, whatever the build is called.
        build = _build_id(call.params["qemu_build"])
        name = name.replace(f"-{build}]", "]").replace(f"[{build}]", "").replace(f"[{build}-", "[")
    test = golden_name(name)
    varies: list[str] = []
    for mark in item.iter_markers("golden"):
        varies += mark.kwargs.get("varies", ())
    return test, tuple(varies)
