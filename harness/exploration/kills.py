# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU killed under load, again and again over the same images; what it promised to keep is there.

After each kill: ``qemu-img check`` finds nothing corrupt (leaked clusters are allowed); every
block of the active disk is as QEMU promised, or newer (:mod:`harness.exploration.durability`); a
persistent bitmap that was in the image is inconsistent, and one that was never stored is gone.
After a good end in between: every persistent bitmap is as it was, bit for bit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from harness import stamps
from harness.builds import Build
from harness.clients.nbd import NbdClient, poll_any
from harness.clients.nbd_types import Completion, Token
from harness.errors import EnvironmentProblem
from harness.exploration.durability import ANYTHING, Change, Durable
from harness.exploration.load_oracle import BLOCK, Wrong
from harness.lockstep import human
from harness.systems.failure import SystemFailed
from harness.systems.image_check import examine
from harness.systems.probes import GRAPH
from harness.systems.qmp_system import QmpSystem
from model import operations as ops
from model.bitmap import align_down, align_up
from model.configuration import KIB, MIB, Configuration, Format, Image
from model.content import ZERO, Stamp, initial_stamp
from model.operations import BitmapRef
from model.outcome import BitmapView

SIZE: Final = 2 * MIB
GUESTS: Final = 3
DEPTH: Final = 8
"""Requests that each client has under way."""
MOST: Final = 150
"""Requests of a round, at most."""
ROUNDS: Final = 40
"""Of one pair of images."""
_PATIENCE: Final = 30.0
_GRANULARITY: Final = 64 * KIB
_CLUSTER: Final = 64 * KIB
_TRIES: Final = 8


