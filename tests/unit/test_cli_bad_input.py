# SPDX-License-Identifier: GPL-2.0-or-later
"""Mistakes of the user and shortcomings of the machine: one line, the right exit code, no trace
left behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.builds import STORAGE_DAEMON, Build, find
from harness.errors import EnvironmentProblem
from harness.invocation import program
from harness.lockstep.trace import Header, Step, Trace, load, save
from model import operations as ops
from model.configuration import Configuration, Format, Image, Protocol
from tests.unit.cli_lab import ROOT, harness, is_one_line, with_environment
from tests.unit.fake_builds import write_script, write_tool


@pytest.fixture
def build() -> Build:
    """A real one."""
    try:
        found = find()
    except EnvironmentProblem as why:
        pytest.skip(str(why))
    if not found.has(STORAGE_DAEMON):
        pytest.skip("no qemu-storage-daemon")
    return found


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files, to be empty at the end; short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


# The command line itself.


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "no command given"),
    (["frobnicate"], "invalid choice: 'frobnicate'"),
    (["verify", "--frobnicate"], "unrecognized arguments: --frobnicate (see "
                                 f"{program()} verify --help)"),
    (["builds", "show", "--all"], f"(see {program()} builds show --help)"),
    (["verify", "--seconds", "soon"], "--seconds: expected a number of seconds above 0, not "
                                      f"'soon' (see {program()} verify --help)"),
    (["verify", "--area", ","], "--area: expected names, not ','"),
    (["verify", "--output", "/dev/null"], "cannot write to /dev/null: it is not a folder; "
                                          "--output chooses another place"),
    (["verify", "--seconds", "-1"], "above 0"),
    (["verify", "--steps", "0"], "above 0"),
    (["verify", "--seed", "x"], "expected a whole number, not 'x'"),
    (["verify", "--seconds", "1", "--steps", "1"], "not allowed with"),
    (["verify", "--area", "acess"], "no area is called 'acess'; there are: everything, access"),
    (["replay"], "TRACE"),
    (["compare", "one"], "BUILD"),
    (["builds", "fetch", "debian:potato"], "invalid choice: 'debian:potato'"),
])
def test_a_wrong_command_line_is_one_line(arguments: list[str], said: str,
                                          tmp_path: Path) -> None:
    done = harness(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert is_one_line(done.stderr)


@pytest.mark.parametrize("command", ["", "verify", "replay", "shrink", "compare", "golden",
                                     "builds", "builds list", "builds show", "builds fetch",
                                     "bench"])
def test_every_command_has_help_with_examples(command: str, tmp_path: Path) -> None:
    done = harness(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "exit codes: 0 " in done.stdout
    assert (f"{program()} {command}" in done.stdout.split("examples:")[-1]) or not command


# Builds.


def test_a_build_that_does_not_exist(tmp_path: Path) -> None:
    done = harness("verify", "--qemu-build", "/nowhere/qemu", cwd=tmp_path)
    assert done.returncode == 2
    assert "QEMU build /nowhere/qemu does not exist" in done.stderr
    assert is_one_line(done.stderr)


@pytest.mark.parametrize("command", ["verify", "compare"])
def test_a_second_build_that_does_not_exist(command: str, tmp_path: Path, build: Build) -> None:
    builds = (build.path, "/nowhere/qemu")
    options = [("--qemu-build", each) if command == "verify" else (each,) for each in builds]
    done = harness(command, *itertools.chain(*options), "--seconds", "60", cwd=tmp_path)
    assert done.returncode == 2
    assert "QEMU build /nowhere/qemu does not exist" in done.stderr
    assert is_one_line(done.stderr), "nothing is said of the first yet"


def test_a_folder_without_qemu(tmp_path: Path) -> None:
    done = harness("verify", "--qemu-build", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "no qemu-storage-daemon" in done.stderr
    assert "apt-get install" in done.stderr
    assert is_one_line(done.stderr)


def test_no_qemu_anywhere(tmp_path: Path) -> None:
    done = harness("verify", cwd=tmp_path, PATH=str(tmp_path), QEMU_BUILD="")
    assert done.returncode == 2
    assert "on PATH" in done.stderr
    assert is_one_line(done.stderr)


def test_a_broken_binary(tmp_path: Path) -> None:
    write_script(tmp_path / STORAGE_DAEMON, "echo 'cannot open shared object' >&2; exit 127")
    done = harness("verify", "--qemu-build", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot open shared object" in done.stderr
    assert is_one_line(done.stderr)


def test_a_binary_that_does_nothing_but_tell_its_version(tmp_path: Path) -> None:
    write_tool(tmp_path)
    done = harness("verify", "--qemu-build", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "gives no QMP schema" in done.stderr
    done = harness("golden", "check", "--qemu-build", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "gives no QMP schema" in done.stderr
    assert is_one_line(done.stderr)


def test_a_build_without_snapshot_access(tmp_path: Path) -> None:
    """Such as Debian 11's 5.2: its blockdev-add knows neither driver."""
    schema = [{"name": "blockdev-add", "meta-type": "command", "arg-type": "0", "ret-type": "1"},
              {"name": "0", "meta-type": "object", "members": [], "variants": []},
              {"name": "1", "meta-type": "object", "members": []}]
    answer = json.dumps({"return": schema, "id": "schema"})
    write_script(tmp_path / STORAGE_DAEMON, f"""
if [ "$1" = --version ]; then echo 'qemu-storage-daemon version 5.2.0 (old)'; exit; fi
cat >/dev/null; echo '{answer}'""")
    done = harness("verify", "--qemu-build", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "(5.2.0 (old)) has no snapshot-access" in done.stderr
    assert "QEMU 7.0 and later have it" in done.stderr
    assert "Traceback" not in done.stderr


# Traces.


def _trace(path: Path, *lines: str) -> Path:
    header = '{"cbw-lockstep": 1, "configuration": {"images": [{"node": "src", "size": 65536}]}}'
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


@pytest.mark.parametrize("command", ["replay", "shrink"])
@pytest.mark.parametrize(("line", "said"), [
    ('{"n": 1, "op": "frobnicate"}', "no operation is called 'frobnicate'"),
    ('{"n": 1, "op": "read", "node": "src", "colour": 3}', "colour"),
    ('{"n": 1, "op": "read"}', "node"),
    ('{"n": 1, "op"', "cut off"),
])
def test_a_trace_that_is_none(command: str, line: str, said: str, tmp_path: Path) -> None:
    path = _trace(tmp_path / "bad.jsonl", line)
    if "cut off" in said:
        path.write_text(path.read_text().rstrip("\n"))
    done = harness(command, path, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{path}:2: " in done.stderr
    assert said in done.stderr
    assert is_one_line(done.stderr)


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    done = harness("replay", tmp_path / "none.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot read the trace" in done.stderr
    assert is_one_line(done.stderr)


def test_an_operation_that_no_client_could_send(tmp_path: Path) -> None:
    path = _trace(tmp_path / "t.jsonl", '{"n": 1, "op": "read", "node": "src", "length": 512}')
    done = harness("replay", path, "--simulated", cwd=tmp_path)
    assert done.returncode == 2
    assert "operation 1 (read src 0 512)" in done.stderr
    assert is_one_line(done.stderr)


# Files.


@pytest.mark.parametrize("option", ["--output", "--json", "--junit"])
def test_a_place_that_cannot_be_written(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "below"
    done = harness("verify", option, place, cwd=tmp_path)
    assert done.returncode == 2
    assert f"cannot write to {place}: Not a directory" in done.stderr
    assert is_one_line(done.stderr)


def test_a_temporary_folder_that_is_not_there(tmp_path: Path, build: Build) -> None:
    done = harness("verify", "--steps", "10", cwd=tmp_path, TMPDIR="/proc/none")
    assert done.returncode == 2
    assert done.stderr == "harness: TMPDIR is /proc/none, which is not a folder\n"


def test_a_temporary_folder_of_an_odd_name(build: Build, tmp_path: Path,
                                           temporary: Path) -> None:
    """Jenkins' folders have the name of a job, whatever that is; all tools are to find their
    sockets and images there."""
    folder = temporary / "a b%2f,'\u00e9&"
    folder.mkdir()
    path = tmp_path / "t.jsonl"
    save(path, Trace(Header(Configuration((Image("src", 65536, Format.QCOW2, filled=((0, 512),)),
                                           Image("nbd", 65536, protocol=Protocol.NBD)))), tuple(
        Step(number, operation) for number, operation in enumerate((
            ops.AddFilter("cbw", "src", "nbd"), ops.Export("cbw"),
            *(ops.Read("cbw", 0, 512, via) for via in (ops.Via.NBD, ops.Via.QEMU_IO)),
            ops.Write("cbw", 0, 512, ops.Via.QEMU_IO), ops.Inspect("nbd")), start=1))))
    done = harness("replay", path, "--qemu-build", build.path, cwd=tmp_path, TMPDIR=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr


# A QEMU that is killed half way; a user who interrupts.


def _left_behind(temporary: Path) -> list[str]:
    """What is still there of a run whose temporary files were made in this folder."""
    found = [str(path) for path in temporary.iterdir()]
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(temporary) in command:
                found.append(command)
    return found


def test_a_qemu_that_is_killed_half_way(build: Build, tmp_path: Path, temporary: Path) -> None:
    real = build.tool(STORAGE_DAEMON)
    shots = tmp_path / "shots"
    shots.mkdir()
    environment = " ".join(f"{name}='{value}'" for name, value in real.env.items())
    write_script(tmp_path / STORAGE_DAEMON, f"""
for shot in {shots}/*; do
    fired="{tmp_path}/fired.$$"
    if mv "$shot" "$fired" 2>/dev/null; then
        touch "$fired"
        (while kill -0 $$; do  # until a trace is well under way, of which this is the QEMU
            if find "{temporary}" -name current.trace -newer "$fired" -size +2 | grep -q .; then
                kill -9 $$
            fi
            sleep 0.01
        done) >/dev/null 2>&1 </dev/null &
        break
    fi
done
exec env {environment} {' '.join(real.argv)} "$@"
""")
    with subprocess.Popen(
            [sys.executable, "-m", "harness", "verify", "--qemu-build", tmp_path, "--area",
             "tails,access", "--steps", "1300", "--workers", "1", "--json", "out.json"],
            cwd=tmp_path, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=with_environment(
                {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(tmp_path)})) as run:
        _await_line(run, "verifying")
        for shot in range(4):
            (shots / str(shot)).touch()
        out, err = run.communicate(timeout=120)
    assert run.returncode == 1, err + out
    crashes = [each for each in json.loads((tmp_path / "out.json").read_text())["divergences"]
               if each["verdict"] == "crash"]
    assert [each for each in crashes if "SIGKILL" in each["summary"]], crashes
    assert all(Path(tmp_path, each["trace"]).exists() for each in crashes)
    assert "not seen again" in out
    assert _left_behind(temporary) == []


def _await_line(run: subprocess.Popen[str], word: str) -> None:
    assert run.stderr is not None
    said = []
    for line in run.stderr:
        if word in line:
            return
        said.append(line)
    pytest.fail("".join(said))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_behind(
        build: Build, workers: str, blow: signal.Signals, tmp_path: Path,
        temporary: Path) -> None:
    with subprocess.Popen(
            [sys.executable, "-m", "harness", "verify", "--seconds", "60", "--workers", workers],
            cwd=tmp_path, env=with_environment({"TMPDIR": str(temporary),
                                                "XDG_CACHE_HOME": str(tmp_path)}), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        _await_line(run, "verifying")
        _wait_for_a_trace(run, temporary)
        run.send_signal(blow)
        out, err = run.communicate(timeout=60)
    if blow is signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
    else:
        assert run.returncode == 130, err
        assert "Traceback" not in err
        assert "INTERRUPTED" in out
    deadline = time.monotonic() + 20
    while _left_behind(temporary) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _left_behind(temporary) == []
    if blow is signal.SIGKILL and workers == "1":
        done = harness("verify", "--simulated", "--steps", "1", cwd=tmp_path,
                       XDG_CACHE_HOME=str(tmp_path))
        (kept,) = (tmp_path / "lockstep-output").iterdir()
        assert f"in the middle of a trace, which is now lockstep-output/{kept.name}" in done.stderr
        assert load(kept)


def _wait_for_a_trace(run: subprocess.Popen[str], temporary: Path) -> None:
    """Until some process is in the middle of a trace.  Folders come and go meanwhile, which
    ``os.walk`` does not mind."""
    deadline = time.monotonic() + 60
    while not any("current.trace" in files for _, _, files in os.walk(temporary)):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What works.


def test_a_trace_replays_on_the_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    save(path, Trace(Header(Configuration((Image("src", 65536), Image("tmp", 65536)))), tuple(
        Step(number, operation) for number, operation in enumerate((
            ops.AddFilter("cbw", "src", "tmp"), ops.Export("cbw"), ops.Write("cbw", 0, 512),
            ops.Read("cbw", 0, 512)), start=1))))
    done = harness("replay", path, "--simulated", "-v", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "CONFORMS: 4 steps" in done.stdout
    assert "write cbw 0 512" in done.stdout
    assert "cbw: anonymous" in done.stdout


def test_without_libnbd_qemu_io_carries_the_run(build: Build, tmp_path: Path,
                                                temporary: Path) -> None:
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(
        "import importlib.machinery, sys\n"
        "sys.modules['nbd'] = None\n"
        "importlib.machinery.EXTENSION_SUFFIXES.clear()\n")
    done = harness("verify", "--steps", "600", "--area", "tails,zeroes,status", "--workers", "1",
                   "--seed", "3", "--no-directed", "--json", "out.json", cwd=tmp_path,
                   TMPDIR=str(temporary), PYTHONPATH=f"{blind}:{ROOT}",
                   XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode in (0, 1), done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["steps"] >= 600
    assert [each for each in result["not_checked"] if "python3-libnbd" in each]
    assert "status" not in result["operations"]
    assert _left_behind(temporary) == []
