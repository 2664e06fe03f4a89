# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of mutants of the model: it can let one live, and it can catch one."""

from __future__ import annotations

import argparse
import ast
import pickle
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from harness.exploration.areas import named
from harness.exploration.building import Plan
from harness.exploration.directed.catalogue import checks
from harness.exploration.grounds import SimulatedGround
from harness.exploration.traces import TraceSource
from harness.lockstep.trace import SystemKind
from model.operations import Via
from tests.mutants import __main__ as command
from tests.mutants.explanations import Explanation, Reason, explained, explanations_of, stale
from tests.mutants.judge import Fate, Judge
from tests.mutants.operators import Mutant, mutants
from tests.mutants.reach import reach
from tests.mutants.recording import is_wanted, record
from tests.mutants.records import Pieces, dump, load
from tests.mutants.swap import Loaded

ROOT = Path(__file__).parents[2]
FILES = ("bitmap", "block_copy", "copy_before_write", "rules", "snapshot_access")
EVERYWHERE = range(1, 1000)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """With a recording of a simulation, which serves as well as a QEMU here."""
    file = tmp_path_factory.mktemp("mutants") / "recording"
    plan = Plan(channels=tuple(Via))
    traces = [(f"{area} {index}", trace)
              for area in ("bitmaps", "concurrency") for index in range(4)
              if (trace := TraceSource(plan, named(area)).trace(1, index)) is not None]
    file.write_bytes(b"".join(record(SimulatedGround(plan), 60.0, traces)))
    made = Judge(load(file), workers=2)
    assert made.texts
    assert made.watch([_loaded(name) for name in FILES]) == []
    return made


def _loaded(name: str) -> Loaded:
    return Loaded.of(Path(f"model/{name}.py"))


def _fate(judge: Judge, name: str, old: str, new: str, lines: range = EVERYWHERE) -> Fate:
    module = _loaded(name)
    assert module.source.count(old) == 1
    mutant = Mutant(0, "", ast.parse(module.source.replace(old, new)), lines)
    [judged] = judge.judge(module, [mutant])
    assert judged.mutant is mutant
    return judged.fate


@pytest.mark.parametrize(("name", "old", "new"), [
    ("bitmap", "return number - number % unit", "return (number // unit) * unit"),
    ("bitmap", "SMALLEST_GRANULARITY: Final = 512", "SMALLEST_GRANULARITY: Final = int('512')"),
])
def test_what_is_the_same_lives(name: str, old: str, new: str, judge: Judge) -> None:
    assert _fate(judge, name, old, new) is Fate.SURVIVED


@pytest.mark.parametrize(("name", "old", "new"), [
    pytest.param("bitmap", "return number - number % unit", "return number + number % unit",
                 id="in a function"),
    pytest.param("bitmap", "return number - number % unit", "return number.nothing",
                 id="raises"),
    pytest.param("bitmap", "return number - number % unit", "while True: pass",
                 id="goes in circles"),
    pytest.param("bitmap", "SMALLEST_GRANULARITY: Final = 512",
                 "SMALLEST_GRANULARITY: Final = 0 / 0", id="cannot be imported"),
    pytest.param("bitmap", "WORD: Final = 8", "WORD: Final = 9", id="where it is imported"),
])
def test_a_changed_one_is_caught(name: str, old: str, new: str, judge: Judge) -> None:
    assert _fate(judge, name, old, new) is Fate.CAUGHT


def test_what_importing_calls_is_judged_by_importing(judge: Judge) -> None:
    """A function that makes rules is called when the model is imported, and never again."""
    old = "carrier.fired[name] += 1"
    assert _fate(judge, "rules", old, f"{old} / 0") is Fate.CAUGHT


def test_what_no_record_does_is_told(judge: Judge) -> None:
    fate = _fate(judge, "bitmap", "return number - number % unit", "return number.nothing",
                 range(1, 2))
    assert fate is Fate.UNREACHED


