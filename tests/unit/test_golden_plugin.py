# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin, run as a user runs it, on a simulated QEMU that lies when it is told to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# Imported here so that the runs inside of this one find it imported: that is most of their time.
from harness.invocation import command, program
from harness.systems import lies, simulated  # noqa: F401
from model import machine  # noqa: F401

REPOSITORY = Path(__file__).parents[2]

CONFTEST = """
import dataclasses
import os
import pytest
from harness.golden.scenario import Absent
from harness.systems.lies import catalogue
from harness.systems.simulated import Simulated
from model.capabilities import Capabilities
from model.machine import Machine

LIE = os.environ.get("TEST_LIE")
FLIPPED = os.environ.get("TEST_FLIPPED", "").split()
CAPABILITIES = dataclasses.replace(
    Capabilities(), **{name: not getattr(Capabilities(), name) for name in FLIPPED})

class Host:
    label = "QEMU 0.0"

    def capabilities(self):
        return CAPABILITIES

    def start(self, kind, configuration):
        if LIE == "absent":
            raise Absent("no qemu-storage-daemon here")
        lie = catalogue()[LIE] if LIE else None
        return Simulated(Machine(configuration, CAPABILITIES), lie)

    def folders(self, system):
        return {}

class Hosts:
    def host(self, spec):
        return Host()

@pytest.fixture(scope="session")
def golden_hosts():
    return Hosts()
"""

TEST = '''
import pytest
from model.configuration import KIB, Image

@pytest.mark.golden(varies=["copy_bitmap_on_filter"])
def test_101_write(iotest):
    """A guest writes."""
    iotest.images(Image("src", 256 * KIB, filled=((0, 256 * KIB),)), Image("tmp", 256 * KIB))
    iotest.section("Filter")
    iotest.fleecing("src", "tmp")
    iotest.write("cbw", 0, 4 * KIB)
    iotest.bitmaps("cbw", "src")
    iotest.read("acc", 0, 64 * KIB)

def test_102_bitmap(iotest):
    iotest.images(Image("src", 256 * KIB))
    iotest.bitmaps("src")
'''


