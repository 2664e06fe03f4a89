# SPDX-License-Identifier: GPL-2.0-or-later
"""What a system may lack of the rules of images, for test_directed_lies.py."""

from __future__ import annotations

from model import bitmap_directory, copy_on_read, qcow2, reopening, restart
from model.bitmap import align_down, align_up, divide_up, split
from model.configuration import KIB, MIB, RequestKind
from model.content import Content, zeroes
from model.copy_before_write import CopyBeforeWrite
from model.copy_on_read import CopyOnRead
from model.errors import CommandRefused, Errno, RequestFailed
from model.image import Image
from model.node import ZERO_HOLE, Node, Status, Zeroing
from model.program import Program
from model.qcow2 import Qcow2
from model.qcow2_cells import Cell
from model.readings import Reading
from model.tracking import Filling
from tests.unit.lacking_lab import Lacking

_keep = CopyOnRead._keep
_zero_in_parts = Node._zero_in_parts
_release = bitmap_directory.release
_store = Qcow2._store
_shown_beside = Qcow2._shown_beside
_make_zero = Qcow2._make_zero
_mark = Qcow2._mark
_discard_at_once = Image._discard
_discard_cluster = Qcow2._discard_cluster
_own_status = Qcow2.own_status


def _not_in_use(image: Qcow2) -> None:
    kept = image.directory
    _release(image)
    image.directory = kept


def _always_writable(image: Image) -> None:
    image.read_only = False


def _has_flushed(image: Image) -> Program[None]:
    was, image._flushed = image._is_flushed(image.changes), image.changes
    if not was:
        yield image._request(RequestKind.FLUSH, 0, 0)


def _frees_what_it_has(image: Qcow2, start: int, end: int) -> None:
    if image._has_space(start):
        _discard_cluster(image, start, end)


def _zeroes_its_last_block(node: Node, start: int, end: int,
                           how: Zeroing) -> Program[dict[tuple[int, int], Program[None]]]:
    return _zero_in_parts(node, start, align_up(end, node.request_alignment)
                          if start % node.request_alignment else end, how)


def _zeroes_at_once(node: Node, start: int, end: int,
                    how: Zeroing) -> Program[dict[tuple[int, int], Program[None]]]:
    parts = yield from _zero_in_parts(node, start, end, how)

    def all_parts() -> Program[None]:
        for part in parts.values():
            yield from part

    return {node._widened(start, end): all_parts()}


def _one_after_another(programs: list[Program[Content]], *,
                       at_once: bool) -> Program[list[Content]]:
    found = []
    for each in programs:
        found.append((yield from each))
    return found


def _allocated_at_the_end(node: Node, start: int, end: int) -> Program[tuple[int, bool]]:
    stop, status = yield from node.own_status(start, end)
    return stop, bool(status.is_allocated) or stop == node.size


def _allocated_at_any_depth(node: Node, start: int,
                            end: int) -> Program[tuple[int, bool | None]]:
    stop, status = yield from node.block_status(start, end)
    return stop, status.is_allocated


def _stays_compressed(image: Qcow2, start: int, end: int, state: Cell) -> None:
    kept = image.compressed
    _mark(image, start, end, state)
    image.compressed = kept


