# SPDX-License-Identifier: GPL-2.0-or-later
"""How hypothesis is used; iotests do without it, and start in half the time."""

import os

from hypothesis import HealthCheck, settings

# How fast an example is tells of what else the machine does, not of what is tested.  Where nobody
# watches, the examples are those of last time.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")