def test_it_learns_which_records_catch(judge: Judge) -> None:
    before = judge.caught.total()
    _fate(judge, "bitmap", "return number - number % unit", "return number.nothing")
    assert judge.caught.total() == before + 1
    _fate(judge, "bitmap", "return number - number % unit", "return (number // unit) * unit")
    assert judge.caught.total() == before + 1


def test_what_has_caught_one_in_a_function_judges_the_next_one_there_first(judge: Judge) -> None:
    file, every = str(_loaded("bitmap").path), range(len(judge.texts))
    slowest = max(every, key=lambda each: judge.reaches[each].seconds)
    patient = replace(judge, caught=Counter(), caught_in=defaultdict(Counter))
    assert patient._few_of_each_sort(file, "here", every)[0] != slowest
    patient.caught_in["here"][slowest] += 1
    assert patient._few_of_each_sort(file, "here", every)[0] == slowest
    assert patient._few_of_each_sort(file, "there", every)[0] != slowest


def test_a_record_has_equal_data_once(judge: Judge) -> None:
    for text in judge.texts:
        record_ = pickle.loads(text)
        read = [each for each in record_.said if isinstance(each, Pieces)]
        pieces = [piece for each in read for piece in each.data]
        assert len({id(piece) for piece in pieces}) == len(set(pieces)) < len(pieces)
        assert all(each.whole().data == b"".join(each.data) for each in read)


