# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugins of all tests: golden outputs, and pytest's own means to test a plugin."""

import os
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["harness.golden.plugin", "pytester"]

# How fast an example is tells of what else the machine does, not of what is tested.  Where nobody
# watches, the examples are those of last time.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# What a script runs in the background ignores Ctrl-C, and so would all that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