class Tree:
    """A small project with two iotests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.golden = pytester.path / "golden"
        self.test = pytester.path / "tests/iotests/test_sample.py"
        self.output = ""

    def run(self, *arguments: str) -> int:
        result = self.pytester.runpytest_inprocess(*arguments)
        self.output = result.stdout.str() + result.stderr.str()
        return int(result.ret)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.golden.iterdir()) if self.golden.exists() else []

    def text(self, name: str) -> str:
        return (self.golden / name).read_text()


@pytest.fixture
def tree(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Tree:
    for name in ("CI", "QEMU_TEST_REGENERATE", "QEMU_IOTESTS_REGEN", "TEST_LIE", "TEST_FLIPPED",
                 "QEMU_BUILD", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makeini("[pytest]\naddopts = -p harness.golden.plugin -p no:cacheprovider "
                     "-p no:hypothesispytest -p no:timeout\n"
                     "testpaths = tests\n")
    pytester.path.joinpath("tests/iotests").mkdir(parents=True)
    pytester.path.joinpath("tests/conftest.py").write_text(CONFTEST)
    found = Tree(pytester)
    found.test.write_text(TEST)
    return found


@pytest.fixture
def golden(tree: Tree) -> Tree:
    """The project, its golden outputs made."""
    assert tree.run("--golden=update") == 0
    assert tree.files() == ["101-write.out", "102-bitmap.out"]
    return tree


def test_without_golden_output_a_check_fails_and_leaves_it_for_review(tree: Tree) -> None:
    assert tree.run() == 1
    assert "there is no golden output yet; model and QEMU agree" in tree.output
    assert command("golden accept 101-write") in tree.output
    assert "created: 101-write.out (waits for review)" in tree.output
    assert tree.files() == ["101-write.out.new", "102-bitmap.out.new"]


def test_update_shows_and_writes_then_check_passes(tree: Tree) -> None:
    assert tree.run("--golden=update") == 0
    assert "created: 101-write.out (written)" in tree.output
    assert '+qemu-io -c "write -P 1 0 4k" nbd:///cbw' in tree.output
    assert tree.text("101-write.out").startswith("# A guest writes.\nqemu-img create -f raw")
    assert tree.run() == 0
    assert "2 golden outputs agree with the model and QEMU 0.0" in tree.output
    assert tree.files() == ["101-write.out", "102-bitmap.out"]


@pytest.mark.parametrize("variable", ["QEMU_TEST_REGENERATE", "QEMU_IOTESTS_REGEN"])
def test_the_habits_of_upstream_update(tree: Tree, monkeypatch: pytest.MonkeyPatch,
                                       variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert tree.run() == 0
    assert tree.files() == ["101-write.out", "102-bitmap.out"]


@pytest.mark.parametrize("arguments", [[], ["--golden=update"], ["--golden=diff"]])
def test_under_ci_nothing_is_ever_written(tree: Tree, monkeypatch: pytest.MonkeyPatch,
                                          arguments: list[str]) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("QEMU_TEST_REGENERATE", "1")
    assert tree.run(*arguments) == 1
    assert tree.files() == []
    if arguments != ["--golden=diff"]:
        assert "CI is set, so nothing is written" in tree.output


def test_a_stale_golden_output_is_told_from_a_wrong_qemu(golden: Tree) -> None:
    path = golden.golden / "101-write.out"
    right = path.read_text()
    path.write_text(right.replace("wrote 4096/4096", "wrote 8192/8192"))
    assert golden.run() == 1
    assert "the golden output is stale: model and QEMU agree on another one" in golden.output
    assert "-wrote 8192/8192 bytes at offset 0\n+wrote 4096/4096 bytes" in golden.output
    assert golden.text("101-write.out.new") == right
    assert golden.run("--golden=update") == 0
    assert "changed: 101-write.out (written)" in golden.output
    assert path.read_text() == right
    assert golden.files() == ["101-write.out", "102-bitmap.out"], "nothing waits any more"


def test_diff_shows_everything_and_writes_nothing(golden: Tree) -> None:
    path = golden.golden / "101-write.out"
    path.write_text("something else\n" * 100)
    assert golden.run("--golden=diff") == 1
    assert golden.output.count("-something else") == 100
    assert golden.files() == ["101-write.out", "102-bitmap.out"]
    assert golden.run() == 1
    assert "more lines of differences" in golden.output


def test_a_lying_qemu_is_caught_and_never_becomes_golden(
        golden: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    right = golden.text("101-write.out")
    monkeypatch.setenv("TEST_LIE", "stale-data")
    assert golden.run() == 1
    assert "QEMU deviates from the model and the golden output" in golden.output
    assert "--- 101-write.out, model\n+++ QEMU" in golden.output
    assert golden.run("--golden=update") == 1
    assert "nothing is written: a log that diverges from the model" in golden.output
    assert golden.text("101-write.out") == right
    golden.golden.joinpath("101-write.out").unlink()
    assert golden.run("--golden=update") == 1
    assert golden.files() == ["102-bitmap.out"]


def test_what_the_log_does_not_show_is_compared_too(
        golden: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """102 shows the bitmaps of src only, before anything is done; 101 shows them once."""
    monkeypatch.setenv("TEST_LIE", "extra-bitmap")
    assert golden.run() == 1
    assert "+*** bitmaps of node" in golden.output


def test_a_crash_is_a_difference(golden: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LIE", "crash")
    assert golden.run() == 1
    assert "+*** crash: " in golden.output


def test_an_unused_golden_output_fails_a_full_run_only(golden: Tree) -> None:
    (golden.golden / "103-gone.out").write_text("left behind\n")
    for full in ([], ["tests"], ["tests/iotests"], ["-n2"], ["--golden=update"]):
        assert golden.run(*full) == 1, full
        assert "unused: 103-gone.out (no test has it" in golden.output
        assert "2 passed" in golden.output
    sample = "tests/iotests/test_sample.py"
    for part in (["-k", "101"], [sample], [f"{sample}::test_101_write"],
                 ["--deselect", f"{sample}::test_102_bitmap"]):
        assert golden.run(*part) == 0, part


def test_a_test_that_cannot_be_collected_makes_no_golden_output_unused(golden: Tree) -> None:
    golden.test.with_name("test_other.py").write_text("def test_103_more(iotest): pass\n")
    assert golden.run("--golden=update") == 0
    golden.test.with_name("test_other.py").write_text("import nothing_of_that_name\n")
    golden.run()
    assert "unused:" not in golden.output


def test_in_several_processes(tree: Tree) -> None:
    assert tree.run("-n2", "--golden=update") == 0
    assert "created: 102-bitmap.out (written)" in tree.output
    assert tree.run("-n2") == 0
    assert "2 golden outputs agree with the model and QEMU 0.0" in tree.output
    assert tree.files() == ["101-write.out", "102-bitmap.out"]


def test_without_qemu_the_model_is_compared(golden: Tree,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LIE", "absent")
    assert golden.run() == 0
    assert "2 more agree with the model; no QEMU of their kind was asked" in golden.output
    assert "no QEMU asked in 2 tests: no qemu-storage-daemon here" in golden.output
    path = golden.golden / "102-bitmap.out"
    path.write_text("something else\n")
    assert golden.run("--golden=update") == 1, "no QEMU has confirmed it"
    assert "no QEMU was asked which of them is right" in golden.output
    assert path.read_text() == "something else\n"
    assert "102-bitmap.out.new" in golden.files()


def test_without_qemu_any_variant_will_do(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some outputs there is no variant for today's QEMU: all builds have a known defect."""
    monkeypatch.setenv("TEST_FLIPPED", "copy_bitmap_on_filter")
    assert tree.run("--golden=update") == 0
    monkeypatch.delenv("TEST_FLIPPED")
    monkeypatch.setenv("TEST_LIE", "absent")
    assert tree.run() == 0
    path = tree.golden / "101-write@no-copy-bitmap-on-filter.out"
    path.write_text(path.read_text() + "more\n")
    assert tree.run() == 1


