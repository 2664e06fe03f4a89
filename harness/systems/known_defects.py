# SPDX-License-Identifier: GPL-2.0-or-later
"""Known defects of QEMU: the entries of ``defects.toml``, which says what each field means."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Final

from model.capabilities import Capabilities

FILE: Final = Path(__file__).with_name("defects.toml")
EFFECTS: Final = ("abort", "crash", "hang", "wrong data", "wrong answer", "wrong bitmap")
_DEADLY: Final = EFFECTS[:3]


@dataclass(frozen=True, slots=True)
class KnownDefect:
    """A known defect; names of capabilities are spelled as in Python."""

    name: str
    text: str
    effect: str
    trigger: str
    reference: str
    shows: str = ""
    needs: str = ""
    races: bool = False
    mended: str = ""
    settled_by: str = ""
    brings: str = ""
    capability: bool = True

    @property
    def deadly(self) -> bool:
        """Whether QEMU does not survive it."""
        return self.effect in _DEADLY

    @property
    def verdict(self) -> str:
        """How a run ends at it, in one word."""
        return "hang" if self.effect == "hang" else "crash" if self.deadly else "divergence"


def spelled(name: str) -> str:
    """A capability's name as users read and write it: with dashes."""
    return name.replace("_", "-")


def read(text: str) -> dict[str, KnownDefect]:
    """The entries of a file's text, by name as in Python; raises ValueError."""
    known = {each.name: each.metadata["deviation"] for each in fields(Capabilities)}
    found: dict[str, KnownDefect] = {}
    for name, entry in tomllib.loads(text).items():
        defect = _entry(name, entry)
        if known.get(defect.name, False) is not defect.capability:
            problem = "knows no such deviation" if defect.capability else "has a capability for it"
            raise ValueError(f"{name}: the model {problem}")
        for capability in (defect.needs, defect.settled_by, defect.brings):
            if capability and known.get(capability, True):
                raise ValueError(f"{name}: no feature is called {spelled(capability)!r}")
        found[defect.name] = defect
    return found


def _entry(name: str, entry: Mapping[str, str | bool]) -> KnownDefect:
    given = {"name": name.replace("-", "_"),
             **{key.replace("-", "_"): value for key, value in entry.items()}}
    for each in fields(KnownDefect):
        kind = bool if isinstance(each.default, bool) else str
        if not isinstance(given.get(each.name, kind()), kind) or (
                each.default is MISSING and not given.get(each.name)):
            raise ValueError(f"{name}: {spelled(each.name)} is missing or not a {kind.__name__}")
    unknown = set(given) - {each.name for each in fields(KnownDefect)}
    if unknown:
        raise ValueError(f"{name}: no field is called {spelled(min(unknown))!r}")
    for key in ("needs", "settled_by", "brings"):
        given[key] = str(given.get(key, "")).replace("-", "_")
    defect = KnownDefect(**given)  # type: ignore[arg-type]
    if defect.effect not in EFFECTS:
        raise ValueError(f"{name}: effect is none of {', '.join(EFFECTS)}")
    if bool(defect.shows) != (defect.effect in ("abort", "crash")):
        raise ValueError(f"{name}: 'shows' is for aborts and crashes, and they need it")
    if bool(defect.settled_by) != bool(defect.mended):
        raise ValueError(f"{name}: 'mended' and 'settled-by' go together")
    return defect


_ALL: Final = read(FILE.read_text(encoding="utf-8"))
KNOWN: Final[Mapping[str, KnownDefect]] = {
    name: each for name, each in _ALL.items() if each.capability}
"""Those that a build can be asked for, by name, as in Python."""


def mended(capabilities: Capabilities, names: Iterable[str]) -> Capabilities:
    """What a build with these capabilities could do if it had these defects mended."""
    for name in names:
        brings = {KNOWN[name].brings: True} if KNOWN[name].brings else {}
        capabilities = replace(capabilities, **{name: False}, **brings)
    return capabilities


def recognised(cause: str) -> list[KnownDefect]:
    """The known defects that a crash with this failed assertion looks like.

    A signal alone tells nothing.
    """
    return [each for each in _ALL.values()
            if each.effect == "abort" and each.shows in cause]
