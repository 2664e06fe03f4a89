# SPDX-License-Identifier: GPL-2.0-or-later
"""Drawing one operation, given what exists.

An operation drawn may well be refused by QEMU: that is part of what is compared.  What a trace
may not contain at all (a request to a node that nothing serves) the model says, and the caller
draws again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.exploration import openings, ranges
from harness.exploration.areas import Action, Area
from harness.exploration.choices import Choices
from harness.exploration.images import OVERLAY, SOURCE
from harness.exploration.scene import Kind, Place, Scene
from model import operations as ops
from model.bitmap import align_down
from model.configuration import MIB
from model.node import SECTOR
from model.operations import BitmapRef, Context, Operation, Via

FILTERS: Final = (openings.FILTER, openings.SECOND_FILTER, "cbw3")
SNAPSHOTS: Final = (openings.SNAPSHOT, openings.SECOND_SNAPSHOT, "snap3")
COPIERS: Final = (openings.COPIER, "cor2")
BITMAPS: Final = ("b0", "b1", "b2", "b3")
BY_LIBNBD: Final = (Via.NBD, Via.NBD_DF, Via.NBD_SIMPLE)
"""Channels that can ask for zeroes fast or not at all."""
_BAD_SIZES: Final = (-1, (1 << 63) - 1, (1 << 63) - SECTOR)
_UNSERVED: Final = (Via.MONITOR, Via.DEVICE)
"""Channels that need no export."""
_MOST_PRINTED: Final = MIB
"""Bytes: what is read by these is printed, and that takes long on a busy machine."""


@dataclass(slots=True)
class Drawer:
    """Draws operations of an area into a scene."""

    choices: Choices
    area: Area
    scene: Scene
    channels: Sequence[Via]
    """The channels that this trace uses."""
    planned: list[Operation] = field(default_factory=list)
    """What comes next without being drawn."""

    def operation(self) -> Operation | None:
        """An operation; None if what was drawn makes no sense here."""
        return self.make(self.choices.weighted(self.area.actions))

    def make(self, action: Action) -> Operation | None:
        """An operation of the kind; None if that makes no sense here."""
        return _MAKERS[action](self)

    # Requests

    def guest(self) -> tuple[Place, Via] | None:
        """A node that a guest may be on, and a channel to it."""
        filters = self._reachable(Kind.FILTER)
        images = self._reachable(Kind.IMAGE)
        if filters and not (images and self.choices.chance(2)):
            return self._reach(filters)
        return self._reach(images)

    def client(self) -> tuple[Place, Via] | None:
        """A node that a backup client may read, and a channel to it."""
        return self._reach(self._reachable(Kind.SNAPSHOT) or self._reachable(Kind.IMAGE))

    def anyone(self) -> tuple[Place, Via] | None:
        """Any node that takes requests, and a channel to it."""
        return self._reach(self._reachable(*Kind))

    def _reachable(self, *kinds: Kind) -> list[Place]:
        if Via.MONITOR in self.channels:
            return self.scene.of_kind(*kinds)
        return self.scene.served(*kinds)

    def _reach(self, places: Sequence[Place]) -> tuple[Place, Via] | None:
        if not places:
            return None
        place = self.choices.pick(places)
        fit = [via for via in self.channels
               if (via is not Via.DEVICE or self.scene.device == place.name)
               and (via in _UNSERVED or place.name in self.scene.exports)]
        return (place, self.choices.pick(fit)) if fit else None

    def span(self, place: Place) -> tuple[int, int]:
        """A range of the node."""
        return ranges.span(self.choices, place.size, self.scene.units(place.name))

    def read(self, who: tuple[Place, Via] | None) -> Operation | None:
        """A read."""
        if who is None:
            return None
        offset, length = self.span(who[0])
        if who[1] in _UNSERVED:
            length = min(length, _MOST_PRINTED)
        return ops.Read(who[0].name, offset, length, who[1])

    def write(self, who: tuple[Place, Via] | None) -> Operation | None:
        """A write."""
        if who is None:
            return None
        offset, length = self.span(who[0])
        return ops.Write(who[0].name, offset, length, who[1], fua=self.choices.chance(1),
                         zeroes=self.choices.chance(self.area.zero_data))

    def zero(self, who: tuple[Place, Via] | None) -> Operation | None:
        """A write of zeroes."""
        if who is None:
            return None
        offset, length = self.span(who[0])
        fast = who[1] in BY_LIBNBD and self.choices.chance(2)
        return ops.Zero(who[0].name, offset, length, who[1], unmap=self.choices.chance(8),
                        fast=fast)

    def discard(self, who: tuple[Place, Via] | None) -> Operation | None:
        """A discard."""
        if who is None:
            return None
        offset, length = self.span(who[0])
        return ops.Discard(who[0].name, offset, length, who[1],
                           fua=who[1] in BY_LIBNBD and self.choices.chance(1))

    def flush(self, who: tuple[Place, Via] | None) -> Operation | None:
        """A flush."""
        return ops.Flush(who[0].name, via=who[1]) if who else None

    def status(self, who: tuple[Place, Via] | None) -> Operation | None:
        """A block status request: only NBD has these."""
        if who is None or who[0].name not in self.scene.exports:
            return None
        offset, length = self.span(who[0])
        export = self.scene.exports[who[0].name]
        contexts = [Context.ALLOCATION.value, Context.ALLOCATION.value]
        if export.allocation_depth:
            contexts.append(Context.DEPTH.value)
        shown = [*(bitmap.name for bitmap in export.bitmaps), *export.own_bitmaps]
        contexts += [f"qemu:dirty-bitmap:{name}" for name in shown]
        context = self.choices.pick(contexts)
        others = [each for each in dict.fromkeys(contexts) if each != context]
        return ops.Status(who[0].name, offset, length, context=context,
                          one=self.choices.chance(3),
                          others=tuple(others) if self.choices.chance(3) else ())

    def request(self) -> Operation | None:
        """Any request by anyone, perhaps one past the end of the node."""
        who = self.anyone()
        form = self.choices.pick((self.read, self.read, self.write, self.zero, self.discard,
                                  self.status))
        return form(who)

    # Bitmaps

    def bitmap_add(self) -> Operation | None:
        """block-dirty-bitmap-add on any node."""
        node = self.choices.pick(list(self.scene.nodes))
        return ops.BitmapAdd(node, self.choices.pick(BITMAPS),
                             self.choices.pick(openings.GRANULARITIES),
                             disabled=self.choices.chance(3))

    def some_bitmap(self) -> BitmapRef | None:
        """A bitmap that is there, or, rarely, one that is not."""
        if self.area.bad_options and self.choices.chance(1):
            return BitmapRef(self.choices.pick(list(self.scene.nodes)), "nope")
        return self.choices.pick(list(self.scene.bitmaps)) if self.scene.bitmaps else None

    def bitmap_remove(self) -> Operation | None:
        """block-dirty-bitmap-remove."""
        bitmap = self.some_bitmap()
        return ops.BitmapRemove(bitmap.node, bitmap.name) if bitmap else None

    def bitmap_clear(self) -> Operation | None:
        """block-dirty-bitmap-clear."""
        bitmap = self.some_bitmap()
        return ops.BitmapClear(bitmap.node, bitmap.name) if bitmap else None

    def bitmap_switch(self) -> Operation | None:
        """block-dirty-bitmap-enable or -disable."""
        bitmap = self.some_bitmap()
        if bitmap is None:
            return None
        kind = self.choices.pick((ops.BitmapEnable, ops.BitmapDisable))
        return kind(bitmap.node, bitmap.name)

    def bitmap_merge(self) -> Operation | None:
        """block-dirty-bitmap-merge of one or two bitmaps into another, or into itself."""
        bitmap = self.some_bitmap()
        sources = [each for each in (self.some_bitmap(), self.some_bitmap()) if each]
        if bitmap is None or not sources:
            return None
        count = self.choices.integer(1, len(sources))
        return ops.BitmapMerge(bitmap.node, bitmap.name, tuple(sources[:count]))

    # Nodes and exports

    def add_filter(self) -> Operation | None:
        """A filter over any two nodes."""
        name = self._new_name(FILTERS)
        if name is None:
            return None
        nodes = list(self.scene.nodes)
        images = [place.name for place in self.scene.of_kind(Kind.IMAGE)]
        file = images[0] if self.choices.chance(10) else self.choices.pick(nodes)
        target = self.choices.pick(images if self.choices.chance(14) else nodes)
        bitmap = None
        if self.scene.bitmaps and self.choices.chance(self.area.filter_bitmap):
            bitmap = self.choices.pick(list(self.scene.bitmaps))
        return openings.filter_with(
            self.choices, self.area, name, file, target, bitmap,
            discard=not self.choices.chance(self.area.undiscarded))

    def add_snapshot(self) -> Operation | None:
        """snapshot-access, over a filter as a rule."""
        name = self._new_name(SNAPSHOTS)
        if name is None:
            return None
        filters = self.scene.of_kind(Kind.FILTER)
        if filters and not self.choices.chance(2):
            file = self.choices.pick(filters).name
        else:
            file = self.choices.pick(list(self.scene.nodes))
        return ops.AddSnapshot(name, file,
                               discard=not self.choices.chance(self.area.undiscarded))

    def copy_on_read(self) -> Operation | None:
        """A copy-on-read node, over a filter or a disk as a rule, and an export of it."""
        name = self._new_name(COPIERS)
        if name is None:
            return None
        files = [place.name for place in self.scene.of_kind(Kind.FILTER)]
        if not files or self.choices.chance(4):
            files = [SOURCE] if self.choices.chance(12) else list(self.scene.nodes)
        if name not in self.scene.exports:
            self.planned.append(ops.Export(name))
        return ops.AddCopyOnRead(name, self.choices.pick(files))

    def overlay(self) -> Operation | None:
        """An image that is to be over a snapshot is opened so, or closed again."""
        if OVERLAY not in self.scene.images:
            return None
        snapshots = self.scene.of_kind(Kind.SNAPSHOT)
        if OVERLAY in self.scene.nodes or not snapshots:
            return ops.RemoveNode(OVERLAY)
        return ops.AddOverlay(OVERLAY, self.choices.pick(snapshots).name)

    def _new_name(self, names: Sequence[str]) -> str | None:
        """A name for a new node; if wrong names are wanted, perhaps one that is taken."""
        unused = self.scene.unused_names(names)
        if self.area.bad_options and self.choices.chance(1):
            return self.choices.pick(names)
        return self.choices.pick(unused) if unused else None

    def remove_node(self) -> Operation | None:
        """blockdev-del of a filter or snapshot, the newest as a rule."""
        places = self.scene.of_kind(Kind.FILTER, Kind.SNAPSHOT)
        if not places:
            return None
        place = places[-1] if self.choices.chance(10) else self.choices.pick(places)
        return ops.RemoveNode(place.name)

    def resize(self) -> Operation | None:
        """block_resize, of a node without an export as a rule, to near some boundary."""
        choices = self.choices
        places = [place for place in self.scene.nodes.values()
                  if place.name not in self.scene.exports]
        if not places or choices.chance(2):
            places = list(self.scene.nodes.values())
        place = choices.pick(places)
        if choices.chance(2):
            return ops.Resize(place.name, choices.pick((0, place.size, *_BAD_SIZES)))
        size = ranges.place(choices, 2 * place.size, self.scene.units(place.name))
        return ops.Resize(place.name, size if choices.chance(3) else align_down(size, SECTOR))

    def reopen(self) -> Operation | None:
        """An image becomes writable or read-only, one with bitmaps as a rule; or what cannot be
        reopened is to be."""
        images = [place.name for place in self.scene.of_kind(Kind.IMAGE)]
        nodes = list(self.scene.nodes) if not images or self.choices.chance(1) else images
        marked = [name for name in nodes if any(
            bitmap.node == name for bitmap in self.scene.bitmaps)]
        name = self.choices.pick(marked if marked and self.choices.chance(12) else nodes)
        return ops.Reopen(name, read_only=self.choices.chance(8))

    def export(self) -> Operation | None:
        """An export of a node that has none as a rule."""
        bare = [name for name in self.scene.nodes if name not in self.scene.exports]
        if not bare or (self.area.bad_options and self.choices.chance(1)):
            bare = list(self.scene.nodes)
        name = self.choices.pick(bare)
        bitmaps = self.choices.some(list(self.scene.bitmaps)) if self.choices.chance(4) else []
        # A context has the bitmap's name, so that one export cannot have two of one name.
        by_name = {bitmap.name: bitmap for bitmap in bitmaps}
        alone = bool(by_name) and self.choices.chance(6)
        return ops.Export(name, writable=not self.choices.chance(2),
                          bitmaps=() if alone else tuple(by_name.values()),
                          own_bitmaps=tuple(by_name) if alone else (),
                          allocation_depth=self.choices.chance(8),
                          writethrough=self.choices.chance(1))

    def unexport(self) -> Operation | None:
        """The end of an export."""
        exports = list(self.scene.exports)
        return ops.Unexport(self.choices.pick(exports)) if exports else None

    def attach(self) -> Operation | None:
        """The guest's device moves."""
        if Via.DEVICE not in self.channels:
            return None
        return ops.Attach(self.choices.pick(list(self.scene.nodes)))

    def inspect(self) -> Operation | None:
        """A look at all of a node."""
        return ops.Inspect(self.choices.pick(list(self.scene.nodes)))


