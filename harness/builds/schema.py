# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build's QMP can do, by `query-qmp-schema`.

Types in the schema have meaningless names ("39"), so that every question starts at a command and
follows its argument type.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.builds.build import STORAGE_DAEMON, Tool
from harness.errors import EnvironmentProblem

QUERY_TIMEOUT = 20.0  # seconds


@dataclass(frozen=True)
class Schema:
    """The schema's entities by name."""

    entities: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parse(cls, reply: Sequence[Mapping[str, Any]]) -> Schema:
        """From what `query-qmp-schema` returns."""
        return cls({entity["name"]: entity for entity in reply})

    def has_command(self, name: str) -> bool:
        """Is there a command of that name?"""
        return self.entities.get(name, {}).get("meta-type") == "command"

    def has_argument(self, command: str, path: str) -> bool:
        """Does `command` take an argument `path`?  Dots lead into structures:
        `x-perf.min-cluster-size`.  Arguments that depend on another one's value are not looked at.
        """
        return self.has_command(command) and self._has(self._arguments(command), path)

    def has_driver(self, driver: str) -> bool:
        """Does `blockdev-add` know the block driver?"""
        return self._driver(driver) is not None

    def driver_takes(self, driver: str, path: str) -> bool:
        """Does `blockdev-add` with this driver take the option `path`, be it one of every
        driver's?"""
        options = self._driver(driver)
        return options is not None and (
            self._has(options, path) or self.has_argument("blockdev-add", path)
        )

    def _arguments(self, command: str) -> Mapping[str, Any]:
        arguments: Mapping[str, Any] = self.entities[self.entities[command]["arg-type"]]
        return arguments

    def _driver(self, driver: str) -> Mapping[str, Any] | None:
        if not self.has_command("blockdev-add"):
            return None
        for variant in self._arguments("blockdev-add").get("variants", ()):
            if variant["case"] == driver:
                return self.entities[variant["type"]]
        return None

    def _has(self, entity: Mapping[str, Any], path: str) -> bool:
        name, _, rest = path.partition(".")
        return any(
            member["name"] == name and (not rest or self._has(self.entities[member["type"]], rest))
            for structure in self._structures(entity)
            for member in structure["members"]
        )

    def _structures(self, entity: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The structures that a value of this type can be: an array's elements, an alternate's
        choices."""
        match entity["meta-type"]:
            case "object":
                yield entity
            case "array":
                yield from self._structures(self.entities[entity["element-type"]])
            case "alternate":
                for choice in entity["members"]:
                    yield from self._structures(self.entities[choice["type"]])


def query_schema(tool: Tool) -> Schema:
    """Ask a short-lived storage daemon or qemu-system."""
    options = (
        ("--chardev", "stdio,id=qmp", "--monitor", "chardev=qmp")
        if tool.name == STORAGE_DAEMON
        else ("-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio")
    )
    commands = (
        {"execute": "qmp_capabilities"},
        {"execute": "query-qmp-schema", "id": "schema"},
        {"execute": "quit"},
    )
    # A file, for QEMU would drop what a pipe does not take at once when it quits; in memory, for
    # the disk may be full.
    with open(os.memfd_create("schema"), "w+b") as out:
        try:
            done = subprocess.run(
                [*tool.argv, *options],
                env=os.environ | dict(tool.env),
                input="".join(json.dumps(command) + "\n" for command in commands).encode(),
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=QUERY_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentProblem(
                f"{tool.path} does not answer query-qmp-schema within {QUERY_TIMEOUT:g} s"
            ) from None
        except OSError as error:
            raise EnvironmentProblem(f"{tool.path} does not run: {error.strerror}") from error
        out.seek(0)
        for line in out:
            if b'"schema"' in line and (reply := _reply(line)) is not None:
                return Schema.parse(reply)
    said = next(iter(done.stderr.decode(errors="replace").splitlines()), "nothing")
    raise EnvironmentProblem(
        f"{tool.path} gives no QMP schema: exit status {done.returncode}, and it says: {said}"
    )


def _reply(line: bytes) -> list[Mapping[str, Any]] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    found = isinstance(answer, dict) and answer.get("id") == "schema"
    return answer.get("return") if found else None
