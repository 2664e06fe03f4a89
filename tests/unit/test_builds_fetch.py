# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching, from a little signed archive on this disk."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.builds import SYSTEM, TOOLS, fetch, find, query_schema
from harness.errors import EnvironmentProblem
from tests.unit.fake_builds import write_script, write_tool

NEEDED = ("apt-get", "dpkg", "dpkg-deb", "gpg")
needs_apt = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}"
)
NOBODY = 65534


def call(*argv: str | Path) -> bytes:
    return subprocess.run(argv, check=True, capture_output=True).stdout


class Archive:
    """A Debian archive with QEMU 1.0 in bookworm and 2.0 in bookworm-backports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mirror = f"copy:{root}/archive"
        self.architecture = call("dpkg", "--print-architecture").decode().strip()
        self.keyring = self.new_key("right")
        self.publish("bookworm", "1.0")
        self.publish("bookworm-backports", "2.0")

    def gpg(self, home: str, *arguments: str | Path) -> bytes:
        folder = self.root / home
        folder.mkdir(mode=0o700, exist_ok=True)
        return call("gpg", "--homedir", folder, "--batch", "--passphrase", "", *arguments)

    def new_key(self, home: str) -> Path:
        self.gpg(home, "--quick-gen-key", home, "ed25519", "sign")
        keyring = self.root / f"{home}.gpg"
        keyring.write_bytes(self.gpg(home, "--export"))
        return keyring

    def publish(self, suite: str, version: str) -> None:
        pool = self.root / "archive/pool"
        pool.mkdir(parents=True, exist_ok=True)
        index = ""
        for package, tools in (("qemu-system-x86", TOOLS[:2]), ("qemu-utils", TOOLS[2:])):
            tree = self.root / "tree" / package / version
            for tool in tools:
                write_tool(tree / "usr/bin", tool, version)
            write_script(tree / "usr/bin/chsh", "true").chmod(0o4755)
            fields = (
                f"Package: {package}\nVersion: {version}\nArchitecture: {self.architecture}\n"
                "Maintainer: Nobody <nobody@example.org>\nDescription: nothing\n"
            )
            (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
            (tree / "DEBIAN/control").write_text(fields)
            file = pool / f"{package}_{version}_{self.architecture}.deb"
            call("dpkg-deb", "--root-owner-group", "-b", tree, file)
            data = file.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            index += f"{fields}Filename: pool/{file.name}\nSize: {len(data)}\nSHA256: {digest}\n\n"
        self.sign(suite, index.encode())

    def sign(self, suite: str, index: bytes) -> None:
        folder = self.root / "archive/dists" / suite
        name = f"main/binary-{self.architecture}/Packages"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(index)
        (folder / "Release").write_text(
            f"Suite: {suite}\nCodename: {suite}\nComponents: main\n"
            f"Architectures: {self.architecture}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {name}\n"
        )
        self.gpg(
            "right", "--yes", "-o", folder / "InRelease", "--clear-sign", folder / "Release"
        )


@pytest.fixture(scope="module")
def pristine() -> Iterator[Archive]:
    # Short, for gpg-agent's socket; and nobody must be able to enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        archive = Archive(Path(folder))
        yield archive
        for home in archive.root.glob("*/private-keys-v1.d"):
            call("gpgconf", "--homedir", home.parent, "--kill", "gpg-agent")


@pytest.fixture
def archive(pristine: Archive) -> Iterator[Archive]:
    """To be spoiled."""
    good = pristine.root / "good"
    shutil.copytree(pristine.root / "archive", good)
    yield pristine
    shutil.rmtree(pristine.root / "archive")
    good.rename(pristine.root / "archive")


def refused(archive: Archive, destination: Path, keyring: Path | None = None) -> str:
    with pytest.raises(EnvironmentProblem) as raised:
        fetch("debian:bookworm", destination, mirror=archive.mirror,
              keyring=keyring or archive.keyring)  # fmt: skip
    assert not destination.exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@needs_apt
@pytest.mark.parametrize(
    ("suite", "version"), [("debian:bookworm", "1.0"), ("debian:bookworm-backports", "2.0")]
)
def test_fetch_and_use(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str, version: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    root = fetch(suite, progress=said.append, mirror=archive.mirror, keyring=archive.keyring)
    assert root == tmp_path / "cbw-lockstep/builds" / suite.removeprefix("debian:")
    assert list(root.parent.iterdir()) == [root]
    assert "unpacking 2 packages" in said
    build = find(suite)
    assert (build.name, build.version, build.missing()) == (suite, version, {})
    assert (root / "usr/bin/chsh").stat().st_mode & 0o7777 == 0o755
    # Again: nothing is asked of a mirror.
    assert fetch(suite, mirror="copy:/nowhere", keyring=archive.keyring) == root


def _fetch_until_unpacked(archive: Archive, destination: Path) -> None:
    """A fetch that is interrupted when all is downloaded."""
    def interrupt(line: str) -> None:
        if line.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("debian:bookworm", destination, interrupt,
              mirror=archive.mirror, keyring=archive.keyring)  # fmt: skip


@needs_apt
def test_interrupted_fetch_is_taken_up(archive: Archive, tmp_path: Path) -> None:
    destination = tmp_path / "bookworm"
    _fetch_until_unpacked(archive, destination)
    assert not destination.exists()
    shutil.rmtree(archive.root / "archive/pool")
    said: list[str] = []
    fetch("debian:bookworm", destination, said.append,
          mirror=archive.mirror, keyring=archive.keyring)  # fmt: skip
    assert find(str(destination)).missing() == {}


@needs_apt
def test_what_was_damaged_meanwhile_is_downloaded_again(archive: Archive, tmp_path: Path) -> None:
    """Of a package that is there already apt looks at the size only."""
    destination = tmp_path / "bookworm"
    _fetch_until_unpacked(archive, destination)
    package = next((tmp_path / ".bookworm.fetch/var/cache/apt/archives").glob("qemu-utils_*.deb"))
    data = package.read_bytes()
    package.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    said: list[str] = []
    fetch("debian:bookworm", destination, said.append,
          mirror=archive.mirror, keyring=archive.keyring)  # fmt: skip
    assert f"{package.name} is damaged: downloading it again" in said
    assert find(str(destination)).missing() == {}


@needs_apt
def test_older_version_from_before_is_dropped(archive: Archive, tmp_path: Path) -> None:
    destination = tmp_path / "bookworm"
    archives = tmp_path / ".bookworm.fetch/var/cache/apt/archives"
    archives.mkdir(parents=True)
    old = next((archive.root / "archive/pool").glob("qemu-utils_1.0_*"))
    tree = archive.root / "tree/qemu-utils/1.0"
    (tree / "DEBIAN/control").write_text(
        (tree / "DEBIAN/control").read_text().replace("Version: 1.0", "Version: 0.9")
    )
    (tree / "stale").touch()
    call("dpkg-deb", "-b", tree, archives / old.name.replace("1.0", "0.9"))
    fetch("debian:bookworm", destination, mirror=archive.mirror, keyring=archive.keyring)
    assert not (destination / "stale").exists()


@needs_apt
def test_foreign_signature_is_refused(archive: Archive, tmp_path: Path) -> None:
    text = refused(archive, tmp_path / "suite", archive.new_key("wrong"))
    assert "debian-archive-keyring" in text


@needs_apt
def test_unsigned_archive_is_refused(archive: Archive, tmp_path: Path) -> None:
    (archive.root / "archive/dists/bookworm/InRelease").unlink()
    assert "is not signed" in refused(archive, tmp_path / "suite")


@needs_apt
def test_changed_release_is_refused(archive: Archive, tmp_path: Path) -> None:
    release = archive.root / "archive/dists/bookworm/InRelease"
    release.write_text(release.read_text().replace("Suite: bookworm", "Suite: Bookworm"))
    refused(archive, tmp_path / "suite")


@needs_apt
def test_changed_package_is_refused(archive: Archive, tmp_path: Path) -> None:
    package = next((archive.root / "archive/pool").glob("qemu-utils_1.0_*"))
    data = package.read_bytes()
    package.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "E: Failed to fetch" in refused(archive, tmp_path / "suite")


@needs_apt
def test_missing_mirror(archive: Archive, tmp_path: Path) -> None:
    shutil.rmtree(archive.root / "archive/dists")
    assert "apt-get failed: E: " in refused(archive, tmp_path / "suite")


def test_unreachable_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What apt-get says through a proxy that is not there."""
    write_script(tmp_path / "bin/apt-get", """cat <<'END'
Err:1 http://deb.debian.org/debian bookworm InRelease
  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)
E: The repository 'http://deb.debian.org/debian bookworm Release' does not have a Release file.
END
exit 100""")
    write_script(tmp_path / "bin/dpkg", "echo amd64")
    write_script(tmp_path / "bin/dpkg-deb", "true")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(EnvironmentProblem, match=r"does not have a Release file\. \(Could not "
                                                 r"connect to .*Connection refused\)"):
        fetch("debian:bookworm", tmp_path / "suite", keyring=Path(__file__))


