# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a QEMU, and what the next one finds: the images and their persistent bitmaps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from . import bitmap_directory
from .configuration import Configuration
from .graph import Graph
from .held_image import HeldImage
from .image import Image
from .node import Node
from .program import Program
from .qcow2 import Qcow2


def quit_well(graph: Graph) -> Program[None]:
    """QEMU ends by itself: jobs are cancelled, the newest first, and bitmaps are stored."""
    for job in reversed(list(graph.jobs.values())):
        if job.is_active:
            yield from job.cancel()
    for node in graph.nodes.values():
        if isinstance(node, Qcow2):
            bitmap_directory.store(node)


def next_graph(graph: Graph, configuration: Configuration,
               read_only: Collection[str] = ()) -> Graph:
    """The graph that another QEMU begins with, over what this one has left in its images."""
    images = tuple(replace(image, read_only=image.node in read_only)
                   for image in configuration.images)
    begun = Graph(Configuration(images), graph.capabilities, graph.fired)
    before = {node.spec.node: node for node in (*graph.closed.values(), *graph.nodes.values())
              if isinstance(node, Image)}
    for name, node in begun.nodes.items():
        _take_over(node, before[name])
    return begun


def _take_over(node: Node, before: Node) -> None:
    assert isinstance(node, Image)
    assert isinstance(before, Image)
    node.size, node.content = before.size, before.content
    match node, before:
        case HeldImage(), HeldImage():
            node.states = before.states
        case Qcow2(), Qcow2():
            node.cells, node.directory = before.cells, before.directory
            node.compressed = before.compressed
            bitmap_directory.load(node)
