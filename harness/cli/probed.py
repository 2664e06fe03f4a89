# SPDX-License-Identifier: GPL-2.0-or-later
"""What probes find wrong with a build, handed over like what exploration finds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.cli.results import Divergence, divergence_of
from harness.cli.values import KnownDefects
from harness.exploration.grounds import unexcusing
from harness.exploration.investigate import investigate, keep
from harness.exploration.subjects import Subject
from harness.exploration.tally import Find
from harness.lockstep.trace import Header, Step, SystemKind, Trace
from harness.systems.capabilities import describe
from harness.systems.known_defects import KNOWN, spelled
from harness.systems.probes import ABORTED_GROUP, FAILED_STATUS, PROBES, Found

AREA = "probes"
_TRACES = {each.capability: each for each in (*PROBES, ABORTED_GROUP, FAILED_STATUS)}


def by_probes(subject: Subject, folder: Path, known: KnownDefects) -> list[Divergence]:
    """Probes that no known build answers so and, if they are to fail, the known defects."""
    found = [_divergence(each, subject, folder) for each in subject.profile.divergences]
    if known is KnownDefects.FAIL:
        found += [_divergence(Found(name, True, f"has the known defect: {describe(name)}"),
                              subject, folder, excused=False)
                  for name in subject.profile.defects]
    return found


def _divergence(found: Found, subject: Subject, folder: Path, *,
                excused: bool = True) -> Divergence:
    """``excused`` False: the trace is for a model that has the defect mended."""
    name = found.capability
    summary = f"probe {spelled(name)}: {found.strange}"
    probe, defect = _TRACES.get(name), KNOWN.get(name)
    if probe is None:
        reference = f"; see {defect.reference}" if defect is not None else ""
        return Divergence(AREA, summary, system=subject.grounds[0].plan.system.value,
                          tried=f"no trace: more than operations shows it{reference}")
    wanted = SystemKind.QEMU_SYSTEM if probe.by_device else subject.grounds[0].plan.system
    index = next((number for number, each in enumerate(subject.grounds)
                  if each.plan.system is wanted), 0)
    ground = subject.grounds[index]
    header = Header(probe.configuration, wanted, capabilities=subject.profile.capabilities,
                    unexcused=() if excused else (spelled(name),))
    trace = Trace(header, tuple(Step(number, operation)
                                for number, operation in enumerate(probe.operations, start=1)))
    find = Find(AREA, index, trace, ("probe", name), summary,
                "divergence" if defect is None else defect.verdict)
    kept = keep(find, 0, folder, f"probe-{spelled(name)}")
    # A probe is as short as can be, so no time goes to that.
    done = investigate(kept, unexcusing(ground, () if excused else (name,)), seconds=0)
    return dataclasses.replace(divergence_of(done, wanted.value), summary=summary,
                               shrunk_length=len(trace.steps))