def test_a_capability_has_a_file_of_its_own(golden: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FLIPPED", "copy_bitmap_on_filter")
    assert golden.run() == 1
    assert "101-write@no-copy-bitmap-on-filter: there is no golden output yet" in golden.output
    assert golden.run("--golden=update") == 0
    assert golden.files() == ["101-write.out", "101-write@no-copy-bitmap-on-filter.out",
                              "102-bitmap.out"]
    assert golden.run() == 0
    monkeypatch.delenv("TEST_FLIPPED")
    assert golden.run() == 0


def test_the_variants_of_other_builds_cannot_go_stale_unseen(
        golden: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    other = golden.golden / "101-write@no-copy-bitmap-on-filter.out"
    other.write_text(golden.text("101-write.out"))
    assert golden.run() == 1
    assert ("101-write@no-copy-bitmap-on-filter: golden output and model differ; no QEMU of that "
            "kind was asked") in golden.output
    assert golden.run("--golden=update") == 0
    assert other.read_text() == golden.text("101-write.out"), "not confirmed, so not written"
    monkeypatch.setenv("TEST_FLIPPED", "copy_bitmap_on_filter")
    waiting = golden.text(other.name + ".new")
    assert golden.run("--golden=update") == 0
    assert other.read_text() == waiting


def test_capabilities_that_matter_must_be_declared_and_no_others(golden: Tree) -> None:
    golden.test.write_text(TEST.replace('varies=["copy_bitmap_on_filter"]', "varies=[]"))
    assert golden.run() == 1
    assert "the output depends on copy_bitmap_on_filter; say so" in golden.output
    golden.test.write_text(TEST.replace('varies=["', 'varies=["cbw_timeout_wraps", "'))
    assert golden.run() == 1
    assert "the output does not depend on cbw_timeout_wraps" in golden.output
    golden.test.write_text(TEST.replace('varies=["', 'varies=["hovering", "'))
    assert golden.run() != 0
    assert "varies: no capability is called 'hovering'" in golden.output


def test_a_wrongly_declared_output_is_not_written(tree: Tree) -> None:
    tree.test.write_text(TEST.replace('varies=["copy_bitmap_on_filter"]', "varies=[]"))
    assert tree.run("--golden=update") == 1
    assert tree.files() == ["102-bitmap.out"]


def test_two_tests_cannot_share_a_golden_output(golden: Tree) -> None:
    golden.test.with_name("test_twin.py").write_text(TEST)
    assert golden.run() != 0
    assert "have one golden name: 101-write" in golden.output


def test_a_test_that_fails_by_itself_is_not_compared(golden: Tree) -> None:
    golden.test.write_text(TEST + "    assert False, 'by itself'\n")
    assert golden.run("--golden=update") == 1
    assert "by itself" in golden.output
    assert "102-bitmap:" not in golden.output


def test_a_folder_that_cannot_be_written_is_one_line(tree: Tree) -> None:
    tree.golden.write_text("a file where the folder should be")
    assert tree.run("--golden=update") == 1
    assert "cannot " in tree.output
    assert "Traceback" not in tree.output


def test_a_build_that_is_not_there_is_one_line(golden: Tree) -> None:
    assert golden.run("--qemu-build", "/nowhere/qemu") == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: QEMU build /nowhere/qemu does not exist" in golden.output


def test_several_builds_share_the_golden_outputs(
        golden: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.golden.hosts.Hosts.host", lambda hosts, spec: None)
    golden.test.write_text(TEST + """
@pytest.mark.parametrize("size", [256, 512], ids=["small-one", "big"])
def test_103_sizes(iotest, size):
    iotest.images(Image("src", size * KIB))
    iotest.bitmaps("src")
""")
    builds = ["--qemu-build", "one-build", "--qemu-build", "other"]
    assert golden.run(*builds, "--golden=update") == 0
    assert "8 passed" in golden.output
    names = ["101-write.out", "102-bitmap.out", "103-sizes.big.out", "103-sizes.small-one.out"]
    assert golden.files() == names
    assert golden.run(*builds) == 0
    assert golden.run() == 0
    assert golden.files() == names


def test_the_worked_example_of_the_documents(tree: Tree,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/iotests.md: its test without the mark, on a QEMU 7.2, and on today's."""
    document = (REPOSITORY / "docs/iotests.md").read_text(encoding="utf-8").replace(
        "python -m harness", program())
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    (example,), (golden,) = ([body for kind, body in blocks if kind == each]
                             for each in ("python", "text"))
    without_mark, without_golden, *_ = (
        [line for line in body.splitlines() if "250-guest-trims" in line]
        for kind, body in blocks if kind == "console")
    tree.test.write_text("".join(line for line in example.splitlines(keepends=True)
                                 if not line.startswith("@")))
    assert tree.run() == 1
    assert set(without_mark) <= set(tree.output.splitlines())
    tree.test.write_text(example)
    monkeypatch.setenv("TEST_FLIPPED", "copy_bitmap_on_filter")
    assert tree.run() == 1
    assert set(without_golden) <= set(tree.output.splitlines())
    monkeypatch.delenv("TEST_FLIPPED")
    assert tree.run("--golden=update") == 0
    assert tree.text("250-guest-trims.out").endswith(f"\n{golden}")