_MAKERS: Final[dict[Action, Callable[[Drawer], Operation | None]]] = {
    Action.GUEST_READ: lambda drawer: drawer.read(drawer.guest()),
    Action.GUEST_WRITE: lambda drawer: drawer.write(drawer.guest()),
    Action.GUEST_ZERO: lambda drawer: drawer.zero(drawer.guest()),
    Action.GUEST_DISCARD: lambda drawer: drawer.discard(drawer.guest()),
    Action.FLUSH: lambda drawer: drawer.flush(drawer.anyone()),
    Action.GUEST_STATUS: lambda drawer: drawer.status(drawer.guest()),
    Action.FLEECE_READ: lambda drawer: drawer.read(drawer.client()),
    Action.FLEECE_STATUS: lambda drawer: drawer.status(drawer.client()),
    Action.FLEECE_DISCARD: lambda drawer: drawer.discard(drawer.client()),
    Action.FLEECE_WRITE: lambda drawer: drawer.write(drawer.client()),
    Action.ANYONE: Drawer.request,
    Action.BITMAP_ADD: Drawer.bitmap_add,
    Action.BITMAP_REMOVE: Drawer.bitmap_remove,
    Action.BITMAP_CLEAR: Drawer.bitmap_clear,
    Action.BITMAP_SWITCH: Drawer.bitmap_switch,
    Action.BITMAP_MERGE: Drawer.bitmap_merge,
    Action.ADD_FILTER: Drawer.add_filter,
    Action.ADD_SNAPSHOT: Drawer.add_snapshot,
    Action.COPY_ON_READ: Drawer.copy_on_read,
    Action.OVERLAY: Drawer.overlay,
    Action.REMOVE_NODE: Drawer.remove_node,
    Action.RESIZE: Drawer.resize,
    Action.REOPEN: Drawer.reopen,
    Action.EXPORT: Drawer.export,
    Action.UNEXPORT: Drawer.unexport,
    Action.ATTACH: Drawer.attach,
    Action.INSPECT: Drawer.inspect,
}