def _image(node: str, image_format: Format, cluster: int | None = None) -> Image:
    filled = ((0, SIZE // 2),) if node == "src" else ()
    return Image(node, SIZE, image_format, cluster_size=cluster, filled=filled)


IMAGES: Final = (
    Configuration((_image("src", Format.QCOW2, 64 * KIB), _image("tmp", Format.QCOW2, 64 * KIB))),
    Configuration((_image("src", Format.QCOW2, 4 * KIB), _image("tmp", Format.RAW))),
    Configuration((_image("src", Format.RAW), _image("tmp", Format.QCOW2, 4 * KIB))),
)
"""What is killed, in turn."""


class End(Enum):
    """How a round ends."""

    KILLED = auto()
    """With requests under way."""
    KILLED_ENDING = auto()
    """While QEMU ends by itself, and stores its bitmaps."""
    WELL = auto()


_ENDS: Final = (End.KILLED,) * 6 + (End.KILLED_ENDING,) * 3 + (End.WELL,)


@dataclass
class Kills:
    """What the rounds came to."""

    rounds: int = 0
    kills: int = 0
    requests: int = 0
    foreign: int = 0
    """Blocks that were being freed, and hold another's data."""
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    place: tuple[str, ...] = ()
    """Where the violations were, in lines: the images, the round, what it is drawn from."""

    @property
    def summary(self) -> str:
        """In one line."""
        return (f"{human.counted(self.kills, 'kill')} in {human.counted(self.rounds, 'round')}, "
                f"{human.counted(self.requests, 'request')} answered, {self.seconds:.0f} s; "
                f"{self.foreign} blocks that were being freed hold another's data; "
                f"{human.counted(len(self.violations), 'violation')}")


def kill_rounds(start: Callable[[Configuration], QmpSystem], build: Build, seconds: float,
                seed: int, rounds: int | None = None) -> Kills:
    """Rounds until the time is up, or so many are done, or something is lost.

    Raises HarnessError; needs a qemu-img.
    """
    if not build.has("qemu-img"):
        raise EnvironmentProblem("no qemu-img is here to look at images with: "
                                 "apt-get install qemu-utils")
    kills = Kills()
    begun = time.monotonic()
    number = 0
    while not kills.violations and time.monotonic() - begun < seconds and (
            rounds is None or kills.rounds < rounds):
        configuration = IMAGES[number % len(IMAGES)]
        system = start(configuration)
        try:
            dice = random.Random(f"{seed}/{number}")
            victim = _Victim(system, build, configuration, kills, dice)
            for number_of_round in range(ROUNDS):
                kills.place = (
                    *human.configuration(configuration),
                    f"round {number_of_round + 1} over these images, drawn from seed "
                    f"{seed}/{number}")
                victim.round()
                if kills.violations or time.monotonic() - begun >= seconds or (
                        kills.rounds == rounds):
                    break
        except SystemFailed as why:
            kills.violations.append(f"{why.verdict}: {why}")
        finally:
            system.close()
        number += 1
    kills.seconds = time.monotonic() - begun
    return kills


@dataclass(slots=True)
class _Flight:
    """A request under way."""

    begun: int
    change: Change | None = None
    lasts: bool = False
    flush: bool = False
    start: int = 0
    end: int = 0
    frees: bool = False


@dataclass(frozen=True, slots=True)
class _Bitmaps:
    """The persistent bitmaps that an image may be found with, and their digests."""

    views: Mapping[str, BitmapView]
    digests: Mapping[str, str]


class _Victim:
    """A system that is killed and started again over the same images."""

    def __init__(self, system: QmpSystem, build: Build, configuration: Configuration,
                 kills: Kills, dice: random.Random) -> None:
        self._system = system
        self._build = build
        self._configuration = configuration
        self._kills = kills
        self._dice = dice
        source = configuration.images[0]
        self._raw = source.format is Format.RAW
        half = SIZE // 2 // BLOCK
        self._content: list[Stamp] = [initial_stamp(0)] * half + [ZERO] * half
        self._stored: dict[str, BitmapView] = {}
        """The bitmaps that the image had when it was opened, as they were loaded."""
        self._expected = [_Bitmaps({}, {})]
        """Either of these is what the image must be found with."""
        self._number = 1000
        self._now = 0

    def round(self) -> None:
        """From a start to an end, and what is left then."""
        self._kills.rounds += 1
        self._look_at_bitmaps()
        self._change_bitmaps()
        self._do_all(GRAPH)
        end = self._dice.choice(_ENDS)
        self._disk = Durable(SIZE, self._content)
        self._flights: dict[tuple[int, Token], _Flight] = {}
        with ExitStack() as stack:
            clients = [stack.enter_context(NbdClient.connect(
                str(self._system.workspace.socket("nbd")), "cbw", timeout=_PATIENCE))
                for _ in range(GUESTS)]
            self._put(clients, self._dice.randrange(MOST), finish=end is not End.KILLED)
            self._end(end)
        if self._kills.violations:
            return
        self._check_images()
        self._system.apply(self._next(), ops.Kill())
        self._look_at_disk()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _violated(self, what: str) -> None:
        self._kills.violations.append(f"round {self._kills.rounds}: {what}")

    def _do_all(self, operations: tuple[ops.Operation, ...]) -> None:
        for operation in operations:
            answer = self._system.apply(self._next(), operation)
            if answer.refused is not None:
                self._violated(f"{human.operation(operation)}: {answer.refused}")

    # The end

    def _end(self, end: End) -> None:
        before = self._bitmaps() if end is not End.KILLED else None
        stored = None if before is None else _Bitmaps(
            {name: view for name, view in before.views.items() if view.persistent},
            before.digests)
        # What was in the image is marked as in use there, until it is stored again.
        killed = _Bitmaps(dict(self._stored), {})
        child = self._system.process.child
        match end:
            case End.KILLED:
                child.kill()
                self._expected = [killed]
            case End.KILLED_ENDING:
                pending = self._system.process.qmp.submit("quit")
                if self._dice.randrange(2):
                    self._system.process.qmp.result(pending)
                child.kill()
                assert stored is not None
                self._expected = [stored, killed]
            case End.WELL:
                self._system.process.qmp.execute("quit")
                ended = child.wait(_PATIENCE)
                if ended is None or ended.code != 0:
                    self._violated(f"quit: {ended or 'no end'}")
                assert stored is not None
                self._expected = [stored]
        self._kills.kills += end is not End.WELL
        if end is End.WELL:
            self._disk.flushed(self._now + 1)

    # Load

    def _put(self, clients: list[NbdClient], count: int, *, finish: bool) -> None:
        """So many answers, or so many requests and all of their answers."""
        answered = begun = 0
        while answered < count or (finish and self._flights):
            for client in clients:
                while (not finish or begun < count) and len(client.in_flight()) < DEPTH and (
                        self._request(client)):
                    begun += 1
            landed = poll_any(clients, _PATIENCE)
            if not landed:
                self._violated(f"no answer in {_PATIENCE:g} s")
                return
            for client, completion in landed:
                self._landed(client, completion)
                answered += 1

    def _request(self, client: NbdClient) -> bool:
        """Send a request, if there is room for it on the disk."""
        self._now += 1
        what = self._dice.randrange(16)  # 1 flush, 10 writes, 3 zeroes, 2 discards
        if what == 0:
            self._fly(client, client.submit_flush(), _Flight(self._now, flush=True))
            return True
        offset, length = self._range(frees=what >= 11)
        if not length:
            return False
        stamp = ZERO if what >= 11 else self._next()
        change = self._disk.begin(offset, length, stamp, self._now, certain=what < 14,
                                  frees=what >= 11 and not self._raw,
                                  clears=what < 11 and not self._raw)
        lasts = what in (1, 11)
        if what < 11:
            token = client.submit_write(offset, stamps.data(stamp, offset, length), fua=lasts)
        elif what < 14:
            token = client.submit_zero(offset, length, no_hole=bool(what & 1), fua=lasts)
        else:
            token = client.submit_discard(offset, length)
        self._fly(client, token, _Flight(
            self._now, change, lasts or self._raw, start=offset, end=offset + length,
            frees=what >= 11))
        return True

    def _range(self, *, frees: bool) -> tuple[int, int]:
        """Where a request goes; length 0: nowhere.

        QEMU up to 10.0 corrupts qcow2 images where a request that frees clusters meets another in
        one of them (docs/defects.md): there they are kept apart.
        """
        for _ in range(_TRIES):
            first = self._dice.randrange(SIZE // BLOCK)
            length = min(self._dice.randint(1, 24), SIZE // BLOCK - first) * BLOCK
            offset = first * BLOCK
            low, high = align_down(offset, _CLUSTER), align_up(offset + length, _CLUSTER)
            if self._raw or not any(
                    (frees or each.frees) and low < each.end and each.start < high
                    for each in self._flights.values()):
                return offset, length
        return 0, 0

    def _fly(self, client: NbdClient, token: Token, flight: _Flight) -> None:
        self._flights[id(client), token] = flight

    def _landed(self, client: NbdClient, completion: Completion) -> None:
        flight = self._flights.pop((id(client), completion.token))
        self._now += 1
        self._kills.requests += 1
        if completion.errno:
            self._violated(f"{completion.token}: {human.error_name(completion.errno)}")
        elif flight.flush:
            self._disk.flushed(flight.begun)
        elif flight.change is not None:
            self._disk.end(completion.token.offset, completion.token.length, flight.change,
                           self._now, lasts=flight.lasts)

    # Bitmaps

    def _bitmaps(self) -> _Bitmaps:
        """The named bitmaps that the source has now."""
        views = {view.name: view for view in self._system.observe(()).bitmaps.get("src", ())
                 if view.name is not None}
        named = [BitmapRef("src", name) for name, view in views.items() if not view.inconsistent]
        digests = self._system.observe(named).digests
        return _Bitmaps(views, {name: digest for (_, name), digest in digests.items()})

    def _look_at_bitmaps(self) -> None:
        found = self._bitmaps()
        if not any(_agree(each, found) for each in self._expected):
            told = " or ".join(str(dict(each.views)) for each in self._expected)
            self._violated(f"bitmaps: expected {told}, found {dict(found.views)}")
        self._stored = dict(found.views)

    def _change_bitmaps(self) -> None:
        """Remove those of no more use, and perhaps another one; add one."""
        if self._raw:
            return
        for name, view in list(self._stored.items()):
            if view.inconsistent or self._dice.randrange(4) == 0:
                self._do_all((ops.BitmapRemove("src", name),))
                del self._stored[name]  # the image forgets it at once
        self._do_all((ops.BitmapAdd("src", f"b{self._kills.rounds}", _GRANULARITY,
                                    persistent=True),))

    # What is left

    def _check_images(self) -> None:
        for image in self._configuration.images:
            if image.format is Format.RAW:
                continue
            checked = examine(self._build, image.format, self._system.image_file(image.node),
                              leaks=True)
            if checked.damage is not None:
                self._violated(f"qemu-img check of {image.node}: {checked.damage}")

    def _look_at_disk(self) -> None:
        answer = self._system.apply(self._next(), ops.Inspect("src"))
        found = self._disk.settle(answer.data or b"")
        if isinstance(found, Wrong):
            allowed = ", ".join(map(str, found.allowed))
            what = "data of another" if any(found.found) else "zero"
            self._violated(f"block at {human.size(found.offset)}: must be of one of {allowed}, "
                           f"and is {what}")
        else:
            self._kills.foreign += sum(
                new == ANYTHING != old for new, old in zip(found, self._content, strict=True))
            self._content = found


def _agree(expected: _Bitmaps, found: _Bitmaps) -> bool:
    """Whether bitmaps are as expected: those without a digest must be inconsistent."""
    if expected.views.keys() != found.views.keys():
        return False
    for name, view in found.views.items():
        digest = expected.digests.get(name)
        if (digest is None) != view.inconsistent:
            return False
        if digest is not None and (digest != found.digests.get(name)
                                   or view.count != expected.views[name].count):
            return False
    return True
