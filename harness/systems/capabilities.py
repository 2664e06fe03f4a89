# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build can do and which known defects it has: by its schema and by probes.

A known defect is *excused* only on a build that is older than its mending, as the schema shows.
A build that ought to have it mended and shows it all the same has a regression.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from harness.builds import STORAGE_DAEMON, SYSTEM, Build, Schema, query_schema
from harness.clients.libnbd import libnbd_available
from harness.errors import HarnessError
from harness.systems import probes
from harness.systems.probes import Found, Start
from harness.systems.starting import starter
from model.capabilities import Capabilities

SETTLED_BY: Final = {
    "copy_bitmap_on_filter": "min_cluster_size",
    "completion_mode_checked_first": "min_cluster_size",
    "filtered_job_filter_aborts": "min_cluster_size",
    "snapshot_discard_rounds_inwards": "min_cluster_size",
    "snapshot_reads_source_before_done_run_ends": "min_cluster_size",
    "unaligned_snapshot_discard_aborts": "min_cluster_size",
    "overlapping_snapshot_reads_abort": "min_cluster_size",
    "preallocated_status_aborts": "min_cluster_size",
    "cbw_timeout_wraps": "min_cluster_size",
}
"""What is probed, and the capability in the schema that shows a build which must have it as
today's QEMU does.  ``min-cluster-size`` came with 9.2, after the last of these.  A defect that is
not in here is not mended in any QEMU so far."""

_NAMES: Final = frozenset(each.name for each in fields(Capabilities))


class NothingToVerify(HarnessError):
    """The build is too old to have what is verified."""


@dataclass(frozen=True)
class Profile:
    """What was found out about a build."""

    capabilities: Capabilities
    defects: tuple[str, ...] = ()
    """Names of the known defects it has, and is excused for."""
    divergences: tuple[Found, ...] = ()
    """Probes answered as no known build does, or as only older builds do."""
    not_checked: tuple[str, ...] = ()
    """What could not be found out, in words."""


def describe(name: str) -> str:
    """What a capability or deviation is, in words."""
    return str(_field(name).metadata["text"])


def until(name: str) -> str:
    """The release in which a deviation was mended; empty for a feature."""
    return str(_field(name).metadata.get("until", ""))


def _field(name: str) -> dataclasses.Field[Any]:
    return next(each for each in fields(Capabilities) if each.name == name)


def by_schema(schema: Schema) -> Capabilities:
    """What the schema alone tells; all else as in today's QEMU."""
    cbw = "copy-before-write"
    discard_source = schema.has_argument("blockdev-backup", "discard-source")
    return Capabilities(
        snapshot_access=schema.has_driver("snapshot-access") and schema.has_driver(cbw),
        on_cbw_error=schema.driver_takes(cbw, "on-cbw-error"),
        min_cluster_size=schema.driver_takes(cbw, "min-cluster-size"),
        discard_source=discard_source,
        job_on_cbw_error=schema.has_argument("blockdev-backup", "on-cbw-error"),
        # Mended in the series that brought discard-source; no request of ours shows it.
        filter_requires_consistent_read=discard_source,
        human_monitor=schema.has_command("human-monitor-command"),
    )


