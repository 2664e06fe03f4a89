# SPDX-License-Identifier: GPL-2.0-or-later
"""Flushes: how far down they go depends on who uses a node, which no node knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from .copy_before_write import CopyBeforeWrite
from .copy_on_read import CopyOnRead
from .errors import RequestFailed
from .graph import Graph
from .node import Node
from .permissions import WRITES
from .program import Program
from .qcow2 import Qcow2
from .rules import rule


@rule("flush.reaches-what-is-written", source="block layer: a flush goes on to what may be "
      "written to; experiment")
def reaches_storage(graph: Graph, name: str) -> bool:
    """A flush of a raw image reaches the storage below it only while somebody may write to the
    image, be it what it reads as already; what was written before makes no difference.  So it is
    with the image below a ``blkdebug``, which itself is reached always.  qcow2 writes to its file
    of its own accord, so there flushes go, too."""
    node = graph.nodes[name]
    of_its_own = isinstance(node, Qcow2) and node.format_node == name
    return of_its_own or graph.is_required(WRITES, node)


@rule("flush.before-removal", source="experiment: if the first flush is to fail, nobody hears of "
      "that")
def before_removal(node: Node) -> Program[None]:
    """A filter that is removed by command is flushed first, and with it what it filters; nobody
    hears whether that fails.  So is one that is to be reopened, which then is refused for that
    reason.  A snapshot only reads, so what is below it is not."""
    if isinstance(node, (CopyBeforeWrite, CopyOnRead)):
        yield from node.flush()


@rule("flush.after-refusal", source="experiment: if the first flush is to fail, nobody hears of "
      "that")
def after_refusal(graph: Graph, unfiltered: str | None, filtered: Sequence[str]) -> Program[None]:
    """A job whose filter may not take its disk's place flushes the disk, as a filter that is
    removed does.  One that is refused when its filter is in place, or with all of its transaction,
    takes the filter away again; with that the disk is flushed as at the end of a job, if the build
    does so then.  Nobody hears whether a flush fails."""
    names = [] if unfiltered is None else [unfiltered]
    if graph.capabilities.ended_job_flushes:
        names += reversed(filtered)
    for name in names:
        with suppress(RequestFailed):
            yield from graph.nodes[name].flush()
