# SPDX-License-Identifier: GPL-2.0-or-later
"""Areas: what a run of exploration dwells on.

Every area draws from the same strategies; an area is a weighting of them.  Chances are in
sixteenths, weights are relative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from harness.errors import HarnessError
from harness.exploration.manners import Manner
from model.configuration import KIB, MIB, Format


class Scheme(Enum):
    """The graphs that a trace begins with; operations may change them later."""

    FLEECING = auto()
    """A filter over the source, snapshot-access over the filter: the new scheme."""
    CLASSIC = auto()
    """A filter whose target has the source as backing file; the client reads the target."""
    TWO_VIEWS = auto()
    """Two snapshot-access nodes over one filter."""
    STACKED = auto()
    """A filter over a filter, each with its own target and snapshot."""
    TWINS = auto()
    """Two filters over one source: QEMU allows it as long as at most one is in use."""
    NESTED = auto()
    """A filter whose source is the snapshot of another."""
    BARE = auto()
    """snapshot-access over a plain image: everything is refused."""
    LOOSE = auto()
    """Nothing set up: the operations drawn must do it."""
    DISK = auto()
    """A disk that the guest is on, and two images to copy it to."""
    PUSH = auto()
    """A filter and a snapshot, and an image to copy the snapshot to."""
    OVERLAY = auto()
    """A filter, a snapshot, and an image that has the snapshot as backing file."""


class Action(Enum):
    """What an operation of a trace is drawn as."""

    GUEST_READ = auto()
    GUEST_WRITE = auto()
    GUEST_ZERO = auto()
    GUEST_DISCARD = auto()
    FLUSH = auto()
    GUEST_STATUS = auto()
    FLEECE_READ = auto()
    FLEECE_STATUS = auto()
    FLEECE_DISCARD = auto()
    FLEECE_WRITE = auto()
    ANYONE = auto()
    """Any request to any node that takes one."""
    BITMAP_ADD = auto()
    BITMAP_REMOVE = auto()
    BITMAP_CLEAR = auto()
    BITMAP_SWITCH = auto()
    BITMAP_MERGE = auto()
    ADD_FILTER = auto()
    ADD_SNAPSHOT = auto()
    COPY_ON_READ = auto()
    OVERLAY = auto()
    REMOVE_NODE = auto()
    RESIZE = auto()
    REOPEN = auto()
    EXPORT = auto()
    UNEXPORT = auto()
    ATTACH = auto()
    INSPECT = auto()
    BACKUP = auto()
    DRIVE_BACKUP = auto()
    """Where there is a qemu-system."""
    JOB_VERB = auto()
    TRANSACTION = auto()
    PERSISTENT_BITMAP = auto()
    RESTART = auto()
    KILL = auto()


_REQUESTS: Final = MappingProxyType({
    Action.GUEST_READ: 4, Action.GUEST_WRITE: 14, Action.GUEST_ZERO: 6, Action.GUEST_DISCARD: 5,
    Action.FLUSH: 1, Action.GUEST_STATUS: 2, Action.FLEECE_READ: 16,
    Action.FLEECE_STATUS: 7, Action.FLEECE_DISCARD: 6, Action.FLEECE_WRITE: 1, Action.ANYONE: 3,
})
_REST: Final = MappingProxyType({
    Action.BITMAP_ADD: 2, Action.BITMAP_REMOVE: 1, Action.BITMAP_CLEAR: 1,
    Action.BITMAP_SWITCH: 2, Action.BITMAP_MERGE: 1, Action.ADD_FILTER: 1, Action.ADD_SNAPSHOT: 1,
    Action.REMOVE_NODE: 1, Action.RESIZE: 1, Action.EXPORT: 1, Action.UNEXPORT: 1,
    Action.ATTACH: 1, Action.INSPECT: 1,
})


_USUAL: Final = MappingProxyType({**_REQUESTS, **_REST})
_SCHEMES: Final = MappingProxyType({
    Scheme.FLEECING: 10, Scheme.CLASSIC: 2, Scheme.TWO_VIEWS: 2, Scheme.STACKED: 2,
    Scheme.TWINS: 1, Scheme.NESTED: 1, Scheme.OVERLAY: 1, Scheme.BARE: 1, Scheme.LOOSE: 1})
_SOURCES: Final = MappingProxyType({Format.RAW: 3, Format.QCOW2: 3})
_TARGETS: Final = MappingProxyType({
    Format.RAW: 8, Format.QCOW2: 8, Format.QED: 1, Format.VDI: 1, Format.VMDK: 1, Format.VHDX: 1,
    Format.VPC: 1, Format.PARALLELS: 1, Format.LUKS: 1})
_QCOW2_CLUSTERS: Final = MappingProxyType({
    512: 2, 4 * KIB: 3, 64 * KIB: 6, 128 * KIB: 2, 256 * KIB: 1, 1 * MIB: 1, 2 * MIB: 1})


@dataclass(frozen=True, slots=True)
class Area:
    """A weighting of the strategies.

    ``weight``: how many turns the area has for one of an area with weight 1.  Where one trace in
    many reaches what matters, as among the orders of overlapping requests, more of them are due.
    """

    name: str
    text: str
    actions: Mapping[Action, int] = field(default_factory=lambda: _USUAL)
    schemes: Mapping[Scheme, int] = field(default_factory=lambda: _SCHEMES)
    sources: Mapping[Format, int] = field(default_factory=lambda: _SOURCES)
    targets: Mapping[Format, int] = field(default_factory=lambda: _TARGETS)
    cluster_sizes: Mapping[int, int] = field(default_factory=lambda: _QCOW2_CLUSTERS)
    """Cluster sizes of qcow2 images."""
    tail: int = 8
    """Chance of a size that is no multiple of the cluster."""
    sizes: int = 2
    """Chance, image by image, of a size of its own: larger than the source, or smaller."""
    backing: int = 3
    """Chance of a backing file under a qcow2 source."""
    subclusters: int = 3
    """Chance that a qcow2 image has subclusters."""
    nbd: int = 2
    """Chance that an image is reached through NBD."""
    undiscarded: int = 2
    """Chance, layer by layer, that discard is off."""
    filter_bitmap: int = 7
    """Chance that a filter is given a bitmap."""
    user_bitmap: int = 6
    """Chance of each further bitmap from the start."""
    options: int = 3
    """Chance that a filter is opened with options other than the default."""
    bad_options: int = 0
    """Chance that an option, a reference or a name is wrong."""
    faults: int = 0
    """Chance, image by image, of injected errors."""
    detecting: int = 1
    """Chance that an image detects zeroes."""
    zero_data: int = 1
    """Chance that what is written is zeroes, but as data."""
    alignment: int = 1
    """Chance, image by image, of a request alignment."""
    weight: int = 1
    manner: Manner | None = None
    """How requests overlap, in an area of schedules; None: they do not."""


def _tilted(**weights: int) -> Mapping[Action, int]:
    """The usual actions, some of them with other weights."""
    changed = {Action[name.upper()]: weight for name, weight in weights.items()}
    return MappingProxyType({**_USUAL, **changed})


_ONE_SCHEME: Final = {scheme: MappingProxyType({scheme: 1}) for scheme in Scheme}
_NEW: Final = MappingProxyType({Scheme.FLEECING: 6, Scheme.TWO_VIEWS: 1})

_TIMED: Final = MappingProxyType({
    Scheme.FLEECING: 13, Scheme.TWO_VIEWS: 1, Scheme.STACKED: 2, Scheme.CLASSIC: 2})
_OVERLAPPING: Final = MappingProxyType({**_TIMED, Scheme.DISK: 2, Scheme.PUSH: 1})

_JOBS: Final = MappingProxyType({
    **_USUAL, Action.BACKUP: 14, Action.JOB_VERB: 18, Action.TRANSACTION: 5, Action.EXPORT: 4,
    Action.BITMAP_ADD: 5, Action.FLEECE_READ: 6, Action.FLEECE_STATUS: 3, Action.INSPECT: 3})
_WITH_JOBS: Final = MappingProxyType({Scheme.DISK: 8, Scheme.PUSH: 4, Scheme.STACKED: 1,
                                      Scheme.CLASSIC: 1, Scheme.LOOSE: 1})
_FEW_TARGETS: Final = MappingProxyType({Format.RAW: 2, Format.QCOW2: 2})
_EVERY_ACTION: Final = MappingProxyType({
    **_USUAL, Action.BACKUP: 4, Action.JOB_VERB: 6, Action.TRANSACTION: 2,
    Action.PERSISTENT_BITMAP: 1, Action.RESTART: 1, Action.REOPEN: 1, Action.OVERLAY: 1,
    Action.COPY_ON_READ: 1, Action.DRIVE_BACKUP: 1})

EVERYTHING: Final = Area("everything", "all of it", _EVERY_ACTION,
                         MappingProxyType({**_SCHEMES, Scheme.DISK: 3, Scheme.PUSH: 2}))

AREAS: Final[Mapping[str, Area]] = MappingProxyType({area.name: area for area in (
    Area("access", "what the fleecing client may read: bitmaps given to the filter, snapshot "
         "discards", _tilted(fleece_discard=14, fleece_read=22), _NEW, filter_bitmap=13),
    Area("discard", "discards by guest and client, with discard=unmap on some layers only",
         _tilted(guest_discard=14, fleece_discard=14, fleece_status=10), _NEW, undiscarded=6),
    Area("tails", "sizes that are no multiple of cluster, granularity or sector",
         _tilted(fleece_discard=10, resize=3), _NEW, tail=16, sizes=6, alignment=3),
    Area("zeroes", "writes of zeroes, with and without unmap, and block status of the result",
         _tilted(guest_zero=18, guest_status=8, fleece_status=16), _NEW, backing=6,
         subclusters=6, detecting=7, zero_data=6),
    Area("bitmaps", "dirty bitmaps of every granularity, and commands about them",
         _tilted(bitmap_add=8, bitmap_remove=4, bitmap_clear=5, bitmap_switch=7, bitmap_merge=8,
                 export=4, unexport=4, resize=4, reopen=2), sizes=4, user_bitmap=13,
         filter_bitmap=12),
    Area("formats", "the temporary image in every format, through file and NBD", schemes=_NEW,
         targets=MappingProxyType(dict.fromkeys(Format, 1)), nbd=6, subclusters=6),
    Area("classic", "the temporary image with the source as its backing file, read directly",
         schemes=_ONE_SCHEME[Scheme.CLASSIC], targets=MappingProxyType({Format.QCOW2: 1})),
    Area("stacked", "filters over filters, twins, snapshots of snapshots",
         schemes=MappingProxyType({Scheme.STACKED: 3, Scheme.TWINS: 2, Scheme.NESTED: 2,
                                   Scheme.TWO_VIEWS: 2})),
    Area("copy-on-read", "reads that put into a disk what only its backing file had, below a "
         "filter and above", MappingProxyType({
             **_tilted(guest_read=20, guest_write=8, anyone=12, guest_status=5),
             Action.COPY_ON_READ: 4}),
         MappingProxyType({Scheme.FLEECING: 5, Scheme.DISK: 3, Scheme.STACKED: 1}),
         sources=MappingProxyType({Format.QCOW2: 1}), backing=14, subclusters=6),
    Area("overlays", "an image that has the snapshot as its backing file, written to or the "
         "target of another filter", MappingProxyType({
             **_tilted(anyone=44, fleece_discard=16, inspect=3), Action.OVERLAY: 2}),
         _ONE_SCHEME[Scheme.OVERLAY], sizes=4, filter_bitmap=12),
    Area("options", "options of the filter, right ones and wrong ones",
         _tilted(add_filter=14, add_snapshot=4, remove_node=10, unexport=5, export=5),
         MappingProxyType({Scheme.LOOSE: 2, Scheme.FLEECING: 1}), options=10, bad_options=5),
    Area("status", "block status in every context and alignment",
         _tilted(fleece_status=26, guest_status=14), _NEW, backing=6, subclusters=6),
    Area("faults", "storage that fails", _tilted(guest_write=22), _NEW, faults=12, options=8),
    Area("graph", "nodes and exports coming and going in every order",
         _tilted(add_filter=6, add_snapshot=6, remove_node=8, export=8, unexport=8, attach=4,
                 bitmap_add=4, resize=8, reopen=5), sizes=5, bad_options=2),
    Area("jobs", "backup jobs: every sync mode and bitmap mode, ended in every way", _JOBS,
         _WITH_JOBS, targets=_FEW_TARGETS, backing=8, user_bitmap=14, filter_bitmap=12, faults=3,
         bad_options=1),
    Area("transactions", "bitmap commands and jobs, all or none of them",
         MappingProxyType({**_JOBS, Action.TRANSACTION: 24, Action.BACKUP: 4}), _WITH_JOBS,
         targets=_FEW_TARGETS, user_bitmap=15, filter_bitmap=14, bad_options=1),
    Area("drives", "backup jobs to files that they open, or make, by themselves",
         MappingProxyType({**_JOBS, Action.DRIVE_BACKUP: 12, Action.BACKUP: 3, Action.RESTART: 3,
                           Action.PERSISTENT_BITMAP: 2}),
         _ONE_SCHEME[Scheme.DISK], targets=_FEW_TARGETS, cluster_sizes=MappingProxyType(
             {64 * KIB: 6, 4 * KIB: 1, 256 * KIB: 1}), sizes=1, subclusters=0, nbd=0, alignment=0,
         backing=5, user_bitmap=12, bad_options=1),
    Area("persistence", "bitmaps that images keep, over restarts and kills",
         MappingProxyType({
             **_tilted(bitmap_add=4, bitmap_remove=4, bitmap_merge=4, bitmap_switch=5,
                       inspect=3, fleece_read=4, fleece_status=2), Action.PERSISTENT_BITMAP: 12,
             Action.RESTART: 6, Action.KILL: 3, Action.REOPEN: 6, Action.BACKUP: 4,
             Action.JOB_VERB: 3, Action.TRANSACTION: 4}),
         MappingProxyType({Scheme.DISK: 6, Scheme.FLEECING: 2}),
         sources=MappingProxyType({Format.QCOW2: 7, Format.RAW: 1}), targets=_FEW_TARGETS,
         user_bitmap=10, filter_bitmap=8),
    Area("concurrency", "requests that overlap, over storage that completes in any order",
         schemes=_OVERLAPPING, filter_bitmap=3, user_bitmap=2, undiscarded=1,
         manner=Manner(failing=4, kills=1), weight=6),
    Area("failures", "storage that fails while requests overlap", schemes=_OVERLAPPING,
         filter_bitmap=3, user_bitmap=2, undiscarded=1,
         manner=Manner(failing=15, breaking=7, cuts=3, kills=2), weight=4),
    Area("timeouts", "copies that take longer than cbw-timeout", schemes=_TIMED,
         filter_bitmap=3, user_bitmap=2, undiscarded=1,
         manner=Manner(failing=6, timeouts=True, breaking=7, large=3)),
)})


class UnknownArea(HarnessError):
    """No area has that name."""


def named(name: str) -> Area:
    """The area of that name; raises UnknownArea."""
    area = EVERYTHING if name == EVERYTHING.name else AREAS.get(name)
    if area is None:
        raise UnknownArea(f"no area is called {name!r}; there are: {EVERYTHING.name}, "
                          f"{', '.join(AREAS)}")
    return area


def chosen(names: Iterable[str] | None) -> tuple[Area, ...]:
    """The areas by name; all areas, and the mixture of them, for None.  May raise UnknownArea."""
    if names is None:
        return (EVERYTHING, *AREAS.values())
    return tuple(named(name) for name in names)
