# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends while requests are under way: real daemons, and some that are too hasty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest

from harness.builds import STORAGE_DAEMON, Build
from harness.clients.qmp import Qmp
from harness.exploration.directed.ends import ENDS, End, check
from harness.exploration.subjects import subject_of
from harness.storage.images import ImageStore
from harness.systems.base import Answer
from harness.systems.concurrent import Awaited, Standing
from harness.systems.held_daemon import HeldDaemon
from model.capabilities import Capabilities
from model.content import Content
from model.operations import Operation
from tests.unit.real_lab import real_build


@pytest.fixture(scope="module")
def build() -> Build:
    return real_build(STORAGE_DAEMON)


@pytest.fixture(scope="module")
def capabilities(build: Build) -> Capabilities:
    return subject_of(build).profile.capabilities


@pytest.fixture
def store(build: Build) -> Iterator[ImageStore]:
    with closing(ImageStore(build)) as found:
        yield found


def by_name(end: End) -> str:
    return end.name


@pytest.mark.parametrize("end", ENDS, ids=by_name)
def test_it_ends_as_it_must(build: Build, store: ImageStore, capabilities: Capabilities,
                            end: End) -> None:
    assert check(end, lambda images: HeldDaemon(build, images, store), capabilities) == []


class Hasty(HeldDaemon):
    """A daemon whose storage holds nothing any more once something is to end."""

    _done = False

    def apply(self, number: int, operation: Operation) -> Answer:
        self._done = True
        return super().apply(number, operation)

    def settle(self, awaited: Awaited, *, fences: bool = True) -> Standing:
        if not self._done:
            self.storage.let_go()
        self._done = False
        return super().settle(awaited, fences=fences)


@pytest.mark.parametrize("end", ENDS, ids=by_name)
def test_who_does_not_wait_is_noticed(build: Build, store: ImageStore,
                                      capabilities: Capabilities, end: End) -> None:
    assert check(end, lambda images: Hasty(build, images, store), capabilities)


class Forgetful(HeldDaemon):
    """A daemon that loses a write on its way out."""

    def wrongly_stored(self, node: str, expected: Content) -> tuple[int, bytes] | None:
        self.storage.disks["src"].zero(0, 512)
        return super().wrongly_stored(node, expected)


@pytest.mark.parametrize("end", ENDS, ids=by_name)
def test_a_lost_write_is_noticed(build: Build, store: ImageStore, capabilities: Capabilities,
                                 end: End) -> None:
    found = check(end, lambda images: Forgetful(build, images, store), capabilities)
    assert any("src" in each for each in found)


REMOVALS = [end for end in ENDS if "removed" in end.name]


@pytest.mark.parametrize("end", REMOVALS, ids=by_name)
def test_who_hangs_up_unasked_is_noticed(
        build: Build, store: ImageStore, capabilities: Capabilities, end: End,
        monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Qmp.execute

    def force(qmp: Qmp, command: str, arguments: Mapping[str, object] | None = None,
              **more: Any) -> object:
        forced = command == "block-export-del" and {**(arguments or {}), "mode": "hard"}
        return execute(qmp, command, forced or arguments, **more)

    monkeypatch.setattr(Qmp, "execute", force)
    found = check(end, lambda images: HeldDaemon(build, images, store, timeout=2), capabilities)
    assert any("block-export-del: expected to be refused" in each for each in found)