def find_profile(build: Build, start: Start, *, cache: bool = True) -> Profile:
    """The build's profile; ``start`` starts systems of it for the probes.

    Raises NothingToVerify if it has no snapshot-access.  Answers to probes are kept in the user's
    cache, by binary, if nothing was wrong with them; ``cache`` False: ask anew.
    """
    tool = build.tool(STORAGE_DAEMON if build.has(STORAGE_DAEMON) else SYSTEM)
    known = by_schema(query_schema(tool))
    if not known.snapshot_access:
        raise NothingToVerify(
            f"{tool.path} ({build.version}) has no snapshot-access, so there is nothing to "
            "verify: QEMU 7.0 and later have it; see python -m harness builds fetch")
    known = dataclasses.replace(known, human_monitor=build.has(SYSTEM))
    path = _cache_file(build)
    found = _load(path) if cache else None
    if found is None:
        if build.has(SYSTEM):
            with starter(build, SYSTEM) as start_system:
                found = ask_all(start, known, start_system)
        else:
            found = ask_all(start, known)
        if cache and not any(each.strange for each in found):
            _save(path, found)
    profile = judge(known, found)
    if not libnbd_available():
        unasked = [each.capability for each in probes.PROBES if each.by_libnbd]
        profile = dataclasses.replace(profile, not_checked=(
            *profile.not_checked, "probes that need python3-libnbd, whose answers are taken to be "
            f"those of the build's time: {', '.join((*unasked, 'overlapping snapshot reads'))}"))
    return profile


def ask_all(start: Start, known: Capabilities,
            start_system: Start | None = None) -> list[Found]:
    """Ask every probe that can be asked here; ``start_system`` starts a qemu-system, if the build
    has one."""
    found: list[Found] = []
    for probe in probes.PROBES:
        if probe.needs is not None and not getattr(known, probe.needs):
            continue
        if probe.by_device and start_system is None:
            continue
        if probe.by_libnbd and not libnbd_available():
            name = probe.capability
            found.append(Found(name, not getattr(known, SETTLED_BY[name]), assumed=True))
        else:
            asked = start_system if probe.by_device and start_system else start
            found.append(probe.ask(asked, known))
        known = dataclasses.replace(known, **{probe.capability: found[-1].present})
    more: list[Callable[[Start], Found]] = [probes.aborted_group]
    if libnbd_available():
        more.append(probes.overlapping_reads)
    if known.on_cbw_error:
        more.append(probes.timeout_wraps)
    return found + [probe(start) for probe in more]


def judge(known: Capabilities, found: Sequence[Found]) -> Profile:
    """What the answers mean for a build with what is known from its schema."""
    capabilities = known
    defects: list[str] = []
    divergences: list[Found] = []
    today = Capabilities()
    for each in found:
        name, usual = each.capability, getattr(today, each.capability)
        if each.strange:
            divergences.append(each)
        elif each.present != usual and name in SETTLED_BY and getattr(known, SETTLED_BY[name]):
            divergences.append(dataclasses.replace(each, strange=_regression(name)))
        else:
            capabilities = dataclasses.replace(capabilities, **{name: each.present})
            if each.present and _field(name).metadata["deviation"] and not each.assumed:
                defects.append(name)
    return Profile(capabilities, tuple(defects), tuple(divergences))


def _regression(name: str) -> str:
    marker = SETTLED_BY[name].replace("_", "-")
    if _field(name).metadata["deviation"]:
        return (f"a defect of old builds (mended in {until(name)}) is back in a build that has "
                f"{marker}: {describe(name)}")
    return f"a build that has {marker} does not do this any more: {describe(name)}"


# The cache


def _cache_file(build: Build) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    # Other probes, other answers: what is kept is that of these very probes.
    text = Path(probes.__file__).read_bytes()
    seen: list[object] = [hashlib.sha256(text).hexdigest(), libnbd_available()]
    for name in (STORAGE_DAEMON, SYSTEM):
        if build.has(name):
            tool = build.tool(name)
            status = tool.path.stat()
            seen += [str(tool.path), status.st_size, status.st_mtime_ns, tool.version]
    key = hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]
    return base / "cbw-lockstep" / "probes" / f"{key}.json"


def _load(path: Path) -> list[Found] | None:
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
        return [Found(name, bool(answers[name])) for name in answers if name in _NAMES]
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # not there, or not ours: ask anew


def _save(path: Path, found: Sequence[Found]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({each.capability: each.present for each in found}),
                             encoding="utf-8")
        temporary.replace(path)
    except OSError:
        pass  # a cache that cannot be written is no cache
