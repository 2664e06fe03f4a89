# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build can do and which known defects it has: by its schema and by probes.

A known defect is *excused* only on a build that is older than its mending, as the schema shows.
A build that ought to have it mended and shows it all the same has a regression.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from harness import user_cache
from harness.builds import STORAGE_DAEMON, SYSTEM, Build, Schema, query_schema
from harness.clients.libnbd import libnbd_available
from harness.errors import HarnessError
from harness.invocation import command
from harness.systems import known_defects, probes, staged_probes
from harness.systems.known_defects import KNOWN, spelled
from harness.systems.probes import Found, Start
from harness.systems.starting import starter
from model.capabilities import Capabilities

SETTLED_BY: Final[Mapping[str, str]] = {
    "copy_bitmap_on_filter": "min_cluster_size",
    "completion_mode_checked_first": "min_cluster_size",
    "snapshot_discard_rounds_inwards": "min_cluster_size",
    "copy_on_read_by_subclusters": "min_cluster_size",
    "resize_names_blocker": "min_cluster_size",
    **{each.name: each.settled_by for each in KNOWN.values() if each.settled_by},
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
    return KNOWN[name].text if name in KNOWN else str(_field(name).metadata["text"])


def until(name: str) -> str:
    """The release in which a deviation was mended; empty for a feature."""
    return KNOWN[name].mended if name in KNOWN else ""


def _field(name: str) -> dataclasses.Field[Any]:
    return next(each for each in fields(Capabilities) if each.name == name)


def by_schema(schema: Schema) -> Capabilities:
    """What the schema alone tells; all else as in today's QEMU."""
    cbw = "copy-before-write"
    return Capabilities(
        snapshot_access=schema.has_driver("snapshot-access") and schema.has_driver(cbw),
        on_cbw_error=schema.driver_takes(cbw, "on-cbw-error"),
        min_cluster_size=schema.driver_takes(cbw, "min-cluster-size"),
        x_perf=schema.has_argument("blockdev-backup", "x-perf"),
        discard_source=schema.has_argument("blockdev-backup", "discard-source"),
        job_on_cbw_error=schema.has_argument("blockdev-backup", "on-cbw-error"),
        block_job_change=schema.has_command("block-job-change"),
        human_monitor=schema.has_command("human-monitor-command"),
    )


def unmodelled(schema: Schema) -> tuple[str, ...]:
    """What the build has that the model says nothing of, no QEMU that has it being at hand."""
    command = "block-dirty-bitmap-populate"
    return (f"{command}: the model says nothing of it",) if schema.has_command(command) else ()


def find_profile(build: Build, start: Start, *, cache: bool = True,
                 deadly: bool = True, jobs_only: bool = False) -> Profile:
    """The build's profile; ``start`` starts systems of it for the probes.

    Raises NothingToVerify if it has no snapshot-access, unless ``jobs_only``: bitmaps and backup
    jobs are all that is wanted.  Answers to probes are kept in the user's
    cache, by binary, if nothing was wrong with them; ``cache`` False: ask anew.  ``deadly`` False:
    nothing is asked that a known defect would make the end of QEMU.
    """
    tool = build.tool(STORAGE_DAEMON if build.has(STORAGE_DAEMON) else SYSTEM)
    schema = query_schema(tool)
    known = by_schema(schema)
    if not (known.snapshot_access or jobs_only):
        raise NothingToVerify(
            f"{tool.path} ({build.version}) has no snapshot-access, so there is nothing to "
            f"verify: QEMU 7.0 and later have it; see {command('builds fetch --help')}")
    known = dataclasses.replace(known, human_monitor=build.has(SYSTEM))
    path = _cache_file(build)
    found = _load(path) if cache and deadly else None
    if found is None:
        if build.has(SYSTEM):
            with starter(build, SYSTEM) as start_system:
                found = ask_all(start, known, start_system, deadly=deadly)
        else:
            found = ask_all(start, known, deadly=deadly)
        if cache and deadly and not any(each.strange for each in found):
            _save(path, found)
    profile = judge(known, found)
    profile = dataclasses.replace(profile, not_checked=unmodelled(schema))
    if not deadly:
        spared = [spelled(each.capability) for each in found
                  if each.assumed and KNOWN[each.capability].deadly]
        profile = dataclasses.replace(profile, not_checked=(
            *profile.not_checked, "known defects that QEMU does not survive, taken to be those of "
            f"the build's time: {', '.join(spared)}"))
    if not libnbd_available():
        unasked = [spelled(each.capability) for each in probes.PROBES if each.by_libnbd]
        profile = dataclasses.replace(profile, not_checked=(
            *profile.not_checked, "probes that need python3-libnbd, whose answers are taken to be "
            f"those of the build's time: {', '.join((*unasked, 'overlapping snapshot reads'))}"))
    return profile


def ask_all(start: Start, known: Capabilities,
            start_system: Start | None = None, *, deadly: bool = True) -> list[Found]:
    """Ask every probe that can be asked here; ``start_system`` starts a qemu-system, if the build
    has one.  ``deadly`` False: not those that a defect would make the end of QEMU."""
    found: list[Found] = []
    for probe in probes.PROBES:
        if not probe.can_ask(known):
            continue
        if probe.by_device and start_system is None:
            continue
        if (probe.by_libnbd and not libnbd_available()) or (probe.kills and not deadly):
            found.append(_assumed(probe.capability, known))
        else:
            asked = start_system if probe.by_device and start_system else start
            found.append(probe.ask(asked, known))
        known = dataclasses.replace(known, **{probe.capability: found[-1].present})
    if deadly:
        found.append(staged_probes.aborted_group(start))
        if libnbd_available() and known.snapshot_access:
            found += [staged_probes.overlapping_reads(start),
                      staged_probes.threaded_client(start)]
    else:
        found += [_assumed(name, known)
                  for name in ("aborted_group_hangs", "overlapping_snapshot_reads_abort",
                               "threaded_client_aborts")]
    if known.on_cbw_error:
        found.append(staged_probes.timeout_wraps(start))
    if libnbd_available() and known.snapshot_access:
        found.append(staged_probes.export_heeds_unmap(start))
        found.append(staged_probes.ended_job_flushes(start))
        found.append(staged_probes.failed_status(start))
    return found


def _assumed(name: str, known: Capabilities) -> Found:
    """What builds do that are as old as the schema tells."""
    settled = SETTLED_BY.get(name)
    return Found(name, settled is None or not getattr(known, settled), assumed=True)


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
    marker = spelled(SETTLED_BY[name])
    if _field(name).metadata["deviation"]:
        return (f"a defect of old builds (mended in {until(name)}) is back in a build that has "
                f"{marker}: {describe(name)}")
    return f"a build that has {marker} does not do this any more: {describe(name)}"


# The cache


def _cache_file(build: Build) -> Path:
    # Other probes, other answers: what is kept is that of these very probes.
    text = b"".join(Path(each).read_bytes() for each in (
        probes.__file__, staged_probes.__file__, known_defects.FILE))
    seen: list[object] = [hashlib.sha256(text).hexdigest(), libnbd_available()]
    for name in (STORAGE_DAEMON, SYSTEM):
        if build.has(name):
            tool = build.tool(name)
            seen += user_cache.identity(tool.path, tool.version)
    return user_cache.place("probes") / f"{user_cache.key(seen)}.json"


def _load(path: Path) -> list[Found] | None:
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
        return [Found(name, bool(answers[name])) for name in answers if name in _NAMES]
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # not there, or not ours: ask anew


def _save(path: Path, found: Sequence[Found]) -> None:
    answers = {each.capability: each.present for each in found}
    user_cache.save(path, json.dumps(answers).encode())
