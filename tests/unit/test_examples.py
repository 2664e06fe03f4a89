# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/examples: what can be parsed is, and what can be run is run, with stand-ins for what
would install, clone or compile."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.builds import STORAGE_DAEMON, TOOLS, Build, find
from harness.cli import parser
from harness.errors import HarnessError
from harness.lockstep import recording, trace
from harness.report.traces import Told, trace_fields

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
SECONDS = "2"


@pytest.fixture(scope="session")
def qemu() -> Build:
    try:
        build = find(None)
    except HarnessError as why:
        pytest.skip(str(why))
    if not build.has(STORAGE_DAEMON):
        pytest.skip("no qemu-storage-daemon here")
    return build


def parsed(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="no PyYAML (Debian: python3-yaml)")
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def stand_ins(folder: Path) -> str:
    """A PATH on which nothing is installed, and tox runs the harness of this checkout."""
    folder.mkdir()
    scripts = {
        "apt-get": "", "sudo": 'exec "$@"',
        "git": 'test "$1" = clone && mkdir "$5" && ln -s "$LOCKSTEP_HERE"/* "$5"',
        "ninja": 'test "$1" = -C && test -x "$2/qemu-storage-daemon"',
        "tox": _TOX,
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


_TOX = f"""
env=
while [ "$1" != -- ]; do env=$1; shift; done
shift
[ "$env" = verify ] && set -- verify "$@"
PYTHONPATH="$LOCKSTEP_HERE" exec {shlex.quote(sys.executable)} -m harness "$@"
"""


def run(lines: list[str], folder: Path, build: Build) -> subprocess.CompletedProcess[str]:
    """Run the lines of a job in a folder that looks like a checkout of QEMU."""
    work = folder / "qemu"
    work.mkdir()
    configure = work / "configure"
    tools = "\n".join(
        f"printf '#!/bin/sh\\nexec %s \"$@\"\\n' {shlex.quote(shlex.join(build.tools[name].argv))}"
        f" > {name}; chmod +x {name}" for name in TOOLS if build.has(name))
    configure.write_text(f"#!/bin/sh\n{tools}\n", encoding="utf-8")
    configure.chmod(0o755)
    environment = {**os.environ, "PATH": stand_ins(folder / "bin"), "LOCKSTEP_HERE": str(ROOT),
                   "LOCKSTEP_SECONDS": SECONDS, "LOCKSTEP_REPOSITORY": "nowhere"}
    script = "\n".join(lines).replace('PATH="/usr/bin:$PATH" ', "")
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=work, env=environment,
                          capture_output=True, text=True, check=False, timeout=240)


def made(job: Any, folder: Path) -> None:
    """Everything that is an artifact has been made, except for what only a divergence leaves."""
    for name in job["paths"]:
        assert name == "lockstep-output" or (folder / "qemu" / name).is_file(), name
    for report in job.get("reports", {}).values():
        for name in [report] if isinstance(report, str) else report:
            file = folder / "qemu" / name
            assert file.is_file(), name
            if file.suffix == ".xml":
                assert int(ElementTree.parse(file).getroot()[0].get("tests", "0")) > 0


def test_qemu_on_gitlab(qemu: Build, tmp_path: Path) -> None:
    job = parsed("qemu-gitlab-ci.yml")["copy-before-write"]
    done = run([*job["before_script"], *job["script"]], tmp_path, qemu)
    assert done.returncode in (0, 1), done.stderr
    assert "steps in " in done.stdout
    made(job["artifacts"], tmp_path)


def test_qemu_on_github(qemu: Build, tmp_path: Path) -> None:
    workflow = parsed("qemu-github-workflow.yml")
    steps = workflow["jobs"]["verify"]["steps"]
    # A step begins anew in the folder of the checkout.
    done = run([f"(\n{step['run']})" for step in steps if "run" in step], tmp_path, qemu)
    assert done.returncode in (0, 1), done.stderr
    assert "steps in " in done.stdout
    upload = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    made({"paths": upload["with"]["path"].split()}, tmp_path)


