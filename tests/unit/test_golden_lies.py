# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever lie a system tells, the logs of model and system differ; and only then."""

from __future__ import annotations

import pytest

from harness.golden.scenario import Scenario
from harness.golden.verdict import Verdict
from harness.systems.lies import catalogue
from tests.unit.golden_lab import SimulatedHost, everything


@pytest.fixture(scope="module")
def right() -> str:
    scenario = Scenario(SimulatedHost())
    everything(scenario)
    return scenario.witnesses(None).model


def test_the_truth_passes(right: str) -> None:
    scenario = Scenario(SimulatedHost())
    everything(scenario)
    assert scenario.witnesses(right).verdict() is Verdict.PASS
    assert scenario.failure is None


@pytest.mark.parametrize("name", catalogue())
def test_each_lie_is_caught(name: str, right: str) -> None:
    host = SimulatedHost(lie=catalogue()[name])
    scenario = Scenario(host)
    everything(scenario)
    scenario.close()
    witnesses = scenario.witnesses(right)
    assert host.told, "the scenario gives this lie no chance"
    assert witnesses.verdict() is Verdict.QEMU_DEVIATES
    assert witnesses.model == right
    assert scenario.failure is not None
    trace = scenario.trace()
    assert trace.steps, "and it can be replayed"
    assert "\n+" in witnesses.explain("golden.out")
