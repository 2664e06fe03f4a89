# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening copy-before-write filters: what a new one is to copy, in which clusters, and what is
refused, as CommandRefused with QEMU's text."""

from __future__ import annotations

from . import arguments
from .bitmap import DirtyBitmap, check_same_size, check_usable
from .block_copy import BlockCopy, cluster_size_of
from .capabilities import Capabilities
from .copy_before_write import CbwOptions, CopyBeforeWrite
from .errors import CommandRefused
from .graph import Graph
from .node import Node
from .operations import AddFilter, OnCbwError
from .permissions import parents_first
from .qcow2 import Qcow2


def add_filter(graph: Graph, command: AddFilter) -> None:
    """blockdev-add of a copy-before-write node."""
    on_cbw_error = check_options(command, graph.capabilities)
    assert command.file is not None
    assert command.target is not None
    source = graph.look(command.file)
    graph.check_new(command.node)
    target = graph.lookup(command.target)
    graph.check_filter(command.node, source, target)
    bitmap = graph.bitmap(command.bitmap) if command.bitmap else None
    graph.add_filter(make_filter(
        graph, command.node, source, target, bitmap, arguments.as_uint64(command.min_cluster_size),
        CbwOptions(on_cbw_error, command.cbw_timeout), discard=command.discard))


def make_filter(graph: Graph, name: str, source: Node, target: Node, bitmap: DirtyBitmap | None,
                min_cluster_size: int, options: CbwOptions, *,
                discard: bool) -> CopyBeforeWrite:
    """A filter that is not in the graph yet."""
    copy_bitmap = _copy_bitmap(source, target, bitmap, min_cluster_size)
    block_copy = BlockCopy(source, target, copy_bitmap, graph.fired)
    block_copy.is_looked_through = any(isinstance(each, Qcow2) and each.detects
                                       for each in parents_first([target]))
    return CopyBeforeWrite(name, source, target, block_copy, options, graph.capabilities,
                           discard=discard, fired=graph.fired)


def check_options(command: AddFilter, capabilities: Capabilities, where: str = "") -> OnCbwError:
    """The checks that QEMU's option parser makes, before any node is looked up; ``where`` the
    options are, if not a command's own arguments."""
    for name, node in (("file", command.file), ("target", command.target)):
        if node is None:
            raise CommandRefused(f"Parameter '{where}{name}' is missing")
    on_cbw_error = command.on_cbw_error
    if on_cbw_error is None:
        on_cbw_error = OnCbwError.BREAK_GUEST_WRITE
    elif on_cbw_error not in list(OnCbwError):
        raise CommandRefused(
            f"Parameter 'on-cbw-error' does not accept value '{on_cbw_error}'")
    arguments.check_uint32("cbw-timeout", command.cbw_timeout, where)
    if capabilities.min_cluster_size:
        arguments.check_uint64("min-cluster-size", command.min_cluster_size, where)
    elif command.min_cluster_size is not None:
        raise CommandRefused(f"Parameter '{where}min-cluster-size' is unexpected")
    return OnCbwError(on_cbw_error)


def _copy_bitmap(source: Node, target: Node, bitmap: DirtyBitmap | None,
                 min_cluster_size: int) -> DirtyBitmap:
    """What a new filter is to copy: what ``bitmap`` has dirty, or all."""
    try:
        cluster = cluster_size_of(target, min_cluster_size)
        copy_bitmap = DirtyBitmap(source.size, cluster)
        if bitmap is None:
            copy_bitmap.set_all()
        else:
            _check_mergeable(copy_bitmap, bitmap)
            copy_bitmap.merge(bitmap)
    except CommandRefused as why:
        raise CommandRefused(f"Cannot create block-copy-state: {why}") from why
    return copy_bitmap


def _check_mergeable(copy_bitmap: DirtyBitmap, bitmap: DirtyBitmap) -> None:
    prefix = f"Failed to merge bitmap '{bitmap.name}' to internal copy-bitmap: "
    try:
        check_usable(bitmap)
        check_same_size(copy_bitmap, bitmap)
    except CommandRefused as why:
        raise CommandRefused(prefix + str(why)) from why
