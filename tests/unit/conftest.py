# SPDX-License-Identifier: GPL-2.0-or-later
"""How hypothesis is used; iotests do without it, and start in half the time.  And what becomes of
tests for which something is missing here."""

import os
import re
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How fast an example is tells of what else the machine does, not of what is tested.  Where nobody
# watches, the examples are those of last time.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

INSIST = "CBW_LOCKSTEP_INSIST"
NOT_FOR_WANT = re.compile("root|nothing is said of|this build does not have it|-m network|"
                          "has no snapshot-access|not for this build|this build does not hang|"
                          "tox -e lint has it|cannot have exports in an I/O thread")
"""Reasons to skip a test that nothing that could be installed here would change."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """Where all is said to be here, what is missing is a failure."""
    outcome = yield
    report = outcome.get_result()
    if os.environ.get(INSIST) and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not NOT_FOR_WANT.search(reason):
            report.outcome, report.longrepr = "failed", f"{INSIST} is set, and: {reason}"
