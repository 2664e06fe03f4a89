# SPDX-License-Identifier: GPL-2.0-or-later
"""What exists at some point of a trace, as far as drawing the next operation needs to know.

Kept by the outcomes that the model gives: a command that the model refuses changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from model import operations as ops
from model.bitmap import align_up
from model.configuration import KIB, MIB, Configuration, Format, Image
from model.copy_before_write import CopyBeforeWrite
from model.copy_on_read import CopyOnRead
from model.jobs import JobStatus
from model.machine import Machine
from model.node import SECTOR, Node
from model.operations import BitmapRef, Operation
from model.qcow2 import Qcow2
from model.snapshot_access import SnapshotAccess

DEFAULT_CLUSTER: Final = 64 * KIB
_FORMAT_CLUSTERS: Final = {Format.VDI: MIB, Format.VPC: 2 * MIB, Format.VHDX: 8 * MIB}


class Kind(Enum):
    """What a node is."""

    IMAGE = auto()
    FILTER = auto()
    SNAPSHOT = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """A node: its kind, its size and the boundaries that matter on it, all in bytes."""

    name: str
    kind: Kind
    size: int
    cluster: int
    """The filter's cluster; for an image its own."""
    below: tuple[str, ...] = ()
    """The nodes that it is built on."""


def cluster_of(image: Image) -> int:
    """The cluster size of an image, good enough to draw offsets around."""
    return image.cluster_size or _FORMAT_CLUSTERS.get(image.format, DEFAULT_CLUSTER)


@dataclass(slots=True)
class Scene:
    """Nodes, exports and named bitmaps."""

    nodes: dict[str, Place] = field(default_factory=dict)
    exports: dict[str, ops.Export] = field(default_factory=dict)
    bitmaps: dict[BitmapRef, int] = field(default_factory=dict)
    """Granularities; 64 KiB where QEMU was left to choose."""
    device: str | None = None
    """The node that the guest's device is on."""
    jobs: dict[str, JobStatus] = field(default_factory=dict)
    images: dict[str, Place] = field(default_factory=dict)
    """The nodes that a QEMU begins with."""
    formats: dict[str, Format] = field(default_factory=dict)
    """What these are."""

    @classmethod
    def of(cls, configuration: Configuration) -> Scene:
        """The scene before the first operation."""
        scene = cls(formats={image.node: image.format for image in configuration.images})
        for image in configuration.images:
            size = align_up(image.size, SECTOR)
            below = (image.backing,) if image.backing else ()
            scene.images[image.node] = Place(
                image.node, Kind.IMAGE, size, cluster_of(image), below)
        scene.nodes.update(scene.images)
        return scene

    def follow(self, machine: Machine) -> None:
        """Take on what the model has now, however it came about.

        Nodes that QEMU named by itself cannot be asked for by name.
        """
        names = [name for name in machine.nodes if not name.startswith("#")]
        self.nodes = {name: replace(self._place(machine.nodes[name]),
                                    size=machine.nodes[name].size) for name in names}
        self.exports = {name: export for name, export in self.exports.items()
                        if name in machine.exports}
        self.bitmaps = {BitmapRef(name, bitmap.name): bitmap.granularity for name in names
                        for bitmap in machine.nodes[name].bitmaps if bitmap.name is not None}
        self.jobs = {job.name: job.status for job in machine.graph.jobs.values()}
        if machine.graph.device is None:
            self.device = None

    def _place(self, node: Node) -> Place:
        if isinstance(node, CopyBeforeWrite):
            return Place(node.name, Kind.FILTER, node.size, node.cluster_size,
                         (node.source.name, node.target.name))
        if isinstance(node, (SnapshotAccess, CopyOnRead)):  # below may have been a job's filter
            return replace(self.nodes[node.name], below=(node.file.name,))
        place = self.images[node.name]
        if isinstance(node, Qcow2) and node.backing is not None:
            place = replace(place, below=(node.backing.name,))
        return place

    def after(self, operation: Operation) -> None:
        """Take on what an operation, which the model did not refuse, has changed."""
        match operation:
            case ops.AddFilter(node=name, file=file, target=target) if file and target:
                cluster = max(DEFAULT_CLUSTER, self.nodes[target].cluster,
                              operation.min_cluster_size or 0)
                self.nodes[name] = Place(name, Kind.FILTER, self.nodes[file].size, cluster,
                                         (file, target))
            case ops.AddSnapshot(node=name, file=file):
                below = self.nodes[file]
                self.nodes[name] = Place(name, Kind.SNAPSHOT, below.size, below.cluster, (file,))
            case ops.AddCopyOnRead(node=name, file=file):
                self.nodes[name] = replace(self.nodes[file], name=name, below=(file,))
            case ops.AddOverlay(node=name, backing=backing):
                self.nodes[name] = replace(self.images[name], below=(backing,))
            case ops.RemoveNode(node=name):
                del self.nodes[name]
                for bitmap in [each for each in self.bitmaps if each.node == name]:
                    del self.bitmaps[bitmap]
            case ops.Export(node=name):
                self.exports[name] = operation
            case ops.Unexport(node=name):
                del self.exports[name]
            case ops.Attach(node=name):
                self.device = name
            case ops.BitmapAdd(node=name, bitmap=bitmap_name, granularity=granularity):
                self.bitmaps[BitmapRef(name, bitmap_name)] = granularity or DEFAULT_CLUSTER
            case ops.BitmapRemove(node=name, bitmap=bitmap_name):
                del self.bitmaps[BitmapRef(name, bitmap_name)]
            case _:
                pass

    def of_kind(self, *kinds: Kind) -> list[Place]:
        """The nodes of these kinds, oldest first."""
        return [place for place in self.nodes.values() if place.kind in kinds]

    def served(self, *kinds: Kind) -> list[Place]:
        """The exported nodes of these kinds, oldest first."""
        return [place for place in self.of_kind(*kinds) if place.name in self.exports]

    @property
    def built_on(self) -> set[str]:
        """The names of the nodes that others are built on."""
        return {name for place in self.nodes.values() for name in place.below}

    def unused_names(self, names: Iterable[str]) -> list[str]:
        """Those of the names that no node has."""
        return [name for name in names if name not in self.nodes]

    def units(self, node: str) -> list[int]:
        """The sizes whose multiples are boundaries on the node: its cluster, those of the nodes
        below it, and the granularities of all bitmaps around."""
        place = self.nodes[node]
        found = {place.cluster, 4 * KIB, DEFAULT_CLUSTER}
        pending = [*place.below]
        while pending:
            other = self.nodes.get(pending.pop())
            if other is not None:
                found.add(other.cluster)
                pending.extend(other.below)
        found.update(self.bitmaps.values())
        return sorted(unit for unit in found if unit < 2 * place.size) or [SECTOR]