def test_what_judges_nothing_more_is_left_out(
        judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the unchanged model does not foretell, which is named, and what does the same."""
    good, strange = pickle.loads(judge.texts[0]), pickle.loads(judge.texts[0])
    strange.said.pop()
    strange.name = "a strange one"
    recording, thinned = tmp_path / "recording", tmp_path / "thinned"
    recording.write_bytes(dump(good) + dump(strange) + dump(good))
    assert command.thin(argparse.Namespace(
        recording=recording, thinned=thinned, workers=1, alike=1)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "trace 2 is not what the unchanged model foretells: a strange one", "1 of 3 traces"]
    [kept] = load(thinned)
    assert str(pickle.loads(kept)) == "qsd: bitmaps 0"
    good.name = ""
    nodes = ", ".join(image.node for image in good.trace.configuration.images)
    assert str(good) == f"{len(good.trace.steps)} steps over {nodes}"


def test_lines_that_are_executed() -> None:
    module = _loaded("bitmap")
    from model.bitmap import DirtyBitmap

    def action() -> bool:
        DirtyBitmap(1 << 20, 1 << 16).set(0, 1)
        return True
    found = reach({str(module.path)}, action)
    text = module.source.splitlines()
    executed = {text[line - 1].strip() for line in found.lines[str(module.path)]}
    assert found.foretold
    assert "return -(-number // unit)" in executed
    assert not any(line.startswith("raise") for line in executed)
    assert not found.touches(__file__, EVERYWHERE)


@pytest.mark.parametrize(("old", "new", "quickly"), [
    ("return one", "return two", True),
    ("key=lambda each: 1", "key=lambda each: 2", True),
    ("field = 1", "field = 2", False),
    ("CONSTANT = 1", "CONSTANT = 2", False),
    ("one=1", "one=2", False),
])
def test_what_can_be_changed_in_place(old: str, new: str, quickly: bool, tmp_path: Path) -> None:
    source = "\n".join((
        "CONSTANT = 1", "class Held:", "    field = 1", "    def first(self, one=1, two=2):",
        "        return one", "def second(many):", "    return sorted(many, key=lambda each: 1)"))
    assert source.count(old) == 1
    space: dict[str, object] = {}
    code = compile(source, "it", "exec")
    exec(code, space)
    functions = (vars(space["Held"])["first"], space["second"])
    module = Loaded("it", tmp_path, source, code, functions)  # type: ignore[arg-type]
    assert module.swaps(compile(source, "it", "exec")) == []
    swaps = module.swaps(compile(source.replace(old, new), "it", "exec"))
    assert (swaps is not None) == quickly
    assert swaps is None or len(swaps) == 1


def test_of_interleavings_only_some_are_recorded() -> None:
    every = checks(SystemKind.QSD)
    left_out = [each.name for each in every if not is_wanted(each)]
    assert 0 < len(left_out) < len(every)
    for name in left_out:
        assert re.fullmatch(r"every interleaving of .*, (?!1 |2 )\d+ of \d+", name)


def test_mutants_differ_in_one_place() -> None:
    source = "\n".join(("def f(a: int = 1) -> int:", "    'Text.'", "    if a < 2:", "        g()",
                        "    return a + 1"))
    made = list(mutants(source))
    found = [ast.unparse(each.tree) for each in made]
    assert len(found) == len(set(found)) == 8
    expected = {"a <= 2": 3, "not a < 2": 3, "a: int=2": 1, "a < 3": 3, "a - 1": 5, "a + 2": 5,
                "return None": 5}
    for text, line in expected.items():
        [only] = [each for each in made if text in ast.unparse(each.tree)]
        assert line in only.lines
        assert len(only.lines) <= 2
    assert any("g()" not in each for each in found)
    assert all("Text." in each for each in found)


@pytest.mark.parametrize("name", FILES)
def test_mutants_of_the_model_are_python(name: str) -> None:
    source = (ROOT / f"model/{name}.py").read_text()
    every = list(mutants(source))
    assert len(every) > 4
    unchanged = ast.dump(ast.parse(source))
    for each in every:
        assert ast.dump(each.tree) != unchanged
        compile(each.tree, name, "exec")


def test_what_explains_a_mutant() -> None:
    source = "\n".join(("class A:", "    def f(self, a):", "        return a < 1",
                        "    def g(self, a):", "        return a < 1"))
    lines = source.splitlines()
    every = list(mutants(source))
    of_one = Explanation("A.f", "so", Reason.EQUIVALENT, frozenset({"a < 1  →  a <= 1"}))
    of_all = Explanation("A.g", "so", Reason.SILENT)
    assert [each.what for each in every if of_one.explains(each, lines[each.line - 1])] == [
        "a < 1  →  a <= 1"]
    assert {each.function for each in every
            if of_all.explains(each, lines[each.line - 1])} == {"A.g"}
    assert explained(every[0], lines, [of_all, of_one]) is (
        of_one if every[0].what in of_one.changes else None)
    assert stale([of_one, of_all], every, lines) == []
    assert stale([replace(of_one, changes=frozenset({"a > 1"})), replace(of_all, function="A.h"),
                  replace(of_one, at="nowhere")], every, lines) == [
        "A.f: a > 1", "A.h", "A.f: a < 1  →  a <= 1"]


def test_an_explanation_that_is_wrong_is_told(
        judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said to be equivalent can be judged, too."""
    file = Path("model/bitmap.py")
    module = _loaded("bitmap")
    chosen = [each for each in mutants(module.source) if each.function == "align_down"]
    said = Explanation("align_down", "not so", Reason.EQUIVALENT)
    monkeypatch.setattr(command, "explanations_of", lambda _: [said])
    assert command.judge_file(judge, file, module, chosen, False) == {
        Reason.EQUIVALENT: len(chosen)}
    assert command.judge_file(judge, file, module, chosen, True) == {Fate.MISJUDGED: len(chosen)}
    assert "caught, though explained" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted((ROOT / "tests/mutants/explained").glob("*.toml")),
                         ids=lambda file: file.stem)
def test_what_is_explained_is_there(file: Path) -> None:
    """Explanations name mutants that the model has."""
    module = ROOT / f"model/{file.stem}.py"
    source = module.read_text()
    assert stale(explanations_of(module), list(mutants(source)), source.splitlines()) == []
