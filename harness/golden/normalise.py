# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs from run to run, replaced by what it means; nothing is left out.

A node that QEMU named by itself becomes the role it has, a path the folder it is in, a time stamp
the fact that there is one, and the order of events that no rule of QEMU orders becomes one fixed
order.  Two runs of the same scenario so give the same log, and a missing, additional or misplaced
message still changes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_AUTO_NODE: Final = re.compile(r"#block[0-9]+")
_SUBJECTS: Final = ("id", "device", "job-id", "node-name", "name")


class Names:
    """The names of one run that chance chose, and what each stands for."""

    def __init__(self, folders: Mapping[str, str] | None = None) -> None:
        """``folders`` maps the paths of this run to words, such as ``TEST_DIR``."""
        self._folders = sorted((folders or {}).items(), key=lambda item: -len(item[0]))
        self._nodes: dict[str, str] = {}
        self._unknown = 0

    def learn(self, node: str, role: str) -> None:
        """Say what an automatically named node is: ``learn("#block117", "file of src")``."""
        self._nodes[node] = f"#({role})"

    def text(self, text: str) -> str:
        """``text`` with every such name replaced."""
        for path, word in self._folders:
            text = text.replace(path, word)
        return _AUTO_NODE.sub(self._node, text)

    def message(self, message: Any) -> Any:
        """A QMP message, command, answer or event, with every such name replaced."""
        if isinstance(message, str):
            return self.text(message)
        if isinstance(message, list):
            return [self.message(each) for each in message]
        if isinstance(message, dict):
            return {self.text(key): _stamp(value) if key == "timestamp" else self.message(value)
                    for key, value in message.items()}
        return message

    def _node(self, found: re.Match[str]) -> str:
        # A node nobody told us about is known by when it is first spoken of.
        name = found.group()
        if name not in self._nodes:
            self._unknown += 1
            self._nodes[name] = f"#auto{self._unknown}"
        return self._nodes[name]


def _stamp(value: Any) -> Any:
    """A time stamp as QEMU's own tests show it; anything that is none stays as it came."""
    if (isinstance(value, dict) and set(value) == {"seconds", "microseconds"}
            and all(isinstance(each, int) for each in value.values())
            and 0 <= value["microseconds"] < 1_000_000):
        return {"microseconds": "USECS", "seconds": "SECS"}
    return value


def subject(event: Mapping[str, Any]) -> str:
    """Whom an event is about: a job, an export, a device, a node; empty: nobody in particular."""
    data = event.get("data", {})
    for key in _SUBJECTS:
        if isinstance(data.get(key), str):
            return str(data[key])
    return ""


def in_order(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The events that came between two points where the client waited, in their one fixed order.

    QEMU orders the events about one subject; those about different subjects (two jobs, a job and
    an export) come as threads happen to run.  So the events of each subject keep their order, and
    the subjects follow one another by name.
    """
    by_subject: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        by_subject.setdefault(subject(event), []).append(event)
    return [event for name in sorted(by_subject) for event in by_subject[name]]
