# SPDX-License-Identifier: GPL-2.0-or-later
"""The iotests run by hand, as the command line does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.builds import Build
from harness.errors import EnvironmentProblem, HarnessError
from harness.golden import hosts, session
from harness.golden.ledger import covers
from harness.golden.mode import Action
from harness.golden.store import Store, variants
from harness.systems import lies, simulated  # noqa: F401  (else each run inside imports them anew)
from harness.systems.capabilities import NothingToVerify
from tests.unit.cli_lab import FULL, fake_build
from tests.unit.test_golden_plugin import CONFTEST, TEST


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> Path:
    """A small project; what the runs inside it import is forgotten afterwards."""
    for name in ("CI", "QEMU_TEST_REGENERATE", "QEMU_IOTESTS_REGEN", "TEST_LIE", "TEST_FLIPPED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path))
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "-p harness.golden.plugin -p no:cacheprovider"\n')
    (tmp_path / "tests/iotests").mkdir(parents=True)
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    (tmp_path / "tests/iotests/test_sample.py").write_text(TEST)
    return tmp_path


def test_a_run_ends_with_the_exit_codes_of_the_harness(
        root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(root / "golden")
    assert session.run(Action.DIFF, root=root) == 1
    assert store.names() == []
    assert session.run(Action.UPDATE, ["102"], root=root) == 0
    assert store.names() == ["102-bitmap"]
    assert session.run(Action.CHECK, ["102-bitmap"], root=root) == 0
    assert session.run(Action.UPDATE, root=root) == 0
    assert session.run(Action.CHECK, root=root) == 0
    with pytest.raises(EnvironmentProblem, match="no test has the golden name nothing"):
        session.run(Action.CHECK, ["nothing"], root=root)
    assert session.run(Action.CHECK, builds=["/nowhere"], root=root) == 2
    monkeypatch.setenv("TEST_LIE", "crash")
    assert session.run(Action.CHECK, root=root) == 1


def test_a_run_on_a_full_disk_ends_without_a_verdict(
        root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert session.run(Action.UPDATE, root=root) == 0
    monkeypatch.setattr("shutil.disk_usage", lambda path: FULL)
    assert session.run(Action.CHECK, root=root) == 0
    monkeypatch.setenv("TEST_LIE", "wrong-byte")
    with pytest.raises(EnvironmentProblem, match=r"only 1023 KiB are free.*TMPDIR"):
        session.run(Action.CHECK, root=root)
    assert "Traceback" not in capsys.readouterr().out


def test_what_no_test_has_can_be_removed(root: Path) -> None:
    store = Store(root / "golden")
    for name in ("101-write@no-copy-bitmap-on-filter", "103-gone"):
        store.write(name, "text\n")
    assert session.collected(root).used == {"102-bitmap", *variants(
        "101-write", ["copy_bitmap_on_filter"])}
    assert session.unused(root) == ["103-gone"]
    assert session.prune(root) == ["103-gone"]
    assert store.names() == ["101-write@no-copy-bitmap-on-filter"]


def test_tests_that_cannot_be_collected_make_nothing_unused(root: Path) -> None:
    Store(root / "golden").write("103-gone", "text\n")
    (root / "tests/iotests/test_other.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(EnvironmentProblem, match="cannot collect"):
        session.prune(root)
    assert Store(root / "golden").names() == ["103-gone"]


@pytest.mark.parametrize(("arguments", "whole"), [
    (["tests"], True),
    (["tests/iotests"], True),
    (["."], True),
    (["tests/unit", "tests/iotests/"], True),
    (["tests/unit"], False),
    (["tests/iotests/test_1xx_access.py"], False),
    (["tests/iotests::test_101"], False),
    ([], False),
])
def test_which_arguments_name_all_iotests(tmp_path: Path, arguments: list[str],
                                          whole: bool) -> None:
    assert covers(arguments, tmp_path, tmp_path / "tests/iotests") is whole


@pytest.mark.parametrize(("problem", "named", "alone"), [
    (NothingToVerify("it is too old"), False, True),
    (NothingToVerify("it is too old"), True, False),
    (EnvironmentProblem("no space left"), False, False),
    (EnvironmentProblem("no space left"), True, False),
])
def test_without_qemu_the_model_speaks_alone_but_not_instead_of_one(
        monkeypatch: pytest.MonkeyPatch, problem: HarnessError, named: bool, alone: bool) -> None:
    def look(build: Build) -> None:
        raise problem

    monkeypatch.delenv("QEMU_BUILD", raising=False)
    monkeypatch.setattr(hosts, "find", fake_build)
    monkeypatch.setattr(hosts, "BuildHost", look)
    found = hosts.Hosts(["/a/build"] if named else [])
    if alone:
        assert found.host(None).label == "no QEMU"
    else:
        with pytest.raises(type(problem), match=str(problem)):
            found.host(None)