def test_a_package_on_gitlab(qemu: Build, tmp_path: Path) -> None:
    job = parsed("package-gitlab-ci.yml")["package"]
    # All golden outputs take long: here, some.
    after = [line.replace("golden check", "golden check 501") for line in job["after_script"]]
    done = run([*job["before_script"], *job["script"], *after], tmp_path, qemu)
    assert done.returncode in (0, 1), done.stderr
    assert "can do:" in done.stdout
    made(job["artifacts"], tmp_path)


def test_examples_have_options_that_there_are() -> None:
    for file in EXAMPLES.iterdir():
        text = re.sub(r"\\\n\s*", " ", file.read_text(encoding="utf-8"))
        for verify, words in re.findall(r"tox -e (verify|harness) -- ([^\n]*)", text):
            parser.parse([*(["verify"] if verify == "verify" else []), *shlex.split(
                words.replace("$LOCKSTEP_SECONDS", "5"))])


def test_every_example_is_in_the_document() -> None:
    told = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    for file in EXAMPLES.iterdir():
        assert f"(examples/{file.name})" in told


def test_the_trace_of_the_picture_diverges_where_the_picture_does() -> None:
    """The model's side is computed anew, so the picture cannot grow old unseen."""
    path = EXAMPLES / "tail.jsonl"
    fields = trace_fields(Told(trace.load(path), recording.load(recording.path_of(path))))
    assert fields["verdict"]["number"] == 11
    grid = fields["timeline"]["grids"][0]
    assert grid["columns"] == [0, 1, 2, 3, 4, 5, 6, 8, 12, 13]
    assert grid["counts"][-1] == (10, [11, 4, 7]), "QEMU's"
    done = sum((1 if value else -1) * (grid["columns"][last] - grid["columns"][first])
               for _, which, first, last, value in grid["events"] if which == 1)
    assert done == 5, "the model's"


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs/pictures/divergence.png").stat().st_size < 100_000


def test_the_container_has_what_the_readme_installs() -> None:
    text = re.sub(r"\\\n\s*", " ", (EXAMPLES / "Containerfile").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = re.search(r"--no-install-recommends ([\w -]+) &&", readme)
    assert asked is not None
    assert asked[1].strip() in text
    for sources in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in sources.split()), sources
    for command in re.findall(r"^RUN (.*)$", text, re.MULTILINE):
        subprocess.run(["sh", "-n", "-c", command], check=True)
    for words in re.findall(r"lockstep +(verify.*)$", text, re.MULTILINE):
        parser.parse(shlex.split(words.rstrip("#")))


def test_meson_calls_us(qemu: Build, tmp_path: Path) -> None:
    if shutil.which("meson") is None or shutil.which("ninja") is None:
        pytest.skip("no meson (Debian: meson)")
    snippet = (EXAMPLES / "meson.build").read_text(encoding="utf-8")
    (tmp_path / "meson.build").write_text(
        "project('qemu', meson_version: '>=0.63')\n"
        + snippet.replace("'--seconds', '60'", "'--steps', '100'")
        .replace("find_program('python3')", f"find_program({sys.executable!r})"))
    (tmp_path / "meson_options.txt").write_text(
        "option('lockstep', type: 'string', value: '')\n")
    build = tmp_path / "build"
    subprocess.run(["meson", "setup", build, tmp_path, f"-Dlockstep={ROOT}"], check=True,
                   capture_output=True)
    for name in TOOLS:
        if qemu.has(name):
            (build / name).write_text(
                f'#!/bin/sh\nexec {shlex.join(qemu.tools[name].argv)} "$@"\n')
            (build / name).chmod(0o755)
    done = subprocess.run(["meson", "test", "-C", build, "--suite", "block"], check=False,
                          capture_output=True, text=True, timeout=240)
    said = (build / "meson-logs/testlog.txt").read_text()
    assert done.returncode in (0, 1), done.stdout
    assert "TAP version 13" in said
    assert re.search(r"copy-before-write\s+(OK|FAIL)", done.stdout), done.stdout
    assert "UNKNOWN" not in done.stdout