def _compresses_noise(image: Qcow2, start: int, content: Content) -> None:
    for low in range(start, start + content.size, image.cluster):
        image.compressed[low // image.cluster] = True


def _stores_what_it_can(image: Qcow2, start: int, content: Content) -> Program[None]:
    try:
        yield from _store(image, start, content)
    except RequestFailed:
        for low, high in split(start, start + content.size, image.cell):
            if not (low % image.cell or high % image.cell):
                yield from _store(image, low, content.slice(low - start, high - start))
        raise


def _all_of_its_cells(image: Qcow2, start: int, end: int) -> list[tuple[int, int]]:
    return [(align_down(start, image.cell), align_up(end, image.cell))][:len(
        _shown_beside(image, start, end))]


def _what_is_kept(image: Qcow2, start: int, end: int) -> list[tuple[int, int]]:
    low, high = align_down(start, image.cell), align_up(end, image.cell)
    return [(low, start)] * (low < start and image._is_shown(low)) + (
        [(end, high)] * (end < high and image._is_shown(high - image.cell)))


def _up_to_its_end(image: Qcow2, start: int, end: int) -> list[tuple[int, int]]:
    return [(low, min(high, image.size)) for low, high in _shown_beside(image, start, end)
            if low < image.size]


def _sees_zeroes(image: Qcow2, start: int, end: int) -> Program[Content]:
    return zeroes(end - start)
    yield


def _sees_no_zeroes(image: Qcow2, start: int, end: int) -> Program[bool | None]:
    return not start < end
    yield


def _zeroes_what_shows(image: Qcow2, start: int, end: int, state: Cell = Cell.ZERO) -> None:
    kept = image.content.slice(image.size, image.content.size)
    _make_zero(image, start, end, state)
    image.content.paste(image.size, kept)


def _past_the_table(image: Qcow2, start: int, end: int) -> tuple[int, Cell]:
    run = image.cells.run_at(start // image.cell, divide_up(end, image.cell))
    return min(run.end * image.cell, end), run.value


def _repeats_the_first_piece(image: Image, start: int, content: Content) -> Program[None]:
    most = image.spec.max_transfer or content.size
    for place in range(0, content.size, most):
        image.content.paste(start + place, content.slice(0, min(most, content.size - place)))
    return
    yield  # makes this a program


def _frees_the_first_piece(image: Image, start: int, end: int) -> Program[None]:
    return _discard_at_once(image, start, min(end, start + (image.spec.max_discard or end)))


def _zero_as_a_whole(image: Qcow2, start: int, end: int) -> Program[tuple[int, Status]]:
    stop, cell = image._run_of_cells(start, end)
    if cell is Cell.UNALLOCATED and image.backing is not None and stop > image.backing.size:
        return stop, ZERO_HOLE
    return (yield from _own_status(image, start, end))


def _fails_too_late(filling: Filling, filled: Reading, error: Errno) -> None:
    filling._fails = None


def _keeps_if_it_can(node: CopyOnRead, start: int, end: int) -> Program[Content]:
    try:
        return (yield from _keep(node, start, end))
    except RequestFailed:
        return (yield from node.file.read_now(start, end))


CASES = (
    *(("an overlay of a snapshot, " + name, Lacking(Qcow2, *lacking)) for name, *lacking in (
        ("clusters of 64 KiB", "_store", _stores_what_it_can),
        ("clusters of 128 KiB, write", "_store", _stores_what_it_can),
        ("clusters of 4 KiB", "_shown_beside", _all_of_its_cells),
        ("clusters of 64 KiB with subclusters", "_shown_beside", _all_of_its_cells),
        ("its end", "_shown_beside", _up_to_its_end))),
    *(("an overlay of a snapshot, read at once", Lacking(qcow2, "LITTLE", little))
      for little in (0, 16 * KIB - 1, 16 * KIB + 512)),
    ("an overlay of a snapshot, written to beside zeroes",
     Lacking(Qcow2, "_shown_beside", _what_is_kept)),
    ("what copy-on-read keeps of clusters with space and without",
     Lacking(Qcow2, "_has_space", lambda image, place: False)),
    ("an overlay of a snapshot, opened, used and closed",
     Lacking(bitmap_directory, "load", lambda image: None)),
    ("the classic scheme over a snapshot", Lacking(Qcow2, "_below", _sees_zeroes)),
    *((name, Lacking(Qcow2, *lacking)) for name, *lacking in (
        ("zeroes of parts of clusters that read as zero", "_is_zero", _sees_no_zeroes),
        ("the last cluster of an image that becomes larger", "_make_zero", _zeroes_what_shows),
        ("reads of two tables that are kept, clusters of 4 KiB", "_run_of_cells",
         _past_the_table))),
    *((name, Lacking(Image, "_changed_by", Node._changed_by)) for name in (
        "data that is zero, detected (on)", "copies that are zero, detected by their target")),
    ("a copy-on-read node over subclusters",
     Lacking(CopyOnRead, "is_allocated", _allocated_at_any_depth)),
    *(("copy-on-read nodes over one another and over two filters",
       Lacking(kind, "write_unchanged", Node.write_unchanged))
      for kind in (CopyOnRead, CopyBeforeWrite)),
    ("copy-on-read nodes over one another and over two filters",
     Lacking(Node, "take_unchanged", Node.write_unchanged)),
    ("bitmaps of an image that is reopened",
     Lacking(bitmap_directory, "store", lambda image: None)),
    ("bitmaps of an image that is reopened",
     Lacking(bitmap_directory, "protect", lambda image: None)),
    ("bitmaps of an image that is reopened", Lacking(bitmap_directory, "release", _not_in_use)),
    ("filters and snapshots that cannot be reopened",
     Lacking(reopening, "_cannot", lambda node: CommandRefused("no"))),
    ("images of every format reopened",
     Lacking(reopening, "_make_writable", _always_writable)),
    ("data that an image cannot write to its file", Lacking(Filling, "_fail", _fails_too_late)),
    ("data that an image cannot write to its file",
     Lacking(CopyOnRead, "_keep", _keeps_if_it_can)),
    ("images reopened to discard, or not",
     Lacking(reopening, "_take_on", lambda image, command: None)),
    ("requests longer than the storage takes at a time",
     Lacking(Image, "_write", _repeats_the_first_piece)),
    ("discards of clusters that show what is below",
     Lacking(Qcow2, "_discard_cluster", _frees_what_it_has)),
    ("changes of several blocks, of the outer ones of a part",
     Lacking(Node, "_zero_in_parts", _zeroes_its_last_block)),
    ("flushes fail", Lacking(Image, "_flush", _has_flushed)),
    ("a change of nothing is yet to be flushed",
     Lacking(Node, "_nothing_changed", lambda node: None)),
    ("zeroes of parts of blocks are recorded up to what fails",
     Lacking(Node, "_zero_in_parts", _zeroes_at_once)),
    ("backing files are read beside what fails", Lacking(qcow2, "beside", _one_after_another)),
    *((name, Lacking(Qcow2, "compress", lambda image, start, content: None)) for name in (
        "copies compressed: as usual", "copies before writes compressed",
        "copies compressed beside another's data")),
    ("copies compressed: cluster size 512", Lacking(Qcow2, "_mark", _stays_compressed)),
    ("copies compressed: as usual", Lacking(qcow2, "COMPRESSIBLE", 0)),
    ("copies compressed: subclusters True", Lacking(Qcow2, "compress", _compresses_noise)),
    ("copy-on-read nodes over one another and over two filters",
     Lacking(CopyOnRead, "heeds_nothing", False)),
    ("sync top: disk allocates 64 KiB, copies are of 64 KiB",
     Lacking(Node, "is_allocated", _allocated_at_the_end)),
    ("discards longer than the storage takes at a time",
     Lacking(Image, "_discard", _frees_the_first_piece)),
    ("a snapshot over the end of a backing file", Lacking(Qcow2, "own_status", _zero_as_a_whole)),
    ("copies compressed by a job that may leave copying to storage",
     Lacking(Qcow2, "compress", lambda image, start, content: None)),
    ("bitmaps of an image that has grown when it is killed",
     Lacking(bitmap_directory, "load", lambda image: None)),
    ("durable changes outlive a kill",
     Lacking(restart, "_take_over", lambda node, before: None)),
    ("a write that fails where there is space already",
     Lacking(Filling, "_fail", _fails_too_late)),
    ("drive-backups of zeroes in parts, and of a backing file",
     Lacking(Image, "open_for_job", lambda image: None)),
    ("copy-on-read of more than it keeps at once",
     Lacking(copy_on_read, "MOST_KEPT", 17 * MIB)),
    ("a write of nothing is yet to be flushed, by where it is",
     Lacking(Node, "_nothing_changed", lambda node: None)),
    *(("a backing file fails where nothing is kept of it", Lacking(Qcow2, *lacking))
      for lacking in (("_shown_beside", _all_of_its_cells),
                      ("_is_one_write", lambda image, start, end: True))),
)
