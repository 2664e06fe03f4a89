# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that QEMU names by itself: the filters of jobs that were given no name for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from model.backup_commands import filter_name
from model.job_operations import Backup, Transaction
from model.operations import Operation

_MADE_UP: Final = re.compile(r"#block[0-9]+")


class NodeNames:
    """The model's names for the nodes of one QEMU process: by what a node is for, since QEMU's
    own names are partly random."""

    def __init__(self, ask: Callable[[], Mapping[str, Any]]) -> None:
        """``ask`` gives the answer to ``x-debug-query-block-graph``."""
        self._ask = ask
        self._names: dict[str, str] = {}

    def of(self, node: str) -> str:
        """The node's name in the model."""
        if not node.startswith("#"):
            return node
        if node not in self._names:
            self._learn()
        return self._names.get(node, node)

    def in_text(self, text: str, operation: Operation) -> str:
        """The text with the model's names; a node that is no more was to be the filter of the
        operation's job."""
        if not _MADE_UP.search(text):
            return text
        planned = _planned(operation)
        if planned in self._learn():  # another job has that name, which is seen only later
            planned += "'"
        return _MADE_UP.sub(lambda found: self._names.get(found.group(), planned), text)

    def _learn(self) -> set[str]:
        """Ask which node is the filter of which job, where QEMU named it; the model's names."""
        graph = self._ask()
        nodes = {node["id"]: node for node in graph["nodes"]}
        ends = ((nodes[each["parent"]], nodes[each["child"]]["name"]) for each in graph["edges"]
                if each["name"] == "main node")
        found = {child: filter_name(parent["name"], None) for parent, child in ends
                 if parent["type"] == "block-job" and child.startswith("#")}
        self._names |= found
        return set(found.values())


def child_of(graph: Mapping[str, Any], node: str, role: str) -> str:
    """QEMU's name of a node's child, by the answer to ``x-debug-query-block-graph``."""
    names = {each["id"]: each["name"] for each in graph["nodes"]}
    return next((str(names[edge["child"]]) for edge in graph["edges"]
                 if names[edge["parent"]] == node and edge["name"] == role), "")


def _planned(operation: Operation) -> str:
    """What the filter would have been called that the operation failed to make."""
    actions = operation.actions if isinstance(operation, Transaction) else (operation,)
    nameless = [each.job for each in actions
                if isinstance(each, Backup) and each.filter_node is None]
    return filter_name(nameless[0], None) if len(nameless) == 1 else "#block"
