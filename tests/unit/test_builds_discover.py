# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import select
import shutil
from pathlib import Path

import pytest

from harness.builds import HELPERS, STORAGE_DAEMON, SYSTEM, TOOLS, discover, find
from harness.errors import EnvironmentProblem
from harness.invocation import command
from tests.unit.fake_builds import write_script, write_tool


@pytest.fixture(autouse=True)
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH that may hold a QEMU."""
    folder = tmp_path / "path"
    folder.mkdir()
    for program in ("sh", "sleep"):
        (folder / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("QEMU_BUILD", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def problem(spec: Path | str | None) -> str:
    """The one line that `find` has to say."""
    with pytest.raises(EnvironmentProblem) as raised:
        find(spec if spec is None else str(spec))
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_path_is_the_default(path_folder: Path) -> None:
    for name in TOOLS:
        write_tool(path_folder, name, "7.2.22 (Debian 1:7.2+dfsg-7)")
    build = find()
    assert (build.name, build.path) == ("PATH", path_folder)
    assert build.version == "7.2.22 (Debian 1:7.2+dfsg-7)"
    assert build.missing() == {}
    for name in TOOLS:
        tool = build.tool(name)
        assert tool.argv == (str(path_folder / name),)
        assert (tool.version, tool.borrowed) == (build.version, False)


def test_environment_variable(tmp_path: Path, path_folder: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    write_tool(tmp_path / "mine")
    write_tool(path_folder)
    monkeypatch.setenv("QEMU_BUILD", str(tmp_path / "mine"))
    assert find().path == tmp_path / "mine"
    assert find("PATH").path == path_folder


def test_nothing_on_path_names_the_packages() -> None:
    assert "apt-get install qemu-system-x86 qemu-utils" in problem(None)


def test_build_tree_and_its_source_tree(tmp_path: Path) -> None:
    daemon = write_tool(tmp_path / "build/storage-daemon")
    system = write_tool(tmp_path / "build", SYSTEM, "9.1.50 (v9.1.0-12-gabcdef)")
    image = write_tool(tmp_path / "build", "qemu-img")
    for spec in (tmp_path, tmp_path / "build"):
        build = find(str(spec))
        assert [build.tool(n).path for n in (STORAGE_DAEMON, SYSTEM, "qemu-img")] == [
            daemon,
            system,
            image,
        ]
        assert build.tool(SYSTEM).version == "9.1.50 (v9.1.0-12-gabcdef)"


def test_install_tree(tmp_path: Path) -> None:
    assert find(str(write_tool(tmp_path / "bin").parent.parent)).has(STORAGE_DAEMON)


def test_path_lends_helpers_but_not_what_is_verified(tmp_path: Path, path_folder: Path) -> None:
    for name in (SYSTEM, "qemu-img", "qemu-io"):
        write_tool(path_folder, name, "1.0")
    write_tool(tmp_path / "mine")
    build = find(str(tmp_path / "mine"))
    assert build.tool("qemu-img").borrowed
    assert build.tool("qemu-img").version == "1.0"
    assert not build.tool(STORAGE_DAEMON).borrowed
    assert build.missing() == {SYSTEM: "qemu-system-x86", "qemu-nbd": "qemu-utils"}
    with pytest.raises(EnvironmentProblem, match="qemu-utils"):
        build.tool("qemu-nbd")


def test_one_binary_with_neighbours(tmp_path: Path) -> None:
    for name in TOOLS:
        write_tool(tmp_path / "mine", name)
    build = find(str(tmp_path / "mine" / STORAGE_DAEMON))
    assert set(build.tools) == {STORAGE_DAEMON, *HELPERS}
    assert not build.tool("qemu-io").borrowed


@pytest.mark.parametrize("name", [STORAGE_DAEMON, SYSTEM])
def test_one_binary_of_another_name(tmp_path: Path, name: str) -> None:
    path = write_tool(tmp_path, name).rename(tmp_path / "my-qemu")
    assert find(str(path)).tool(name).path == path


def test_helper_alone_is_refused(tmp_path: Path) -> None:
    assert "only helps" in problem(write_tool(tmp_path, "qemu-img"))
    assert f"no {STORAGE_DAEMON}" in problem(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "does not exist" in problem(tmp_path / "nowhere")
    assert "is no file" in problem("/dev/null")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_folder(tmp_path: Path) -> None:
    folder = write_tool(tmp_path / "locked/inner").parent
    (tmp_path / "locked").chmod(0)
    try:
        assert "cannot be read" in problem(folder)
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_not_executable(tmp_path: Path) -> None:
    write_tool(tmp_path).chmod(0o644)
    assert "is not executable" in problem(tmp_path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 127", "exit status 127 and says: nothing"),
        ("echo 'libfoo.so.1: cannot open' >&2; exit 127", "says: libfoo.so.1: cannot open"),
        ("kill -SEGV $$", "exit status -11"),
        ("echo hello", "says: hello"),
    ],
)
def test_prints_no_version(tmp_path: Path, script: str, said: str) -> None:
    path = write_script(tmp_path / STORAGE_DAEMON, script)
    text = problem(tmp_path)
    assert str(path) in text
    assert said in text


def test_leak_report_at_exit_is_no_fault(tmp_path: Path) -> None:
    write_script(tmp_path / STORAGE_DAEMON, f"echo '{STORAGE_DAEMON} version 9.0'; exit 23")
    assert find(str(tmp_path)).version == "9.0"


def test_cannot_be_run_here(tmp_path: Path) -> None:
    path = write_script(tmp_path / STORAGE_DAEMON, "")
    path.write_bytes(b"\x7fELF of another machine")
    assert "does not run: Exec format error" in problem(tmp_path)
    path.write_text("#!/no/such/interpreter\n")
    assert "its interpreter or loader is missing" in problem(tmp_path)


def test_hanging_tool_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover, "VERSION_TIMEOUT", 0.2)
    os.mkfifo(tmp_path / "alive")
    held = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    write_script(tmp_path / STORAGE_DAEMON, f"exec 3> {tmp_path}/alive; sleep 1000; true")
    assert "does not answer --version within 0.2 s" in problem(tmp_path)
    poll = select.poll()
    poll.register(held, 0)
    assert poll.poll(5000) == [(held, select.POLLHUP)]  # neither the script nor its sleep
    os.close(held)


def test_suites_by_name(tmp_path: Path) -> None:
    assert "known are debian:bullseye, " in problem("debian:potato")
    assert command("builds fetch debian:trixie") in problem("debian:trixie")
    folder = tmp_path / "cache/cbw-lockstep/builds/trixie"
    write_tool(folder / "usr/bin")
    build = find("debian:trixie")
    assert (build.name, build.path) == ("debian:trixie", folder)


QEMU = shutil.which(STORAGE_DAEMON)


@pytest.mark.skipif(QEMU is None, reason="no qemu-storage-daemon on PATH")
def test_unpacked_suite_runs_through_its_own_loader(tmp_path: Path) -> None:
    assert QEMU is not None
    maps = Path("/proc/self/maps").read_text().splitlines()
    host = next(line.split()[-1] for line in maps if "/ld-" in line)
    root = tmp_path / "suite"
    libraries = root / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    loader = shutil.copy(host, libraries / "ld-linux-x86-64.so.2")
    (root / "lib64").mkdir()
    (root / "lib64/ld-linux-x86-64.so.2").symlink_to("/nowhere/ld.so")
    (root / "usr/bin").mkdir()
    binary = shutil.copy(QEMU, root / "usr/bin" / STORAGE_DAEMON)
    shutil.copy(QEMU, root / "usr/bin" / SYSTEM)
    for spec in (root, root / "usr/bin", binary):
        tool = find(str(spec)).tool(STORAGE_DAEMON)
        assert tool.argv == (
            str(loader),
            "--library-path",
            f"{root}/lib/x86_64-linux-gnu:{libraries}",
            str(binary),
        )
        assert tool.path == binary
        assert tool.env == {"QEMU_MODULE_DIR": f"{libraries}/qemu"}
    system = find(str(root)).tool(SYSTEM)
    assert system.argv[3:6] == (str(system.path), "-L", f"{root}/usr/share/qemu")