@needs_apt
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_without_root(archive: Archive) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                fetch("debian:bookworm", Path(folder, "suite"),
                      mirror=archive.mirror, keyring=archive.keyring)  # fmt: skip
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert find(f"{folder}/suite").missing() == {}
        assert Path(folder, "suite/usr/bin", SYSTEM).stat().st_uid == NOBODY


@needs_apt
def test_two_at_the_same_time(tmp_path: Path) -> None:
    """The second waits, and finds what the first has brought."""
    destination, work = tmp_path / "suite", tmp_path / ".suite.fetch"
    work.mkdir()
    descriptor = os.open(work, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    waiting = threading.Event()
    second = threading.Thread(
        target=fetch,
        args=("debian:bookworm", destination, lambda line: waiting.set()),
        kwargs={"mirror": "copy:/nowhere", "keyring": Path(__file__)},
    )
    second.start()
    assert waiting.wait(10)
    destination.mkdir()
    os.close(descriptor)
    second.join(10)
    assert not second.is_alive()
    assert list(destination.iterdir()) == []


def test_unknown_suite(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="known are debian:bullseye"):
        fetch("debian:potato", tmp_path / "suite")


def test_elsewhere_than_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"needs apt-get.*--qemu-build"):
        fetch("debian:bookworm", tmp_path / "suite")


@needs_apt
def test_no_keyring(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="apt-get install debian-archive-keyring"):
        fetch("debian:bookworm", tmp_path / "suite", keyring=tmp_path / "keys.gpg")


@needs_apt
def test_unwritable_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="XDG_CACHE_HOME chooses another place"):
        fetch("debian:bookworm", tmp_path / "file" / "suite", keyring=Path(__file__))


@pytest.mark.network
@needs_apt
@pytest.mark.parametrize("suite", ["debian:bullseye", "debian:trixie-backports"])
def test_real(tmp_path: Path, suite: str, request: pytest.FixtureRequest) -> None:
    if "network" not in request.config.option.markexpr:
        pytest.skip("needs a Debian mirror; run with -m network")
    build = find(str(fetch(suite, tmp_path / "suite")))
    assert build.missing() == {}
    schema = query_schema(build.tool(SYSTEM))
    assert schema.has_driver("snapshot-access") is (suite != "debian:bullseye")
