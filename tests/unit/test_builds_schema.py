# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.builds import STORAGE_DAEMON, SUBJECTS, SYSTEM, Schema, find, query_schema, schema
from harness.builds.build import Tool
from harness.errors import EnvironmentProblem
from tests.unit.fake_builds import write_script


def member(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "default": None}


REPLY: list[dict[str, Any]] = [
    {"name": "blockdev-add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
    {"name": "blockdev-backup", "meta-type": "command", "arg-type": "2", "ret-type": "0"},
    {"name": "STOP", "meta-type": "event", "arg-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
    {
        "name": "1",
        "meta-type": "object",
        "tag": "driver",
        "members": [member("driver", "str"), member("node-name", "str")],
        "variants": [{"case": "copy-before-write", "type": "3"}, {"case": "raw", "type": "0"}],
    },
    {"name": "2", "meta-type": "object", "members": [member("x-perf", "4"), member("xs", "[5]")]},
    {"name": "3", "meta-type": "object", "members": [member("file", "6")]},
    {"name": "4", "meta-type": "object", "members": [member("max-workers", "int")]},
    {"name": "[5]", "meta-type": "array", "element-type": "4"},
    {"name": "6", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "1"}]},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
]


def test_commands() -> None:
    parsed = Schema.parse(REPLY)
    assert parsed.has_command("blockdev-add")
    assert not parsed.has_command("blockdev-del")
    assert not parsed.has_command("STOP")  # an event
    assert not parsed.has_command("str")


@pytest.mark.parametrize(
    ("command", "path", "expected"),
    [
        ("blockdev-backup", "x-perf", True),
        ("blockdev-backup", "x-perf.max-workers", True),
        ("blockdev-backup", "x-perf.min-cluster-size", False),
        ("blockdev-backup", "max-workers", False),
        ("blockdev-backup", "x-perf.max-workers.more", False),
        ("blockdev-backup", "xs.max-workers", True),
        ("blockdev-add", "driver", True),
        ("blockdev-add", "file", False),  # only with some drivers
        ("STOP", "driver", False),
        ("nothing", "driver", False),
    ],
)
def test_arguments(command: str, path: str, expected: bool) -> None:
    assert Schema.parse(REPLY).has_argument(command, path) is expected


@pytest.mark.parametrize(
    ("driver", "path", "expected"),
    [
        ("copy-before-write", "file", True),
        ("copy-before-write", "file.driver", True),
        ("copy-before-write", "node-name", True),
        ("copy-before-write", "bitmap", False),
        ("raw", "file", False),
        ("raw", "node-name", True),
        ("snapshot-access", "node-name", False),
    ],
)
def test_driver_options(driver: str, path: str, expected: bool) -> None:
    assert Schema.parse(REPLY).driver_takes(driver, path) is expected


def test_drivers() -> None:
    assert Schema.parse(REPLY).has_driver("copy-before-write")
    assert not Schema.parse(REPLY).has_driver("snapshot-access")
    assert not Schema.parse([]).has_driver("raw")


@pytest.mark.parametrize("name", SUBJECTS)
def test_real(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} on PATH")
    answer = query_schema(find().tool(name))
    assert answer.has_driver("raw")
    assert answer.driver_takes("qcow2", "backing.node-name")
    assert answer.has_argument("transaction", "actions.type")
    assert answer.has_command("human-monitor-command") is (name == SYSTEM)


def broken(path: Path) -> str:
    with pytest.raises(EnvironmentProblem) as raised:
        query_schema(Tool(STORAGE_DAEMON, path, (str(path),), "1.0"))
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'no stdio here' >&2; exit 1", "exit status 1, and it says: no stdio here"),
        ("kill -ABRT $$", "exit status -6"),
        ("echo 'schema, not JSON: \"schema\"'", "gives no QMP schema"),
        ('echo \'{"id": "schema", "error": {}}\'', "gives no QMP schema"),
    ],
)
def test_no_answer(tmp_path: Path, script: str, said: str) -> None:
    assert said in broken(write_script(tmp_path / "daemon", script))


def test_not_there_and_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not run: No such file" in broken(tmp_path / "daemon")
    monkeypatch.setattr(schema, "QUERY_TIMEOUT", 0.2)
    assert "within 0.2 s" in broken(write_script(tmp_path / "daemon", "exec sleep 1000"))
