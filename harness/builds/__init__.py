# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU builds: find one, bring one from a Debian suite, ask what it can do."""

from harness.builds.build import (
    HELPERS,
    ON_PATH,
    PACKAGES,
    STORAGE_DAEMON,
    SUBJECTS,
    SYSTEM,
    TOOLS,
    Build,
    Tool,
)
from harness.builds.discover import find
from harness.builds.fetch import fetch
from harness.builds.schema import Schema, query_schema
from harness.builds.suites import SUITES, fetched

__all__ = [
    "HELPERS",
    "ON_PATH",
    "PACKAGES",
    "STORAGE_DAEMON",
    "SUBJECTS",
    "SUITES",
    "SYSTEM",
    "TOOLS",
    "Build",
    "Schema",
    "Tool",
    "fetch",
    "fetched",
    "find",
    "query_schema",
]
